"""Resize images and labels, whole or part by part with the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor
from typing import NamedTuple

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.boxes import Box

TRUNCATE = 4.0
"""Standard deviations at which the Gaussian ends, as SciPy has it."""


def resize_image(x: AnyArray, shape: Sequence[int]) -> FloatArray:
    """Resize every channel with linear interpolation, smoothed first where it shrinks.

    Source: ``skimage.transform.resize`` of order 1, whose Gaussian has the width
    (factor - 1) / 2; the values are the same up to rounding.

    Parameters
    ----------
    x : (c, (z,) y, x)
    shape : of the result, without the channel axis

    Returns
    -------
    ndarray
        (c,) + shape, float32, in the range of `x`
    """
    whole = tuple(slice(0, n) for n in shape)
    return resized_part(lambda box: x[(slice(None), *box)], x.shape[1:], shape, whole)


def resized_part(
    read: Callable[[Box], AnyArray], old: Sequence[int], new: Sequence[int], box: Box
) -> FloatArray:
    """Give a part of what `resize_image` gives, from the part of the image that it needs.

    Parameters
    ----------
    read : gives (c, (z,) y, x) within one slice a spatial axis
    old, new : spatial sizes of the image and of the whole result
    box : the wanted part of the result, one slice a spatial axis

    Returns
    -------
    ndarray
        (c, (z,) y, x) float32
    """
    if tuple(old) == tuple(new):
        return read(box).astype(np.float32)
    from scipy import ndimage  # here: most images are run as they are

    sides = [_side(*one) for one in zip(old, new, box, strict=True)]
    part = read(tuple(side.seen for side in sides)).astype(np.float32)
    steps, starts = [side.step for side in sides], [side.start for side in sides]
    sigmas = [_sigma(side.step) for side in sides]
    shape = tuple(side.stop - side.start for side in box)
    resized = []
    for plane in part:
        smooth = ndimage.gaussian_filter(plane, sigmas, mode="mirror", truncate=TRUNCATE)
        resized.append(
            ndimage.affine_transform(smooth, steps, starts, shape, order=1, mode="mirror")
        )
    return np.stack(resized)


def resize_labels(labels: AnyArray, shape: Sequence[int]) -> AnyArray:
    """Resize labels with nearest neighbour: no new numbers appear.

    Parameters
    ----------
    labels : ((z,) y, x), any dtype
    shape : of the result

    Returns
    -------
    ndarray
        of `shape`, dtype of `labels`; each pixel takes the value at its centre
    """
    whole = tuple(slice(0, n) for n in shape)
    return resized_labels_part(labels.__getitem__, labels.shape, shape, whole)


def resized_labels_part(
    read: Callable[[Box], AnyArray], old: Sequence[int], new: Sequence[int], box: Box
) -> AnyArray:
    """Give a part of what `resize_labels` gives, from the part of the labels that it needs.

    Parameters
    ----------
    read : gives ((z,) y, x) within one slice an axis
    old, new : sizes of the labels and of the whole result
    box : the wanted part of the result, one slice an axis
    """
    places = [
        ((np.arange(side.start, side.stop) + 0.5) * (n / m)).astype(np.intp)
        for n, m, side in zip(old, new, box, strict=True)
    ]
    part = read(tuple(slice(int(at[0]), int(at[-1]) + 1) for at in places))
    for axis, at in enumerate(places):
        if old[axis] != new[axis]:
            part = np.take(part, at - at[0], axis=axis)
    return part


class _Side(NamedTuple):
    """What a part needs along one axis: where to read, and where in it its pixels lie."""

    seen: slice
    step: float
    start: float


def _side(old: int, new: int, wanted: slice) -> _Side:
    # pixels are squares: the middle of the first one lies at 0.5
    step = old / new
    first, last = ((at + 0.5) * step - 0.5 for at in (wanted.start, wanted.stop - 1))
    reach = int(TRUNCATE * _sigma(step) + 0.5) + 1
    low, high = max(floor(first) - reach, 0), min(ceil(last) + reach + 1, old)
    return _Side(slice(low, high), step, first - low)


def _sigma(step: float) -> float:
    return max(0.0, (step - 1) / 2)
