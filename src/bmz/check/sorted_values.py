"""The values of a plane in order: its percentiles, extremes and counts are read off them."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.percentiles import Places

FEW_BYTES = 2
"""Whole numbers of up to so many bytes NumPy sorts by their digits, when asked for "stable"."""


def sorted_finite(plane: AnyArray) -> AnyArray:
    """Sort the finite values of a plane.

    Sorting costs less than one percentile does: NumPy sorts several values at a time, but seeks
    percentiles of many equal values one by one.

    Parameters
    ----------
    plane : any shape, real dtype and unit

    Returns
    -------
    (n,) dtype and unit of `plane`, ascending
    """
    whole = plane.dtype.kind in "biu"
    values = plane.ravel() if whole else plane[np.isfinite(plane)]
    return np.sort(values, kind="stable" if whole and values.itemsize <= FEW_BYTES else None)


def percentiles(
    order: AnyArray, shares: tuple[float, ...], dtype: DTypeLike = np.float64
) -> FloatArray:
    """Give percentiles as `numpy.percentile` does, by linear interpolation.

    Parameters
    ----------
    order : (n,) any real dtype and unit, ascending, one value or more
    shares : percentages, 0 to 100
    dtype : float type that the values are brought to first

    Returns
    -------
    (shares,) float64, unit of `order`
    """
    places = Places.among(len(order), shares)
    return places.between(order[places.below].astype(dtype), order[places.above].astype(dtype))


def median_filled(order: AnyArray, size: int) -> AnyArray:
    """Put the median in for the values that are missing up to `size`.

    Parameters
    ----------
    order : (n,) any real dtype and unit, ascending, one value or more
    size : n or more

    Returns
    -------
    (size,) ascending
    """
    missing = size - len(order)
    if missing == 0:
        return order
    (median,) = percentiles(order, (50,))
    half = len(order) // 2
    return np.insert(order.astype(np.float64), half, np.full(missing, median))
