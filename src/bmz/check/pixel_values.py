"""Statistics of the pixel values of a plane: outliers, saturation, contrast, bits and ranges."""

from __future__ import annotations

from dataclasses import field
from functools import cached_property
from math import ceil, log2, nan
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from bmz.base.arrays import AnyArray, FloatArray, Places
from bmz.base.values import dataclass
from bmz.image.pixels import Pixels

FEW_BYTES = 2
"""NumPy radix-sorts integers of up to this many bytes if asked for a stable sort."""


def sorted_finite(plane: AnyArray) -> AnyArray:
    """Sort the finite values of a plane.

    Sorting is faster than computing one percentile: NumPy's sort is vectorised, but its percentile
    search is not if many values are equal.

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
    """Return percentiles as `numpy.percentile` does, by linear interpolation.

    Parameters
    ----------
    order : (n,) any real dtype and unit, ascending, one value or more
    shares : percentages, 0 to 100
    dtype : float type that the values are converted to first

    Returns
    -------
    (shares,) float64, unit of `order`
    """
    places = Places.among(len(order), shares)
    return places.between(order[places.below].astype(dtype), order[places.above].astype(dtype))


def mean_and_deviation(order: AnyArray) -> tuple[float, float]:
    """Return mean and standard deviation of values, as NumPy does in float64.

    For integers with few bits, each level is computed once, in a tenth of the time.

    Parameters
    ----------
    order : (n,) any real dtype and unit, ascending, one value or more
    """
    if order.dtype.kind not in "biu" or order.itemsize > FEW_BYTES:
        return float(order.mean(dtype=np.float64)), float(order.std(dtype=np.float64))
    ends = np.append(np.flatnonzero(order[1:] != order[:-1]), order.size - 1)
    counts, levels = np.diff(ends, prepend=-1), order[ends].astype(np.float64)
    mean = float((counts * levels).sum()) / order.size
    return mean, float(np.sqrt((counts * (levels - mean) ** 2).sum() / order.size))


def median_filled(order: AnyArray, size: int) -> AnyArray:
    """Insert the median for the values that are missing up to `size`.

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


FEW = 1e-4
"""Outliers are at most this fraction of the pixels."""

ISOLATED = 0.25
"""A spot imaged through optics leaves at least this fraction of its height in its neighbours."""

DOMINATES = 2.0
"""From this stretch of the range, outliers dominate a minimum-to-maximum scaling."""

PLATEAU = 0.3
"""If this share of the bright pixels has the top value, objects are clipped."""

PLATEAU_PIXELS = 50
"""Fewer pixels at the top value are considered a coincidence."""


@dataclass(frozen=True)
class Outliers:
    """Hot pixels: far above the image, next to pixels that are not.

    Parameters
    ----------
    pixels : number of hot pixels
    highest : largest value including them
    highest_without : largest value without them
    stretch : range including them over range without them; 1 if there are none
    """

    pixels: int
    highest: float
    highest_without: float
    stretch: float

    @property
    def dominate(self) -> bool:
        """Return whether they widen the range so much that the rest loses its contrast."""
        return self.pixels > 0 and self.stretch >= DOMINATES


def outliers(plane: AnyArray, order: AnyArray | None = None) -> Outliers:
    """Find isolated pixels far above the rest, among the brightest fraction `FEW` of all pixels.

    A pixel is isolated when the median of its eight neighbours stays below `ISOLATED` of its
    height over the median of the plane: light through a lens is never that sharp.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit, one finite value or more
    order : its finite values in order, where they are known already
    """
    values, order = _finite(plane), _order_of(plane, order)
    few = max(1, ceil(values.size * FEW))
    low, middle = percentiles(order, (1, 50))
    y, x = _brightest(values, order[-few], few)
    bright = values[y, x].astype(np.float64)
    *_, below, above = np.sort(_neighbours(values, y, x), axis=0)[:5]
    around = (below + above) / 2 - middle  # the median of eight
    hot = (bright > middle) & (around < ISOLATED * (bright - middle))
    others = order[: len(order) - few][-1:]
    highest, without = float(order[-1]), float(max(middle, *others, *bright[~hot]))
    narrow = without - float(low)
    stretch = (highest - float(low)) / narrow if narrow > 0 and hot.any() else 1.0
    return Outliers(int(hot.sum()), highest, without, stretch)


