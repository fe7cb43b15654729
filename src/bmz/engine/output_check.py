"""Detect bad outputs: non-finite values, objects cut at tile borders, and no objects at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import field, replace
from itertools import pairwise
from math import prod
from threading import Lock
from typing import Any, Literal

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray, LazyArray
from bmz.base.axes import Step
from bmz.base.errors import AnswerIsNo
from bmz.base.values import dataclass
from bmz.check.finding import Finding
from bmz.plan.plan import Plan
from bmz.process.ops import Seen


@dataclass
class PixelCount:
    """Counts of pixels over the maps seen so far.

    Parameters
    ----------
    nonfinite : number of pixels with a NaN or infinite value in any channel
    total : number of all pixels
    maps : number of maps
    """

    nonfinite: int = 0
    total: int = 0
    maps: int = 0

    @property
    def share(self) -> float:
        """Return the share of pixels that are NaN or infinite, 0 to 1."""
        return self.nonfinite / self.total if self.total else 0.0

    def add(self, nonfinite: int, total: int) -> None:
        """Add the counts of one more map.

        Parameters
        ----------
        nonfinite, total : pixel counts of the map, from `nonfinite_pixels`
        """
        self.nonfinite += nonfinite
        self.total += total
        self.maps += 1


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline after which pixels are counted.

    Parameters
    ----------
    tensor : id of an input or output
    words : name of the counted tensor, such as ``output 'map' of the network``
    """

    tensor: str
    words: str

    @classmethod
    def network(cls, output: str) -> Stage:
        """Return the stage after the network."""
        return cls(output, f"output '{output}' of the network")

    @classmethod
    def step(cls, which: str, tensor: str, number: int, name: str) -> Stage:
        """Return the stage after a declared step.

        Parameters
        ----------
        which : ``input`` or ``output``
        tensor : id of the input or output
        number : number of the step among those of the tensor, from 1
        name : name of the step
        """
        return cls(tensor, f"{which} '{tensor}' after its declared step {number} ({name})")


@dataclass
class StageCounts:
    """Pixels of the maps of all planes or stacks of an image, after each stage.

    Parameters
    ----------
    stages : counts per stage, in the order of the pipeline
    """

    stages: dict[Stage, PixelCount] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, stage: Stage, nonfinite: int, total: int) -> PixelCount:
        """Add the counts of a map after a stage, and return the totals so far; thread-safe."""
        with self._lock:
            count = self.stages.setdefault(stage, PixelCount())
            count.add(nonfinite, total)
            return replace(count)

    def worst(self) -> tuple[Stage, PixelCount] | None:
        """Return the first stage with the largest non-finite share; None if nothing was counted."""
        return max(self.stages.items(), key=lambda item: item[1].share, default=None)

    def copy(self) -> StageCounts:
        """Return an independent copy of the counts."""
        return StageCounts(deepcopy(self.stages))


def nonfinite_pixels(x: AnyArray, axes: str) -> tuple[int, int]:
    """Count the pixels with a NaN or infinite value in any channel, and all pixels.

    Parameters
    ----------
    x : any dtype; integers are always finite. A PyTorch tensor is examined on its own device
    axes : axes of `x`, with or without ``c``

    Examples
    --------
    >>> nonfinite_pixels(np.array([[0.0, np.nan, 1.0], [np.inf, np.nan, 2.0]]), "cx")
    (2, 3)
    """
    if not isinstance(x, np.ndarray):
        return _nonfinite_there(x, axes)
    channels = np.moveaxis(x, axes.index("c"), 0) if "c" in axes else x[None]
    total = int(np.prod(channels.shape[1:], dtype=np.int64))
    if x.dtype.kind != "f" or not x.size:
        return 0, total
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.add.reduce(x, axis=None)):  # then all values are finite
            return 0, total
    bad = np.zeros(channels.shape[1:], bool)
    for channel in channels:  # one at a time: a map may fill half of the memory
        bad |= ~np.isfinite(channel)
    return int(np.count_nonzero(bad)), total


def _nonfinite_there(x: Any, axes: str) -> tuple[int, int]:  # noqa: ANN401  (a tensor)
    channels = x.movedim(axes.index("c"), 0) if "c" in axes else x[None]
    total = prod(channels.shape[1:])
    if not x.dtype.is_floating_point or not x.numel():
        return 0, total
    bad = ~channels[0].isfinite()
    for channel in channels[1:]:
        bad |= ~channel.isfinite()
    return int(bad.sum()), total


