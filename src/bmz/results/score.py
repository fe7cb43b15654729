"""How well masks agree with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.process.mask_errors import MaskError
from bmz.process.matching import Matching, pooled

IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Thresholds of intersection over union, as in COCO."""


@dataclass(frozen=True)
class MaskPair:
    """A predicted mask and the true one; None for a side that is not there."""

    name: str
    predicted: Path | None
    truth: Path | None


@dataclass(frozen=True)
class PairScore:
    """How well two masks agree.

    Parameters
    ----------
    ious : thresholds
    matchings : one for each threshold
    errors : objects without a partner at IoU 0.5, the largest first
    """

    pair: MaskPair
    ious: tuple[float, ...]
    matchings: tuple[Matching, ...]
    errors: tuple[MaskError, ...]


@dataclass(frozen=True)
class PairFailed:
    """Why there is no score; `error` is None where one side is not there."""

    pair: MaskPair
    error: BmzError | None


@dataclass(frozen=True)
class ScoreSummary:
    """All pairs of one call."""

    predicted: str
    truth: str
    outcomes: tuple[PairScore | PairFailed, ...]

    @cached_property
    def scored(self) -> tuple[PairScore, ...]:
        """Give the pairs that have a score."""
        return tuple(one for one in self.outcomes if isinstance(one, PairScore))

    @cached_property
    def failed(self) -> tuple[PairFailed, ...]:
        """Give the pairs that have none."""
        return tuple(one for one in self.outcomes if isinstance(one, PairFailed))

    @cached_property
    def total(self) -> tuple[tuple[float, Matching], ...]:
        """Give for each threshold the objects of all masks counted together."""
        if not self.scored:
            return ()
        columns = zip(*(one.matchings for one in self.scored), strict=True)
        return tuple(zip(self.scored[0].ious, map(pooled, columns), strict=True))

    @property
    def exit_status(self) -> int:
        """Say 0 when every pair has a score, 3 when none has, else 1."""
        if not self.failed:
            return 0
        return 1 if self.scored else 3
