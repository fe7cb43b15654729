"""The picture of a result: the image with the outline of every object, written as PNG."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, Places, smallest_unsigned
from bmz.base.files import whole_file
from bmz.check.pixel_values import percentiles
from bmz.image.pixels import Pixels
from bmz.process.relabel import closed_up

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TRUE_COLOUR = 2
_NO_FILTER, _UP = 0, 2


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture; it appears only when it is whole, and replaces one that is there.

    Parameters
    ----------
    picture : (y, x, 3) red, green, blue
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(png_bytes(picture))


def png_bytes(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture of red, green and blue, (y, x, 3).

    Where rows repeat each other, as in an enlarged picture, their differences are stored, and
    zlib-ng packs them in half the time of libdeflate, which is the faster one for all else.
    """
    height, width, _ = picture.shape
    # width, height, bits of a sample, colours, and the only methods that there are
    header = struct.pack(">IIBBBBB", width, height, 8, _TRUE_COLOUR, 0, 0, 0)
    rows = picture.reshape(height, -1)
    repeats = bool(2 * np.count_nonzero(rows[1:] == rows[:-1]) > rows.size)
    pack, level = (imagecodecs.zlibng_encode, 2) if repeats else (imagecodecs.deflate_encode, 1)
    lines = bytes(pack(_filtered(rows, repeats=repeats).tobytes(), level))
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", lines) + _chunk(b"IEND", b"")


def _filtered(rows: AnyArray, *, repeats: bool) -> AnyArray:
    """Put the number of its filter before each row."""
    lines = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    lines[:, 0] = _UP if repeats else _NO_FILTER
    if repeats:
        lines[0, 1:] = rows[0]
        np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    else:
        lines[:, 1:] = rows
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


_LARGEST_SPAN = 1e38
"""Differences beyond overflow in float32."""

FEW_BYTES = 2
"""Of whole numbers of up to so many bytes the colour is looked up in a table of all of them."""


def in_colour(image: Pixels) -> NDArray[np.uint8]:
    """Show one plane in red, green and blue.

    A photograph keeps its colours: its channels are stretched together. Stains are stretched one
    by one and added up, up to three of them; of more the first three are shown.

    Parameters
    ----------
    image : axes y, x and perhaps c

    Returns
    -------
    (y, x, 3) uint8
    """
    shown = _greys_or_colours(image)
    return np.broadcast_to(shown, (*shown.shape[:2], 3))


def _greys_or_colours(image: Pixels) -> NDArray[np.uint8]:
    """Give (y, x, 1) where red, green and blue are equal, else (y, x, 3)."""
    if "c" not in image.axes:
        return _shown(image.transposed("yx").array, _grey_bytes)[..., None]
    channels = image.transposed("cyx").array[:_MOST_CHANNELS]
    if image.colour and len(image.transposed("cyx").array) == _MOST_CHANNELS:
        return np.moveaxis(_shown(channels, _bytes), 0, -1)
    if len(channels) == 1:
        return _shown(channels[0], _grey_bytes)[..., None]
    return _added(channels)


def _added(channels: AnyArray) -> NDArray[np.uint8]:
    lights = [_shown(channel, _lifted) for channel in channels]
    picture = np.empty((*channels.shape[1:], 3), np.uint8)
    for k, shares in enumerate(zip(*COLOURS[len(channels)], strict=True)):
        total = np.zeros(channels.shape[1:], np.float32)
        for light, share in zip(lights, shares, strict=True):
            total += light * np.float32(share)
        picture[..., k] = _bytes(total)
    return picture


def stretched(pixels: AnyArray, percents: tuple[float, float] = PERCENTS) -> FloatArray:
    """Bring two percentiles to 0 and 1 and cut off what lies outside; NaN becomes 0."""
    return _shown(pixels, _unchanged, percents)


def _shown(
    pixels: AnyArray,
    way: Callable[[FloatArray], AnyArray],
    percents: tuple[float, float] = PERCENTS,
) -> AnyArray:
    """Stretch the values as `stretched` does, and do with each what `way` does, value by value."""
    if pixels.dtype.kind in "biu" and pixels.dtype.itemsize <= FEW_BYTES and pixels.size:
        return _looked_up(pixels, way, percents)
    with np.errstate(over="ignore"):  # what float32 does not hold is as bright as can be
        real = pixels.astype(np.float32)
    known = real[np.isfinite(real)]
    if not known.size:
        return way(np.zeros_like(real))
    known.sort()
    low, high = percentiles(known, percents, np.float32)
    return way(_between(real, *_limits(float(low), float(high), known)))


