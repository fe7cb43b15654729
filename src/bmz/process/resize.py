"""Resize images and labels, whole or part by part with the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import ceil, floor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.boxes import Box

SHARE_TOLERANCE = 1e-9
"""Shares that differ by less are equal."""

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
    """Resize labels: no new numbers appear, and outlines that grow are smooth.

    Along an axis that shrinks each pixel takes the label at its centre. Along one that grows each
    takes the label that linear interpolation gives the largest share, where every label is a map
    of its own with 1 inside and 0 outside; of equal shares that of the nearest entry.

    Parameters
    ----------
    labels : ((z,) y, x), any dtype
    shape : of the result

    Returns
    -------
    ndarray
        of `shape`, dtype of `labels`
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
    ends = [_ends(*one) for one in zip(old, new, box, strict=True)]
    lows = [int(min(near[0], far[0])) for near, far, _ in ends]
    highs = [int(max(near[-1], far[-1])) + 1 for near, far, _ in ends]
    part = read(tuple(slice(low, high) for low, high in zip(lows, highs, strict=True)))
    places = [(near - low, far - low) for (near, far, _), low in zip(ends, lows, strict=True)]
    result: AnyArray = part[np.ix_(*(near for near, _ in places))]
    grows = [axis for axis, (n, m) in enumerate(zip(old, new, strict=True)) if m > n]
    corners = [
        part[np.ix_(*(places[axis][axis in chosen] for axis in range(len(places))))]
        for chosen in _subsets(grows)
    ]
    unlike = np.zeros(result.shape, np.bool_)
    for corner in corners[1:]:
        unlike |= corner != result
    where = np.nonzero(unlike)
    shares = [
        np.prod([_share(ends[axis][2], axis in chosen)[where[axis]] for axis in grows], axis=0)
        for chosen in _subsets(grows)
    ]
    result = result.copy()
    result[where] = _most([corner[where] for corner in corners], shares)
    return result


def _ends(
    old: int, new: int, wanted: slice
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Give the nearest entry of each pixel, the next nearest, and the share of the latter."""
    at = (np.arange(wanted.start, wanted.stop) + 0.5) * (old / new)
    near = at.astype(np.intp)
    beside = at - near - 0.5
    far = np.clip(near + np.where(beside < 0, -1, 1), 0, old - 1)
    return near, far, np.abs(beside)


def _subsets(axes: Sequence[int]) -> list[frozenset[int]]:
    """Give the axes along which a corner is not the nearest entry, the nearest corner first."""
    return [frozenset(some) for n in range(len(axes) + 1) for some in combinations(axes, n)]


def _share(of_far: NDArray[np.float64], far: bool) -> NDArray[np.float64]:  # noqa: FBT001  (one of two ends)
    return of_far if far else 1 - of_far


def _most(labels: Sequence[AnyArray], shares: Sequence[NDArray[np.float64]]) -> AnyArray:
    """Give the label with the largest share in all corners together, the first of equals."""
    best, most = labels[0], np.zeros(len(labels[0]))
    for one in labels:
        total = sum(
            np.where(other == one, share, 0) for other, share in zip(labels, shares, strict=True)
        )
        better = total > most + SHARE_TOLERANCE
        best, most = np.where(better, one, best), np.where(better, total, most)
    return best


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
