"""What there is to measure of each labelled object."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, smallest_unsigned
from bmz.base.axes import in_image_order
from bmz.base.values import dataclass
from bmz.image.pixels import Pixels
from bmz.process.object_columns import NO_COLUMNS, Columns, by_label
from bmz.process.relabel import closed_up

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Runs:
    """Pixels beside each other along x with one label.

    scikit-image measures object by object, which takes half a millisecond for each; from runs it
    takes a hundredth of it. The results are those of ``skimage.measure.regionprops_table``.

    Parameters
    ----------
    own : the object of each run, from 0
    others : position of each along the axes before x
    first, last : position of its ends along x
    count : of the objects
    """

    own: Integers
    others: tuple[Integers, ...]
    first: Integers
    last: Integers
    count: int

    @cached_property
    def sizes(self) -> Integers:
        """(n,) pixels of each object."""
        return self._sum(self.last - self.first + 1).astype(np.int64)

    def boxes(self) -> tuple[list[Integers], list[Integers]]:
        """Give the first pixel of each object along each axis, and the one behind its last."""
        low, high = list[Integers](), list[Integers]()
        for firsts, lasts in (*((along, along) for along in self.others), (self.first, self.last)):
            least = np.full(self.count, lasts.max(initial=0), np.int64)
            most = np.zeros(self.count, np.int64)
            np.minimum.at(least, self.own, firsts)
            np.maximum.at(most, self.own, lasts)
            low.append(least)
            high.append(most + 1)
        return low, high

    def centroids(self) -> list[Floats]:
        """Give the middle of each object along each axis, px."""
        return [self._sum(part) / self.sizes for part in self._first_sums(self.others, self.first)]

    def second_moments(self) -> tuple[Floats, Floats, Floats]:
        """Give the mean squares and product of the distances from the middle: yy, xx, yx; px.

        From whole numbers, so that what is even is exactly even. Objects of a plane.
        """
        anchor = np.zeros(self.count, np.intp)
        anchor[self.own] = np.arange(len(self.own))  # any run of each will do: sums stay small
        (y,) = self.others
        dy = y - y[anchor][self.own]
        start = self.first - self.first[anchor][self.own]
        n = self.last - self.first + 1
        of_y, of_x = self._first_sums((dy,), start)
        # sums of x and of its square from start to start + n - 1
        squares = n * start**2 + start * n * (n - 1) + (n - 1) * n * (2 * n - 1) // 6
        sums = (n * dy**2, squares, dy * of_x)
        yy, xx, yx = (self._sum(part) for part in sums)
        sy, sx, size = self._sum(of_y), self._sum(of_x), self.sizes.astype(np.float64)
        return (
            (size * yy - sy * sy) / size**2,
            (size * xx - sx * sx) / size**2,
            (size * yx - sy * sx) / size**2,
        )

    def _first_sums(self, others: tuple[Integers, ...], start: Integers) -> list[Integers]:
        n = self.last - self.first + 1
        return [*(n * along for along in others), n * start + n * (n - 1) // 2]

    def _sum(self, weights: Integers) -> Floats:
        sums: AnyArray = np.bincount(self.own, weights, minlength=self.count)
        return sums.astype(np.float64)


def runs_of(labels: LabelArray) -> Runs:
    """Find the runs of labels 1 to n without gaps, 0 background; ((z,) y, x)."""
    flat, width = labels.reshape(-1), labels.shape[-1]
    ends_here = np.ones(flat.size, np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=ends_here[:-1])
    ends_here[width - 1 :: width] = True
    last = np.flatnonzero(ends_here)
    first = np.append(0, last[:-1] + 1) if len(last) else last
    label = flat[first].astype(np.int64)
    inside = label > 0
    places = np.unravel_index(first[inside], labels.shape)
    return Runs(
        own=label[inside] - 1,
        others=tuple(along.astype(np.int64) for along in places[:-1]),
        first=places[-1].astype(np.int64),
        last=last[inside] % width,
        count=int(label.max(initial=0)),
    )


_SIGN = np.uint32(1 << 31)


class ObjectValues:
    """The values of the pixels of all objects.

    Parameters
    ----------
    values : of each labelled pixel; real numbers
    own : object of each, from 0, without gaps
    """

    def __init__(self, values: AnyArray, own: Integers) -> None:
        self._values, self._own = values, own
        self._counts: Integers = np.bincount(own)

    def mean(self) -> Floats:
        """Give the mean of each object; NaN where one of its values is."""
        return self._sum(self._values) / self._counts

    def lowest(self) -> Floats:
        """Give the lowest value of each object; NaN where one of its values is."""
        return self._known(self._sorted[self._starts])

    def highest(self) -> Floats:
        """Give the highest value of each object; NaN where one of its values is."""
        return self._known(self._sorted[self._starts + self._counts - 1])

    def median(self) -> Floats:
        """Give the middle value of each object, or the mean of two; NaN where one value is."""
        low = self._sorted[self._starts + (self._counts - 1) // 2]
        high = self._sorted[self._starts + self._counts // 2]
        return self._known(low / 2 + high / 2)

    def _known(self, values: Floats) -> Floats:
        return np.where(self._broken, np.nan, values)

    @cached_property
    def _broken(self) -> BoolArray:
        if self._values.dtype.kind != "f":
            return np.zeros(len(self._counts), np.bool_)
        return self._sum(np.isnan(self._values)) > 0

    def _sum(self, weights: AnyArray) -> Floats:
        sums: AnyArray = np.bincount(self._own, weights, minlength=len(self._counts))
        return sums.astype(np.float64)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum(self._counts) - self._counts

    @cached_property
    def _sorted(self) -> Floats:
        """The values by object, then by size."""
        if self._values.dtype.kind in "biu" and self._values.itemsize <= 2:  # noqa: PLR2004
            # NumPy sorts numbers of up to 16 bits by their digits
            order = np.argsort(self._values, kind="stable")
            own = self._own.astype(smallest_unsigned(len(self._counts)))
            order = order[np.argsort(own[order], kind="stable")]
            return self._values[order].astype(np.float64)
        bits = _as_bits(self._values)
        if bits is None:
            order = np.lexsort((self._values, self._own))
            return self._values[order].astype(np.float64)
        # one sort of numbers is several times quicker than one by two keys
        keys = np.sort(self._own.astype(np.uint64) << np.uint64(32) | bits)
        return _from_bits(keys.astype(np.uint32), self._values.dtype)


def _as_bits(values: AnyArray) -> NDArray[np.uint32] | None:
    """Give whole numbers of 32 bits in the same order; None where that cannot be."""
    if values.dtype == np.float32:
        bits: NDArray[np.uint32] = np.ascontiguousarray(values).view(np.uint32)
        return np.where(bits & _SIGN, ~bits, bits | _SIGN)
    if np.can_cast(values.dtype, np.uint32):
        return values.astype(np.uint32)
    if np.can_cast(values.dtype, np.int32):
        return values.astype(np.int32).view(np.uint32) ^ _SIGN
    return None


def _from_bits(bits: NDArray[np.uint32], dtype: np.dtype[np.generic]) -> Floats:
    if dtype.kind == "f":
        back: FloatArray = np.where(bits & _SIGN, bits ^ _SIGN, ~bits).view(np.float32)
        return back.astype(np.float64)
    if dtype.kind == "i":
        return (bits ^ _SIGN).view(np.int32).astype(np.float64)
    return bits.astype(np.float64)


def convex_areas(runs: Runs) -> Integers:
    """Count the pixels in the convex hull of each object of a plane.

    Source: ``skimage.morphology.convex_hull_image``: the hull of the middles of the edges of all
    pixels, with the pixels whose middle lies in it or on its border. Here of all objects at once,
    in whole numbers (half pixels are counted), which takes a hundredth of the time.
    """
    rows = _rows(runs)
    if not len(rows.label):
        return np.zeros(runs.count, np.int64)
    left = _chain(rows.label, rows.y, rows.first)
    right = _chain(rows.label, rows.y, -rows.last)
    count = runs.count
    top, bottom = np.full(count, rows.y.max()), np.zeros(count, np.int64)
    np.minimum.at(top, rows.label, rows.y)
    np.maximum.at(bottom, rows.label, rows.y)
    heights = bottom - top + 1
    label = np.repeat(np.arange(count), heights)
    # 0, 1, 2 ... within each object
    within = np.arange(len(label)) - np.repeat(np.cumsum(heights) - heights, heights)
    y = top[label] + within
    first, last = left.ends(label, 2 * y), -right.ends(label, 2 * y)
    inside: AnyArray = np.bincount(label, np.maximum(last - first + 1, 0), minlength=count)
    return inside.astype(np.int64)


@dataclass(frozen=True)
class _Rows:
    """The first and the last pixel of each object in each row, sorted by object and row."""

    label: Integers
    y: Integers
    first: Integers
    last: Integers


def _rows(runs: Runs) -> _Rows:
    (y,) = runs.others
    key = runs.own * (int(y.max(initial=0)) + 1) + y
    order = np.argsort(key, kind="stable")
    groups = np.flatnonzero(np.diff(key[order], prepend=-1))
    if not len(groups):
        nothing = np.zeros(0, np.int64)
        return _Rows(nothing, nothing, nothing, nothing)
    return _Rows(
        runs.own[order][groups],
        y[order][groups],
        np.minimum.reduceat(runs.first[order], groups),
        np.maximum.reduceat(runs.last[order], groups),
    )


@dataclass(frozen=True)
class _Chain:
    """The left side of the hulls of all objects, in half pixels, sorted by object and y."""

    key: Integers
    span: int
    y: Integers
    x: Integers

    def ends(self, label: Integers, y: Integers) -> Integers:
        """Give the first pixel at or right of the chain, for objects and their rows."""
        at = np.searchsorted(self.key, label * self.span + y + 1, side="right") - 1
        dy = self.y[at + 1] - self.y[at]
        x = self.x[at] * dy + (self.x[at + 1] - self.x[at]) * (y - self.y[at])
        first: Integers = -((-x) // (2 * dy))  # rounded up, from half pixels to pixels
        return first


def _chain(label: Integers, y: Integers, first: Integers) -> _Chain:
    """Find the convex chain left of the middles of the edges of the `first` pixels."""
    # an edge to the left, one above and one below
    labels = np.concatenate([label, label, label])
    ys = np.concatenate([2 * y, 2 * y - 1, 2 * y + 1])
    xs = np.concatenate([2 * first - 1, 2 * first, 2 * first])
    span = int(ys.max()) + 3
    key = labels * span + ys + 1
    order = np.argsort(key, kind="stable")
    groups = np.flatnonzero(np.diff(key[order], prepend=-1))
    x = np.minimum.reduceat(xs[order], groups)
    key = key[order][groups]
    ys, labels = ys[order][groups], labels[order][groups]
    while True:
        # where several points beside each other bulge in, none of them is a corner
        bulges = np.zeros(len(x), np.bool_)
        before, here, after = slice(None, -2), slice(1, -1), slice(2, None)
        chord = (x[after] - x[before]) * (ys[here] - ys[before])
        own = (x[here] - x[before]) * (ys[after] - ys[before])
        bulges[1:-1] = (own >= chord) & (labels[before] == labels[after])
        if not bulges.any():
            return _Chain(key, span, ys, x)
        x, ys, labels, key = (part[~bulges] for part in (x, ys, labels, key))


_PLANE_AXES = 2

Table = dict[str, AnyArray]


def measure_objects(
    labels: Pixels,
    image: Pixels,
    columns: Columns | Sequence[Columns] = NO_COLUMNS,
    *,
    apart: str = "t",
) -> Table:
    """Measure every object: place, size, shape, and the brightness of each channel.

    Source: scikit-image, ``skimage.measure.regionprops_table``, whose names the columns keep with
    their unit behind (``area_px``, ``centroid_y_um``), and whose values these are. Lengths in um
    stand where the pixel size is known. An object of a plane has an area, one of a stack a volume.
    The border counts as touched where an object reaches the first or last pixel of an axis of
    space that has more than one.

    Parameters
    ----------
    labels : integers, 0 background; axes a subset of t, z, y, x
    image : real numbers on the same grid; may have c too; an axis t, z that `labels` has not
        must not be there
    columns : (n,) each, what is known of label k at k - 1, over all positions along the axes of
        `apart`; or such columns for each position, where each has its own
    apart : axes of ``tz`` along which each position is measured by itself: ``t``, and ``z`` where
        the planes of a stack were labelled one by one

    Returns
    -------
    dict of (n,) arrays
        one row per object, by position and label, with a column for each axis of `apart`; columns
        without rows when there is none

    Raises
    ------
    ValueError
        The sizes of labels and image differ.
    """
    axes = in_image_order(labels.axes)
    channels = _channels(image.transposed(in_image_order(image.axes)))
    for channel in channels.values():
        if channel.sizes != labels.sizes:
            raise ValueError(f"labels are {labels.sizes}, image is {channel.sizes}")
    ordered = labels.transposed(axes)
    along = [axis for axis in axes if axis in apart]
    if not along:
        return _measure(ordered, channels, _of_position(columns, 0))
    places = [
        dict(zip(along, place, strict=True))
        for place in np.ndindex(*(ordered.sizes[axis] for axis in along))
    ]
    tables = [
        _measure(
            ordered.part(at),
            {name: channel.part(at) for name, channel in channels.items()},
            _of_position(columns, number),
        )
        for number, at in enumerate(places)
    ]
    return stacked(
        [placed(table, at, ordered.pixel_um) for table, at in zip(tables, places, strict=True)]
    )


def _of_position(columns: Columns | Sequence[Columns], number: int) -> Columns:
    return columns if isinstance(columns, Mapping) else columns[number]


def placed(table: Table, at: Mapping[str, int], um: Mapping[str, float]) -> Table:
    """Say behind the label at which position along t and z the objects of a table lie.

    Parameters
    ----------
    at : position along each axis
    um : length of a pixel by axis, where it is known
    """
    rows = len(table["label"])
    columns: Table = {}
    for axis, position in at.items():
        columns[axis] = np.full(rows, position)
        if axis in um:
            columns[f"{axis}_um"] = np.full(rows, position * um[axis])
    return {"label": table["label"], **columns, **table}


def stacked(tables: Sequence[Table]) -> Table:
    """Put tables of the same columns one below the other."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _measure(labels: Pixels, channels: Mapping[str, Pixels], columns: Columns) -> Table:
    axes, um = labels.axes, labels.pixel_um
    numbers, label = closed_up(labels.array)
    runs = runs_of(numbers)
    table = {"label": label, **_places(runs, axes, um), **_sizes(runs, axes, um)}
    if len(axes) == _PLANE_AXES:
        table |= _shapes(runs, [um.get(a) for a in axes])
    table |= _boxes(runs, axes, numbers.shape)
    table |= {name: by_label(column, label) for name, column in columns.items()}
    inside = numbers > 0
    own = numbers[inside].astype(np.int64) - 1
    for name, channel in channels.items():
        table |= _brightness(ObjectValues(channel.array[inside], own), name, runs.sizes)
    return table


