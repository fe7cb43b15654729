"""Declared steps that scale values by statistics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Protocol, TypeAlias

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray, Places
from bmz.base.values import dataclass
from bmz.process.ops_values import (
    AxisMissing,
    ReferenceDiffers,
    calculated,
    multiplied_and_added,
    shifted_and_divided,
)

PART = 1 << 16
"""Values that are processed together; they fit in the CPU cache as float64."""

MOST_BINS = 1 << 16
"""The widest range of integers that is counted: that of 16 bits."""

LARGEST_WHOLE = 1 << 53
"""Up to here float64 represents every integer exactly."""

LEAST_TO_COUNT = 1 << 12
"""For fewer values, sorting is faster than counting."""


def mean_and_deviation(
    x: AnyArray, axes: str, over: Sequence[str]
) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation (divided by n, not n - 1) over the axes `over`.

    Two passes with float64 sums, part by part: no copy of the image is made.

    Parameters
    ----------
    x : any dtype and shape, one letter of `axes` per dimension
    axes : letters of the dimensions
    over : the axes to sum over

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
    """Return the percentiles `which` over the axes `over`, with linear interpolation.

    Integers that span at most 16 bits are counted instead of sorted, even if their dtype is a float
    (``ensure_dtype`` often comes first). Other values are partitioned; percentiles 0 and 100 need
    neither.

    Parameters
    ----------
    x : any dtype and shape, one letter of `axes` per dimension
    axes : letters of the dimensions
    over : the axes over which percentiles are taken jointly
    which : percentiles, 0 to 100

    Returns
    -------
    list of float64
        one array for each of `which`, shape of `x` with 1 in place of each axis of `over`; the
        same numbers as from ``numpy.percentile`` in float64; NaN if a value is NaN
    """
    rows, shape = _rows(x, axes, over)
    if rows.shape[1] < LEAST_TO_COUNT:
        statistics = np.percentile(rows.astype(np.float64), which, axis=1)
    else:
        statistics = np.stack([_percentiles_of(row, which) for row in rows], axis=1)
    return [values.reshape(shape) for values in statistics]


def _rows(x: AnyArray, axes: str, over: Sequence[str]) -> tuple[AnyArray, tuple[int, ...]]:
    """Return values as (kept, summed), without a copy if possible, and the shape to restore."""
    outer = [i for i, axis in enumerate(axes) if axis not in over]
    # summed values may come in any order, so take them in that of memory
    summed = sorted(set(range(x.ndim)) - set(outer), key=lambda i: -abs(x.strides[i]))
    shape = tuple(n if i in outer else 1 for i, n in enumerate(x.shape))
    numbers = x.view(np.uint8) if x.dtype == np.bool_ else x
    rows = numbers.transpose(outer + summed).reshape(int(np.prod(shape)), -1)
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
    """Count the occurrences of each integer from `low` to `high`; return None if not countable."""
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


Reference = tuple[AnyArray, str]
"""A tensor and the letters of its dimensions."""


Change: TypeAlias = Callable[[AnyArray, str], AnyArray]
"""Scales a tensor, or a part of it, given the letters of its dimensions."""


class Statistics(Protocol):
    """Statistics of a tensor that is in memory as a whole, or read in parts."""

    @property
    def axes(self) -> str:
        """The letters of its dimensions."""

    def mean_and_deviation(self, over: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation; see the function of this name."""

    def percentiles(self, over: Sequence[str], which: Sequence[float]) -> list[FloatArray]:
        """Return percentiles; see the function of this name."""


