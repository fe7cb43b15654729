"""Declared steps that work on single values, and the errors of declared steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import methodcaller
from typing import Any, ClassVar, TypeAlias

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray, LazyArray
from bmz.base.axes import Box, Step
from bmz.base.errors import AnswerIsNo, CouldNotTell
from bmz.base.values import dataclass

TensorOp = Callable[[Any], Any]
"""A step on a PyTorch tensor, with bitwise the same result as on an array."""

AT_FAULT = "the description of the model is at fault: tell its authors"


class UnknownOp(CouldNotTell):
    """A step is unknown, such as one of a newer format."""

    def __init__(self, step: Step, known: Iterable[str]) -> None:
        super().__init__(
            f"the step '{step.name}' is unknown to this version of bmz",
            hint=f"a newer bmz may know it; known steps are {', '.join(sorted(known))}",
            code="package.unknown-op",
        )


class RunsCode(CouldNotTell):
    """A ``custom`` step is Python code of the model, and declared steps never run that."""

    def __init__(self, step: Step) -> None:
        source = step.kwargs.get("source", "a file of the model")
        super().__init__(
            f"step '{step.name}' is the model's own Python code ({source}); it was not run",
            hint="bmz never runs steps that are code; use a model without this step",
            code="package.runs-code",
        )


class ArgumentsRefused(AnswerIsNo):
    """A step lacks an argument, or has one that its specification does not define."""

    def __init__(self, step: Step, why: str) -> None:
        super().__init__(
            f"step {step} cannot take these arguments: {why}",
            hint=AT_FAULT,
            code="process.arguments",
        )


class AxisMissing(AnswerIsNo):
    """A step works along an axis that the tensor does not have."""

    def __init__(self, step: str, axis: str, *, axes: str) -> None:
        super().__init__(
            f"step '{step}' works along axis {axis}, but the tensor has axes {axes}",
            hint=AT_FAULT,
            code="process.axis-missing",
        )


class AxisExtra(AnswerIsNo):
    """A tensor has an axis that a step cannot handle."""

    def __init__(self, step: str, axis: str, *, axes: str) -> None:
        super().__init__(
            f"step '{step}' cannot take axis {axis} of a tensor with axes {axes}",
            hint=AT_FAULT,
            code="process.axis-extra",
        )


class NotOnePerEntry(AnswerIsNo):
    """An argument is not one value for each entry of its axis."""

    def __init__(
        self, step: str, key: str, *, count: int, entries: tuple[str, int] | None = None
    ) -> None:
        wanted = "names no axis" if entries is None else "axis {} has {} entries".format(*entries)
        super().__init__(
            f"{key} of step '{step}' has {count} values, but {wanted}",
            hint=AT_FAULT,
            code="process.not-one-per-entry",
        )


class ReferenceMissing(AnswerIsNo):
    """A step takes its statistics from a tensor that does not exist."""

    def __init__(self, step: str, tensor: str, known: Iterable[str]) -> None:
        there = ", ".join(known) or "none"
        super().__init__(
            f"step '{step}' refers to tensor '{tensor}', but there are: {there}",
            hint=AT_FAULT,
            code="process.reference-missing",
        )


class ReferenceDiffers(AnswerIsNo):
    """The statistics of the reference tensor do not fit the shape of the tensor to be scaled."""

    def __init__(self, axis: str, *, expected: int, actual: int) -> None:
        super().__init__(
            f"axis {axis} of the reference tensor has {actual} entries, but that of the tensor "
            f"has {expected}",
            hint=AT_FAULT,
            code="process.reference-differs",
        )


class TooManyLabels(AnswerIsNo):
    """More objects than the declared dtype of the labels can count."""

    def __init__(self, step: str, *, count: int, dtype: str, most: int) -> None:
        super().__init__(
            f"step '{step}' found {count} objects, but its declared dtype {dtype} holds at most "
            f"{most}",
            hint="crop the image into parts, or ask the authors for output_dtype uint32",
            code="process.labels-overflow",
        )


Values = float | Sequence[float]

Number: TypeAlias = float | AnyArray
"""One number, or an array that broadcasts to the tensor."""


def kept_float(x: AnyArray) -> np.dtype[Any]:
    """Return the dtype of results of arithmetic on `x`: float64 for float64, else float32."""
    return np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


def calculated(do: np.ufunc, x: AnyArray, other: Number, dtype: np.dtype[Any]) -> AnyArray:
    """Apply `do` in float64, a few thousand values at a time, and keep the result as `dtype`."""
    out = np.empty(x.shape, dtype)
    do(x, other, out=out, dtype=np.float64, casting="unsafe")
    return out


def shifted_and_divided(x: AnyArray, shift: Number, divisor: Number) -> FloatArray:
    """Return ``(x - shift) / divisor``."""
    dtype = kept_float(x)
    return calculated(np.divide, calculated(np.subtract, x, shift, dtype), divisor, dtype)


def multiplied_and_added(x: AnyArray, gain: Number, offset: Number) -> FloatArray:
    """Return ``x * gain + offset``."""
    dtype = kept_float(x)
    return calculated(np.add, calculated(np.multiply, x, gain, dtype), offset, dtype)


@dataclass(frozen=True)
class Binarize:
    """Set values above the threshold to 1, all others to 0; the result is of a float dtype.

    Source: model description 0.5, ``BinarizeDescr``.

    Parameters
    ----------
    threshold : one number, or one for each entry of `axis`
    axis : letter of the axis that the thresholds lie along
    """

    name: ClassVar[str] = "binarize"
    threshold: Values
    axis: str | None = None

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Compare every value of `x` with its threshold."""
        # in the precision of the tensor: a float32 of 0.3 is not above 0.3
        precision = x.dtype if x.dtype.kind == "f" else np.float64
        threshold = along(self, "threshold", x, axes).astype(precision)
        return (x > threshold).astype(kept_float(x))

    @property
    def on_tensor(self) -> TensorOp | None:
        """Return the same step for floating-point tensors; None for several thresholds."""
        limit = self.threshold
        if not isinstance(limit, int | float):
            return None
        return lambda x: (x > x.new_tensor(limit)).to(x.dtype)