def _looked_up(
    pixels: AnyArray, way: Callable[[FloatArray], AnyArray], percents: tuple[float, float]
) -> AnyArray:
    least = int(pixels.min()) if pixels.dtype.kind == "i" else 0
    places = pixels.astype(np.int32) - least if least else pixels.view(f"u{pixels.itemsize}")
    counts = np.bincount(places.reshape(-1))
    values = (np.arange(len(counts)) + least).astype(np.float32)
    among = Places.among(pixels.size, percents)
    below, above = (
        values[np.searchsorted(counts.cumsum(), at, side="right")]
        for at in (among.below, among.above)
    )
    low, high = among.between(below, above)
    table = way(_between(values, *_limits(float(low), float(high), values[counts > 0])))
    return table[places]


def _limits(low: float, high: float, order: FloatArray) -> tuple[float, float]:
    """Give what becomes 0 and 1; of a plane that is nearly flat its extremes."""
    return (low, high) if high > low else (float(order[0]), float(order[-1]))


def _between(values: FloatArray, low: float, high: float) -> FloatArray:
    """Bring `low` to 0 and `high` to 1, and cut off what lies outside."""
    span = high - low if high > low else 1.0
    kept = values if span < _LARGEST_SPAN else values.astype(np.float64)
    shares = np.nan_to_num(kept, nan=low)
    with np.errstate(over="ignore"):  # the largest number stands for infinity
        shares -= kept.dtype.type(low)
        shares /= kept.dtype.type(span)
    return np.clip(shares, 0, 1, out=shares).astype(np.float32, copy=False)


def _unchanged(shares: FloatArray) -> FloatArray:
    return shares


def _lifted(shares: FloatArray) -> FloatArray:
    """Raise to 3 / 4, for a screen shows less of what is dim than a camera sees.

    Two roots take a tenth of the time of a power.
    """
    root = np.sqrt(shares)
    return root * np.sqrt(root)


def _grey_bytes(shares: FloatArray) -> NDArray[np.uint8]:
    return _bytes(_lifted(shares))


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


def outline(labels: AnyArray, width_px: tuple[int, int] = (_WIDTH_PX, _WIDTH_PX)) -> BoolArray:
    """Find the outline of every object.

    It lies inside the object: where two objects touch, each keeps its own. There is none along the
    border of the image: the object goes on there.

    Parameters
    ----------
    labels : (y, x) integers, 0 background
    width_px : of the outline along y and along x
    """
    edge: BoolArray = (labels > 0) & _near_change(labels, width_px)
    return edge


def shade(labels: AnyArray) -> BoolArray:
    """Find the pixels of background that share a side with an object, which lift its outline.

    Parameters
    ----------
    labels : (y, x) integers, 0 background
    """
    inside = labels > 0
    near = np.zeros_like(inside)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        near[here] |= inside[there]
        near[there] |= inside[here]
    return near & ~inside


def _near_change(labels: AnyArray, reach_px: tuple[int, int]) -> BoolArray:
    """Say where a label changes within so many pixels along y and along x around each."""
    near = np.zeros(labels.shape, np.bool_)
    for axis in (0, 1):
        count = labels.shape[axis]
        changes = np.zeros(labels.shape, np.bool_)
        begin, end = _along(axis, 0, count - 1), _along(axis, 1, count)
        np.not_equal(labels[end], labels[begin], out=changes[begin])
        # between a pixel and the next: from two pixels before to one behind
        along = _spread(changes, axis, reach_px[axis], reach_px[axis] - 1)
        near |= _spread(along, 1 - axis, reach_px[1 - axis], reach_px[1 - axis])
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
    chosen = [0] * (int(labels.max(initial=0)) + 1)
    palette, near = _ON_BRIGHT if bright else _ON_DARK, _neighbours(labels)
    for label in range(1, len(chosen)):
        taken = {chosen[other] for other in near.get(label, ()) if other < label}
        free = [k for k in range(len(palette)) if k not in taken]
        chosen[label] = free[0] if free else label % len(palette)
    return palette[chosen]


_SHIFT = 32
_LOWER = (1 << _SHIFT) - 1


def _neighbours(labels: AnyArray) -> dict[int, set[int]]:
    grown = _grown(labels[::_STEP_PX, ::_STEP_PX])
    pairs: set[tuple[int, int]] = set()
    for first, other in ((grown[1:], grown[:-1]), (grown[:, 1:], grown[:, :-1])):
        touch = (first != other) & (first > 0) & (other > 0)
        keys = first[touch].astype(np.int64) << _SHIFT | other[touch].astype(np.int64)
        pairs |= {(key >> _SHIFT, key & _LOWER) for key in np.unique(keys).tolist()}
    near: dict[int, set[int]] = {}
    for a, b in pairs:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    return near


def _grown(labels: AnyArray) -> AnyArray:
    """Give each pixel of the ground the label of the nearest object, if one is near enough."""
    margin = max(y for y, _ in _AROUND)
    wide = np.pad(labels, margin)
    width = wide.shape[1]
    # rows one behind the other, and factors of 0 and 1: NumPy copies single pixels one by one
    flat, start, count = wide.reshape(-1), margin * width, len(labels) * width
    grown = flat[start : start + count].copy()
    for y, x in _AROUND:
        step = start + y * width + x
        grown += flat[step : step + count] * (grown == 0).astype(grown.dtype)
    return grown.reshape(-1, width)[:, margin : width - margin]


