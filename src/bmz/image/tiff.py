"""Reading of TIFF files: series, axes, and planes of which only needed segments are decoded."""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box
from bmz.image.decoding import decoding
from bmz.image.faults import (
    CutShort,
    ImageEmpty,
    ImageTooLarge,
    ImageTruncated,
    SeriesOutOfRange,
    TwoChannelAxes,
)
from bmz.image.info import Header, PixelSize
from bmz.image.npy import Stored
from bmz.image.ome_tiff import opened_set
from bmz.image.pictures import without_alpha
from bmz.image.pixel_size import from_imagej, from_resolution, read_ome, well_of
from bmz.image.tiff_tags import (
    INDEXED,
    WHITE_IS_ZERO,
    as_shown,
    images_of,
    lut_of,
    maker_words,
    small_pictures,
    stored_otherwise,
)

_CACHE_BYTES = 64 << 20
"""Cache size for decoded strips and tiles, which a row of tiles of a model shares."""


def stored_series(series: TiffPageSeries) -> Stored:
    """Return a lazy array of `series`, whose file must stay open; without planes, read it whole."""
    start, dtype = series.dataoffset, series.dtype
    plain = getattr(series, "transform", None) is None
    if start is not None and plain:
        file = series.keyframe.parent
        stored = np.dtype(dtype).newbyteorder(file.byteorder)
        return np.memmap(file.filehandle.path, stored, "r", start, series.shape)
    if plain and _has_planes(series):
        return TiffPlanes(series)
    whole: AnyArray = series.asarray()
    return whole


def _has_planes(series: TiffPageSeries) -> bool:
    page = series.keyframe
    inner = len(page.shape)
    lead, last = series.shape[:-inner], series.shape[-inner:]
    one_file = all(p is not None and p.parent is page.parent for p in series.pages)
    return (
        one_file
        and last == page.shape
        and math.prod(lead) == len(series.pages)
        and page.axes in ("YX", "YXS", "SYX")
        and page.imagedepth == 1
    )


class TiffPlanes:
    """Pages of one size in one file, with leading axes before those of a page.

    Parameters
    ----------
    series : series whose pages are planes with the axes ``YX``, ``YXS`` or ``SYX``
    """

    def __init__(self, series: TiffPageSeries) -> None:
        self.shape: tuple[int, ...] = tuple(series.shape)
        self.dtype: np.dtype[Any] = series.dtype.newbyteorder("=")
        # a missing plane is refused on opening
        self._pages = cast("Sequence[TiffPage | TiffFrame]", series.pages)
        self._key: TiffPage = series.keyframe
        self._decoded: OrderedDict[tuple[int, int], AnyArray] = OrderedDict()
        self._decoded_bytes = 0

    def __getitem__(self, box: Box, /) -> AnyArray:
        """Read a region as a new array in native byte order."""
        inner = len(self._key.shape)
        lead, within = box[:-inner], box[-inner:]
        out = np.empty([s.stop - s.start for s in box], self.dtype)
        counts = self.shape[:-inner]
        for place in np.ndindex(*out.shape[:-inner]):
            at = [i + s.start for i, s in zip(place, lead, strict=True)]
            number = int(np.ravel_multi_index(at, counts)) if counts else 0
            out[place] = self._plane(number, within)
        return out

    def _plane(self, number: int, within: Box) -> AnyArray:
        page, key = self._pages[number], self._key
        if key.is_memmappable and page.is_contiguous:
            file = page.parent.filehandle
            stored = np.dtype(key.dtype).newbyteorder(page.parent.byteorder)
            mapped = np.memmap(file.path, stored, "r", page.dataoffsets[0], key.shape)
            return mapped[within]
        box = _normalised(key.axes, within)
        out = np.full([s.stop - s.start for s in box], key.nodata, self.dtype)
        for index, corner in _touched(key, box):
            segment = self._segment(page, number, index)
            if segment is not None:
                _paste(out[corner[0] - box[0].start], box[1:3], segment[0, ..., box[3]], corner[1:])
        return out.reshape([s.stop - s.start for s in within])

    def _segment(self, page: TiffPage | TiffFrame, number: int, index: int) -> AnyArray | None:
        """Decode one strip or tile as (1, length, width, samples); None if none is stored."""
        known = self._decoded.get((number, index))
        if known is not None:
            self._decoded.move_to_end((number, index))
            return known
        start, count = page.dataoffsets[index], page.databytecounts[index]
        raw, _ = next(page.parent.filehandle.read_segments([start], [count], [index]))
        segment, _, _ = self._key.decode(
            raw, index, jpegtables=page.jpegtables, jpegheader=self._key.jpegheader
        )
        if segment is not None:
            self._keep((number, index), segment)
        return segment

    def _keep(self, place: tuple[int, int], segment: AnyArray) -> None:
        self._decoded[place] = segment
        self._decoded_bytes += segment.nbytes
        while len(self._decoded) > 1 and self._decoded_bytes > _CACHE_BYTES:
            _, oldest = self._decoded.popitem(last=False)
            self._decoded_bytes -= oldest.nbytes


