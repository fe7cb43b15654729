"""Regions of TIFF: mapped where pixels are bare, else only the strips or tiles that they touch."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

from bmz.base.arrays import AnyArray
from bmz.base.boxes import Box
from bmz.image.stored import Stored

_CACHE_BYTES = 64 << 20
"""Decoded strips and tiles that are kept: a row of tiles of a model shares them."""


def stored_series(path: Path, tif: TiffFile, series: TiffPageSeries) -> Stored:
    """Give regions of `series`, whose file stays open; a layout without planes is read whole."""
    start, dtype = series.dataoffset, series.dtype
    plain = getattr(series, "transform", None) is None
    if start is not None and plain:
        stored = np.dtype(dtype).newbyteorder(tif.byteorder)
        return np.memmap(path, stored, "r", start, series.shape)
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
    """Pages of one size in one file, with leading axes before those of the page.

    Parameters
    ----------
    series : its pages are planes of ``YX``, ``YXS`` or ``SYX``
    """

    def __init__(self, series: TiffPageSeries) -> None:
        self.shape: tuple[int, ...] = tuple(series.shape)
        self.dtype: np.dtype[Any] = series.dtype.newbyteorder("=")
        self._pages: Sequence[TiffPage | TiffFrame | None] = series.pages
        self._key: TiffPage = series.keyframe
        self._decoded: OrderedDict[tuple[int, int], AnyArray] = OrderedDict()
        self._decoded_bytes = 0

    def __getitem__(self, box: Box, /) -> AnyArray:
        """Read a region as a new array in the byte order of this machine."""
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
        assert page is not None  # noqa: S101  (a missing plane is refused on opening)
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
        """Decode one strip or tile as (1, length, width, samples); None when none is stored."""
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
    """Give a region of a page as separate samples, length, width, samples beside each other."""
    one = slice(0, 1)
    if axes == "SYX":
        return (*within, one)
    return (one, *within) if axes == "YXS" else (one, *within, one)


def _touched(key: TiffPage, box: Box) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Yield the number of each strip or tile in `box`, and its sample, first row and column.

    Source: TIFF 6.0, sections 3 and 15: row by row, and of separate samples plane by plane.
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
    """Write what a strip or tile at `corner` has of `box` into `out`, the pixels of `box`."""
    to, of = [], []
    for side, first, length in zip(box, corner, segment.shape, strict=False):
        start, stop = max(side.start, first), min(side.stop, first + length)
        to.append(slice(start - side.start, stop - side.start))
        of.append(slice(start - first, stop - first))
    out[tuple(to)] = segment[tuple(of)]
