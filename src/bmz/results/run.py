"""What became of each image of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bmz.base.errors import BmzError
from bmz.check.finding import Finding
from bmz.plan.estimate import Estimate
from bmz.plan.plan import Plan


@dataclass(frozen=True)
class ImagePlan:
    """What would be done with one image.

    Parameters
    ----------
    bytes_in_one_piece : about what it needs beside the network
    estimate : of time and memory, from a trial; None where it was not tried
    in_parts : that is more than there is, so it is read, labelled and written in parts
    in_one_piece_why : it is more than there is, and this is why it cannot be run in parts
    """

    image: Path
    plan: Plan
    findings: tuple[Finding, ...]
    bytes_in_one_piece: int = 0
    in_parts: bool = False
    in_one_piece_why: str = ""
    estimate: Estimate | None = None


@dataclass(frozen=True)
class ImageDone:
    """What was done with one image.

    Parameters
    ----------
    files : kind -> path of what was written
    objects : how many; None without labels
    record : the run record, as written
    """

    image: Path
    files: Mapping[str, Path]
    objects: int | None
    findings: tuple[Finding, ...]
    record: Mapping[str, Any]


@dataclass(frozen=True)
class ImageFailed:
    """Why one image gave nothing."""

    image: Path
    error: BmzError


@dataclass(frozen=True)
class RunSummary:
    """The fate of every image, in the order of the call."""

    outcomes: tuple[ImageDone | ImageFailed, ...]

    @property
    def done(self) -> tuple[ImageDone, ...]:
        """Give the images that have a result."""
        return tuple(o for o in self.outcomes if isinstance(o, ImageDone))

    @property
    def failed(self) -> tuple[ImageFailed, ...]:
        """Give the images that have none."""
        return tuple(o for o in self.outcomes if isinstance(o, ImageFailed))

    @property
    def exit_status(self) -> int:
        """Say 0 when all worked, the common status when all failed alike, else 1."""
        if not self.failed:
            return 0
        statuses = {failure.error.exit_status for failure in self.failed}
        return statuses.pop() if not self.done and len(statuses) == 1 else 1
