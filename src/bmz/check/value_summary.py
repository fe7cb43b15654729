"""The values of an image in short: reckoned once, however many models are asked about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import nan
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.check.sorted_values import percentiles, sorted_finite
from bmz.image.pixels import Pixels


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

    pixels: Pixels
    _parts: dict[tuple[int, ...], ValueSummary] = field(default_factory=dict, init=False)

    def of(self, channels: tuple[int, ...]) -> ValueSummary:
        """Give the values of these channels only; itself where there are no others."""
        array, axes = self.pixels.array, self.pixels.axes
        if "c" not in axes or channels == tuple(range(array.shape[axes.index("c")])):
            return self
        if channels not in self._parts:
            part = array.take(channels, axis=axes.index("c"))
            self._parts[channels] = ValueSummary(Pixels(part, axes))
        return self._parts[channels]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Give the dtype as stored."""
        return self.pixels.array.dtype

    @property
    def size(self) -> int:
        """Count the pixels of all channels."""
        return self.pixels.array.size

    @cached_property
    def nonfinite(self) -> int:
        """Count NaN and infinite pixels."""
        values = self.pixels.array
        return int(values.size - np.isfinite(values).sum())

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Give the least and the largest value; NaN is left out."""
        values = self.pixels.array
        # unlike nanmin they do not warn of an image of nothing but NaN
        least, most = (f.reduce(values, axis=None) for f in (np.fmin, np.fmax))
        return float(least), float(most)

    @cached_property
    def whole(self) -> bool:
        """Say whether all values are whole numbers."""
        values = self.pixels.array
        return bool((values == np.rint(values)).all())

    @cached_property
    def channels(self) -> tuple[ChannelRange, ...]:
        """Give the range of the finite values of every channel; NaN where it has none."""
        array, axes = self.pixels.array, self.pixels.axes
        if "c" not in axes:
            return (_range_of(array),)
        return tuple(_range_of(channel) for channel in np.moveaxis(array, axes.index("c"), 0))


def _range_of(channel: AnyArray) -> ChannelRange:
    order = sorted_finite(channel)
    if order.size == 0:
        return ChannelRange(nan, nan, nan, nan)
    low, high = percentiles(order, (1, 99.9))
    return ChannelRange(float(order[0]), float(order[-1]), float(low), float(high))
