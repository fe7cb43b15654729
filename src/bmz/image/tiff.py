"""TIFF, ImageJ TIFF and OME-TIFF by way of tifffile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tifffile import TiffFile, TiffPage, TiffPageSeries

from bmz.base.arrays import AnyArray
from bmz.image.decoding import decoding
from bmz.image.faults import (
    ImageEmpty,
    ImageTooLarge,
    ImageTruncated,
    ImageUnreadable,
    SeriesOutOfRange,
    TwoChannelAxes,
)
from bmz.image.header import Header, PixelSize
from bmz.image.ome import declares_entities, read_ome
from bmz.image.pixel_size import from_imagej, from_resolution
from bmz.image.stored import Stored
from bmz.image.tiff_planes import stored_series
from bmz.image.tiff_segments import look_at_segments
from bmz.image.transparency import without_alpha

_LETTERS = {"T": "t", "C": "c", "Z": "z", "Y": "y", "X": "x", "S": "c"}
"""Letters of tifffile that name an axis; all others (I, Q, ...) leave it unnamed."""

_RGB, _INDEXED, _YCBCR = 2, 3, 6  # TIFF 6.0, PhotometricInterpretation
_JPEGS = (6, 7, 33007, 34892)  # Compression: JPEG of TIFF 6.0, of Technote 2, and of other makers
_ASSOCIATED, _UNASSOCIATED = 1, 2  # TIFF 6.0, ExtraSamples: kinds of alpha
_RGBA = 4
_UNITS = {2: "inch", 3: "cm"}  # TIFF 6.0, ResolutionUnit


def tiff_header(path: Path, series: int) -> Header:
    """Read what a TIFF file says of image number `series`.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageEmpty, TwoChannelAxes, SeriesOutOfRange
        The file is not sound, or cannot be told in our letters.
    """
    with decoding(path, "TIFF"), _opened(path, series) as (tif, chosen):
        axes, shape = _named(path, chosen)
        if _has_alpha(chosen):
            shape = tuple(n - (t == "S") for n, t in zip(chosen.shape, chosen.axes, strict=True))
        page = _key_page(chosen)
        sizes = dict(zip(axes, shape, strict=True))
        pixel, names = _described(tif, page, series)
        return Header(
            axes=axes,
            shape=shape,
            dtype=chosen.dtype.newbyteorder("="),
            pixel=pixel,
            channel_names=names if len(names) == sizes.get("c", 1) else (),
            colour=_is_photograph(tif, page) and sizes.get("c") == _RGBA - 1,
            series_count=len(tif.series),
        )


def tiff_pixels(path: Path, series: int) -> AnyArray:
    """Read the pixels of image number `series` in the order of the file, without alpha.

    Uncompressed pixels in the byte order of this machine are mapped, not read.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge, Transparent
        They cannot be had.
    """
    with decoding(path, "TIFF"), _opened(path, series) as (tif, chosen):
        try:
            pixels = _mapped(path, tif, chosen)
        except MemoryError as why:
            raise ImageTooLarge(path, chosen.shape) from why
        if not _has_alpha(chosen):
            return pixels
        return without_alpha(path, pixels, axis=chosen.axes.index("S"))


def tiff_palette_numbers(path: Path) -> AnyArray | None:
    """Read the numbers of the colours of the first image; None where it has no palette.

    Raises
    ------
    ImageUnreadable, ImageTruncated, ImageTooLarge
        They cannot be had.
    """
    with decoding(path, "TIFF"), _opened(path, 0) as (tif, chosen):
        if _key_page(chosen).photometric != _INDEXED:
            return None
        try:
            return _mapped(path, tif, chosen)
        except MemoryError as why:
            raise ImageTooLarge(path, chosen.shape) from why


def tiff_is_lossy(path: Path) -> bool:
    """Say whether the first image is compressed by JPEG."""
    with decoding(path, "TIFF"), _opened(path, 0) as (_, chosen):
        return _key_page(chosen).compression in _JPEGS


@contextmanager
def tiff_opened(path: Path, series: int) -> Iterator[Stored]:
    """Keep the file open for regions of image number `series`; only what they touch is read.

    Pixels with an alpha channel are read whole, since it is dropped only where it is the same
    everywhere.
    """
    with _opened(path, series) as (tif, chosen):
        alpha = _has_alpha(chosen)
        yield tiff_pixels(path, series) if alpha else stored_series(path, tif, chosen)


@contextmanager
def _opened(path: Path, series: int) -> Iterator[tuple[TiffFile, TiffPageSeries]]:
    with TiffFile(path) as tif:
        if not len(tif.pages):
            raise ImageTruncated(path, "no page of it is there")
        if any(declares_entities(text) for text in _xml(tif.pages.first)):
            raise ImageUnreadable(path, "is refused: its XML declares a document type")
        if not 0 <= series < len(tif.series):
            raise SeriesOutOfRange(path, series, len(tif.series))
        chosen = tif.series[series]
        if math.prod(chosen.shape) == 0:
            raise ImageEmpty(path, chosen.shape)
        _refuse_cut_short(path, tif, chosen)
        if chosen.dataoffset is None:
            look_at_segments(chosen)
        yield tif, chosen


def _xml(page: TiffPage) -> Iterator[str]:
    # tifffile parses any of these when it looks for the format of the microscope
    for tag in page.tags:
        value = tag.value if isinstance(tag.value, str | bytes) else ""
        text = value if isinstance(value, str) else value.decode("latin-1").replace("\0", "")
        if "<" in text[:8]:
            yield text


def _refuse_cut_short(path: Path, tif: TiffFile, series: TiffPageSeries) -> None:
    size = tif.filehandle.size
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
        end = max((o + n for o, n in zip(offsets, counts, strict=False)), default=0)
        if end > size:
            raise ImageTruncated(
                path, f"plane {number} wants {end} bytes, the file has {size} bytes"
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


def _key_page(series: TiffPageSeries) -> TiffPage:
    return series.keyframe


def _is_photograph(tif: TiffFile, page: TiffPage) -> bool:
    # ImageJ saves three composed stains as RGB samples, and says that they are a composite
    composed = (tif.imagej_metadata or {}).get("mode") == "composite"
    return page.photometric in (_RGB, _YCBCR) and not composed


def _has_alpha(series: TiffPageSeries) -> bool:
    page = _key_page(series)
    return (
        page.photometric == _RGB
        and page.samplesperpixel == _RGBA
        and page.extrasamples[-1:] in ((_ASSOCIATED,), (_UNASSOCIATED,))
    )


def _described(tif: TiffFile, page: TiffPage, series: int) -> tuple[PixelSize, tuple[str, ...]]:
    if tif.ome_metadata is not None:
        return read_ome(tif.ome_metadata, series, len(tif.series))
    per_unit = {a: _ratio(page, f"{a.upper()}Resolution") for a in "yx"}
    known = {a: n for a, n in per_unit.items() if n is not None}
    metadata = tif.imagej_metadata
    if metadata is not None and "unit" in metadata:
        return from_imagej(metadata, known), _imagej_names(metadata)
    unit = _UNITS.get(page.tags.valueof("ResolutionUnit", 2), "")
    return from_resolution(known, unit, "TIFF tags"), _imagej_names(metadata or {})


def _imagej_names(metadata: dict[str, object]) -> tuple[str, ...]:
    # slice labels name the channels only when each channel is one slice
    labels = metadata.get("Labels", ())
    one = metadata.get("slices", 1) == 1 and metadata.get("frames", 1) == 1
    if not one or not isinstance(labels, list | tuple) or len(set(labels)) != len(labels):
        return ()
    names = tuple(str(label) for label in labels)
    return names if all(names) else ()


def _ratio(page: TiffPage, tag: str) -> float | None:
    value = page.tags.valueof(tag)
    if not isinstance(value, tuple) or len(value) != 2:  # noqa: PLR2004  (TIFF 6.0: a RATIONAL)
        return None  # of another type, a number that nobody can be sure of
    above, below = value
    return above / below if below else math.inf


def _mapped(path: Path, tif: TiffFile, series: TiffPageSeries) -> AnyArray:
    start, dtype = series.dataoffset, series.dtype
    stored = np.dtype(dtype).newbyteorder(tif.byteorder)
    if start is not None and stored.isnative and start % dtype.itemsize == 0:
        return np.memmap(path, stored, "r", start, series.shape)
    pixels = series.asarray()
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
