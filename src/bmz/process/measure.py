"""What there is to measure of each labelled object."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.base.axes import in_image_order
from bmz.image.pixels import Pixels
from bmz.process.object_runs import ObjectPixels, Runs, convex_areas, runs_of
from bmz.process.relabel import closed_up

_PLANE_AXES = 2

Table = dict[str, AnyArray]


def measure_objects(
    labels: Pixels,
    image: Pixels,
    scores: FloatArray | Sequence[FloatArray] | None = None,
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
    scores : (n,) the score of label k at k - 1, over all positions along the axes of `apart`; or
        one such array for each position, where each has scores of its own
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
        return _measure(ordered, channels, _of_position(scores, 0))
    places = [
        dict(zip(along, place, strict=True))
        for place in np.ndindex(*(ordered.sizes[axis] for axis in along))
    ]
    tables = [
        _measure(
            ordered.part(at),
            {name: channel.part(at) for name, channel in channels.items()},
            _of_position(scores, number),
        )
        for number, at in enumerate(places)
    ]
    return stacked(
        [placed(table, at, ordered.pixel_um) for table, at in zip(tables, places, strict=True)]
    )


def _of_position(
    scores: FloatArray | Sequence[FloatArray] | None, number: int
) -> FloatArray | None:
    return scores if scores is None or isinstance(scores, np.ndarray) else scores[number]


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
    return {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}


def _measure(labels: Pixels, channels: Mapping[str, Pixels], scores: AnyArray | None) -> Table:
    axes, um = labels.axes, labels.pixel_um
    numbers, label = closed_up(labels.array)
    runs = runs_of(numbers)
    table = {"label": label, **_places(runs, axes, um), **_sizes(runs, axes, um)}
    if len(axes) == _PLANE_AXES:
        table |= _shapes(runs, [um.get(a) for a in axes])
    table |= _boxes(numbers, axes)
    if scores is not None:
        table["score"] = _scores(label, scores)
    pixels = ObjectPixels(numbers)
    for name, channel in channels.items():
        table |= _brightness(pixels, channel.array, name, runs.sizes)
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


def _boxes(numbers: LabelArray, axes: Sequence[str]) -> Table:
    found = [box for box in ndimage.find_objects(numbers) if box is not None]
    ends = np.array([[(s.start, s.stop) for s in box] for box in found], np.int64)
    ends = ends.reshape(len(found), len(axes), 2)
    low = {a: ends[:, i, 0] for i, a in enumerate(axes)}
    high = {a: ends[:, i, 1] for i, a in enumerate(axes)}
    touches = np.zeros(len(found), bool)
    for a, size in zip(axes, numbers.shape, strict=True):
        if size > 1:
            touches = touches | (low[a] == 0) | (high[a] == size)
    return (
        {f"bbox_{a}_min_px": edge for a, edge in low.items()}
        | {f"bbox_{a}_max_px": edge for a, edge in high.items()}
        | {"touches_border": touches}
    )


def _scores(labels: AnyArray, scores: AnyArray) -> FloatArray:
    padded = np.append(scores.astype(np.float64), np.nan)
    one_each: FloatArray = padded[np.minimum(labels - 1, len(scores))]
    return one_each


def _brightness(pixels: ObjectPixels, image: AnyArray, name: str, sizes: AnyArray) -> Table:
    values = pixels.values(image)
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
