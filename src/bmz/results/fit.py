"""How well the models of the zoo fit an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bmz.check.finding import Finding, Verdict
from bmz.check.fit import factor_of, worst_of_code
from bmz.results.search import Status

SHOWN = 10
"""Lines of the table when no other number is asked for."""


_REASONS = 2


@dataclass(frozen=True)
class ModelFit:
    """One model against the image.

    Parameters
    ----------
    id, version : alias and version in the zoo
    verdict : None where the model cannot be read
    score : 0 to 1, see ``bmz.check.fit``
    findings : all of them
    task : as the tags tell
    weights : formats that can run here
    labels : the recipe that turns its output into labels; None where evidence gives none
    sampled : its own sample was compared with the image
    status, broken : ``ok``; else ``broken`` or ``invalid``, and why
    """

    id: str
    version: str
    verdict: Verdict | None
    score: float
    findings: tuple[Finding, ...] = ()
    task: str | None = None
    weights: tuple[str, ...] = ()
    labels: str | None = None
    sampled: bool = False
    status: Status = "ok"
    broken: str | None = None

    @property
    def warnings(self) -> int:
        """Count the warnings."""
        return sum(finding.severity == "warning" for finding in self.findings)

    @property
    def reasons(self) -> tuple[Finding, ...]:
        """Give the two findings that speak most against the model; one that costs nothing is none.

        The worst of all comes first.
        """
        costly = (f for f in worst_of_code(self.findings) if factor_of(f) < 1)
        return tuple(costly)[:_REASONS]


@dataclass(frozen=True)
class FitView:
    """The answer of ``bmz fit``.

    Parameters
    ----------
    image : its path
    models : the best first; those that cannot be read are the last
    fetched_at : when the index was read, seconds since 1970
    stale : it is old, and could not be read again
    """

    image: Path
    models: tuple[ModelFit, ...]
    fetched_at: float
    stale: bool

    @property
    def ranked(self) -> tuple[ModelFit, ...]:
        """Give the models that can be read."""
        return tuple(model for model in self.models if model.verdict is not None)

    @property
    def any_fits(self) -> bool:
        """Say whether a model fits, as it is or adapted."""
        return any(model.verdict in {"fits", "adapts"} for model in self.models)
