"""The picture of a result: the image with the outline of every object, written as PNG."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray
from bmz.base.files import whole_file
from bmz.image.pixels import Pixels

LEVEL = 2
"""Of compression with libdeflate: higher levels take up to twice as long, as does zlib."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUE_COLOUR = 2
_NO_FILTER, _UP = 0, 2


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture; it appears only when it is whole, and replaces one that is there.

    Parameters
    ----------
    picture : (y, x, 3) red, green, blue
    """
    content = png_bytes(picture)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def png_bytes(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture of red, green and blue, (y, x, 3).

    Where rows repeat each other, as in an enlarged picture, their differences are stored.
    """
    height, width, _ = picture.shape
    # width, height, bits of a sample, colours, and the only methods that there are
    header = struct.pack(">IIBBBBB", width, height, 8, _TRUE_COLOUR, 0, 0, 0)
    rows = _filtered(picture.reshape(height, -1)).tobytes()
    lines = bytes(imagecodecs.deflate_encode(rows, LEVEL))
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", lines) + _chunk(b"IEND", b"")


def _filtered(rows: AnyArray) -> AnyArray:
    """Put the number of its filter before each row."""
    repeats = 2 * np.count_nonzero(rows[1:] == rows[:-1]) > rows.size
    lines = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    lines[:, 0] = _UP if repeats else _NO_FILTER
    lines[:, 1:] = rows
    if repeats:
        lines[1:, 1:] -= rows[:-1]
    return lines


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


PERCENTS = (1.0, 99.8)
"""What is shown as black and as white, where nothing else is asked for."""

_GREY = (1.0, 1.0, 1.0)
# pairs and triples that people without red or green cones tell apart
COLOURS = {
    1: (_GREY,),
    2: ((1.0, 0.2, 0.9), (0.1, 0.9, 0.2)),
    3: ((1.0, 0.2, 0.9), (0.2, 0.9, 0.2), (0.1, 0.45, 1.0)),
}
_MOST_CHANNELS = 3
_GAMMA = 0.75
"""Lifts what is dim: a screen shows less than a camera sees."""


def in_colour(image: Pixels) -> FloatArray:
    """Show one plane in red, green and blue.

    A photograph keeps its colours: its channels are stretched together. Stains are stretched one
    by one and added up, up to three of them; of more the first three are shown.

    Parameters
    ----------
    image : axes y, x and perhaps c

    Returns
    -------
    (y, x, 3) float32
        from 0 to 1
    """
    if "c" not in image.axes:
        return _added(image.transposed("yx").array[None])
    channels = image.transposed("cyx").array
    if image.colour and len(channels) == _MOST_CHANNELS:
        return np.moveaxis(stretched(channels), 0, -1)
    return _added(channels[:_MOST_CHANNELS])


def stretched(pixels: AnyArray, percents: tuple[float, float] = PERCENTS) -> FloatArray:
    """Bring two percentiles to 0 and 1 and cut off what lies outside; NaN becomes 0."""
    with np.errstate(over="ignore"):  # what float32 does not hold is as bright as can be
        real = pixels.astype(np.float32)
    known = real[np.isfinite(real)]
    if not known.size:
        return np.zeros_like(real)
    low, high = np.percentile(known, percents)
    if high <= low:
        low, high = float(known.min()), float(known.max())
    span = high - low if high > low else 1
    shown: FloatArray = np.clip((np.nan_to_num(real, nan=low) - low) / span, 0, 1)
    return shown.astype(np.float32)


def _added(channels: AnyArray) -> FloatArray:
    total = np.zeros((*channels.shape[1:], 3), np.float32)
    for channel, colour in zip(channels, COLOURS[len(channels)], strict=True):
        total = total + stretched(channel)[..., None] ** _GAMMA * np.array(colour, np.float32)
    return np.clip(total, 0, 1)


# Okabe and Ito 2008, "Color Universal Design"
_ORANGE, _SKY, _YELLOW = (0.90, 0.62, 0.0), (0.34, 0.71, 0.91), (0.94, 0.89, 0.26)
_VERMILLION, _GREEN, _PURPLE = (0.84, 0.37, 0.0), (0.0, 0.62, 0.45), (0.80, 0.47, 0.65)
_BLUE, _BLACK = (0.0, 0.45, 0.70), (0.0, 0.0, 0.0)
_ON_DARK = np.array([_YELLOW, _SKY, _ORANGE, _GREEN, _PURPLE, _VERMILLION], np.float32)
_ON_BRIGHT = np.array([_BLUE, _VERMILLION, _GREEN, _PURPLE, _BLACK, _ORANGE], np.float32)

_WIDTH_PX = 2
"""Of an outline."""

_STEP_PX = 3
"""Every third pixel is enough to see who is near whom, in a ninth of the time."""

_AROUND = (
    *((0, -1), (-1, 0), (1, 0), (0, 1)),
    *((-1, -1), (1, -1), (-1, 1), (1, 1)),
    *((0, -2), (-2, 0), (2, 0), (0, 2)),
)
"""Objects grow over the ground within 6 px: two of these pixels. Nearer ones come first, and equal
ones in the order of ``scipy.ndimage.distance_transform_edt``, whose import takes longer."""