def _normalised(axes: str, within: Box) -> Box:
    """Return a region of a page as (separate samples, length, width, interleaved samples)."""
    position = slice(0, 1)
    if axes == "SYX":
        return (*within, position)
    return (position, *within) if axes == "YXS" else (position, *within, position)


def _touched(key: TiffPage, box: Box) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Yield the index of each strip or tile in `box`, and its sample, first row and column.

    Source: TIFF 6.0, sections 3 and 15: row by row, and for separate samples plane by plane.
    """
    rows = key.tilelength if key.is_tiled else key.rowsperstrip
    columns = key.tilewidth if key.is_tiled else key.imagewidth
    down, across = math.ceil(key.imagelength / rows), math.ceil(key.imagewidth / columns)
    samples, length, width, _ = box
    for sample in range(samples.start, samples.stop):
        for row in range(length.start // rows, math.ceil(length.stop / rows)):
            for column in range(width.start // columns, math.ceil(width.stop / columns)):
                index = (sample * down + row) * across + column
                yield index, (sample, row * rows, column * columns)


def _paste(out: AnyArray, box: Box, segment: AnyArray, corner: tuple[int, int]) -> None:
    """Copy the part of a strip or tile at `corner` that lies in `box` into `out`."""
    to, of = [], []
    for side, first, length in zip(box, corner, segment.shape, strict=False):
        start, stop = max(side.start, first), min(side.stop, first + length)
        to.append(slice(start - side.start, stop - side.start))
        of.append(slice(start - first, stop - first))
    out[tuple(to)] = segment[tuple(of)]


_LZW, _LZW_END = 5, 257  # numbers of a compression and of its end mark
_JPEG_CODECS = frozenset({7, 33007, 34892})
_JPEG_XRS = frozenset({22610, 34934})
_SCAN, _END = b"\xff\xda", b"\xff\xd9"  # ITU-T T.81, table B.1
_PLACE, _LENGTH = 0xBCC0, 0xBCC1  # ITU-T T.832, annex A: tags for offset and size of the picture
_LONG = 4  # type of a 32-bit number
_RATIONAL = 2  # TIFF 6.0: numerator and denominator


class SegmentCutShort(CutShort):
    """A strip or tile contains fewer pixels than it should."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(f"strip or tile {index} ends too early: {why}")


def look_at_segments(series: TiffPageSeries) -> None:
    """Make every strip or tile of `series` be checked when it is decoded.

    The check raises `SegmentCutShort`.
    """
    keys = (page.keyframe for page in series.pages if page is not None)
    for key in {id(key): key for key in keys if key is not None}.values():
        # tifffile stores the decoder of a page in the page, and has no argument to replace it
        key.__dict__["decode"] = _looking(key, key.decode)


