"""Arrays with axes, the dtypes that labels need, and percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bmz.base.axes import Box

AnyArray: TypeAlias = NDArray[Any]
FloatArray: TypeAlias = NDArray[np.floating[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]
LabelArray: TypeAlias = NDArray[np.signedinteger[Any] | np.unsignedinteger[Any]]


class LazyArray(Protocol):
    """An array that is read region by region: in memory, on the disk, or prepared when asked."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of entries along each axis."""

    def __getitem__(self, region: Box, /) -> object:
        """Read a region, one slice per axis, as what ``numpy.asarray`` takes."""


@runtime_checkable
class ToldAhead(Protocol):
    """An array that can be told which region is read soon, so that it begins to bring it."""

    def expect(self, region: Box, /) -> None:
        """Begin to bring a region, one slice per axis; return at once."""


def smallest_unsigned(most: int) -> np.dtype[Any]:
    """Give the smallest unsigned dtype that holds the numbers 0 to `most`.

    Examples
    --------
    >>> smallest_unsigned(255), smallest_unsigned(256)
    (dtype('uint8'), dtype('uint16'))
    """
    dtype = np.min_scalar_type(max(int(most), 0))
    return np.dtype(dtype.str)  # of two kinds of uint64 the one that all libraries know


@dataclass(frozen=True)
class Places:
    """The values next to each of some percentiles.

    Parameters
    ----------
    below, above : ranks, counted from 0; the same at the upper end
    part : of the way from the one to the other, 0 to 1
    """

    below: NDArray[np.intp]
    above: NDArray[np.intp]
    part: NDArray[np.float64]

    @classmethod
    def among(cls, count: int, which: Sequence[float]) -> Places:
        """Give the places of the percentiles `which` (0 to 100) among `count` values."""
        # in this order, as NumPy: the last digit counts where a rank is hit exactly
        position: NDArray[np.float64] = (count - 1) * (np.asarray(which, np.float64) / 100)
        below = np.floor(position).astype(np.intp)
        return cls(below, np.minimum(below + 1, count - 1), position - below)

    def between(self, low: AnyArray, high: AnyArray) -> FloatArray:
        """Interpolate between the values `low` at `below` and `high` at `above`.

        It starts at the nearer of the two, so that no percentile is beyond it by rounding.
        Source: the method ``linear`` of ``numpy.percentile``, which gives the same bits.
        """
        rise, rest = high - low, 1 - self.part
        value: FloatArray = np.where(self.part < rest, low + rise * self.part, high - rise * rest)
        return value
