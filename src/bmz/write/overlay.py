"""The overlay picture of a result: the image with the outline of every object."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, smallest_unsigned
from bmz.base.values import dataclass
from bmz.image.pixels import Pixels
from bmz.process.relabel import closed_up
from bmz.write.marks import mark, write_numbers
from bmz.write.result import NUMBERS, Overview, doubted_labels
from bmz.write.shown import Limits, as_bytes, enlarged, greys_or_colours, nearest, shrunk

# Okabe and Ito 2008, "Color Universal Design"
_ORANGE, _SKY, _YELLOW = (0.90, 0.62, 0.0), (0.34, 0.71, 0.91), (0.94, 0.89, 0.26)
_VERMILLION, _GREEN, _PURPLE = (0.84, 0.37, 0.0), (0.0, 0.62, 0.45), (0.80, 0.47, 0.65)
_BLUE, _BLACK = (0.0, 0.45, 0.70), (0.0, 0.0, 0.0)
_ON_DARK = np.array([_YELLOW, _SKY, _ORANGE, _GREEN, _PURPLE, _VERMILLION], np.float32)
_ON_BRIGHT = np.array([_BLUE, _VERMILLION, _GREEN, _PURPLE, _BLACK, _ORANGE], np.float32)

_WIDTH_PX = 2
"""Width of an outline."""

_STEP_PX = 3
"""Neighbours are searched on every third pixel, which takes a ninth of the time."""

_AROUND = (
    *((0, -1), (-1, 0), (1, 0), (0, 1)),
    *((-1, -1), (1, -1), (-1, 1), (1, 1)),
    *((0, -2), (-2, 0), (2, 0), (0, 2)),
)
"""Objects grow into the background by 6 px: two of these pixels. Nearer pixels come first, and
equally near ones in the order of ``scipy.ndimage.distance_transform_edt``, which imports slowly."""


def outline(labels: AnyArray, width_px: tuple[int, int] = (_WIDTH_PX, _WIDTH_PX)) -> BoolArray:
    """Find the outline of every object.

    The outline lies inside the object, so touching objects each have their own. There is no
    outline along the border of the image, where the object continues.

    Parameters
    ----------
    labels : (y, x) integers, 0 background
    width_px : width of the outline along y and along x
    """
    edge: BoolArray = (labels > 0) & _near_change(labels, width_px)
    return edge


def beside(line: BoolArray) -> BoolArray:
    """Find the pixels, (y, x), that share a side with a line but are not on one."""
    near = np.zeros_like(line)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        near[here] |= line[there]
        near[there] |= line[here]
    return near & ~line


def _near_change(labels: AnyArray, reach_px: tuple[int, int]) -> BoolArray:
    """Return where a label changes within `reach_px` pixels along y and x."""
    near = np.zeros(labels.shape, np.bool_)
    for axis in (0, 1):
        count = labels.shape[axis]
        changes = np.zeros(labels.shape, np.bool_)
        begin, end = _along(axis, 0, count - 1), _along(axis, 1, count)
        np.not_equal(labels[end], labels[begin], out=changes[begin])
        # a change lies between a pixel and the next, so the reach is one less on one side
        along = _spread(changes, axis, reach_px[axis], reach_px[axis] - 1)
        near |= _spread(along, 1 - axis, reach_px[1 - axis], reach_px[1 - axis])
    return near


def _spread(marks: BoolArray, axis: int, before: int, behind: int) -> BoolArray:
    """Dilate marks along an axis by `behind` pixels towards 0 and by `before` away from it."""
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
    """Choose a colour for each label, so that neighbouring objects differ where possible.

    Labels are coloured in order: each gets the first colour that no coloured neighbour has. If
    there is none, the label number selects the colour.

    Parameters
    ----------
    labels : (y, x) integers, 0 background
    bright : whether the image is bright, so that dark colours are used

    Returns
    -------
    (highest label + 1, 3) float32
        red, green, blue from 0 to 1; entry k is the colour of label k
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
    """Assign each background pixel the label of the nearest object, if one is near enough."""
    margin = max(y for y, _ in _AROUND)
    wide = np.pad(labels, margin)
    width = wide.shape[1]
    # a flat array and factors of 0 and 1 are faster than boolean indexing, which copies pixel-wise
    flat, start, count = wide.reshape(-1), margin * width, len(labels) * width
    grown = flat[start : start + count].copy()
    for y, x in _AROUND:
        step = start + y * width + x
        grown += flat[step : step + count] * (grown == 0).astype(grown.dtype)
    return grown.reshape(-1, width)[:, margin : width - margin]


_LARGEST_PX = 2048
_WANTED_PX = 1024
_BRIGHT = 0.5
_FINE_PX = 200
"""Pictures whose longer side is shorter than this have thinner lines."""

_RIM = 0.3
"""Share of its colour that a pixel next to a line keeps, which sets the line off."""

_DASH_PX = 6
"""Length of a dash, and of the gap after it."""


@dataclass(frozen=True)
class Drawing:
    """Options for drawing a result.

    Parameters
    ----------
    doubted : labels whose outlines are dashed
    numbers : whether the label is written on each object that has room for it
    limits : intensities shown as black and white, see `bmz.write.shown.limits_of`; None for those
        of the plane
    bright : whether the image is bright, so that lines are dark; None to decide by the plane
    wanted_px, largest_px : a small image is enlarged by an integer factor to a longer side of about
        `wanted_px`; a large one is reduced to `largest_px`
    """

    doubted: Collection[int] = ()
    numbers: bool = False
    limits: Sequence[Limits] | None = None
    bright: bool | None = None
    wanted_px: int = _WANTED_PX
    largest_px: int = _LARGEST_PX