def _looking(key: TiffPage, decode: Callable[..., Any]) -> Callable[..., Any]:
    def looked_at(data: bytes | None, index: int, /, **options: object) -> object:
        if data is None:  # not stored: a sparse file
            return decode(data, index, **options)
        if key.compression in _JPEG_CODECS and not options.get("jpegheader"):
            _refuse_endless_jpeg(data, index)
        if key.compression in _JPEG_XRS and (end := _end_of_jpeg_xr(data)) > len(data):
            raise SegmentCutShort(index, f"{end} bytes wanted, {len(data)} found")
        decoded = decode(data, index, **options)
        if key.compression == _LZW and not _has_lzw_end(data):
            # bits after the end must not affect the result
            others = (decode(data + more * 3, index, **options) for more in (b"\0", b"\xff"))
            if not all(np.array_equal(decoded[0], other[0]) for other in others):
                raise SegmentCutShort(index, "its last code is incomplete")
        return decoded

    return looked_at


def _refuse_endless_jpeg(data: bytes, index: int) -> None:
    if data.rfind(_END) < data.rfind(_SCAN):  # a decoder would invent the missing data
        raise SegmentCutShort(index, "its JPEG has no end mark")


def _has_lzw_end(data: bytes) -> bool:
    """Return whether an LZW stream ends with the end mark, as most writers make it.

    Source: TIFF 6.0, section 13: codes of 9 to 12 bits, the last byte padded with zeros.
    """
    tail = int.from_bytes(data[-3:], "big")
    unused = (bits for bits in range(8) if not tail & ((1 << bits) - 1))
    return any(
        (tail >> bits) & ((1 << width) - 1) == _LZW_END for bits in unused for width in range(9, 13)
    )


def _end_of_jpeg_xr(data: bytes) -> int:
    """Return the end of the picture in a JPEG XR file; 0 if the file does not state it."""
    header = struct.Struct("<4sL")
    if not data.startswith(b"II\xbc") or len(data) < header.size:
        return 0
    fields = {_PLACE: 0, _LENGTH: 0}
    _, start = header.unpack_from(data)
    (count,) = struct.unpack_from("<H", data, start)
    for number in range(count):
        tag, kind, _, value = struct.unpack_from("<HHLL", data, start + 2 + 12 * number)
        if tag in fields and kind == _LONG:
            fields[tag] = value
    return sum(fields.values()) if fields[_LENGTH] else 0


_LETTERS = {"T": "t", "C": "c", "Z": "z", "Y": "y", "X": "x", "S": "c"}
"""Letter of tifffile -> letter of an axis; with any other (I, Q, ...) the axis is unnamed."""

_RGB, _YCBCR = 2, 6  # TIFF 6.0, PhotometricInterpretation
_JPEGS = (6, 7, 33007, 34892)  # Compression: JPEG of TIFF 6.0, of Technote 2, and of other makers
_ASSOCIATED, _UNASSOCIATED = 1, 2  # TIFF 6.0, ExtraSamples: kinds of alpha
_RGBA = 4
_UNITS = {2: "inch", 3: "cm"}  # TIFF 6.0, ResolutionUnit


def tiff_header(path: Path, series: int) -> Header:
    """Read the header of image number `series` of a TIFF file.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty, TwoChannelAxes, SeriesOutOfRange, PartsMissing
        The file is damaged or incomplete, or its axes cannot be named by the letters of bmz.
    """
    with decoding(path, "TIFF"), _opened(path, series) as opened:
        chosen = opened.series
        axes, shape = _named(path, chosen)
        if _has_alpha(chosen):
            shape = tuple(n - (t == "S") for n, t in zip(chosen.shape, chosen.axes, strict=True))
        lut, dtype = lut_of(opened.tif, chosen), chosen.dtype.newbyteorder("=")
        if lut is not None:
            axes, shape, dtype = axes + "c" * (lut.ndim - 1), (*shape, *lut.shape[1:]), lut.dtype
        sizes = dict(zip(axes, shape, strict=True))
        pixel, names = _described(opened)
        photograph = _is_photograph(opened.tif, chosen.keyframe) or lut is not None
        return Header(
            axes=axes,
            shape=shape,
            dtype=dtype,
            pixel=pixel,
            channel_names=names if len(names) == sizes.get("c", 1) else (),
            colour=photograph and sizes.get("c") == _RGBA - 1,
            series_count=opened.images,
            series_names=tuple(opened.tif.series[n].name for n in images_of(opened.tif)),
            remarks=(*small_pictures(opened.tif), *stored_otherwise(chosen)),
            cautions=opened.cautions,
            well=well_of(opened.tif.ome_metadata or "", opened.number),
        )


