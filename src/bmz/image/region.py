"""Reading the pixels of an image: all of them, a region, or a sample."""

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
from bmz.image.faults import ImageTooLarge, ImageUnreadable, RegionRefused
from bmz.image.formats import format_of
from bmz.image.info import ImageInfo
from bmz.image.npy import Stored
from bmz.image.pixels import Pixels
from bmz.image.readers import READERS


def read_image(info: ImageInfo) -> Pixels:
    """Read the pixels of an inspected image.

    Uncompressed TIFF and NPY files are memory-mapped read-only: only what is used is read.

    Parameters
    ----------
    info : metadata from `bmz.image.inspect.inspect_image`

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
    if info.further:
        return joined_pixels([read_image(image) for image in info.images], info)
    info.refuse_unknown_axes()
    return laid_out(READERS[format_of(info.path)].pixels(info.path, info.series), info)


def laid_out(pixels: AnyArray, info: ImageInfo) -> Pixels:
    """Return pixels with named axes and pixel size, in the order t, c, z, y, x.

    Parameters
    ----------
    pixels : pixels as stored; axes of size 1 may differ
    info : metadata of the image

    Raises
    ------
    ImageUnreadable
        The pixels have another size or dtype than the header states.
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
    """Take the positions, or the maxima, along the axes that an image does not have.

    Parameters
    ----------
    pixels : pixels with all axes of the file; along an axis of which one position is taken, either
        all positions or only that one
    info : metadata of the image without those axes
    """
    for axis, place in info.taken.items():
        if place == "max":
            at = pixels.axes.index(axis)
            axes = pixels.axes[:at] + pixels.axes[at + 1 :]
            pixels = replace(pixels, array=pixels.array.max(axis=at), axes=axes)
        else:
            pixels = pixels.part({axis: place if pixels.sizes[axis] > 1 else 0})
    return replace(pixels, pixel_um=info.pixel_um)


def joined_pixels(parts: Sequence[Pixels], info: ImageInfo) -> Pixels:
    """Concatenate images along their channels.

    Parameters
    ----------
    parts : pixels of each of ``info.images``; some may lack axes of size 1, or have additional ones
    info : metadata from `bmz.image.info.joined_info`

    Raises
    ------
    ImageUnreadable
        An image has other sizes than the first.
    """
    arrays = []
    for part, image in zip(parts, info.images, strict=True):
        ordered = part.transposed(in_image_order(part.axes))
        shape = [ordered.sizes.get(a, 1) for a in info.axes]
        if math.prod(shape) != ordered.array.size:
            raise ImageUnreadable(image.path, f"is no longer on the grid of '{info.path.name}'")
        arrays.append(ordered.array.reshape(shape).astype(info.dtype, copy=False))
    whole = np.concatenate(arrays, axis=info.axes.index("c"))
    return Pixels(whole, tuple(info.axes), info.pixel_um)


def apart(pixels: Pixels, info: ImageInfo) -> list[Pixels]:
    """Split joined pixels into those of each image, with its own dtype and channel names.

    Parameters
    ----------
    pixels : pixels of the joined image, or a sample of them, with all channels
    info : metadata of the joined image
    """
    found, start = [], 0
    for image in info.images:
        count = image.sizes.get("c", 1)
        part = pixels.part({"c": slice(start, start + count)})
        array = part.array.astype(image.dtype, copy=False)
        names, colour = image.channel_names, image.colour
        found.append(replace(part, array=array, channel_names=names, colour=colour))
        start += count
    return found


def first_alone(pixels: Pixels, info: ImageInfo) -> Pixels:
    """Return the pixels of an image without the images that are joined to it."""
    if not info.further:
        return pixels
    first, *_ = apart(pixels, info)
    return first if "c" in info.images[0].axes else first.part({"c": 0})


class ImageSource(Protocol):
    """An image whose regions are read from its file or from memory."""

    @property
    def info(self) -> ImageInfo:
        """The metadata of the image."""

    def region(self, slices: Mapping[str, slice]) -> Pixels:
        """Return a region; see `OpenImage.region`."""