def _places(runs: Runs, axes: Sequence[str], um: Mapping[str, float]) -> Table:
    middles = runs.centroids()
    px = {f"centroid_{a}_px": middle for a, middle in zip(axes, middles, strict=True)}
    return px | {f"centroid_{a}_um": px[f"centroid_{a}_px"] * um[a] for a in axes if a in um}


def _sizes(runs: Runs, axes: Sequence[str], um: Mapping[str, float]) -> Table:
    what, power = ("area", "um2") if len(axes) == _PLANE_AXES else ("volume", "um3")
    table: Table = {f"{what}_px": runs.sizes}
    # of the circle, or ball, of the same size
    circle = 4 / math.pi if len(axes) == _PLANE_AXES else 6 / math.pi
    known = all(a in um for a in axes)
    size = runs.sizes * math.prod(um[a] for a in axes) if known else runs.sizes
    if known:
        table[f"{what}_{power}"] = size
    table["equivalent_diameter_px"] = (circle * runs.sizes) ** (1 / len(axes))
    if known:
        table["equivalent_diameter_um"] = (circle * size) ** (1 / len(axes))
    return table


def _shapes(runs: Runs, um: Sequence[float | None]) -> Table:
    """Give the ellipse of the same second moments, and how much of its hull an object fills."""
    yy, xx, yx = runs.second_moments()
    major, minor = _axis_lengths(yy, xx, yx)
    table = {"axis_major_length_px": major, "axis_minor_length_px": minor}
    known = [length for length in um if length is not None]
    if len(known) == _PLANE_AXES:
        y_um, x_um = known
        in_um = _axis_lengths(yy * y_um**2, xx * x_um**2, yx * y_um * x_um)
        table |= dict(zip(("axis_major_length_um", "axis_minor_length_um"), in_um, strict=True))
    ratio = np.divide(minor, major, out=np.ones_like(major), where=major > 0)
    # the angle between the axis of y and the long axis of the ellipse; round ones have -45 degrees
    angle = 0.5 * np.arctan2(2 * yx, yy - xx)
    round_ = yy == xx
    return table | {
        "eccentricity": np.sqrt(1 - ratio**2),
        "solidity": runs.sizes / convex_areas(runs),
        "orientation_rad": np.where(round_, np.where(yx > 0, math.pi / 4, -math.pi / 4), angle),
    }