_LARGEST_PX = 2048
_WANTED_PX = 1024
_BRIGHT = 0.5


def write_overlay(
    path: Path,
    image: Pixels,
    labels: Pixels,
    kinds: AnyArray | None = None,
    doubted: Collection[int] = (),
) -> None:
    """Draw the outlines of `labels` over `image` as PNG.

    Of a stack the plane with most objects is drawn. A large image is shrunk to 2048 px, a small
    one enlarged by a whole factor, so that outlines never hide the objects.

    Parameters
    ----------
    path : appears only when it is whole; replaced when it is there
    image : axes a subset of t, c, z, y, x
    labels : integers, 0 background, on the grid of `image`; axes a subset of t, z, y, x
    kinds : (most + 1,) the number of the class of label k at k, which its colour tells; None where
        objects near each other have different colours
    doubted : labels whose outlines are dashed
    """
    write_png(path, overlay(image, labels, kinds, doubted))


def overlay(
    image: Pixels, labels: Pixels, kinds: AnyArray | None = None, doubted: Collection[int] = ()
) -> AnyArray:
    """Draw the picture that `write_overlay` writes.

    Returns
    -------
    (y, x, 3) uint8
        red, green, blue
    """
    plane = fullest_plane(labels)
    numbers, present = closed_up(labels.part(plane).transposed("yx").array)
    fewer = numbers.astype(smallest_unsigned(numbers.max(initial=0)), copy=False)
    shown = image.part({a: i for a, i in plane.items() if a in image.axes})
    sides = _sides(numbers.shape)
    own = None if kinds is None else np.append(0, kinds[present])
    dashed = np.append(False, np.isin(present, list(doubted)))
    return _drawn(_greys_or_colours(shrunk(shown, sides)), fewer, sides, own, dashed)


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
    wide = pixels if sides[1] == pixels.shape[1] else pixels.take(x, axis=1)
    return wide if sides[0] == pixels.shape[0] else wide.take(y, axis=0)


def _under(shape: tuple[int, ...], sides: tuple[int, int]) -> tuple[AnyArray, AnyArray]:
    y, x = (
        ((np.arange(side) + 0.5) * size / side).astype(int)
        for side, size in zip(sides, shape, strict=False)
    )
    return y, x


_RIM = 0.45
"""A rim of the image's colours this much darker lifts the line off the image."""

_DASH_PX = 6
"""Length of a dash, and of the gap behind it."""


def _drawn(
    base: NDArray[np.uint8],
    labels: AnyArray,
    sides: tuple[int, int],
    kinds: AnyArray | None,
    dashed: BoolArray,
) -> AnyArray:
    """Draw outlines over a picture, which is enlarged, or as large as it will be.

    Parameters
    ----------
    base : (height, width, 3), or (height, width, 1) of greys
    labels : (y, x) integers without gaps, 0 background
    sides : of the picture
    kinds, dashed : of each label, see `write_overlay`
    """
    bright = float(base.mean()) > _BRIGHT * 255
    fine = nearest(labels, sides)
    palette = _ON_BRIGHT if bright else _ON_DARK
    free = outline_colours(fine, bright=bright) if kinds is None else palette[kinds % len(palette)]
    # where the rows of the picture come in twos, only the first of each two is drawn on
    step = 2 if sides[0] % (2 * len(labels)) == 0 else 1
    some = fine[::step]
    picture = _enlarged(base, some.shape)
    line = np.flatnonzero(outline(some, (_WIDTH_PX // step, _WIDTH_PX)))
    if dashed.any():
        y, x = np.divmod(line, some.shape[1])
        line = line[((y * step // _DASH_PX + x // _DASH_PX) % 2 < 1) | ~dashed[some[y, x]]]
    picture.reshape(-1, 3)[line] = _bytes(free).take(some.reshape(-1)[line], axis=0)
    picture = nearest(picture, sides)
    flat, rim = picture.reshape(-1, 3), np.flatnonzero(shade(fine))
    flat[rim] = _DARKER[flat.take(rim, axis=0)]
    return picture


def _enlarged(base: NDArray[np.uint8], sides: tuple[int, int]) -> NDArray[np.uint8]:
    """Give red, green and blue at the size of the picture, row by row in the end."""
    wide = nearest(base, (base.shape[0], sides[1]))
    colours = np.empty((*wide.shape[:2], 3), np.uint8)
    for k in range(3):
        colours[..., k] = wide[..., min(k, wide.shape[2] - 1)]
    return nearest(colours, sides)


def _bytes(colours: FloatArray) -> NDArray[np.uint8]:
    return np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)


_DARKER = _bytes(_RIM * np.arange(256) / 255)
