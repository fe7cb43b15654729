"""The picture of a result: the image with the outline of every object."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.files import whole_file
from bmz.image.pixels import Pixels
from bmz.write.outlines import outline_colours, outlines
from bmz.write.stretch import in_colour

_LARGEST_PX = 2048
_WANTED_PX = 1024
_BRIGHT = 0.5


def write_overlay(path: Path, image: Pixels, labels: Pixels) -> None:
    """Draw the outlines of `labels` over `image` as PNG.

    Of a stack the plane with most objects is drawn. A large image is shrunk to 2048 px, a small
    one enlarged by a whole factor, so that outlines never hide the objects.

    Parameters
    ----------
    path : appears only when it is whole; replaced when it is there
    image : axes a subset of t, c, z, y, x
    labels : integers, 0 background, on the grid of `image`; axes a subset of t, z, y, x
    """
    picture = overlay(image, labels)
    with whole_file(path) as temporary:
        # higher levels take three times as long, and more bytes for noisy images
        Image.fromarray(picture).save(temporary, compress_level=2)


def overlay(image: Pixels, labels: Pixels) -> AnyArray:
    """Draw the picture that `write_overlay` writes.

    Returns
    -------
    (y, x, 3) uint8
        red, green, blue
    """
    plane = fullest_plane(labels)
    numbers = labels.part(plane).transposed("yx").array
    shown = image.part({a: i for a, i in plane.items() if a in image.axes})
    sides = _sides(numbers.shape)
    base = nearest(in_colour(shrunk(shown, sides)), sides)
    fitted = nearest(_without_gaps(numbers), sides)
    return _drawn(base, fitted)


def _without_gaps(numbers: AnyArray) -> AnyArray:
    # colours are looked up by number: few numbers, short table
    there = np.flatnonzero(np.bincount(numbers.ravel().astype(np.int64, copy=False)))
    new = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    new[there[there > 0]] = np.arange(1, np.count_nonzero(there) + 1)
    fewer: AnyArray = new[numbers]
    return fewer


def fullest_plane(labels: Pixels) -> dict[str, int]:
    """Give the position along t and z of the plane with most objects, the first of equals."""
    others = [a for a in labels.axes if a not in ("y", "x")]
    if not others:
        return {}
    planes = labels.transposed((*others, "y", "x")).array
    shape = planes.shape[:-2]
    counts = [np.count_nonzero(np.unique(planes[index])) for index in np.ndindex(shape)]
    best = np.unravel_index(int(np.argmax(counts)), shape)
    return {a: int(i) for a, i in zip(others, best, strict=True)}


def _sides(shape: tuple[int, ...]) -> tuple[int, int]:
    longest = max(shape)
    enlarged = max(1, round(_WANTED_PX / longest))
    scale = min(enlarged, _LARGEST_PX / longest)
    return max(1, math.floor(shape[0] * scale)), max(1, math.floor(shape[1] * scale))


def shrunk(image: Pixels, sides: tuple[int, int]) -> Pixels:
    """Average what falls together before anything else is done with millions of pixels."""
    if sides[0] >= image.sizes["y"] and sides[1] >= image.sizes["x"]:
        return image
    with np.errstate(over="ignore"):  # as when it is stretched
        small = [
            np.asarray(
                Image.fromarray(channel.astype(np.float32)).resize(
                    sides[::-1], Image.Resampling.BOX
                )
            )
            for channel in image.with_channel_axis().transposed("cyx").array
        ]
    return Pixels(np.stack(small), ("c", "y", "x"), colour=image.colour)


def nearest(pixels: AnyArray, sides: tuple[int, int]) -> AnyArray:
    """Give the pixel under the centre of each of a picture of `sides`: height and width, px."""
    y, x = (
        ((np.arange(side) + 0.5) * size / side).astype(int)
        for side, size in zip(sides, pixels.shape, strict=False)
    )
    return pixels[np.ix_(y, x)]


def _drawn(base: FloatArray, labels: AnyArray) -> AnyArray:
    bright = float(base.mean()) > _BRIGHT
    edge, shade = outlines(labels)
    picture = _bytes(base)
    # a darker rim lifts the line off the image
    picture[shade] = _bytes(base[shade] * 0.45)
    picture[edge] = _bytes(outline_colours(labels, bright=bright))[labels[edge]]
    return picture


def _bytes(colours: FloatArray) -> AnyArray:
    return np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)