def tiff_pixels(path: Path, series: int) -> AnyArray:
    """Read the pixels of image number `series` in the order of the file, without alpha.

    Uncompressed pixels in native byte order are memory-mapped, not read.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge, Transparent
        The pixels cannot be read.
    """
    with decoding(path, "TIFF"), _opened(path, series) as opened:
        pixels = _mapped(path, opened.series)
        if _has_alpha(opened.series):
            return without_alpha(path, pixels, axis=opened.series.axes.index("S"))
        shown = as_shown(pixels, opened.tif, opened.series)
        return np.asarray(shown[tuple(slice(0, n) for n in shown.shape)])


def tiff_palette_numbers(path: Path) -> AnyArray | None:
    """Return the stored numbers of the first image; None if they are intensities.

    They are palette indices if the image has a palette, and labels in a mask that stores white
    as 0.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge
        The pixels cannot be read.
    """
    with decoding(path, "TIFF"), _opened(path, 0) as opened:
        if opened.series.keyframe.photometric not in (INDEXED, WHITE_IS_ZERO):
            return None
        return _mapped(path, opened.series)


def tiff_is_lossy(path: Path) -> bool:
    """Return whether the first image is JPEG-compressed."""
    with decoding(path, "TIFF"), _opened(path, 0) as opened:
        return opened.series.keyframe.compression in _JPEGS


@contextmanager
def tiff_opened(path: Path, series: int) -> Iterator[Stored]:
    """Keep the file open to read regions of image number `series`, and only what they touch.

    Pixels with an alpha channel are read whole, since it is dropped only if it is constant.
    """
    with _opened(path, series) as opened:
        if _has_alpha(opened.series):
            yield tiff_pixels(path, series)
        else:
            stored = stored_series(opened.series)
            yield as_shown(stored, opened.tif, opened.series)


@contextmanager
def tiff_coarser(path: Path, series: int) -> Iterator[list[Stored]]:
    """Open the sub-resolutions of an image, in sub-IFDs or marked as reduced; finest first."""
    with _opened(path, series) as opened:
        levels = [] if _has_alpha(opened.series) else opened.series.levels[1:]
        for level in levels:
            look_at_segments(level)
        yield [as_shown(stored_series(level), opened.tif, level) for level in levels]


class _Opened(NamedTuple):
    """An image of an open TIFF file.

    Parameters
    ----------
    tif, series : the file, and the image in it
    number : index of the series in the file
    images : number of images in the file
    cautions : what to know before trusting the image, one sentence each
    """

    tif: TiffFile
    series: TiffPageSeries
    number: int
    images: int
    cautions: tuple[str, ...]


@contextmanager
def _opened(path: Path, series: int) -> Iterator[_Opened]:
    with opened_set(path) as (tif, cautions):
        images = images_of(tif)
        if not 0 <= series < len(images):
            raise SeriesOutOfRange(path, series, len(images))
        chosen = tif.series[images[series]]
        if math.prod(chosen.shape) == 0:
            raise ImageEmpty(path, chosen.shape)
        _refuse_cut_short(path, chosen)
        if chosen.dataoffset is None:
            look_at_segments(chosen)
        yield _Opened(tif, chosen, images[series], len(images), cautions)


def _refuse_cut_short(path: Path, series: TiffPageSeries) -> None:
    size = series.keyframe.parent.filehandle.size
    start = series.dataoffset
    if start is not None:
        end = start + math.prod(series.shape) * series.dtype.itemsize
        if end > size:
            raise ImageTruncated(path, f"{end} bytes wanted, {size} found")
        return
    for number, page in enumerate(series.pages):
        if page is None:
            raise ImageTruncated(path, f"plane {number} of {len(series.pages)} is missing")
        offsets, counts = page.dataoffsets, page.databytecounts
        size = page.parent.filehandle.size
        end = max((o + n for o, n in zip(offsets, counts, strict=False)), default=0)
        if end > size:
            raise ImageTruncated(
                path, f"plane {number} needs {end} bytes, but the file has {size} bytes"
            )


