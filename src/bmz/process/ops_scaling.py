"""Declared steps that need statistics of the whole tensor: normalise, stretch, clip, match.

Every class takes ``axes``, the letters of the axes that are looked at jointly. None means all of
them, the batch too, as the specification says ("Default: Scale all axes jointly"); to keep the
items of a batch apart, leave "b" out. Statistics are those of the array that the step is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.ops_errors import AxisMissing, ReferenceDiffers
from bmz.process.ops_statistics import mean_and_deviation, percentiles
from bmz.process.ops_values import (
    calculated,
    multiplied_and_added,
    shifted_and_divided,
)

Reference = tuple[AnyArray, str]
"""A tensor and the letters of its dimensions."""


@dataclass(frozen=True)
class Clip:
    """Set values below the lower bound to it, and those above the upper bound to that.

    Percentiles are interpolated linearly, as in `ScaleRange`; the specification is silent on it.
    Integers stay integers when the bounds are whole and lie in their range, else they become
    float32.

    Source: model description 0.5, ``ClipDescr``.

    Parameters
    ----------
    min, max : bounds; None for open
    min_percentile, max_percentile : percentiles of the tensor in place of `min` and `max`
    axes : see the module
    """

    name: ClassVar[str] = "clip"
    min: float | None = None
    max: float | None = None
    min_percentile: float | None = None
    max_percentile: float | None = None
    axes: Sequence[str] | None = None

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Clip `x`."""
        low, high = self._bounds(x, axes)
        kept = x.dtype if x.dtype.kind == "f" or fits(x, low, high) else np.dtype(np.float32)
        raised = calculated(np.maximum, x, low, kept)
        return calculated(np.minimum, raised, high, kept)

    def _bounds(self, x: AnyArray, axes: str) -> tuple[FloatArray, FloatArray]:
        asked = [q for q in (self.min_percentile, self.max_percentile) if q is not None]
        found = percentiles(x, axes, jointly(self.name, self.axes, axes), asked) if asked else []
        low = np.asarray(-np.inf if self.min is None else self.min, np.float64)
        high = np.asarray(np.inf if self.max is None else self.max, np.float64)
        return (
            low if self.min_percentile is None else found[0],
            high if self.max_percentile is None else found[-1],
        )


@dataclass(frozen=True)
class ZeroMeanUnitVariance:
    """Give ``(x - mean) / (std + eps)``.

    Source: model description 0.5, ``ZeroMeanUnitVarianceKwargs``.

    Parameters
    ----------
    axes : see the module
    eps : added to the standard deviation
    """

    name: ClassVar[str] = "zero_mean_unit_variance"
    axes: Sequence[str] | None = None
    eps: float = 1e-6

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Normalise `x`; a constant becomes 0."""
        mean, deviation = mean_and_deviation(x, axes, jointly(self.name, self.axes, axes))
        return shifted_and_divided(x, mean, deviation + self.eps)


@dataclass(frozen=True)
class ScaleRange:
    """Give ``(x - v_lower) / (v_upper - v_lower + eps)``, not clipped.

    Source: model description 0.5, ``ScaleRangeKwargs``.

    Parameters
    ----------
    axes : see the module
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

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Stretch `x`; a constant becomes 0."""
        which = (self.min_percentile, self.max_percentile)
        seen, letters = self.reference_tensor or (x, axes)
        over = jointly(self.name, self.axes, axes, also=letters)
        found = percentiles(seen, letters, over, which)
        lower, upper = (seen_from(axes, x.shape, value, letters) for value in found)
        return shifted_and_divided(x, lower, upper - lower + self.eps)


@dataclass(frozen=True)
class ScaleMeanVariance:
    """Give ``(x - mean) / (std + eps) * (ref_std + eps) + ref_mean``.

    Source: model description 0.5, ``ScaleMeanVarianceKwargs``.

    Parameters
    ----------
    reference_tensor : the tensor whose mean and standard deviation are matched
    axes : see the module
    eps : added to both standard deviations
    """

    name: ClassVar[str] = "scale_mean_variance"
    reference_tensor: Reference
    axes: Sequence[str] | None = None
    eps: float = 1e-6

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Match `x` to the reference."""
        seen, letters = self.reference_tensor
        over = jointly(self.name, self.axes, axes, also=letters)
        found = mean_and_deviation(seen, letters, over)
        wanted_mean, wanted = (seen_from(axes, x.shape, value, letters) for value in found)
        mean, deviation = mean_and_deviation(x, axes, over)
        even = shifted_and_divided(x, mean, deviation + self.eps)
        return multiplied_and_added(even, wanted + self.eps, wanted_mean)


def jointly(step: str, asked: Sequence[str] | None, axes: str, *, also: str = "") -> Sequence[str]:
    """Give the axes that a step looks at jointly: those `asked` for, or all.

    An array without "b" is one item, so that "b" may be asked for and not be there.

    Raises
    ------
    AxisMissing
        Neither the tensor nor its reference (`also`) has an axis that is asked for.
    """
    if asked is None:
        return axes + also
    for axis in asked:
        if axis not in axes + also + "b":
            raise AxisMissing(step, axis, axes=axes)
    return asked


def seen_from(axes: str, shape: tuple[int, ...], statistic: FloatArray, letters: str) -> FloatArray:
    """Lay a statistic of another tensor out so that it broadcasts over this one.

    Parameters
    ----------
    axes, shape : letters and sizes of the tensor to be scaled
    statistic : one entry, or one for each entry of an axis
    letters : letters of the dimensions of `statistic`

    Raises
    ------
    ReferenceDiffers
        The statistic has another count of entries along an axis than the tensor.
    """
    sizes = dict(zip(axes, shape, strict=True))
    for axis, found in zip(letters, statistic.shape, strict=True):
        if found not in (1, sizes.get(axis, 1)):
            raise ReferenceDiffers(axis, wanted=sizes.get(axis, 1), found=found)
    shared = [axis for axis in axes if axis in letters]
    ordered = statistic.transpose(
        [letters.index(a) for a in shared] + [i for i, a in enumerate(letters) if a not in shared]
    )
    return ordered.reshape([ordered.shape[shared.index(a)] if a in shared else 1 for a in axes])


def fits(x: AnyArray, low: FloatArray, high: FloatArray) -> bool:
    """Say whether an integer dtype holds every value between the bounds that can come out."""
    if x.dtype.kind not in "iu":
        return False
    holds = np.iinfo(x.dtype)
    whole = all((bound == np.rint(bound)).all() for bound in (low, high))
    return bool(whole and (low <= holds.max).all() and (high >= holds.min).all())
