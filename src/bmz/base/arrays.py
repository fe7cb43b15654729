"""Names for array types, so that signatures say what they hold."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bmz.base.boxes import Box

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


def smallest_unsigned(most: int) -> np.dtype[Any]:
    """Give the smallest unsigned dtype that holds the numbers 0 to `most`.

    Examples
    --------
    >>> smallest_unsigned(255), smallest_unsigned(256)
    (dtype('uint8'), dtype('uint16'))
    """
    found = np.min_scalar_type(max(int(most), 0))
    return np.dtype(found.str)  # of two kinds of uint64 the one that all libraries know
