"""The declared pre- and postprocessing steps of model descriptions, format 0.4 and 0.5.12."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.process.ops_errors import ArgumentsRefused, ReferenceMissing, RunsCode, UnknownOp
from bmz.process.ops_labels import CellposeFlowDynamics, StardistPostprocessing
from bmz.process.ops_scaling import (
    Clip,
    Reference,
    ScaleMeanVariance,
    ScaleRange,
    ZeroMeanUnitVariance,
)
from bmz.process.ops_values import (
    Binarize,
    EnsureDtype,
    FixedZeroMeanUnitVariance,
    ScaleLinear,
    Sigmoid,
    Softmax,
)

Op = Callable[[AnyArray, str], AnyArray]
"""What a step does to a tensor, given the letters of its dimensions."""

Seen = Callable[[int, Step, AnyArray], None]
"""Is shown what each step gives: its position, the step, and the result."""


def not_seen(number: int, step: Step, x: AnyArray) -> None:
    """Look at nothing."""


OPS: Mapping[str, Callable[..., Op]] = {
    op.name: op
    for op in (
        Binarize,
        CellposeFlowDynamics,
        Clip,
        EnsureDtype,
        FixedZeroMeanUnitVariance,
        ScaleLinear,
        ScaleMeanVariance,
        ScaleRange,
        Sigmoid,
        Softmax,
        StardistPostprocessing,
        ZeroMeanUnitVariance,
    )
}
"""The name of each step and the class that takes its arguments."""


def apply_steps(
    steps: Sequence[Step],
    x: AnyArray,
    axes: str,
    *,
    references: Mapping[str, Reference] | None = None,
    seen: Seen = not_seen,
) -> tuple[AnyArray, str]:
    """Apply the declared steps in their order; each sees what the one before gave.

    Statistics are those of the array that a step is given, so give a whole image, not a tile, and
    pad it afterwards. Arithmetic keeps float64 for float64, and gives float32 for all else; means,
    deviations and percentiles are taken in float64. `x` is not modified; where no step changes
    anything, it is given back itself. Values that are not finite stay so, without a warning.

    Parameters
    ----------
    steps : in the words of format 0.5.12, axes as letters
    x : any shape, any dtype
    axes : one letter a dimension of `x`, such as ``"bcyx"``
    references : tensors by their id, with the letters of their dimensions, for the steps that
        take a ``reference_tensor``: the inputs of the model before any preprocessing
    seen : is shown what each step gives

    Returns
    -------
    tuple
        the result and the letters of its dimensions, which no step of 0.5.12 changes

    Raises
    ------
    UnknownOp, RunsCode
        A step that is not of format 0.5.12, or is the model's own code, which is never run here.
    ArgumentsRefused, AxisMissing, AxisExtra, NotOnePerEntry, ReferenceMissing, ReferenceDiffers
        A step does not go with its arguments or with the tensor.
    TooManyLabels
        More objects than the declared dtype of the labels can count.

    Examples
    --------
    >>> import numpy as np
    >>> steps = [Step("scale_linear", {"gain": 2.0}), Step("binarize", {"threshold": 3.0})]
    >>> apply_steps(steps, np.array([1, 2]), "x")
    (array([0., 1.], dtype=float32), 'x')
    """
    if len(axes) != x.ndim:
        raise ValueError(f"{x.ndim} dimensions want as many letters, found '{axes}'")
    for number, step in enumerate(steps):
        op = op_of(step, references or {})
        with np.errstate(over="ignore", invalid="ignore"):
            x = op(x, axes)
        seen(number, step, x)
    return x, axes


def op_of(step: Step, references: Mapping[str, Reference]) -> Op:
    """Find what `step` does, and join its arguments to it.

    Raises
    ------
    UnknownOp, RunsCode, ArgumentsRefused, ReferenceMissing
        See `apply_steps`.
    """
    if step.name == "custom":
        raise RunsCode(step)
    if step.name not in OPS:
        raise UnknownOp(step, OPS)
    kwargs: dict[str, Any] = dict(step.kwargs)
    tensor = kwargs.get("reference_tensor")
    if tensor is not None:
        if tensor not in references:
            raise ReferenceMissing(step.name, tensor, references)
        kwargs["reference_tensor"] = references[tensor]
    try:
        return OPS[step.name](**kwargs)
    except TypeError as why:
        raise ArgumentsRefused(step, str(why)) from why