@dataclass(frozen=True)
class EnsureDtype:
    """Cast to `dtype`, and nothing else: no scaling, no rounding, no clipping.

    As with NumPy's ``astype``, fractions are truncated and values outside the range of an integer
    dtype wrap around; ``bmz check`` warns before an image is narrowed in this way. Returns `x`
    itself if it already has that dtype.

    Source: model description 0.5, ``EnsureDtypeDescr`` ("Cast the tensor data type").

    Parameters
    ----------
    dtype : name of the NumPy dtype
    """

    name: ClassVar[str] = "ensure_dtype"
    dtype: str

    def __call__(self, x: AnyArray, _axes: str) -> AnyArray:
        """Cast `x`."""
        return x.astype(np.dtype(self.dtype), copy=False)

    @property
    def on_tensor(self) -> TensorOp | None:
        """Return the same step for tensors; None for integers, whose casts differ by device."""
        return {"float32": methodcaller("float"), "float64": methodcaller("double")}.get(self.dtype)


@dataclass(frozen=True)
class FixedZeroMeanUnitVariance:
    """Return ``(x - mean) / std`` with the numbers of the description and no epsilon.

    Source: model description 0.5, ``FixedZeroMeanUnitVarianceDescr`` ("Subtract a given mean and
    divide by the standard deviation").

    Parameters
    ----------
    mean, std : one number each, or one for each entry of `axis`
    axis : letter of the axis that the numbers lie along
    """

    name: ClassVar[str] = "fixed_zero_mean_unit_variance"
    mean: Values
    std: Values
    axis: str | None = None

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Normalise `x`."""
        return shifted_and_divided(x, along(self, "mean", x, axes), along(self, "std", x, axes))


@dataclass(frozen=True)
class ScaleLinear:
    """Return ``x * gain + offset``.

    Source: model description 0.5, ``ScaleLinearDescr``.

    Parameters
    ----------
    gain, offset : one number each, or one for each entry of `axis`
    axis : letter of the axis that the numbers lie along
    """

    name: ClassVar[str] = "scale_linear"
    gain: Values = 1.0
    offset: Values = 0.0
    axis: str | None = None

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Scale `x`."""
        return multiplied_and_added(x, along(self, "gain", x, axes), along(self, "offset", x, axes))


