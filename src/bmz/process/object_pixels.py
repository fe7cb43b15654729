"""The brightness of all objects at once: means and ranks."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray
from bmz.process.object_runs import Floats, Integers

_SIGN = np.uint32(1 << 31)


class ObjectPixels:
    """The labelled pixels of an image.

    Parameters
    ----------
    labels : ((z,) y, x) numbers 1 to n without gaps, 0 background
    """

    def __init__(self, labels: LabelArray) -> None:
        flat = labels.reshape(-1)
        self._inside: BoolArray = flat > 0
        self._own: Integers = flat[self._inside].astype(np.int64) - 1

    def values(self, image: AnyArray) -> ObjectValues:
        """Take the values of an image on the same grid."""
        return ObjectValues(image.reshape(-1)[self._inside], self._own)


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

    def _known(self, found: Floats) -> Floats:
        return np.where(self._broken, np.nan, found)

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
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 4:  # noqa: PLR2004  (bytes)
        return values.astype(np.uint32)
    if values.dtype.kind == "i" and values.dtype.itemsize <= 4:  # noqa: PLR2004
        return values.astype(np.int32).view(np.uint32) ^ _SIGN
    return None


def _from_bits(bits: NDArray[np.uint32], dtype: np.dtype[np.generic]) -> Floats:
    if dtype.kind == "f":
        back: FloatArray = np.where(bits & _SIGN, bits ^ _SIGN, ~bits).view(np.float32)
        return back.astype(np.float64)
    if dtype.kind == "i":
        return (bits ^ _SIGN).view(np.int32).astype(np.float64)
    return bits.astype(np.float64)
