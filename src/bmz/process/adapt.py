"""Bring a plane or stack to what a network takes, and its outputs back to the axes of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from bmz.base.arrays import AnyArray, LabelArray
from bmz.base.axes import IMAGE_AXES


def take_channels(x: AnyArray, channels: Sequence[int]) -> AnyArray:
    """Give the named channels in the named order; a negative number gives zeros.

    Parameters
    ----------
    x : (c, (z,) y, x), any dtype
    channels : positions in `x`

    Returns
    -------
    ndarray
        (len(channels), (z,) y, x), dtype of `x`
    """
    empty = np.zeros_like(x[0])
    return np.stack([x[channel] if channel >= 0 else empty for channel in channels])


def clip_channels(x: AnyArray, percentile: float) -> AnyArray:
    """Cut the values of each channel at a percentile of that channel.

    Parameters
    ----------
    x : (c, (z,) y, x), any dtype
    percentile : 0 to 100; interpolated downward, so that it is a value of the image
    """
    tops = np.percentile(x, percentile, axis=tuple(range(1, x.ndim)), method="lower", keepdims=True)
    clipped: AnyArray = np.minimum(x, tops.astype(x.dtype))
    return clipped


def cast_within_range(x: AnyArray, dtype: str) -> AnyArray:
    """Cast; values that an integer dtype cannot hold are rounded and cut to its ends.

    A bare cast wraps: 256 becomes 0 in uint8.

    Parameters
    ----------
    x : finite numbers of any dtype
    dtype : the wanted one
    """
    wanted = np.dtype(dtype)
    if np.can_cast(x.dtype, wanted, "safe") or not np.issubdtype(wanted, np.integer):
        return x.astype(wanted)
    limits = np.iinfo(wanted)
    if not np.issubdtype(x.dtype, np.floating):
        own = np.iinfo(x.dtype)  # NumPy 1 compares int64 and uint64 as floats
        low, high = max(limits.min, own.min), min(limits.max, own.max)
        return np.clip(x, low, high).astype(wanted)
    if limits.max >= 2 ** np.finfo(x.dtype).nmant:
        x = x.astype(np.float64)
    rounded = np.rint(x)
    # float32 has no 2**31 - 1, nor float64 2**63 - 1: cut to what they have instead, it would wrap
    beyond = rounded >= limits.max
    inside = np.where(beyond, 0, np.maximum(rounded, limits.min)).astype(wanted)
    return np.where(beyond, wanted.type(limits.max), inside)


def to_layout(x: AnyArray, axes: str, layout: str) -> AnyArray:
    """Reorder and add axes of size 1, so that an array has the layout of a tensor.

    Parameters
    ----------
    x : the array
    axes : its axes, all of them in `layout` unless of size 1
    layout : such as ``bcyx``

    Examples
    --------
    >>> to_layout(np.zeros((2, 5, 6)), "cyx", "byxc").shape
    (1, 5, 6, 2)
    """
    extra = tuple(i for i, axis in enumerate(axes) if axis not in layout)
    kept = "".join(axis for axis in axes if axis in layout)
    x = np.squeeze(x, axis=extra) if extra else x
    ordered = x.transpose([kept.index(axis) for axis in layout if axis in kept])
    missing = [i for i, axis in enumerate(layout) if axis not in kept]
    return np.expand_dims(ordered, missing)


def from_layout(x: AnyArray, layout: str) -> tuple[AnyArray, str]:
    """Give a tensor of one image as (c, (z,) y, x): the batch gone, a channel axis added.

    Parameters
    ----------
    x : with one entry along every axis of `layout` that is not of ``tczyx``
    layout : such as ``byxc``

    Returns
    -------
    ndarray, str
        the array and its axes, a subset of ``tczyx`` in that order that holds c
    """
    other = tuple(i for i, axis in enumerate(layout) if axis not in IMAGE_AXES)
    kept = "".join(axis for axis in layout if axis in IMAGE_AXES)
    x = np.squeeze(x, axis=other) if other else x
    order = sorted(range(len(kept)), key=lambda i: IMAGE_AXES.index(kept[i]))
    axes = "".join(kept[i] for i in order)
    x = x.transpose(order)
    if "c" in axes:
        return x, axes
    position = 1 if "t" in axes else 0
    return np.expand_dims(x, position), axes[:position] + "c" + axes[position:]


def grid_of(output: Sequence[int], shape: Mapping[str, int]) -> tuple[int, ...]:
    """Give the spacing of an output in pixels of the network's input, one number an axis.

    Parameters
    ----------
    output : spatial sizes of the output, z, y, x
    shape : of the input of the network, by axis; an output rounds up
    """
    return tuple(
        max(1, round(size / out)) for out, size in zip(output, shape.values(), strict=True)
    )


def stack_unique(parts: Sequence[LabelArray]) -> LabelArray:
    """Stack labels of planes so that no number stands for two objects.

    Parameters
    ----------
    parts : label masks of the same shape, each numbered from 1

    Returns
    -------
    ndarray
        (len(parts), ...) int64; numbers go on from part to part
    """
    counts = [int(part.max(initial=0)) for part in parts]
    before = [0, *accumulate(counts)]
    shifted = [
        np.where(part > 0, part.astype(np.int64) + add, 0)
        for part, add in zip(parts, before, strict=False)
    ]
    return np.stack(shifted)
