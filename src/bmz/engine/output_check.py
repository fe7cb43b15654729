"""What outputs and declared steps say of themselves: numbers that are none, and no objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.base.errors import AnswerIsNo
from bmz.check.finding import Finding
from bmz.plan.plan import Plan
from bmz.process.ops import Seen
from bmz.process.result_checks import Stage, StageCounts, nonfinite_pixels

_CAUSES = (
    "if an image that is not flat gives the same with --precision float32, on another --device and "
    "with other --weights, the model is at fault: tell its authors"
)

_NOTHING_FOUND = (
    "if there are some in the image, try --scale auto, other --channels, or a model that "
    "bmz fit names"
)


class OutputNotFinite(AnswerIsNo):
    """No pixel of a tensor is a number, so that nothing can be made of it."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(
            f"{stage.words} is NaN or infinite in every pixel",
            hint=_CAUSES,
            code="output.nonfinite",
        )


@dataclass(frozen=True)
class Watch:
    """Looks at what the network and the declared steps give for every plane or stack of an image.

    Parameters
    ----------
    plan : says how many there are; nothing is refused before the last
    counts : pixels so far
    """

    plan: Plan
    counts: StageCounts

    def count(self, stage: Stage, nonfinite: int, total: int) -> None:
        """Count the pixels of one more plane or stack.

        Raises
        ------
        OutputNotFinite
            It was the last, and no pixel of any is a number.
        """
        count = self.counts.add(stage, nonfinite, total)
        last = count.maps >= prod(self.plan.loop.values())
        if last and count.total and count.nonfinite == count.total:
            raise OutputNotFinite(stage)

    def network(self, output: str, x: AnyArray, letters: str) -> None:
        """Look at an output of the network; see `count`."""
        self.count(Stage.network(output), *nonfinite_pixels(x, letters))

    def steps(self, which: Literal["input", "output"], tensor: str, letters: str) -> Seen:
        """Give what looks at the results of declared steps; see `count`.

        Those from the first on that makes labels need no look: labels are whole numbers.

        Parameters
        ----------
        tensor, letters : id and axes of what the steps are applied to
        """

        def look(number: int, step: Step, x: AnyArray) -> None:
            stage = Stage.step(which, tensor, number + 1, step.name)
            self.count(stage, *nonfinite_pixels(x, letters))

        return look

    def findings(self, objects: int | None, output: str) -> tuple[Finding, ...]:
        """Give what is to be known of a result beside what the check of the image said.

        Parameters
        ----------
        objects : how many there are; None without labels
        output : id of the output that became labels
        """
        return tuple(self._findings(objects, output))

    def _findings(self, objects: int | None, output: str) -> Iterator[Finding]:
        worst = self.counts.worst()
        if worst is not None and worst[1].nonfinite:
            stage, count = worst
            share = f"{count.nonfinite} of {count.total} pixels ({_percent(count.share)})"
            yield Finding.of(
                "output.nonfinite", stage.tensor,
                f"{share} of {stage.words} are NaN or infinite: do not trust the result there",
                wanted="finite", found=f"{count.nonfinite}", hint=_CAUSES, evidence="measured",
            )  # fmt: skip
        if objects == 0:
            yield Finding.of(
                "output.no-objects", output, "no objects were found",
                wanted="1 or more", found="0", hint=_NOTHING_FOUND, evidence="measured",
            )  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
