"""Mean, deviation and percentiles over some axes of an array, exact and quick on large images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.percentiles import Places

PART = 1 << 16
"""Values that are looked at together; they fit in the processor's cache as float64."""

MOST_BINS = 1 << 16
"""The widest range of whole numbers that is counted: that of 16 bits."""

LARGEST_WHOLE = 1 << 53
"""Up to here float64 tells every whole number from the next."""

LEAST_TO_COUNT = 1 << 12
"""Below so many values sorting is quicker than counting."""


def mean_and_deviation(
    x: AnyArray, axes: str, over: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """Give mean and standard deviation (divided by n, not n - 1) over the axes `over`.

    Two passes with float64 sums, part by part: no copy of the image is made.

    Parameters
    ----------
    x : any dtype and shape, one letter of `axes` a dimension
    axes : letters of the dimensions
    over : the axes that are summed over

    Returns
    -------
    mean, deviation : float64, shape of `x` with 1 in place of each axis of `over`
    """
    rows, shape = _rows(x, axes, over)
    mean = rows.mean(axis=1, dtype=np.float64)
    squares = np.zeros(len(rows))
    for part in _parts(rows):
        away = np.subtract(part, mean[:, None], dtype=np.float64)
        squares += np.einsum("rn,rn->r", away, away)
    return mean.reshape(shape), np.sqrt(squares / rows.shape[1]).reshape(shape)


def percentiles(
    x: AnyArray, axes: str, over: Sequence[str], which: Sequence[float]
) -> list[FloatArray]:
    """Give the percentiles `which` over the axes `over`, with linear interpolation.

    Whole numbers that span at most 16 bits are counted instead of sorted, also when their dtype
    is a float (``ensure_dtype`` has often been there first). All else is partitioned; the ends 0
    and 100 need neither.

    Parameters
    ----------
    x : any dtype and shape, one letter of `axes` a dimension
    axes : letters of the dimensions
    over : the axes that are looked at jointly
    which : percentiles, 0 to 100

    Returns
    -------
    list of float64
        one array for each of `which`, shape of `x` with 1 in place of each axis of `over`; the
        same numbers as ``numpy.percentile`` gives in float64; NaN where a value is NaN
    """
    rows, shape = _rows(x, axes, over)
    if rows.shape[1] < LEAST_TO_COUNT:
        found = np.percentile(rows.astype(np.float64), which, axis=1)
    else:
        found = np.stack([_percentiles_of(row, which) for row in rows], axis=1)
    return [values.reshape(shape) for values in found]


def _rows(x: AnyArray, axes: str, over: Sequence[str]) -> tuple[AnyArray, tuple[int, ...]]:
    """Give (kept, summed) values, without a copy where memory allows, and the shape to go back."""
    kept = [i for i, axis in enumerate(axes) if axis not in over]
    # the order of what is summed is free, so take it as it lies in memory
    summed = sorted(set(range(x.ndim)) - set(kept), key=lambda i: -abs(x.strides[i]))
    shape = tuple(n if i in kept else 1 for i, n in enumerate(x.shape))
    numbers = x.view(np.uint8) if x.dtype == np.bool_ else x
    rows = numbers.transpose(kept + summed).reshape(int(np.prod(shape)), -1)
    return rows, shape


def _parts(rows: AnyArray) -> Iterator[AnyArray]:
    step = max(PART // len(rows), 1)
    for start in range(0, rows.shape[1], step):
        yield rows[:, start : start + step]


def _percentiles_of(row: AnyArray, which: Sequence[float]) -> FloatArray:
    low, high = row.min(), row.max()
    if np.isnan(high):
        return np.full(len(which), np.nan)
    if set(which) <= {0, 100}:
        ends: FloatArray = np.where(np.equal(which, 0), low, high).astype(np.float64)
        return ends
    places = Places.among(len(row), which)
    ranks = np.stack([places.below, places.above])
    counts = _counts(row, low, high)
    if counts is None:
        values: FloatArray = np.partition(row, np.unique(ranks))[ranks].astype(np.float64)
    else:
        values = float(low) + np.searchsorted(np.cumsum(counts), ranks, side="right")
    return places.between(*values)


def _counts(row: AnyArray, low: np.generic, high: np.generic) -> AnyArray | None:
    """Count how often each whole number from `low` to `high` occurs; None when not countable."""
    least, span = float(low), float(high) - float(low)
    if not (span < MOST_BINS and abs(least) < LARGEST_WHOLE and least.is_integer()):
        return None
    counts = np.zeros(int(span) + 1, np.intp)
    for part in _parts(row[None]):
        numbers = part[0].astype(np.int64)
        if row.dtype.kind == "f" and (numbers != part[0]).any():
            return None
        counts += np.bincount(numbers - int(least), minlength=len(counts))
    return counts
