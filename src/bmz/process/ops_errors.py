"""What can be wrong with a declared step: unknown, the model's code, at odds with the tensor."""

from __future__ import annotations

from collections.abc import Iterable

from bmz.base.axes import Step
from bmz.base.errors import AnswerIsNo, CouldNotTell

AT_FAULT = "the description of the model is at fault: tell its authors"


class UnknownOp(CouldNotTell):
    """A step that is not known here, such as one of a newer format."""

    def __init__(self, step: Step, known: Iterable[str]) -> None:
        super().__init__(
            f"the step '{step.name}' is not known to this bmz",
            hint=f"a newer bmz may know it; known are {', '.join(sorted(known))}",
            code="package.unknown-op",
        )


class RunsCode(CouldNotTell):
    """A ``custom`` step is Python code of the model, and declared steps never run that."""

    def __init__(self, step: Step) -> None:
        source = step.kwargs.get("source", "a file of the model")
        super().__init__(
            f"step '{step.name}' is the model's own Python code ({source}); it was not run",
            hint="this version never runs the code of a package; take a model without it",
            code="package.runs-code",
        )


class ArgumentsRefused(AnswerIsNo):
    """A step lacks an argument, or has one that its specification does not know."""

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
    """A tensor has an axis that a step has no use for."""

    def __init__(self, step: str, axis: str, *, axes: str) -> None:
        super().__init__(
            f"step '{step}' cannot take axis {axis} of a tensor with axes {axes}",
            hint=AT_FAULT,
            code="process.axis-extra",
        )


class NotOnePerEntry(AnswerIsNo):
    """An argument is not one value for each entry of its axis."""

    def __init__(
        self, step: str, key: str, *, found: int, entries: tuple[str, int] | None = None
    ) -> None:
        wanted = "names no axis" if entries is None else "axis {} has {} entries".format(*entries)
        super().__init__(
            f"{key} of step '{step}' has {found} values, but {wanted}",
            hint=AT_FAULT,
            code="process.not-one-per-entry",
        )


class ReferenceMissing(AnswerIsNo):
    """A step takes its statistics from a tensor that is not there."""

    def __init__(self, step: str, tensor: str, known: Iterable[str]) -> None:
        there = ", ".join(known) or "none"
        super().__init__(
            f"step '{step}' refers to tensor '{tensor}', but there are: {there}",
            hint=AT_FAULT,
            code="process.reference-missing",
        )


class ReferenceDiffers(AnswerIsNo):
    """The statistics of the reference tensor do not fit the shape of the tensor to be scaled."""

    def __init__(self, axis: str, *, wanted: int, found: int) -> None:
        super().__init__(
            f"axis {axis} of the reference tensor has {found} entries, that of the tensor {wanted}",
            hint=AT_FAULT,
            code="process.reference-differs",
        )


class TooManyLabels(AnswerIsNo):
    """More objects than the declared dtype of the labels can count."""

    def __init__(self, step: str, *, wanted: int, dtype: str, most: int) -> None:
        super().__init__(
            f"step '{step}' found {wanted} objects, but its declared {dtype} holds {most}",
            hint="cut the image into parts, or ask the authors for output_dtype uint32",
            code="process.labels-overflow",
        )
