"""A sample of an image for its statistics: whole pixels, every channel, the same each time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.image.region import OpenImage, open_image

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
        chooses them

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
        pixels = [_read(image, tile, lengths) for tile in tiles]
    return Pixels(np.stack([one.array for one in pixels]), ("tile", *pixels[0].axes))


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


def _read(image: OpenImage, tile: Tile, lengths: Sequence[int]) -> Pixels:
    box = {
        "t": slice(tile.t, tile.t + 1),
        "z": slice(tile.z, tile.z + 1),
        "y": slice(tile.y, tile.y + lengths[0]),
        "x": slice(tile.x, tile.x + lengths[1]),
    }
    region = image.region({a: s for a, s in box.items() if a in image.info.axes})
    return region.part({axis: 0 for axis in region.axes if axis in "tz"})
