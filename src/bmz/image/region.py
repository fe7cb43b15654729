"""Pixels of an image: all of them, a region, or a sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Protocol

import numpy as np

from bmz.base.arrays import AnyArray, ToldAhead
from bmz.base.axes import Box, in_image_order
from bmz.base.values import dataclass
from bmz.image.decoding import decoding
from bmz.image.faults import ImageTooLarge, RegionRefused
from bmz.image.formats import format_of
from bmz.image.info import ImageInfo
from bmz.image.npy import Stored
from bmz.image.pixels import Pixels
from bmz.image.readers import READERS


def read_image(info: ImageInfo) -> Pixels:
    """Read the pixels of an inspected image.

    Uncompressed TIFF and NPY are mapped from the disk and read-only: only what is used is read.

    Parameters
    ----------
    info : as `bmz.image.inspect.inspect_image` gives it

    Returns
    -------
    Pixels
        dtype as stored; the named axes in the order t, c, z, y, x, always with y and x

    Raises
    ------
    AxesUnknown
        An axis has no name.
    CouldNotTell
        The pixels are damaged, cut short, transparent, or larger than the memory.
    """
    info.refuse_unknown_axes()
    return laid_out(READERS[format_of(info.path)].pixels(info.path, info.series), info)


def laid_out(pixels: AnyArray, info: ImageInfo) -> Pixels:
    """Give pixels the names of their axes, their lengths, and the order t, c, z, y, x.

    Parameters
    ----------
    pixels : as stored, but for axes of size 1
    info : of the image

    Raises
    ------
    ImageUnreadable
        They have another size or dtype than the header said.
    """
    if info.stack is not None:
        return _taken_of(laid_out(pixels, info.stack), info)
    info.refuse_changed(pixels.shape, pixels.dtype)
    stored = Pixels(
        np.asarray(pixels).reshape(info.shape),
        tuple(info.axes),
        info.pixel_um,
        info.channel_names,
        info.colour,
    )
    return stored.transposed(in_image_order(info.axes))


def _taken_of(pixels: Pixels, info: ImageInfo) -> Pixels:
    """Take the positions, or the largest values, along the axes that an image does not have.

    Parameters
    ----------
    pixels : of the image with all its axes; along one of which a position is taken, all of them or
        that one alone
    """
    for axis, place in info.taken.items():
        if place == "max":
            at = pixels.axes.index(axis)
            axes = pixels.axes[:at] + pixels.axes[at + 1 :]
            pixels = replace(pixels, array=pixels.array.max(axis=at), axes=axes)
        else:
            pixels = pixels.part({axis: place if pixels.sizes[axis] > 1 else 0})
    return replace(pixels, pixel_um=info.pixel_um)


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
    pixels : as `bmz.image.region.read_image` gives them
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
        if self.info.stack is not None:
            return _taken_of(self._stack.region(self._of_stack(slices)), self.info)
        info, box = self.info, _box(self.info, slices)
        lengths = [s.stop - s.start for s in box]
        with decoding(info.path, self.format_name):
            try:
                stored = self.stored[_with_dropped(self.stored.shape, info.shape, box)]
                pixels = np.asarray(stored).astype(info.dtype, copy=False)
            except MemoryError as why:
                raise ImageTooLarge(info.path, lengths) from why
        names = info.channel_names[box[info.axes.index("c")]] if info.channel_names else ()
        region = Pixels(
            pixels.reshape(lengths), tuple(info.axes), info.pixel_um, names, info.colour
        )
        return region.transposed(in_image_order(info.axes))

    def expect(self, slices: Mapping[str, slice]) -> None:
        """Begin to bring a region that is read soon, where the image lies on a server.

        Raises
        ------
        RegionRefused
            See `region`.
        """
        if self.info.stack is not None:
            self._stack.expect(self._of_stack(slices))
        elif isinstance(self.stored, ToldAhead):
            box = _box(self.info, slices)
            self.stored.expect(_with_dropped(self.stored.shape, self.info.shape, box))

    @property
    def _stack(self) -> OpenImage:
        """The image with all its axes."""
        return replace(self, info=self.info.stack or self.info)

    def _of_stack(self, slices: Mapping[str, slice]) -> dict[str, slice]:
        """Give a region of the image as one of all its axes."""
        _box(self.info, slices)  # or refuse it
        taken = self.info.taken.items()
        return {**slices, **{axis: slice(n, n + 1) for axis, n in taken if n != "max"}}


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
    format_name = format_of(info.path)
    with ExitStack() as stack:
        with decoding(info.path, format_name):
            stored = stack.enter_context(READERS[format_name].opened(info.path, info.series))
        info.whole.refuse_changed(stored.shape, stored.dtype.newbyteorder("="))
        yield OpenImage(info, stored, format_name)


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


def _with_dropped(stored: tuple[int, ...], named: tuple[int, ...], box: Box) -> Box:
    """Give `box` the axes of the file: those of size 1 may have been left out, or added."""
    sides = iter(side for n, side in zip(named, box, strict=True) if n > 1)
    return tuple(next(sides) if n > 1 else slice(0, 1) for n in stored)


def _in_words(slices: Mapping[str, slice]) -> str:
    def bound(value: int | None) -> str:
        return "" if value is None else str(value)

    steps = {a: "" if s.step is None else f":{s.step}" for a, s in slices.items()}
    sides = (f"{a}={bound(s.start)}:{bound(s.stop)}{steps[a]}" for a, s in slices.items())
    return ", ".join(sides) or "at all"


_PLANES = 5
"""Planes of t and z among which a sample is spread, when not all of them fit."""

_SIDE_PX = 512
"""Side of a tile when not whole planes fit: objects up to some hundred pixels are seen whole."""


@dataclass(frozen=True)
class Tile:
    """One tile of a sample: where it starts."""

    t: int
    z: int
    y: int
    x: int


def read_sample(info: ImageInfo, most_px: int) -> Pixels:
    """Read tiles that are spread evenly over planes, rows and columns, at full resolution.

    The same image gives the same sample. All planes are taken whole where they fit, else up to
    five of them, from the middle of as many equal parts; of planes that do not fit, tiles of up to
    512 x 512, from the middle of as many equal parts. A single tile is the central one.

    Parameters
    ----------
    info : as `bmz.image.inspect.inspect_image` gives it
    most_px : pixels to read at most; one with several channels counts once

    Returns
    -------
    Pixels
        axes tile, c (where the image has it), y, x; dtype as stored; tiles as `choose_tiles`
        chooses them; names of the channels and lengths of pixels are those of the image, and a
        sample of a colour photograph is one

    Raises
    ------
    AxesUnknown
        An axis has no name.
    CouldNotTell
        The pixels cannot be had.
    ValueError
        `most_px` is less than 1.
    """
    if most_px < 1:
        raise ValueError(f"a sample has at least one pixel; asked for {most_px}")
    sizes = {**dict.fromkeys("tzyx", 1), **info.sizes}
    tiles, lengths = choose_tiles(sizes, most_px)
    with open_image(info) as image:
        for tile in tiles:
            image.expect(_box_of(image.info, tile, lengths))
        pixels = [_read(image, tile, lengths) for tile in tiles]
    first = pixels[0]
    stack = np.stack([part.array for part in pixels])
    names, colour = first.channel_names, first.colour
    return Pixels(stack, ("tile", *first.axes), first.pixel_um, names, colour)


def choose_tiles(sizes: dict[str, int], most_px: int) -> tuple[tuple[Tile, ...], tuple[int, int]]:
    """Decide where the tiles of a sample start, and how high and wide each is.

    Parameters
    ----------
    sizes : of t, z, y, x; each at least 1
    most_px : of all tiles together
    """
    planes = sizes["t"] * sizes["z"]
    height, width = sizes["y"], sizes["x"]
    count = planes if planes * height * width <= most_px else min(planes, _PLANES, most_px)
    rows, columns, lengths = _grid(height, width, most_px // count)
    tiles = tuple(
        Tile(*divmod(plane, sizes["z"]), y, x)
        for plane in _middles(planes, 1, count)
        for y in _middles(height, lengths[0], rows)
        for x in _middles(width, lengths[1], columns)
    )
    return tiles, lengths


def _grid(height: int, width: int, most_px: int) -> tuple[int, int, tuple[int, int]]:
    """Give rows and columns of tiles in a plane, and the height and width of each."""
    if height * width <= most_px:
        return 1, 1, (height, width)
    side = min(_SIDE_PX, math.isqrt(most_px))
    high = min(height, side)
    wide = min(width, side if high == side else min(_SIDE_PX, most_px // high))
    count = most_px // (high * wide)
    most_rows, most_columns = height // high, width // wide
    rows = round(math.sqrt(count * most_rows / most_columns))
    rows = min(max(rows, 1), most_rows, count)
    return rows, min(most_columns, count // rows), (high, wide)


def _middles(length: int, part: int, count: int) -> Iterator[int]:
    """Yield where `part` starts in the middle of each of `count` equal parts of `length`."""
    for i in range(count):
        middle = (2 * i + 1) * length
        yield max(0, (middle - part * count) // (2 * count))


def _box_of(info: ImageInfo, tile: Tile, lengths: Sequence[int]) -> dict[str, slice]:
    box = {
        "t": slice(tile.t, tile.t + 1),
        "z": slice(tile.z, tile.z + 1),
        "y": slice(tile.y, tile.y + lengths[0]),
        "x": slice(tile.x, tile.x + lengths[1]),
    }
    return {a: s for a, s in box.items() if a in info.axes}


def _read(image: OpenImage, tile: Tile, lengths: Sequence[int]) -> Pixels:
    region = image.region(_box_of(image.info, tile, lengths))
    return region.part({axis: 0 for axis in region.axes if axis in "tz"})
