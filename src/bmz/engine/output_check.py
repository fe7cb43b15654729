"""What the outputs of a network say of themselves: numbers that are none, and no objects."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from bmz.base.errors import AnswerIsNo
from bmz.check.finding import Finding
from bmz.plan.plan import Plan
from bmz.process.finite import PixelCount

_CAUSES = (
    "if an image that is not flat gives the same with --precision float32, on another --device and "
    "with other --weights, the model is at fault: tell its authors"
)

_NOTHING_FOUND = (
    "if there are some in the image, try --scale auto, other --channels, or a model that "
    "bmz fit names"
)


class OutputNotFinite(AnswerIsNo):
    """No pixel of the output of a network is a number, so that nothing can be made of it."""

    def __init__(self, output: str) -> None:
        super().__init__(
            f"output '{output}' of the network is NaN or infinite in every pixel",
            hint=_CAUSES,
            code="output.nonfinite",
        )


def refuse_nonfinite(count: PixelCount, plan: Plan, output: str) -> None:
    """Raise an error where no pixel of any plane or stack of an image is a number.

    Parameters
    ----------
    count : of the output so far; nothing is said before the last plane or stack
    plan : says how many planes or stacks there are
    output : its id

    Raises
    ------
    OutputNotFinite
    """
    last = count.maps >= prod(plan.loop.values())
    if last and count.total and count.nonfinite == count.total:
        raise OutputNotFinite(output)


def output_findings(count: PixelCount, objects: int | None, output: str) -> tuple[Finding, ...]:
    """Give what is to be known of a result beside what the check of the image said.

    Parameters
    ----------
    count : pixels of the output
    objects : how many there are; None without labels
    output : its id
    """
    return tuple(_findings(count, objects, output))


def _findings(count: PixelCount, objects: int | None, output: str) -> Iterator[Finding]:
    if count.nonfinite:
        share = f"{count.nonfinite} of {count.total} pixels ({_percent(count.share)})"
        yield Finding.of(
            "output.nonfinite", output,
            f"{share} of the output are NaN or infinite: do not trust the result there",
            wanted="finite", found=f"{count.nonfinite}", hint=_CAUSES, evidence="measured",
        )  # fmt: skip
    if objects == 0:
        yield Finding.of(
            "output.no-objects", output, "no objects were found",
            wanted="1 or more", found="0", hint=_NOTHING_FOUND, evidence="measured",
        )  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
