"""Where percentiles lie among values in order, and what lies there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray


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
        rise, nearer_low = high - low, self.part < 0.5  # noqa: PLR2004  (the middle)
        found: FloatArray = np.where(
            nearer_low, low + rise * self.part, high - rise * (1 - self.part)
        )
        return found