def _axis_lengths(yy: FloatArray, xx: FloatArray, yx: FloatArray) -> tuple[FloatArray, FloatArray]:
    middle, reach = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    major, minor = (4 * np.sqrt(np.maximum(middle + way * reach, 0)) for way in (1, -1))
    return major, minor


def _boxes(runs: Runs, axes: Sequence[str], sides: Sequence[int]) -> Table:
    low, high = (dict(zip(axes, ends, strict=True)) for ends in runs.boxes())
    touches = np.zeros(runs.count, bool)
    for a, size in zip(axes, sides, strict=True):
        if size > 1:
            touches = touches | (low[a] == 0) | (high[a] == size)
    return (
        {f"bbox_{a}_min_px": edge for a, edge in low.items()}
        | {f"bbox_{a}_max_px": edge for a, edge in high.items()}
        | {"touches_border": touches}
    )


def _brightness(values: ObjectValues, name: str, sizes: AnyArray) -> Table:
    mean = values.mean()
    return {
        f"intensity_mean{name}": mean,
        f"intensity_median{name}": values.median(),
        f"intensity_max{name}": values.highest(),
        f"intensity_min{name}": values.lowest(),
        f"intensity_sum{name}": mean * sizes,
    }


def _channels(image: Pixels) -> dict[str, Pixels]:
    """Give each channel under the ending of its columns; nothing where there is no c."""
    if "c" not in image.axes:
        return {"": image}
    count = image.sizes["c"]
    names = [re.sub(r"\W+", "_", name).strip("_") for name in image.channel_names]
    if len(set(names)) < count or "" in names:
        names = [f"c{i}" for i in range(count)]
    return {f"_{name}": image.part({"c": i}) for i, name in enumerate(names)}