def drawing_of(record: Mapping[str, Any]) -> Drawing:
    """Return the drawing options from the record of a run."""
    numbers = record["request"]["overlay"] == NUMBERS
    return Drawing(doubted_labels(record), numbers=numbers)


def overlay(
    image: Pixels, labels: Pixels, kinds: AnyArray | None = None, doubted: Collection[int] = ()
) -> AnyArray:
    """Draw the outlines of `labels` over `image`, or over its plane with the most objects.

    Parameters
    ----------
    image : axes a subset of t, c, z, y, x
    labels : integers, 0 background, on the grid of `image`; axes a subset of t, z, y, x
    kinds : as for `bmz.write.result.Overview`
    doubted : as for `Drawing`

    Returns
    -------
    (y, x, 3) uint8
        red, green, blue
    """
    plane = fullest_plane(labels)
    at = {axis: (place, labels.sizes[axis]) for axis, place in plane.items()}
    shown = image.part({a: i for a, i in plane.items() if a in image.axes})
    return drawn(Overview(shown, labels.part(plane), kinds, at), Drawing(doubted))


def fullest_plane(labels: Pixels) -> dict[str, int]:
    """Return the position along t and z of the (first) plane with the most objects."""
    others = [a for a in labels.axes if a not in ("y", "x")]
    if not others:
        return {}
    planes = labels.transposed((*others, "y", "x")).array
    shape = planes.shape[:-2]
    counts = [np.count_nonzero(np.unique(planes[index])) for index in np.ndindex(shape)]
    best = np.unravel_index(int(np.argmax(counts)), shape)
    return {a: int(i) for a, i in zip(others, best, strict=True)}


PLAIN = Drawing()
"""Default drawing options."""


def drawn(overview: Overview, drawing: Drawing = PLAIN) -> AnyArray:
    """Draw the objects of a plane, its position, and a scale bar if the pixel size is known.

    Colours show the classes; without classes, neighbouring objects differ in colour. Lines have a
    rim that is darker than the image below it, or brighter if the image is bright.

    Returns
    -------
    (y, x, 3) uint8
        red, green, blue
    """
    numbers, present = closed_up(overview.labels.transposed("yx").array)
    fewer = numbers.astype(smallest_unsigned(numbers.max(initial=0)), copy=False)
    sides = _sides(fewer.shape, drawing)
    base = greys_or_colours(shrunk(overview.image, sides), drawing.limits)
    kinds = None if overview.kinds is None else np.append(0, overview.kinds[present])
    dashed = np.append(False, np.isin(present, list(drawing.doubted)))
    fine = nearest(fewer, sides)
    # if each row of the picture occurs twice, only the first of the two is drawn on
    step = 2 if sides[0] % (2 * len(fewer)) == 0 else 1
    bright = is_bright(base) if drawing.bright is None else drawing.bright
    palette = _ON_BRIGHT if bright else _ON_DARK
    free = None if kinds is None else palette[kinds % len(palette)]
    colours = outline_colours(fine, bright=bright) if free is None else free
    line = _line(fine[::step], step, 1 if max(sides) < _FINE_PX else _WIDTH_PX, dashed)
    picture = nearest(_outlined(base, fine[::step], line, as_bytes(colours)), sides)
    _lift(picture, nearest(line, sides), bright=bright)
    if drawing.numbers:
        write_numbers(picture, fine, present)
    mark(picture, overview)
    return picture


def is_bright(picture: NDArray[np.uint8]) -> bool:
    """Return whether a picture is so bright that lines on it should be dark."""
    return float(picture.mean()) > _BRIGHT * 255


def _outlined(
    base: NDArray[np.uint8], labels: AnyArray, line: BoolArray, colours: NDArray[np.uint8]
) -> AnyArray:
    """Return the picture enlarged to the size of the labels, with coloured lines."""
    picture, places = enlarged(base, line.shape), np.flatnonzero(line)
    picture.reshape(-1, 3)[places] = colours.take(labels.reshape(-1)[places], axis=0)
    return picture


def _sides(shape: tuple[int, ...], drawing: Drawing) -> tuple[int, int]:
    longest = max(shape)
    enlarged = max(1, round(drawing.wanted_px / longest))
    scale = min(enlarged, drawing.largest_px / longest)
    return max(1, math.floor(shape[0] * scale)), max(1, math.floor(shape[1] * scale))


def _line(labels: AnyArray, step: int, width_px: int, dashed: BoolArray) -> BoolArray:
    """Return where lines are drawn on every `step`-th row of a picture.

    Parameters
    ----------
    labels : (y, x) consecutive integers, of these rows only
    dashed : for each label, whether its outline is dashed
    """
    line = outline(labels, (max(width_px // step, 1), width_px))
    if dashed.any():
        y, x = np.nonzero(line)
        gaps = ((y * step // _DASH_PX + x // _DASH_PX) % 2 > 0) & dashed[labels[y, x]]
        line[y[gaps], x[gaps]] = False
    return line


def _lift(picture: NDArray[np.uint8], line: BoolArray, *, bright: bool) -> None:
    """Darken the pixels next to a line, or brighten them if the image is bright."""
    flat, rim = picture.reshape(-1, 3), np.flatnonzero(beside(line))
    flat[rim] = (_BRIGHTER if bright else _DARKER)[flat.take(rim, axis=0)]


_DARKER = as_bytes((_RIM * np.arange(256) / 255).astype(np.float32))
_BRIGHTER = 255 - _DARKER[::-1]