def _brightest(values: AnyArray, least: float, few: int) -> tuple[AnyArray, AnyArray]:
    """Find a few pixels, none below `least`; of equal ones, the first."""
    flat = values.reshape(-1)
    places = np.flatnonzero(flat >= least)
    above = flat[places] > least
    equal = places[~above][: few - np.count_nonzero(above)]
    y, x = np.divmod(np.concatenate([places[above], equal]), values.shape[1])
    return y, x


def _finite(plane: AnyArray) -> AnyArray:
    """Replace non-finite values by the median; return integers unchanged."""
    if plane.dtype.kind in "biu":
        return plane
    values = np.asarray(plane, dtype=np.float64)
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, np.median(values[finite]))


def _order_of(plane: AnyArray, order: AnyArray | None) -> AnyArray:
    """Return the values of `_finite` in order."""
    return median_filled(sorted_finite(plane) if order is None else order, plane.size)


BEFORE_TO_BEHIND = np.array([[-1], [0], [1]])
"""Offsets that, added to positions along an axis, give the previous, the same and the next ones."""

_BUT_THE_MIDDLE = np.array([0, 1, 2, 3, 5, 6, 7, 8])


def _neighbours(values: AnyArray, y: AnyArray, x: AnyArray) -> FloatArray:
    """Return the (8, n) neighbours of each position, with border pixels repeated beyond it."""
    rows, columns = (
        np.minimum(np.maximum(at + BEFORE_TO_BEHIND, 0), side - 1)
        for at, side in zip((y, x), values.shape, strict=True)
    )
    around = values[rows[:, np.newaxis], columns].reshape(9, -1)
    beside: FloatArray = around[_BUT_THE_MIDDLE].astype(np.float64)
    return beside


@dataclass(frozen=True)
class Saturation:
    """Pixels at the top value.

    Parameters
    ----------
    level : largest value
    pixels : number of pixels that have it
    share : their share of all pixels
    share_of_bright : their share of the pixels in the upper half between the median and the top
    bits : number of bits whose largest value is `level` (12 for 4095), None for other values
    """

    level: float
    pixels: int
    share: float
    share_of_bright: float
    bits: int | None

    @property
    def cuts(self) -> bool:
        """Return whether bright objects are clipped."""
        return self.pixels >= PLATEAU_PIXELS and self.share_of_bright >= PLATEAU


def saturation(plane: AnyArray, order: AnyArray | None = None) -> Saturation:
    """Count the pixels at the top value, whatever the dtype, so that 12 bits in 16 are found, too.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit, one finite value or more
    order : its finite values in order, where they are known already
    """
    order = _order_of(plane, order)
    top, (median,) = float(order[-1]), percentiles(order, (50,))
    limits = [top, (top + float(median)) / 2]
    pixels, bright = (len(order) - int(place) for place in np.searchsorted(order, limits))
    number = round(log2(top + 1)) if top >= 1 else 0
    bits = number if number and top == 2.0**number - 1 else None
    flat = float(order[0]) == top
    return Saturation(top, pixels, pixels / len(order), 0.0 if flat else pixels / bright, bits)


@dataclass(frozen=True)
class Contrast:
    """How far the values spread.

    Parameters
    ----------
    low, high : percentiles 1 and 99.9
    noise : standard deviation of the noise
    to_noise : (high - low) / noise; None without noise
    """

    low: float
    high: float
    noise: float
    to_noise: float | None


def contrast(plane: AnyArray, order: AnyArray | None = None) -> Contrast:
    """Compare the spread of the values with their noise.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit, one finite value or more
    order : its finite values in order, where they are known already
    """
    low, high = map(float, percentiles(_order_of(plane, order), (1, 99.9)))
    noise = noise_level(plane)
    return Contrast(low, high, noise, (high - low) / noise if noise > 0 else None)


