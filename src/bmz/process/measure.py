"""What there is to measure of each labelled object."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from skimage.measure import regionprops_table
from skimage.segmentation import relabel_sequential

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.axes import in_image_order
from bmz.image.grid import pixel_um_of

_PLANE_ONLY = ("axis_major_length", "axis_minor_length", "eccentricity", "solidity", "orientation")
"""Left out of stacks: not defined there, or not for objects of a single plane."""

_AXIS_LENGTHS = ("axis_major_length", "axis_minor_length")
_INTENSITIES = ("mean", "max", "min", "sum")
_PLANE_AXES = 2

Table = dict[str, AnyArray]


def measure_objects(
    labels: xr.DataArray,
    image: xr.DataArray,
    scores: FloatArray | Sequence[FloatArray] | None = None,
) -> Table:
    """Measure every object: place, size, shape, and the brightness of each channel.

    Source: scikit-image, ``skimage.measure.regionprops_table``, whose names the columns keep with
    their unit behind: ``area_px``, ``centroid_y_um``. Lengths in um stand where the pixel size
    is known. The border counts as touched where an object reaches the first or last pixel of an
    axis of space that has more than one.

    Parameters
    ----------
    labels : integers, 0 background; dims a subset of t, z, y, x
    image : real numbers on the same grid; may have c too; an axis t, z that `labels` has not
        must not be there
    scores : (n,) the score of label k at k - 1, over all time points; or one such array a time
        point, where each numbers its labels anew

    Returns
    -------
    dict of (n,) arrays
        one row an object, by time and label; columns without rows when there is none

    Raises
    ------
    ValueError
        The sizes of labels and image differ.
    """
    axes = in_image_order(map(str, labels.dims))
    channels = _channels(image.transpose(*in_image_order(map(str, image.dims))))
    for channel in channels.values():
        if channel.sizes != labels.sizes:
            raise ValueError(f"labels are {dict(labels.sizes)}, image is {dict(channel.sizes)}")
    ordered = labels.transpose(*axes)
    if "t" not in axes:
        return _measure(ordered, channels, None if scores is None else np.asarray(scores))
    frames = [
        _measure(
            ordered.isel(t=t),
            {name: channel.isel(t=t) for name, channel in channels.items()},
            scores if scores is None or isinstance(scores, np.ndarray) else scores[t],
        )
        for t in range(ordered.sizes["t"])
    ]
    return _stacked(frames)


def _stacked(frames: Sequence[Table]) -> Table:
    counts = [len(frame["label"]) for frame in frames]
    time = {"t": np.repeat(np.arange(len(frames)), counts)}
    joined = {name: np.concatenate([f[name] for f in frames]) for name in frames[0]}
    return {"label": joined.pop("label"), **time, **joined}


def _measure(
    labels: xr.DataArray, channels: Mapping[str, xr.DataArray], scores: AnyArray | None
) -> Table:
    axes = [str(axis) for axis in labels.dims]
    um = pixel_um_of(labels)
    # scikit-image keeps a slot for every number up to the largest
    numbers, _, original = relabel_sequential(labels.values.astype(np.int64, copy=False))
    wanted = ["label", "centroid", "area", "equivalent_diameter_area", "bbox"]
    if len(axes) == _PLANE_AXES:
        wanted += _PLANE_ONLY
    found: Table = regionprops_table(numbers, properties=wanted)
    label = np.asarray(original)[found["label"]]
    table = {"label": label, **_places(found, axes, um), **_sizes(found, axes, um)}
    if len(axes) == _PLANE_AXES:
        table |= _shapes(found, numbers, [um.get(a) for a in axes])
    table |= _boxes(found, axes, numbers.shape)
    if scores is not None:
        table["score"] = _scores(label, scores)
    for name, channel in channels.items():
        table |= _brightness(numbers, channel.values, name)
    return table


def _places(found: Table, axes: Sequence[str], um: Mapping[str, float]) -> Table:
    px = {f"centroid_{a}_px": found[f"centroid-{i}"] for i, a in enumerate(axes)}
    return px | {f"centroid_{a}_um": px[f"centroid_{a}_px"] * um[a] for a in axes if a in um}


def _sizes(found: Table, axes: Sequence[str], um: Mapping[str, float]) -> Table:
    what, power = ("area", "um2") if len(axes) == _PLANE_AXES else ("volume", "um3")
    table: Table = {f"{what}_px": found["area"].astype(np.int64)}
    if all(a in um for a in axes):
        size = found["area"] * math.prod(um[a] for a in axes)
        table[f"{what}_{power}"] = size
    table["equivalent_diameter_px"] = found["equivalent_diameter_area"]
    if all(a in um for a in axes):
        # of the circle, or ball, of the same size
        circle = 4 / math.pi if len(axes) == _PLANE_AXES else 6 / math.pi
        table["equivalent_diameter_um"] = (circle * size) ** (1 / len(axes))
    return table


def _shapes(found: Table, numbers: AnyArray, um: Sequence[float | None]) -> Table:
    table = {f"{name}_px": found[name] for name in _AXIS_LENGTHS}
    known = [length for length in um if length is not None]
    if len(known) == _PLANE_AXES:
        lengths: Table = regionprops_table(numbers, properties=_AXIS_LENGTHS, spacing=tuple(known))
        table |= {f"{name}_um": lengths[name] for name in _AXIS_LENGTHS}
    return table | {
        "eccentricity": found["eccentricity"],
        "solidity": found["solidity"],
        "orientation_rad": found["orientation"],
    }


def _boxes(found: Table, axes: Sequence[str], shape: Sequence[int]) -> Table:
    low = {a: found[f"bbox-{i}"] for i, a in enumerate(axes)}
    high = {a: found[f"bbox-{i + len(axes)}"] for i, a in enumerate(axes)}
    touches = np.zeros(len(found["label"]), bool)
    for a, size in zip(axes, shape, strict=True):
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


def _brightness(numbers: AnyArray, pixels: AnyArray, name: str) -> Table:
    real = pixels.astype(np.float64, copy=False)
    properties = [f"intensity_{what}" for what in _INTENSITIES if what != "sum"]
    found: Table = regionprops_table(numbers, real, properties=["label", "num_pixels", *properties])
    found["intensity_sum"] = found["intensity_mean"] * found["num_pixels"]
    return {f"intensity_{what}{name}": found[f"intensity_{what}"] for what in _INTENSITIES}


def _channels(image: xr.DataArray) -> dict[str, xr.DataArray]:
    """Give each channel under the ending of its columns; nothing where there is no c."""
    if "c" not in image.dims:
        return {"": image}
    count = image.sizes["c"]
    named = [str(n) for n in image.coords["c"].values] if "c" in image.coords else []
    names = [re.sub(r"\W+", "_", name).strip("_") for name in named]
    if len(set(names)) < count or "" in names:
        names = [f"c{i}" for i in range(count)]
    return {f"_{name}": image.isel(c=i, drop=True) for i, name in enumerate(names)}