@dataclass(frozen=True)
class _Whole:
    """Statistics of a tensor that is in memory as a whole."""

    x: AnyArray
    axes: str

    def mean_and_deviation(self, over: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        return mean_and_deviation(self.x, self.axes, over)

    def percentiles(self, over: Sequence[str], which: Sequence[float]) -> list[FloatArray]:
        return percentiles(self.x, self.axes, over, which)


class ScalingStep(ABC):
    """A step that uses statistics of the tensor itself or of a reference tensor."""

    reference_tensor: Reference | None = None

    @abstractmethod
    def known(self, own: Statistics, reference: Statistics) -> Change:
        """Compute the statistics, and return the function that scales the tensor or a part of it.

        Parameters
        ----------
        own : of the tensor to be scaled
        reference : of the reference tensor; `own` if there is none
        """

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Scale `x` by statistics of all its values, or of the reference tensor."""
        own = _Whole(x, axes)
        reference = _Whole(*self.reference_tensor) if self.reference_tensor else own
        return self.known(own, reference)(x, axes)


@dataclass(frozen=True)
class Clip(ScalingStep):
    """Limit values to the range between a lower and an upper bound.

    Percentiles are interpolated linearly, as in `ScaleRange`; the specification is silent on it.
    Integers keep their dtype if the bounds are integers and it can hold every result, else they
    become float32.

    Source: model description 0.5, ``ClipDescr``.

    Parameters
    ----------
    min, max : bounds; None for open
    min_percentile, max_percentile : percentiles of the tensor in place of `min` and `max`
    axes : over which percentiles are taken; None for all
    """

    name: ClassVar[str] = "clip"
    min: float | None = None
    max: float | None = None
    min_percentile: float | None = None
    max_percentile: float | None = None
    axes: Sequence[str] | None = None

    def known(self, own: Statistics, reference: Statistics) -> Change:
        """Compute the percentiles that serve as bounds."""
        asked = [q for q in (self.min_percentile, self.max_percentile) if q is not None]
        over = jointly(self.name, self.axes, own.axes) if asked else ""
        bounds = reference.percentiles(over, asked) if asked else []
        least = np.asarray(-np.inf if self.min is None else self.min, np.float64)
        most = np.asarray(np.inf if self.max is None else self.max, np.float64)
        low = least if self.min_percentile is None else bounds[0]
        high = most if self.max_percentile is None else bounds[-1]

        def clipped(x: AnyArray, _axes: str) -> AnyArray:
            dtype = x.dtype if x.dtype.kind == "f" or fits(x, low, high) else np.dtype(np.float32)
            return calculated(np.minimum, calculated(np.maximum, x, low, dtype), high, dtype)

        return clipped


@dataclass(frozen=True)
class ZeroMeanUnitVariance(ScalingStep):
    """Return ``(x - mean) / (std + eps)``; a constant becomes 0.

    Source: model description 0.5, ``ZeroMeanUnitVarianceKwargs``.

    Parameters
    ----------
    axes : over which mean and deviation are taken; None for all
    eps : added to the standard deviation
    """

    name: ClassVar[str] = "zero_mean_unit_variance"
    axes: Sequence[str] | None = None
    eps: float = 1e-6

    def known(self, own: Statistics, reference: Statistics) -> Change:
        """Compute mean and standard deviation."""
        mean, deviation = reference.mean_and_deviation(jointly(self.name, self.axes, own.axes))
        return lambda x, _axes: shifted_and_divided(x, mean, deviation + self.eps)


@dataclass(frozen=True)
class ScaleRange(ScalingStep):
    """Return ``(x - v_lower) / (v_upper - v_lower + eps)``, not clipped; a constant becomes 0.

    Source: model description 0.5, ``ScaleRangeKwargs``.

    Parameters
    ----------
    axes : over which percentiles are taken; None for all
    min_percentile, max_percentile : percentiles that give ``v_lower`` and ``v_upper``
    eps : added to the divisor
    reference_tensor : the tensor whose percentiles are taken; None for `x` itself
    """

    name: ClassVar[str] = "scale_range"
    axes: Sequence[str] | None = None
    min_percentile: float = 0.0
    max_percentile: float = 100.0
    eps: float = 1e-6
    reference_tensor: Reference | None = None

    def known(self, own: Statistics, reference: Statistics) -> Change:
        """Compute both percentiles."""
        over = jointly(self.name, self.axes, own.axes, also=reference.axes)
        lower, upper = reference.percentiles(over, (self.min_percentile, self.max_percentile))

        def stretched(x: AnyArray, axes: str) -> AnyArray:
            low, span = (
                seen_from(axes, x.shape, statistic, reference.axes)
                for statistic in (lower, upper - lower + self.eps)
            )
            return shifted_and_divided(x, low, span)

        return stretched


@dataclass(frozen=True)
class ScaleMeanVariance(ScalingStep):
    """Return ``(x - mean) / (std + eps) * (ref_std + eps) + ref_mean``.

    Source: model description 0.5, ``ScaleMeanVarianceKwargs``.

    Parameters
    ----------
    reference_tensor : the tensor whose mean and standard deviation are matched
    axes : over which both are taken; None for all
    eps : added to both standard deviations
    """

    name: ClassVar[str] = "scale_mean_variance"
    reference_tensor: Reference
    axes: Sequence[str] | None = None
    eps: float = 1e-6

    def known(self, own: Statistics, reference: Statistics) -> Change:
        """Compute mean and standard deviation of both tensors."""
        over = jointly(self.name, self.axes, own.axes, also=reference.axes)
        wanted_mean, wanted = reference.mean_and_deviation(over)
        mean, deviation = own.mean_and_deviation(over)

        def matched(x: AnyArray, axes: str) -> AnyArray:
            gain, offset = (
                seen_from(axes, x.shape, statistic, reference.axes)
                for statistic in (wanted + self.eps, wanted_mean)
            )
            even = shifted_and_divided(x, mean, deviation + self.eps)
            return multiplied_and_added(even, gain, offset)

        return matched


def jointly(
    step: str, own_axes: Sequence[str] | None, axes: str, *, also: str = ""
) -> Sequence[str]:
    """Return the axes over which a step takes statistics jointly: its `own_axes`, or all.

    An array without "b" is one item, so that "b" may be requested but absent.

    Raises
    ------
    AxisMissing
        Neither the tensor nor its reference (`also`) has a requested axis.
    """
    if own_axes is None:
        return axes + also
    for axis in own_axes:
        if axis not in axes + also + "b":
            raise AxisMissing(step, axis, axes=axes)
    return own_axes


def seen_from(axes: str, shape: tuple[int, ...], statistic: FloatArray, letters: str) -> FloatArray:
    """Reshape a statistic of another tensor so that it broadcasts over this one.

    Parameters
    ----------
    axes, shape : letters and sizes of the tensor to be scaled
    statistic : one value, or one for each entry of an axis
    letters : letters of the dimensions of `statistic`

    Raises
    ------
    ReferenceDiffers
        The statistic has a different number of entries along an axis than the tensor.
    """
    sizes = dict(zip(axes, shape, strict=True))
    for axis, count in zip(letters, statistic.shape, strict=True):
        if count not in (1, sizes.get(axis, 1)):
            raise ReferenceDiffers(axis, expected=sizes.get(axis, 1), actual=count)
    shared = [axis for axis in axes if axis in letters]
    ordered = statistic.transpose(
        [letters.index(a) for a in shared] + [i for i, a in enumerate(letters) if a not in shared]
    )
    return ordered.reshape([ordered.shape[shared.index(a)] if a in shared else 1 for a in axes])


def fits(x: AnyArray, low: FloatArray, high: FloatArray) -> bool:
    """Return whether the dtype of `x` can hold every possible result between the bounds."""
    if x.dtype.kind not in "iu":
        return False
    holds = np.iinfo(x.dtype)
    whole = all((bound == np.rint(bound)).all() for bound in (low, high))
    return bool(whole and (low <= holds.max).all() and (high >= holds.min).all())