def _named(path: Path, series: TiffPageSeries) -> tuple[str, tuple[int, ...]]:
    pairs = list(zip(series.axes, series.shape, strict=True))
    sizes = dict(pairs)
    if {"C", "S"} <= sizes.keys():
        if min(sizes["C"], sizes["S"]) > 1:
            raise TwoChannelAxes(path, sizes["C"], sizes["S"])
        alone = "C" if sizes["C"] == 1 else "S"
        pairs = [(axis, n) for axis, n in pairs if axis != alone]
    letters = "".join(_LETTERS.get(axis, "q") for axis, _ in pairs)
    return letters, tuple(n for _, n in pairs)


def _is_photograph(tif: TiffFile, page: TiffPage) -> bool:
    # ImageJ saves a composite of three stains as RGB samples, with the mode "composite"
    composed = (tif.imagej_metadata or {}).get("mode") == "composite"
    return page.photometric in (_RGB, _YCBCR) and not composed


def _has_alpha(series: TiffPageSeries) -> bool:
    page = series.keyframe
    return (
        page.photometric == _RGB
        and page.samplesperpixel == _RGBA
        and page.extrasamples[-1:] in ((_ASSOCIATED,), (_UNASSOCIATED,))
    )


_NOTHING: tuple[PixelSize, tuple[str, ...]] = PixelSize(), ()


def _described(opened: _Opened) -> tuple[PixelSize, tuple[str, ...]]:
    tif, page = opened.tif, opened.series.keyframe
    size, names = _NOTHING
    if tif.ome_metadata is not None:
        size, names = read_ome(tif.ome_metadata, opened.number, len(tif.series))
        if size.um or size.odd:
            return size, names
    by_maker, named = maker_words(tif, page)
    names = names or named
    if by_maker.um or by_maker.odd or tif.ome_metadata is not None:
        return by_maker if by_maker.um else size, names
    per_unit = {a: _ratio(page, f"{a.upper()}Resolution") for a in "yx"}
    known = {a: n for a, n in per_unit.items() if n is not None}
    metadata = tif.imagej_metadata
    if metadata is not None and "unit" in metadata:
        return from_imagej(metadata, known), names or _imagej_names(metadata)
    unit = _UNITS.get(page.tags.valueof("ResolutionUnit", 2), "")
    plain = from_resolution(known, unit, "TIFF tags")
    plain = replace(plain, magnification=by_maker.magnification)
    return plain, names or _imagej_names(metadata or {})


def _imagej_names(metadata: dict[str, object]) -> tuple[str, ...]:
    # slice labels name the channels only when each channel is one slice
    labels = metadata.get("Labels", ())
    alone = metadata.get("slices", 1) == 1 and metadata.get("frames", 1) == 1
    if not alone or not isinstance(labels, list | tuple) or len(set(labels)) != len(labels):
        return ()
    names = tuple(str(label) for label in labels)
    return names if all(names) else ()


def _ratio(page: TiffPage, tag: str) -> float | None:
    value = page.tags.valueof(tag)
    if not isinstance(value, tuple) or len(value) != _RATIONAL:
        return None  # a number of another type is not reliable
    above, below = value
    return above / below if below else math.inf


def _mapped(path: Path, series: TiffPageSeries) -> AnyArray:
    start, dtype, file = series.dataoffset, series.dtype, series.keyframe.parent
    stored = np.dtype(dtype).newbyteorder(file.byteorder)
    try:
        if start is not None and stored.isnative and start % dtype.itemsize == 0:
            return np.memmap(file.filehandle.path, stored, "r", start, series.shape)
        pixels = series.asarray()
    except MemoryError as why:
        raise ImageTooLarge(path, series.shape) from why
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
