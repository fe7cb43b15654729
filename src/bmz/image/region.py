"""Regions of an image, read without the rest of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bmz.base.axes import in_image_order
from bmz.base.boxes import Box
from bmz.image.decoding import decoding
from bmz.image.faults import ImageTooLarge, RegionRefused
from bmz.image.formats import format_of
from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.image.readers import READERS
from bmz.image.stored import Stored


class ImageSource(Protocol):
    """An image of which regions are read, from its file or from memory."""

    @property
    def info(self) -> ImageInfo:
        """What was found when it was inspected."""

    def region(self, slices: Mapping[str, slice]) -> Pixels:
        """Give a region; see `OpenImage.region`."""


@dataclass(frozen=True)
class HeldImage:
    """An image in memory.

    Parameters
    ----------
    info : what was found when it was inspected
    pixels : as `bmz.image.read.read_image` gives them
    """

    info: ImageInfo
    pixels: Pixels

    def region(self, slices: Mapping[str, slice]) -> Pixels:
        """Give a region; see `OpenImage.region`."""
        return self.pixels.part(slices)


@dataclass(frozen=True)
class OpenImage:
    """An image whose file is open, to be read region by region.

    Parameters
    ----------
    info : what was found when it was inspected
    stored : its pixels, with all axes of the file
    format_name : of the file, for errors
    """

    info: ImageInfo
    stored: Stored
    format_name: str

    def region(self, slices: Mapping[str, slice]) -> Pixels:
        """Read what ``read_image(info).part(slices)`` gives, and little else.

        Parameters
        ----------
        slices : by axis, without a step; axes without one are taken whole

        Raises
        ------
        RegionRefused
            An axis is not there, a slice has a step, or nothing lies in it.
        CouldNotTell
            The pixels are damaged, cut short, or larger than the memory.
        """
        info, box = self.info, _box(self.info, slices)
        lengths = [s.stop - s.start for s in box]
        with decoding(info.path, self.format_name):
            try:
                found = self.stored[_with_dropped(self.stored.shape, info.shape, box)]
                pixels = np.asarray(found).astype(info.dtype, copy=False)
            except MemoryError as why:
                raise ImageTooLarge(info.path, lengths) from why
        names = info.channel_names[box[info.axes.index("c")]] if info.channel_names else ()
        region = Pixels(
            pixels.reshape(lengths), tuple(info.axes), info.pixel_um, names, info.colour
        )
        return region.transposed(in_image_order(info.axes))


@contextmanager
def open_image(info: ImageInfo) -> Iterator[OpenImage]:
    """Open the file of an inspected image, to read many regions of it.

    Uncompressed TIFF and NPY are mapped from the disk and read-only; of compressed TIFF only the
    strips or tiles that a region touches are decoded, of OME-Zarr only the chunks, and of CZI, LIF
    and ND2 only the planes. PNG and JPEG are read whole, and so is TIFF with an alpha channel.

    Raises
    ------
    AxesUnknown
        An axis has no name.
    CouldNotTell
        The file cannot be read.
    """
    info.refuse_unknown_axes()
    found = format_of(info.path)
    with ExitStack() as stack:
        with decoding(info.path, found):
            stored = stack.enter_context(READERS[found].opened(info.path, info.series))
        info.refuse_changed(stored.shape, stored.dtype.newbyteorder("="))
        yield OpenImage(info, stored, found)


def _box(info: ImageInfo, slices: Mapping[str, slice]) -> Box:
    strange = sorted(set(slices) - set(info.axes))
    if strange:
        raise RegionRefused(info.path, _in_words(slices), f"it has no axis {strange[0]}")
    box = []
    for axis, length in zip(info.axes, info.shape, strict=True):
        start, stop, step = slices.get(axis, slice(None)).indices(length)
        if step != 1:
            raise RegionRefused(info.path, _in_words(slices), f"axis {axis} has a step")
        if start >= stop:
            why = f"no pixel lies in it along {axis}, which has {length}"
            raise RegionRefused(info.path, _in_words(slices), why)
        box.append(slice(start, stop))
    return tuple(box)


def _with_dropped(stored: tuple[int, ...], kept: tuple[int, ...], box: Box) -> Box:
    """Give `box` the axes of the file: those of size 1 may have been left out, or added."""
    sides = iter(side for n, side in zip(kept, box, strict=True) if n > 1)
    return tuple(next(sides) if n > 1 else slice(0, 1) for n in stored)


def _in_words(slices: Mapping[str, slice]) -> str:
    def bound(value: int | None) -> str:
        return "" if value is None else str(value)

    steps = {a: "" if s.step is None else f":{s.step}" for a, s in slices.items()}
    sides = (f"{a}={bound(s.start)}:{bound(s.stop)}{steps[a]}" for a, s in slices.items())
    return ", ".join(sides) or "at all"
