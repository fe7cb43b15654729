"""Measure position, size, shape and intensity of labelled objects."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, smallest_unsigned
from bmz.base.axes import in_image_order
from bmz.image.pixels import Pixels
from bmz.process.object_columns import NO_COLUMNS, OUTLINE, Columns, by_label
from bmz.process.object_shapes import Floats, Integers, Runs, convex_areas, perimeters, runs_of
from bmz.process.relabel import closed_up

_SIGN = np.uint32(1 << 31)


class ObjectValues:
    """Pixel values of all objects.

    Parameters
    ----------
    values : value of each labelled pixel; real numbers
    own : object of each labelled pixel, from 0, without gaps
    """

    def __init__(self, values: AnyArray, own: Integers) -> None:
        self._values, self._own = values, own
        self._counts: Integers = np.bincount(own)

    def mean(self) -> Floats:
        """Return the mean value of each object; NaN if one of its values is NaN."""
        return self._sum(self._values) / self._counts

    def lowest(self) -> Floats:
        """Return the lowest value of each object; NaN if one of its values is NaN."""
        return self._known(self._sorted[self._starts])

    def highest(self) -> Floats:
        """Return the highest value of each object; NaN if one of its values is NaN."""
        return self._known(self._sorted[self._starts + self._counts - 1])

    def median(self) -> Floats:
        """Return the median value of each object; NaN if one of its values is NaN."""
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
        """The values, sorted by object and then by value."""
        if self._values.dtype.kind in "biu" and self._values.itemsize <= 2:  # noqa: PLR2004
            # NumPy uses radix sort for integers of up to 16 bits
            order = np.argsort(self._values, kind="stable")
            own = self._own.astype(smallest_unsigned(len(self._counts)))
            order = order[np.argsort(own[order], kind="stable")]
            return self._values[order].astype(np.float64)
        bits = _as_bits(self._values)
        if bits is None:
            order = np.lexsort((self._values, self._own))
            return self._values[order].astype(np.float64)
        # sorting integers once is several times faster than sorting by two keys
        keys = np.sort(self._own.astype(np.uint64) << np.uint64(32) | bits)
        return _from_bits(keys.astype(np.uint32), self._values.dtype)


def _as_bits(values: AnyArray) -> NDArray[np.uint32] | None:
    """Return 32-bit unsigned integers in the same order; None if the dtype does not allow it."""
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


_PLANE_AXES = 2

Table = dict[str, AnyArray]


def measure_objects(
    labels: Pixels,
    image: Pixels,
    columns: Columns | Sequence[Columns] = NO_COLUMNS,
    *,
    apart: str = "t",
) -> Table:
    """Measure the position, size, shape and intensity per channel of every object.

    Source: scikit-image, ``skimage.measure.regionprops_table``; columns have its values and its
    names, with the unit as a suffix (``area_px``, ``centroid_y_um``). There are lengths in um if
    the pixel size is known. An object in a plane has an area, one in a stack a volume.
    The circularity is ``4 pi area / perimeter^2``, 1 for a circle; that of small objects may exceed
    1, since outlines run through the centres of pixels.
    An object touches the border if it reaches the first or last pixel of a spatial axis with more
    than one pixel.

    Parameters
    ----------
    labels : integers, 0 background; axes are a subset of t, z, y, x
    image : real numbers on the same grid; may also have c, but no t or z that `labels` lacks
    columns : (n,) each, known properties with those of label k at index k - 1, for all positions
        along the axes of `apart`; or a sequence with separate columns for each position
    apart : axes of ``tz`` along which positions are measured separately: ``t``, and ``z`` if the
        planes of a stack were labelled one by one

    Returns
    -------
    dict of (n,) arrays
        one row per object, by position and label, with a column for each axis of `apart`; columns
        without rows if there are no objects

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
    """Insert columns with the position along t and z after the labels of a table.

    Parameters
    ----------
    table : table of objects
    at : position along each axis
    um : pixel size by axis, for axes where it is known
    """
    rows = len(table["label"])
    columns: Table = {}
    for axis, position in at.items():
        columns[axis] = np.full(rows, position)
        if axis in um:
            columns[f"{axis}_um"] = np.full(rows, position * um[axis])
    return {"label": table["label"], **columns, **table}


