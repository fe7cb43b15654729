"""What tests of a model give back, and its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bmz.results.models import ModelView

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
class ModelTestResult:
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
        return "passed" if self.reproduced_formats else "not-applicable"

    @property
    def reproduced_formats(self) -> frozenset[str]:
        """Give the weights formats that reproduced the test outputs."""
        return frozenset(
            check.name.removesuffix(".reproduces")
            for check in self.checks
            if check.name.endswith(".reproduces") and check.status == "passed"
        )

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


def strictly(models: Sequence[ModelTestResult]) -> tuple[ModelTestResult, ...]:
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


def exit_status(
    models: Sequence[ModelTestResult], changes: Sequence[CheckChange] | None = None
) -> int:
    """Say 0 when all passed, 1 when one failed, 3 when of one nothing could be told.

    Parameters
    ----------
    changes : since the baseline, of which only the worse ones count; None without a baseline
    """
    if changes is not None:
        return int(any(change.worse for change in changes))
    statuses = {model.status for model in models}
    return 1 if "failed" in statuses else 3 if "not-applicable" in statuses else 0


@dataclass(frozen=True)
class Speed:
    """How fast one weights format is on the model's own test input.

    Parameters
    ----------
    format, backend, device : what ran where
    megapixels_per_s : of the input, the network alone
    """

    format: str
    backend: str
    device: str
    megapixels_per_s: float


@dataclass(frozen=True)
class ObjectSizes:
    """The objects that the recipe finds in the model's own test input.

    Parameters
    ----------
    recipe : that made labels of it
    count : of the objects
    low_px, median_px, high_px : percentiles 5, 50 and 95 of their diameters, px
    """

    recipe: str
    count: int
    low_px: float
    median_px: float
    high_px: float


@dataclass(frozen=True)
class CardView:
    """All that stands on a card.

    Parameters
    ----------
    view : what the model says of itself
    tested : what ``bmz test`` says
    speeds : of the formats that reproduced the test output
    sizes : None where no labels come out
    date : of the measurement, YYYY-MM-DD
    versions : of bmz, Python and the libraries
    """

    view: ModelView
    tested: ModelTestResult
    speeds: tuple[Speed, ...]
    sizes: ObjectSizes | None
    date: str
    versions: Mapping[str, str]
