"""What came of the tests of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

CheckStatus = Literal["passed", "warning", "failed", "skipped"]


ModelStatus = Literal["passed", "failed", "not-applicable"]


@dataclass(frozen=True)
class ModelCheck:
    """One thing that was looked at.

    Parameters
    ----------
    name : such as ``onnx.reproduces``; never changes meaning
    status : ``failed`` where the model does not do what it says, ``warning`` where it does, and
        its quality is poor, ``skipped`` where it could not be looked at, or does not concern the
        model
    detail : figures, or why
    """

    name: str
    status: CheckStatus
    detail: str


@dataclass(frozen=True)
class ModelTested:
    """All that was looked at of one model.

    Parameters
    ----------
    model : the word by which it was asked for
    checks : in the order in which they were made
    """

    model: str
    checks: tuple[ModelCheck, ...]

    @property
    def status(self) -> ModelStatus:
        """Say failed if anything did, passed if some weights reproduced, else not applicable."""
        if any(check.status == "failed" for check in self.checks):
            return "failed"
        reproduced = [c for c in self.checks if c.name.endswith(".reproduces")]
        if any(check.status == "passed" for check in reproduced):
            return "passed"
        return "not-applicable"

    @property
    def warnings(self) -> int:
        """Count the checks that warn."""
        return sum(check.status == "warning" for check in self.checks)

    @property
    def worst(self) -> ModelCheck | None:
        """Give what decided, when the model did not pass."""
        for status in ("failed", "skipped"):
            for check in self.checks:
                if check.status == status and self.status != "passed":
                    return check
        return None


@dataclass(frozen=True)
class CheckChange:
    """A check whose status is another one than in the baseline.

    Parameters
    ----------
    before, now : the statuses; None where it was not made
    detail : of the check as it is now
    """

    model: str
    check: str
    before: str | None
    now: str | None
    detail: str

    @property
    def worse(self) -> bool:
        """Say whether it fails now, or did what it says before and tells nothing now."""
        works = {"passed", "warning"}
        return self.now == "failed" or (self.before in works and self.now not in works)


def strictly(models: Sequence[ModelTested]) -> tuple[ModelTested, ...]:
    """Give the models with each warning as a failure."""
    return tuple(
        replace(
            model,
            checks=tuple(
                replace(check, status="failed") if check.status == "warning" else check
                for check in model.checks
            ),
        )
        for model in models
    )


def exit_status(models: Sequence[ModelTested], changes: Sequence[CheckChange] | None = None) -> int:
    """Say 0 when all passed, 1 when one failed, 3 when of one nothing could be told.

    Parameters
    ----------
    changes : since the baseline, of which only the worse ones count; None without a baseline
    """
    if changes is not None:
        return int(any(change.worse for change in changes))
    statuses = {model.status for model in models}
    return 1 if "failed" in statuses else 3 if "not-applicable" in statuses else 0