def stacked(tables: Sequence[Table]) -> Table:
    """Concatenate the rows of tables with the same columns."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _measure(labels: Pixels, channels: Mapping[str, Pixels], columns: Columns) -> Table:
    axes, um = labels.axes, labels.pixel_um
    numbers, label = closed_up(labels.array)
    runs = runs_of(numbers)
    table = {"label": label, **_places(runs, axes, um), **_sizes(runs, axes, um)}
    if len(axes) == _PLANE_AXES:
        lengths = [um.get(a) for a in axes]
        table |= {**_borders(numbers, runs, lengths), **_shapes(runs, lengths)}
    table |= _boxes(runs, axes, numbers.shape)
    of_tables = {name: column for name, column in columns.items() if name != OUTLINE}
    table |= {name: by_label(column, label) for name, column in of_tables.items()}
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
    # for the diameter of the circle or ball of the same size
    circle = 4 / math.pi if len(axes) == _PLANE_AXES else 6 / math.pi
    known = all(a in um for a in axes)
    size = runs.sizes * math.prod(um[a] for a in axes) if known else runs.sizes
    if known:
        table[f"{what}_{power}"] = size
    table["equivalent_diameter_area_px"] = (circle * runs.sizes) ** (1 / len(axes))
    if known:
        table["equivalent_diameter_area_um"] = (circle * size) ** (1 / len(axes))
    return table


def _borders(numbers: LabelArray, runs: Runs, um: Sequence[float | None]) -> Table:
    """Return the perimeter and the circularity of objects; none if pixels are not square.

    The estimate of the perimeter is valid only for square pixels.
    """
    if len(set(um)) > 1:
        return {}
    px = perimeters(numbers, runs.count)
    none = np.full(runs.count, np.nan)
    circular = np.divide(4 * math.pi * runs.sizes, px**2, out=none, where=px > 0)
    in_um = {} if um[0] is None else {"perimeter_um": px * um[0]}
    return {"perimeter_px": px, **in_um, "circularity": circular}


def _shapes(runs: Runs, um: Sequence[float | None]) -> Table:
    """Return the properties of the ellipse with the same second moments, and the solidity."""
    yy, xx, yx = runs.second_moments()
    major, minor = _axis_lengths(yy, xx, yx)
    table = {"axis_major_length_px": major, "axis_minor_length_px": minor}
    known = [length for length in um if length is not None]
    if len(known) == _PLANE_AXES:
        y_um, x_um = known
        in_um = _axis_lengths(yy * y_um**2, xx * x_um**2, yx * y_um * x_um)
        table |= dict(zip(("axis_major_length_um", "axis_minor_length_um"), in_um, strict=True))
    ratio = np.divide(minor, major, out=np.ones_like(major), where=major > 0)
    # angle between the y axis and the major axis of the ellipse; -45 degrees for a circle
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
    """Return each channel by the suffix of its columns, which is empty if there is no c."""
    if "c" not in image.axes:
        return {"": image}
    names = column_names(image.channel_names, image.sizes["c"])
    return {f"_{name}": image.part({"c": i}) for i, name in enumerate(names)}


def column_names(names: Sequence[str], count: int) -> list[str]:
    """Return unique names of channels for headings, of letters, digits and ``_`` only.

    A channel without a name, or with the name of an earlier one, gets its number as a suffix.

    Parameters
    ----------
    names : names in the image, one per channel or none at all
    count : number of channels

    Examples
    --------
    >>> column_names(["DAPI 405", "GFP", "GFP", ""], 4), column_names([], 2)
    (['DAPI_405', 'GFP', 'GFP_c2', 'c3'], ['c0', 'c1'])
    """
    plain = [re.sub(r"\W+", "_", name).strip("_") for name in names] or [""] * count
    told: list[str] = []
    for number, name in enumerate(plain):
        repeated = not name or name in plain[:number]
        told.append(f"{name}_c{number}".strip("_") if repeated else name)
    return told if len({*told}) == count else [f"c{number}" for number in range(count)]
