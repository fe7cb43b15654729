"""The values of an image in short: reckoned once, however many models are asked about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr


@dataclass(frozen=True)
class ChannelRange:
    """How far the values of one channel reach.

    Parameters
    ----------
    least, most : the extremes
    low, high : percentiles 1 and 99.9
    """

    least: float
    most: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class ValueSummary:
    """What the rules ask of the values of an image; each answer is found when first asked for.

    Parameters
    ----------
    pixels : the image, or a sample of it with all channels; with an axis ``c`` or without
    """

    pixels: xr.DataArray

    @property
    def dtype(self) -> np.dtype[Any]:
        """Give the dtype as stored."""
        return self.pixels.dtype

    @cached_property
    def nonfinite(self) -> int:
        """Count NaN and infinite pixels."""
        values = self.pixels.values
        return int(values.size - np.isfinite(values).sum())

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Give the least and the largest value; NaN is left out."""
        return float(self.pixels.min()), float(self.pixels.max())

    @cached_property
    def whole(self) -> bool:
        """Say whether all values are whole numbers."""
        values = self.pixels.values
        return bool((values == np.rint(values)).all())

    @cached_property
    def channels(self) -> tuple[ChannelRange, ...]:
        """Give the range of every channel of finite values."""
        if "c" not in self.pixels.dims:
            return (_range_of(self.pixels),)
        return tuple(_range_of(self.pixels.isel(c=c)) for c in range(self.pixels.sizes["c"]))


def _range_of(plane: xr.DataArray) -> ChannelRange:
    values = plane.values.astype(np.uint8) if plane.dtype == np.bool_ else plane.values
    low, high = np.percentile(values, [1, 99.9])
    return ChannelRange(float(values.min()), float(values.max()), float(low), float(high))
