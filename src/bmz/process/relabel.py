"""Labels in raster order, on the grid of the input, and the common finish of all recipes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, LabelArray
from bmz.base.axes import Box
from bmz.base.errors import CouldNotTell
from bmz.process.object_columns import NO_COLUMNS, Columns, rows_of
from bmz.process.recipe import Finish, Labelled

AT_ONCE = 1 << 20
"""Pixels that are counted together, because counting converts integers to 64 bits."""

A_FEW = 1 << 14
"""Pixels that are tested together where the first ones usually decide."""

FAR_PLACE = 1 << 31
"""Number of pixels from which their positions need 64 bits."""

SPARSE = 4
"""If labels exceed this multiple of the pixels, a table of all labels costs more than a sort."""


def in_raster_order(labels: AnyArray, columns: Columns = NO_COLUMNS) -> Labelled:
    """Renumber the objects from 1 to n without gaps, in raster order of their first pixels.

    Parameters
    ----------
    labels : (..., y, x) integers; 0 and below is background
    columns : of m objects, the value of label k at k - 1, with m at least the highest label

    Returns
    -------
    Labelled
        `labels` int32 of the same shape; the columns of the n objects that have a pixel
    """
    flat = np.ascontiguousarray(labels).reshape(-1)
    if not np.any(flat > 0):
        nobody = rows_of(columns, np.zeros(0, np.int64))
        return Labelled(np.zeros(np.shape(labels), np.int32), nobody)
    old = _in_order_of_appearance(flat)
    number = _numbered(flat, old).reshape(np.shape(labels))
    return Labelled(number, rows_of(columns, old - 1))


def _in_order_of_appearance(flat: LabelArray) -> NDArray[np.int64]:
    begins = np.flatnonzero((flat > 0) & np.concatenate([[True], flat[1:] != flat[:-1]]))
    values = flat[begins].astype(np.int64)
    if values.max() > SPARSE * flat.size:
        numbers, first = np.unique(values, return_index=True)
    else:
        table = np.full(int(values.max()) + 1, len(values))
        table[values[::-1]] = np.arange(len(values))[::-1]  # the last one written occurs first
        numbers = np.flatnonzero(table < len(values))
        first = table[numbers]
    ordered: NDArray[np.int64] = numbers[np.argsort(first)]
    return ordered


def _numbered(flat: LabelArray, old: NDArray[np.int64]) -> NDArray[np.int32]:
    new = np.arange(1, len(old) + 1, dtype=np.int32)
    if old.max() > SPARSE * flat.size:
        rising = np.argsort(old)
        place = np.minimum(np.searchsorted(old[rising], flat), len(old) - 1)
        return np.where(flat > 0, new[rising][place], np.int32(0))
    table = np.zeros(int(old.max()) + 1, np.int32)
    table[old] = new
    number = np.empty(flat.size, np.int32)
    for start in range(0, flat.size, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        number[part] = np.take(table, flat[part], mode="clip")  # below 0 is background
    return number


def closed_up(labels: AnyArray) -> tuple[LabelArray, AnyArray]:
    """Return labels without gaps in unchanged order, and the previous number of each.

    ``skimage.segmentation.relabel_sequential`` returns the same, but sorts the whole image.

    Parameters
    ----------
    labels : (...) integers, 0 is background

    Returns
    -------
    (...) integers
        1 to n, and 0 where `labels` is 0
    (n,) integers
        the number that label k had, at k - 1
    """
    most = int(labels.max(initial=0))
    if most > 2 * labels.size:  # a table of all numbers would be larger than the image
        numbers, flat = np.unique(labels, return_inverse=True)
        present = numbers[numbers > 0]
        return flat.reshape(labels.shape) + (1 - len(numbers) + len(present)), present
    there = numbers_present(labels)
    if there[1:].all():
        return labels, np.arange(1, most + 1)
    there[0] = False
    ranks = np.where(there, np.cumsum(there), 0)
    return ranks[labels], np.flatnonzero(there)


def numbers_present(labels: AnyArray) -> BoolArray:
    """Return whether a label mask contains each number from 0 to the highest, (highest + 1,).

    Parameters
    ----------
    labels : (...) integers, 0 or above
    """
    there = np.zeros(int(labels.max(initial=0)) + 1, np.bool_)
    there[_runs(labels)] = True
    return there


def _runs(labels: AnyArray) -> AnyArray:
    # one of several adjacent pixels with the same label is enough
    flat = labels.reshape(-1)
    return np.append(flat[np.flatnonzero(flat[1:] != flat[:-1])], flat[-1:])


def connected(inside: BoolArray) -> tuple[LabelArray, int]:
    """Label the regions connected by faces, in raster order, and return how many there are.

    Equivalent to ``scipy.ndimage.label``, but compiled and twice as fast.

    Parameters
    ----------
    inside : ((z,) y, x)
    """
    from bmz.process.region_loops import number_parts

    deep = inside[(None,) * (len("zyx") - inside.ndim)]
    number: type[np.int32 | np.intp] = np.int32 if inside.size < FAR_PLACE else np.intp
    labels, parent = np.empty(deep.shape, number), np.empty(inside.size // 2 + 2, number)
    count = number_parts(deep, labels, parent)
    return labels.reshape(inside.shape), count


def renumbered(labels: LabelArray, numbers: LabelArray | None = None) -> LabelArray:
    """Renumber labels in place, since a new array of many MB would cost more than the renumbering.

    Nothing else may hold a reference to `labels`.

    Parameters
    ----------
    labels : ((z,) y, x) in one piece, 0 or above; changed
    numbers : (highest label + 1,) the number of each; None for 1 to n in raster order

    Returns
    -------
    ((z,) y, x)
        `labels`
    """
    from bmz.process.region_loops import number_by_place, renumber

    if numbers is None:
        table = np.zeros(int(labels.max(initial=0)) + 1, labels.dtype)
        number_by_place(labels.reshape(-1), table)
    else:
        renumber(labels.reshape(-1), numbers.astype(labels.dtype))
    return labels


class DimensionsNotDone(CouldNotTell):
    """A recipe works on planes, and the output is not one, or has more axes."""

    def __init__(self, recipe: str, shape: tuple[int, ...]) -> None:
        super().__init__(
            f"recipe '{recipe}' labels planes: it expects an output with axes c, y, x, but found "
            f"{len(shape)} axes of {shape}",
            hint="keep the map with --save raw, or choose another recipe with --recipe",
            code="recipe.dimensions",
        )


class ChannelsDiffer(CouldNotTell):
    """The output has a different number of channels than the recipe reads."""

    def __init__(self, recipe: str, expected: str, actual: int) -> None:
        super().__init__(
            f"recipe '{recipe}' expects {expected}, but the output has {actual} channels",
            hint="choose the recipe that belongs to the model with --recipe",
            code="recipe.channels",
        )


def require_plane(recipe: str, output: AnyArray) -> None:
    """Raise an error for an output that is not (c, y, x).

    Raises
    ------
    DimensionsNotDone
        It has fewer or more axes, such as (c, z, y, x).
    """
    if output.ndim != len("cyx"):
        raise DimensionsNotDone(recipe, output.shape)


def one_map(recipe: str, output: AnyArray, channel: int) -> AnyArray:
    """Return one channel of (c, (z,) y, x).

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    if not 0 <= channel < len(output):
        raise ChannelsDiffer(recipe, channel_words(channel), len(output))
    plane: AnyArray = output[channel]
    return plane