def outlines(labels: AnyArray) -> tuple[BoolArray, BoolArray]:
    """Find the outline of every object, and the thin shade around it.

    The outline lies inside the object and is two pixels wide: where two objects touch, each keeps
    its own.

    Parameters
    ----------
    labels : (y, x) integers, 0 background

    Returns
    -------
    outline, shade : (y, x) bool
        the shade is the pixel outside of the outline on background
    """
    inside = labels > 0
    # no outline along the border of the image: the object goes on there
    edge = inside & _near_change(labels)
    shade = np.zeros_like(inside)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        shade[here] |= inside[there]
        shade[there] |= inside[here]
    return edge, shade & ~inside


def _near_change(labels: AnyArray) -> BoolArray:
    """Say where a label changes within the 5 x 5 pixels around each."""
    near = np.zeros(labels.shape, np.bool_)
    for axis in (0, 1):
        count = labels.shape[axis]
        changes = np.zeros(labels.shape, np.bool_)
        begin, end = _along(axis, 0, count - 1), _along(axis, 1, count)
        np.not_equal(labels[end], labels[begin], out=changes[begin])
        # between a pixel and the next: from two pixels before to one behind
        along = _spread(changes, axis, _WIDTH_PX, _WIDTH_PX - 1)
        near |= _spread(along, 1 - axis, _WIDTH_PX, _WIDTH_PX)
    return near


def _spread(marks: BoolArray, axis: int, before: int, behind: int) -> BoolArray:
    """Say whether any of the pixels from some before to some behind along an axis is marked."""
    spread = marks.copy()
    count = marks.shape[axis]
    for step in range(1, max(before, behind) + 1):
        late, early = _along(axis, step, count), _along(axis, 0, max(count - step, 0))
        if step <= before:
            spread[late] |= marks[early]
        if step <= behind:
            spread[early] |= marks[late]
    return spread


def _along(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)


def outline_colours(labels: AnyArray, *, bright: bool = False) -> FloatArray:
    """Choose a colour for each label, so that objects near each other differ where they can.

    Labels are taken in order; each gets the first colour that no neighbour has, and turns through
    the palette otherwise.

    Parameters
    ----------
    labels : (y, x) integers, 0 background
    bright : the image behind is bright, so that the colours had better be dark

    Returns
    -------
    (most + 1, 3) float32
        red, green, blue from 0 to 1 of label k at k
    """
    chosen = np.zeros(int(labels.max(initial=0)) + 1, int)
    palette, near = _ON_BRIGHT if bright else _ON_DARK, _neighbours(labels)
    for label in np.unique(labels[labels > 0]).tolist():
        taken = {int(chosen[other]) for other in near.get(label, ()) if other < label}
        free = [k for k in range(len(palette)) if k not in taken]
        chosen[label] = free[0] if free else label % len(palette)
    return palette[chosen]


def _neighbours(labels: AnyArray) -> dict[int, set[int]]:
    grown = _grown(labels[::_STEP_PX, ::_STEP_PX])
    pairs: set[tuple[int, int]] = set()
    for first, other in ((grown[1:], grown[:-1]), (grown[:, 1:], grown[:, :-1])):
        touch = (first != other) & (first > 0) & (other > 0)
        pairs |= set(zip(first[touch].tolist(), other[touch].tolist(), strict=True))
    near: dict[int, set[int]] = {}
    for a, b in pairs:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    return near


def _grown(labels: AnyArray) -> AnyArray:
    """Give each pixel of the ground the label of the nearest object, if one is near enough."""
    margin = max(y for y, _ in _AROUND)
    wide = np.pad(labels, margin)
    grown = labels.copy()
    height, width = labels.shape
    for y, x in _AROUND:
        there = wide[margin + y : margin + y + height, margin + x : margin + x + width]
        np.copyto(grown, there, where=grown == 0)
    return grown


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
    write_png(path, overlay(image, labels))


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
    return _drawn(in_colour(shrunk(shown, sides)), nearest(_without_gaps(numbers), sides))


def _without_gaps(numbers: AnyArray) -> AnyArray:
    # colours are looked up by number: few numbers, short table
    there = np.flatnonzero(np.bincount(numbers.ravel().astype(np.int64, copy=False)))
    new = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    present = there[there > 0]
    new[present] = np.arange(1, len(present) + 1)
    fewer: AnyArray = new.astype(np.min_scalar_type(len(present)))[numbers]
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
    from PIL import Image  # here: it takes long to import

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
    y, x = _under(pixels.shape, sides)
    return pixels.take(x, axis=1).take(y, axis=0)


def _under(shape: tuple[int, ...], sides: tuple[int, int]) -> tuple[AnyArray, AnyArray]:
    y, x = (
        ((np.arange(side) + 0.5) * size / side).astype(int)
        for side, size in zip(sides, shape, strict=False)
    )
    return y, x


def _drawn(base: FloatArray, labels: AnyArray) -> AnyArray:
    """Draw outlines over a picture, which is enlarged to the size of `labels`.

    Parameters
    ----------
    base : (height, width, 3) float32, from 0 to 1
    labels : (y, x) integers without gaps, 0 background
    """
    height, width = labels.shape
    edge, shade = outlines(labels)
    picture = nearest(_bytes(base), (height, width))
    # a darker rim lifts the line off the image
    y, x = np.divmod(np.flatnonzero(shade), width)
    rows, columns = _under(base.shape, (height, width))
    flat = picture.reshape(-1, picture.shape[-1])
    flat[y * width + x] = _bytes(base[rows[y], columns[x]] * 0.45)
    line = np.flatnonzero(edge)
    bright = float(base.mean()) > _BRIGHT
    flat[line] = _bytes(outline_colours(labels, bright=bright))[labels.reshape(-1)[line]]
    return picture


def _bytes(colours: FloatArray) -> AnyArray:
    return np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)