@dataclass(frozen=True)
class Sigmoid:
    """Return ``1 / (1 + exp(-x))``, without overflow for large negative values.

    Source: model description 0.5, ``SigmoidDescr`` ("a.k.a. expit function").
    """

    name: ClassVar[str] = "sigmoid"

    def __call__(self, x: AnyArray, _axes: str) -> AnyArray:
        """Map `x` to values from 0 to 1."""
        from scipy.special import expit  # here: it takes long to import

        squashed: FloatArray = expit(x.astype(kept_float(x), copy=False))
        return squashed


@dataclass(frozen=True)
class Softmax:
    """Return ``exp(x) / sum(exp(x))`` along `axis`.

    Source: model description 0.5, ``SoftmaxDescr``.

    Parameters
    ----------
    axis : letter of the axis that sums to 1
    """

    name: ClassVar[str] = "softmax"
    axis: str = "c"

    def __call__(self, x: AnyArray, axes: str) -> AnyArray:
        """Turn scores into probabilities."""
        at = position(self.name, self.axis, axes)
        logits = x.astype(kept_float(x), copy=False)
        # the same probabilities, as the factor cancels, but exp cannot overflow
        grown = np.exp(logits - logits.max(axis=at, keepdims=True))
        return np.asarray(grown / grown.sum(axis=at, keepdims=True))


def position(step: str, axis: str, axes: str) -> int:
    """Return the dimension of `axis`, or raise `AxisMissing`."""
    if axis not in axes:
        raise AxisMissing(step, axis, axes=axes)
    return axes.index(axis)


def along(
    step: Binarize | FixedZeroMeanUnitVariance | ScaleLinear, key: str, x: AnyArray, axes: str
) -> FloatArray:
    """Shape the argument `key` of `step` so that it broadcasts along the axis of the step.

    Parameters
    ----------
    step : one with an `axis`
    key : name of an argument that is a number or a list of numbers
    x, axes : the tensor and the letters of its dimensions

    Returns
    -------
    float64
        0-dimensional for a number; one value per entry of the axis for a list

    Raises
    ------
    NotOnePerEntry
        A list is given without an axis, or is longer or shorter than the axis.
    AxisMissing
        The tensor has no such axis.
    """
    values = np.asarray(getattr(step, key), np.float64)
    if values.ndim == 0:
        return values
    if step.axis is None:
        raise NotOnePerEntry(step.name, key, count=values.size)
    at = position(step.name, step.axis, axes)
    if len(values) != x.shape[at]:
        entries = (step.axis, x.shape[at])
        raise NotOnePerEntry(step.name, key, count=values.size, entries=entries)
    return values.reshape([-1 if i == at else 1 for i in range(x.ndim)])


ACTIVATIONS = ("none", "sigmoid", "softmax")
"""Activations that may be applied to the maps of a network before a recipe reads them."""


def activated(output: AnyArray, activation: str) -> AnyArray:
    """Return the maps after an activation, computed as by the declared steps of these names.

    Parameters
    ----------
    output : (c, ...), logits
    activation : one of `ACTIVATIONS`; with ``softmax`` the channels sum to 1 in every pixel
    """
    if activation == "none":
        return output
    step = Softmax() if activation == "softmax" else Sigmoid()
    return step(output, "czyx"[: output.ndim])


class ActivatedMaps:
    """Maps that are read in parts, with the activation applied to each part.

    Parameters
    ----------
    maps : (c, (z,) y, x), an array that is read in parts
    activation : one of `ACTIVATIONS`
    """

    def __init__(self, maps: LazyArray, activation: str) -> None:
        self._maps, self._activation = maps, activation
        self.shape = maps.shape

    def __getitem__(self, region: Box) -> AnyArray:
        """Read some channels of a part."""
        channel, *where = region
        every = np.asarray(self._maps[(slice(None), *where)])
        part: AnyArray = activated(every, self._activation)[channel]
        return part