class FileSource(ImageSource, Protocol):
    """An image whose file is open, or several of them joined."""

    @property
    def alone(self) -> FileSource:
        """The image without those that are joined to it."""

    def expect(self, slices: Mapping[str, slice]) -> None:
        """Begin to fetch a region; see `OpenImage.expect`."""


@dataclass(frozen=True)
class HeldImage:
    """An image in memory.

    Parameters
    ----------
    info : metadata of the image
    pixels : pixels from `bmz.image.region.read_image`
    """

    info: ImageInfo
    pixels: Pixels

    def region(self, slices: Mapping[str, slice]) -> Pixels:
        """Return a region; see `OpenImage.region`."""
        return self.pixels.part(slices)


@dataclass(frozen=True)
class OpenImage:
    """An image whose file is open, to be read region by region.

    Parameters
    ----------
    info : metadata of the image
    stored : pixels with all axes of the file
    format_name : format of the file, for error messages
    """

    info: ImageInfo
    stored: Stored
    format_name: str

    @property
    def alone(self) -> OpenImage:
        """The image itself."""
        return self

    def region(self, slices: Mapping[str, slice]) -> Pixels:
        """Return what ``read_image(info).part(slices)`` returns, reading little else of the file.

        Parameters
        ----------
        slices : axis -> slice without a step; axes without an entry are taken whole

        Raises
        ------
        RegionRefused
            An axis does not exist, a slice has a step, or a slice is empty.
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
        """Begin to fetch a region that will be read soon, if the image is on a server.

        Raises
        ------
        RegionRefused
            As for `region`.
        """
        if self.info.stack is not None:
            self._stack.expect(self._of_stack(slices))
        elif isinstance(self.stored, ToldAhead):
            box = _box(self.info, slices)
            self.stored.expect(_with_dropped(self.stored.shape, self.info.shape, box))

    @property
    def _stack(self) -> OpenImage:
        """The image with all axes of the file."""
        return replace(self, info=self.info.stack or self.info)

    def _of_stack(self, slices: Mapping[str, slice]) -> dict[str, slice]:
        """Convert a region of the image to one with all axes of the file."""
        _box(self.info, slices)  # raises if the region does not exist
        taken = self.info.taken.items()
        return {**slices, **{axis: slice(n, n + 1) for axis, n in taken if n != "max"}}


@dataclass(frozen=True)
class JoinedImage:
    """Images whose files are open, read as one image with the channels of all of them.

    Parameters
    ----------
    info : metadata from `bmz.image.info.joined_info`
    images : each of ``info.images``, opened
    """

    info: ImageInfo
    images: Sequence[OpenImage]

    @property
    def alone(self) -> OpenImage:
        """The first of the images."""
        return self.images[0]

    def region(self, slices: Mapping[str, slice]) -> Pixels:
        """Return a region; see `OpenImage.region`."""
        _box(self.info, slices)
        wanted = self._of_each(slices)
        parts = [image.region(sides) for image, sides in wanted]
        axes = tuple(self.info.axes)
        shapes = [[part.sizes.get(axis, 1) for axis in axes] for part in parts]
        arrays = [
            part.array.reshape(shape).astype(self.info.dtype, copy=False)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        return Pixels(np.concatenate(arrays, axes.index("c")), axes, self.info.pixel_um)

    def expect(self, slices: Mapping[str, slice]) -> None:
        """Begin to fetch a region of each image; see `OpenImage.expect`."""
        for image, sides in self._of_each(slices):
            image.expect(sides)

    def _of_each(self, slices: Mapping[str, slice]) -> Iterator[tuple[OpenImage, dict[str, slice]]]:
        """Yield each image that a region touches, with its part; it may lack axes of size 1."""
        channels = range(self.info.sizes["c"])[slices.get("c", slice(None))]
        start = 0
        for image in self.images:
            count = image.info.sizes.get("c", 1)
            own = [c - start for c in channels if start <= c < start + count]
            start += count
            if own:
                sides = {**slices, "c": slice(own[0], own[-1] + 1)}
                yield image, {axis: side for axis, side in sides.items() if axis in image.info.axes}


@contextmanager
def open_image(info: ImageInfo) -> Iterator[FileSource]:
    """Open an inspected image, and those that are joined to it, to read many regions of it.

    Uncompressed TIFF and NPY files are memory-mapped read-only. Only the strips or tiles of
    compressed TIFF, the chunks of OME-Zarr, and the planes of CZI, LIF and ND2 that a region
    touches are decoded. PNG, JPEG and TIFF with an alpha channel are read whole.

    Raises
    ------
    AxesUnknown
        An axis has no name.
    CouldNotTell
        A file cannot be read.
    """
    with ExitStack() as stack:
        images = [stack.enter_context(open_file(image)) for image in info.images]
        yield JoinedImage(info, images) if info.further else images[0]


@contextmanager
def open_file(info: ImageInfo) -> Iterator[OpenImage]:
    """Open the file of a single inspected image; see `open_image`."""
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
            why = f"it contains no pixel along {axis}, which has {length}"
            raise RegionRefused(info.path, _in_words(slices), why)
        box.append(slice(start, stop))
    return tuple(box)


def _with_dropped(stored: tuple[int, ...], named: tuple[int, ...], box: Box) -> Box:
    """Convert `box` to the axes of the file; axes of size 1 may have been left out or added."""
    sides = iter(side for n, side in zip(named, box, strict=True) if n > 1)
    return tuple(next(sides) if n > 1 else slice(0, 1) for n in stored)


def _in_words(slices: Mapping[str, slice]) -> str:
    def bound(value: int | None) -> str:
        return "" if value is None else str(value)

    steps = {a: "" if s.step is None else f":{s.step}" for a, s in slices.items()}
    sides = (f"{a}={bound(s.start)}:{bound(s.stop)}{steps[a]}" for a, s in slices.items())
    return ", ".join(sides) or "at all"


_PLANES = 5
"""Number of planes along t and z from which a sample is taken, if not all of them fit."""

_SIDE_PX = 512
"""Side of a tile if whole planes do not fit; it holds objects of up to some hundred pixels."""


@dataclass(frozen=True)
class Tile:
    """The start of one tile of a sample."""

    t: int
    z: int
    y: int
    x: int


def read_sample(info: ImageInfo, most_px: int) -> Pixels:
    """Read tiles that are spread evenly over planes, rows and columns, at full resolution.

    The same image always gives the same sample. If all planes fit, they are taken whole; otherwise
    up to five planes are taken, from the middle of as many equal parts. From planes that do not
    fit, tiles of up to 512 x 512 are taken, likewise from the middle of as many equal parts. A
    single tile is the central one.

    Parameters
    ----------
    info : metadata from `bmz.image.inspect.inspect_image`
    most_px : maximum number of pixels to read; a pixel with several channels counts once

    Returns
    -------
    Pixels
        axes tile, c (if the image has it), y, x; dtype as stored; tiles as chosen by
        `choose_tiles`; channel names, pixel size and `colour` as in the image

    Raises
    ------
    AxesUnknown
        An axis has no name.
    CouldNotTell
        The pixels cannot be read.
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
    """Return the start of each tile of a sample, and the height and width of the tiles.

    Parameters
    ----------
    sizes : size along t, z, y, x, each at least 1
    most_px : maximum number of pixels of all tiles together
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
    """Return the number of rows and columns of tiles in a plane, and the size of a tile."""
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
    """Yield the start of `part` centred in each of `count` equal parts of `length`."""
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


def _read(image: FileSource, tile: Tile, lengths: Sequence[int]) -> Pixels:
    region = image.region(_box_of(image.info, tile, lengths))
    return region.part({axis: 0 for axis in region.axes if axis in "tz"})