def channel_words(channel: int) -> str:
    """Return the name of a channel that a recipe reads, for `ChannelsDiffer`."""
    return f"a channel {channel}, counted from 0"


SHARE_TOLERANCE = 0.01
"""Channels that sum to 1 within this tolerance are mutually exclusive probabilities."""


def are_shares(output: AnyArray) -> bool:
    """Return whether the channels of (c, (z,) y, x) are exclusive: they sum to 1 everywhere."""
    rows = max(A_FEW // max(output[:1, :1].size, 1), 1)
    parts = (output[:, start : start + rows] for start in range(0, output.shape[1], rows))
    return len(output) > 1 and all(
        bool((abs(part.sum(axis=0) - 1) < SHARE_TOLERANCE).all()) for part in parts
    )


def without_small(labels: LabelArray, min_size: float, grid: tuple[int, ...]) -> LabelArray:
    """Set objects below `min_size` px to background; return `labels` itself if there are none.

    Parameters
    ----------
    labels : ((z,) y, x), on the grid of the output
    min_size : px of the input
    grid : px of the input for each entry of `labels`, one number per axis
    """
    return without(labels, sizes(labels) * math.prod(grid) < min_size)


def on_input_grid(labels: AnyArray, grid: tuple[int, ...]) -> AnyArray:
    """Repeat every entry `grid` times along each axis, so that labels match the input's pixels."""
    for axis, times in enumerate(grid):
        if times != 1:
            labels = np.repeat(labels, times, axis)
    return labels


def mean_of_each(labels: AnyArray, values: AnyArray) -> AnyArray:
    """Return the mean of `values` over each object, within 0 and 1, (n,) float32."""
    count = sizes(labels)
    total = np.zeros(len(count) + 1)
    flat, weights = labels.reshape(-1), values.reshape(-1)
    for start in range(0, flat.size, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        # added one by one, so that the sum is the same in parts
        np.add.at(total, flat[part], weights[part].astype(np.float64))
    means: AnyArray = np.clip(total[1:] / np.maximum(count, 1), 0, 1).astype(np.float32)
    return means


HALF = 0.5
"""A pixel belongs to a smoothed object where it is more inside than outside."""

REACH_SIGMAS = 3
"""How far a smoothed outline can move."""


def finish_labels(labelled: Labelled, finish: Finish) -> Labelled:
    """Smooth and fill objects, drop some, and number the others in raster order.

    Parameters
    ----------
    labelled : ((z,) y, x) on the grid of the image, with or without columns; classes are returned
        unchanged, because their numbers have a meaning
    finish : sizes in px of the image; 0 and false disable a step

    Returns
    -------
    Labelled
        1 to n without gaps; the columns of the remaining objects
    """
    if labelled.classes or labelled.labels.size == 0:
        return labelled
    labels = labelled.labels
    if finish == Finish() and _is_in_order(labels):
        return labelled
    if finish.smooth > 0:
        labels = smoothed(labels, finish.smooth)
    if finish.fill_holes:
        labels = without_holes(labels)
    return in_raster_order(_kept(labels, finish), labelled.columns)


def _is_in_order(labels: LabelArray) -> bool:
    if labels.dtype != np.int32:
        return False
    runs = _runs(labels)
    highest = np.maximum.accumulate(runs)
    return bool(runs.min() >= 0 and (np.diff(highest, prepend=0) <= 1).all())


def smoothed(labels: LabelArray, sigma_px: float) -> LabelArray:
    """Smooth the outline of every object with a Gaussian, without creating overlaps.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background
    sigma_px : standard deviation of the Gaussian; a thin object that would vanish is kept unchanged
    """
    result = labels.copy()
    for number, box in _boxes(labels, round(REACH_SIGMAS * sigma_px) + 1):
        window = labels[box]
        own = window == number
        soft = ndimage.gaussian_filter(own.astype(np.float32), sigma_px, mode="nearest") > HALF
        inside = soft & (own | (window == 0))
        if inside.any():
            result[box][own] = 0
            result[box][inside] = number
    return result


def without_holes(labels: LabelArray) -> LabelArray:
    """Fill background that an object encloses; keep other objects within it.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background
    """
    result = labels.copy()
    for number, box in _boxes(labels, 0):
        own = labels[box] == number
        if own.all():
            continue
        hole = ndimage.binary_fill_holes(own) & (labels[box] == 0)
        result[box][hole] = number
    return result


def at_border(labels: LabelArray) -> BoolArray:
    """Return whether labels 0 to the highest touch the edge of the image along y or x."""
    touches = np.zeros(int(labels.max(initial=0)) + 1, np.bool_)
    for edge in (labels[..., :1, :], labels[..., -1:, :], labels[..., :1], labels[..., -1:]):
        touches[np.unique(edge)] = True
    return touches


def _kept(labels: LabelArray, finish: Finish) -> LabelArray:
    px = sizes(labels)
    bad = px < finish.min_size
    if finish.max_size:
        bad |= px > finish.max_size
    if finish.remove_border:
        bad |= at_border(labels)[1:]
    return without(labels, bad)


def _boxes(labels: LabelArray, margin: int) -> Iterator[tuple[int, Box]]:
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            wide = (slice(max(s.start - margin, 0), s.stop + margin) for s in box)
            yield number, tuple(wide)


def sizes(labels: LabelArray) -> NDArray[np.intp]:
    """Count the pixels of labels 1 to the highest, (n,)."""
    flat = labels.reshape(-1)
    counts = np.zeros(int(flat.max(initial=0)) + 1, np.intp)
    for start in range(0, flat.size, AT_ONCE):
        counts += np.bincount(flat[start : start + AT_ONCE], minlength=len(counts))
    return counts[1:]


def without(labels: LabelArray, bad: BoolArray) -> LabelArray:
    """Remove the objects whose entry in `bad` (label k at k - 1) is true; keep the numbers."""
    if not bad.any():
        return labels
    numbers = np.arange(len(bad) + 1, dtype=labels.dtype)
    numbers[1:][bad] = 0
    return numbers[labels]


def fill_holes(labels: LabelArray) -> LabelArray:
    """Fill the holes of each object, including those that contain another object.

    A hole is background, or other objects, with no path out of the object over edges of pixels.

    Parameters
    ----------
    labels : ((z,) y, x) integers, 0 background
    """
    filled = labels.copy()
    for number, box in with_gaps(labels):
        window = filled[box]
        window[ndimage.binary_fill_holes(window == number)] = number
    return filled


def with_gaps(labels: LabelArray) -> Iterator[tuple[int, Box]]:
    """Return number and box of each object that may have a hole; in stacks, of all objects.

    Parameters
    ----------
    labels : ((z,) y, x) integers, 0 background
    """
    boxes: list[Box | None] = ndimage.find_objects(labels)
    numbers = np.arange(len(boxes))
    if labels.ndim == len("yx"):
        numbers = np.flatnonzero(_gaps(labels, boxes, 0) & _gaps(labels, boxes, 1))
    for k in numbers.tolist():
        box = boxes[k]
        if box is not None:
            yield k + 1, box


def _gaps(labels: LabelArray, boxes: list[Box | None], axis: int) -> BoolArray:
    # only objects with more runs of pixels along an axis than lines can have a hole
    lengthwise = np.moveaxis(labels, axis, 0)
    begins = lengthwise != 0
    begins[1:] &= lengthwise[1:] != lengthwise[:-1]
    runs = np.bincount(lengthwise[begins], minlength=len(boxes) + 1)[1:]
    lines = [0 if box is None else box[1 - axis].stop - box[1 - axis].start for box in boxes]
    return runs > np.array(lines, np.intp)