LEAST_EDGES = 100
"""Minimum number of edges on the lines away from tile borders for a meaningful ratio."""


def seam_score(labels: LazyArray, cuts: Mapping[str, Sequence[float]]) -> float | None:
    """Return the density of object edges on tile borders relative to lines half a tile away.

    The score is 1 if tiles leave no trace, and larger if they cut objects.

    Parameters
    ----------
    labels : ((z,) y, x)
    cuts : for y and x, the positions from 0 to the size at which tiles begin and end, px

    Returns
    -------
    float or None
        None if there is only one tile, or too few edges to compare with
    """
    on, beside = [0, 0], [0, 0]
    for axis in "yx":
        ends = [round(at) for at in cuts.get(axis, ())]
        size = labels.shape["yx".index(axis) - 2]
        lines = [at for at in ends[1:-1] if 0 < at < size]
        # half a tile before and after each line
        halves = {(a + b) // 2 for a, b in pairwise(ends) if lines}
        for counts, where in ((on, lines), (beside, sorted(halves))):
            for line in where:
                edges = _edges(labels, axis, line) if 0 < line < size else np.zeros(0, np.bool_)
                counts[0] += int(np.count_nonzero(edges))
                counts[1] += edges.size
    if on[1] == 0 or beside[0] < LEAST_EDGES:
        return None
    return round((on[0] / on[1]) / (beside[0] / beside[1]), 4)


def _edges(labels: LazyArray, axis: str, line: int) -> BoolArray:
    """Return for each pixel along a line whether the labels on both sides differ."""
    at = len(labels.shape) + "yx".index(axis) - 2
    box = [slice(0, size) for size in labels.shape]
    box[at] = slice(line - 1, line + 1)
    edges: BoolArray = np.diff(np.asarray(labels[tuple(box)]), axis=at) != 0
    return edges


_CAUSES = (
    "if an image that is not flat has the same problem with --precision float32, on another "
    "--device and with other --weights, the model is at fault: tell its authors"
)

_NOTHING_FOUND = (
    "if the image contains objects, try --scale auto, other --channels, or a model that bmz fit "
    "suggests"
)


class OutputNotFinite(AnswerIsNo):
    """No pixel of a tensor is finite, so that it cannot be used."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(
            f"{stage.words} is NaN or infinite in every pixel",
            hint=_CAUSES,
            code="output.nonfinite",
        )


@dataclass(frozen=True)
class OutputWatch:
    """Check the results of the network and the declared steps for all planes of an image.

    Parameters
    ----------
    plan : plan with the number of planes or stacks; nothing is refused before the last one
    counts : pixel counts so far
    """

    plan: Plan
    counts: StageCounts

    def count(self, stage: Stage, nonfinite: int, total: int) -> None:
        """Add the pixel counts of one more plane or stack.

        Raises
        ------
        OutputNotFinite
            This was the last plane or stack, and no pixel of any of them is finite.
        """
        count = self.counts.add(stage, nonfinite, total)
        last = count.maps >= prod(self.plan.loop.values())
        if last and count.total and count.nonfinite == count.total:
            raise OutputNotFinite(stage)

    def network(self, output: str, x: AnyArray, letters: str) -> None:
        """Count the pixels of an output of the network; raises as `count` does."""
        self.count(Stage.network(output), *nonfinite_pixels(x, letters))

    def steps(self, which: Literal["input", "output"], tensor: str, letters: str) -> Seen:
        """Return a function that counts the pixels after declared steps; it raises as `count` does.

        Steps from the first one that makes labels need no check, as labels are integers.

        Parameters
        ----------
        tensor, letters : id and axes of the tensor that the steps are applied to
        """

        def look(number: int, step: Step, x: AnyArray) -> None:
            stage = Stage.step(which, tensor, number + 1, step.name)
            self.count(stage, *nonfinite_pixels(x, letters))

        return look

    def findings(self, objects: int | None, output: str) -> tuple[Finding, ...]:
        """Return findings on a result, in addition to those of the check of the image.

        Parameters
        ----------
        objects : number of objects; None without labels
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