def noise_level(plane: AnyArray) -> float:
    """Estimate the standard deviation of white noise, from the median of a high-pass.

    Diagonal differences of 2 x 2 pixels contain little but noise, and the median ignores edges
    (Donoho and Johnstone 1994). Noise that was smoothed or compressed is underestimated.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit

    Returns
    -------
    float, in the unit of the plane; 0 below 2 x 2 pixels
    """
    values = _finite(plane)
    height, width = (side // 2 * 2 for side in values.shape)
    a, b, c, d = (values[i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
    if a.size == 0:
        return 0.0
    few = a.dtype.kind in "biu" and a.itemsize <= FEW_BYTES
    wide = np.int32 if few else np.float64  # holds all differences
    diagonal = np.abs(np.subtract(a, b, dtype=wide) - np.subtract(c, d, dtype=wide))
    if few and diagonal.max() < 1 << 16:
        diagonal = diagonal.astype(np.uint16)  # which is sorted by its digits
    (median,) = percentiles(sorted_finite(diagonal), (50,))
    return float(median / 2 / 0.6745)


@dataclass(frozen=True)
class Bits:
    """The number of bits that an integer image uses.

    Parameters
    ----------
    stored : bits of the dtype
    used : bits that the largest value needs after division by `step`
    step : greatest common divisor of all values: 16 for 12 bits shifted into 16
    """

    stored: int
    used: int
    step: int


def bits(plane: AnyArray, order: AnyArray | None = None) -> Bits | None:
    """Determine the bit depth in use; None for non-integer dtypes and negative values.

    Parameters
    ----------
    plane : (y, x), any dtype
    order : its values in order, where they are known already
    """
    values = np.asarray(plane)
    if not np.issubdtype(values.dtype, np.integer) or values.size == 0:
        return None
    order = sorted_finite(values) if order is None else order
    if order[0] < 0:
        return None
    levels = order[:-1][order[1:] != order[:-1]]
    step = int(np.gcd.reduce(levels, initial=order[-1])) or 1
    used = int(order[-1]) // step
    return Bits(8 * values.dtype.itemsize, used.bit_length(), step)


def within_unit(plane: AnyArray) -> bool:
    """Return whether float values lie between 0 and 1, as after scaling; False for integers."""
    values = np.asarray(plane)
    if not np.issubdtype(values.dtype, np.floating) or values.size == 0:
        return False
    return bool(values.min() >= 0 and values.max() <= 1)


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
    """Summary of the values of an image for the rules; each property is computed on first use.

    Parameters
    ----------
    pixels : the image, or a sample of it with all channels; with an axis ``c`` or without
    """

    pixels: Pixels
    _parts: dict[tuple[int, ...], ValueSummary] = field(default_factory=dict, init=False)

    def of(self, channels: tuple[int, ...]) -> ValueSummary:
        """Return the summary of these channels; itself if there are no others."""
        array, axes = self.pixels.array, self.pixels.axes
        if "c" not in axes or channels == tuple(range(array.shape[axes.index("c")])):
            return self
        if channels not in self._parts:
            part = array.take(channels, axis=axes.index("c"))
            self._parts[channels] = ValueSummary(Pixels(part, axes))
        return self._parts[channels]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype as stored."""
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
        """Return the smallest and the largest value, ignoring NaN."""
        values = self.pixels.array
        # unlike nanmin, these do not warn if all values are NaN
        least, most = (f.reduce(values, axis=None) for f in (np.fmin, np.fmax))
        return float(least), float(most)

    @cached_property
    def whole(self) -> bool:
        """Return whether all values are whole numbers."""
        values = self.pixels.array
        return bool((values == np.rint(values)).all())

    @cached_property
    def channels(self) -> tuple[ChannelRange, ...]:
        """Return the range of the finite values of every channel; NaN if it has none."""
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
