"""What a search gives back, and the fit of images and models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bmz.base.errors import BmzError
from bmz.check.finding import CheckReport, Finding, Verdict
from bmz.check.fit import factor_of, worst_of_code

Status = Literal["ok", "broken", "invalid"]


@dataclass(frozen=True)
class Card:
    """What is known of a model of the zoo when it is searched for.

    Parameters
    ----------
    id, version, sha256 : alias, version and manifest in the zoo
    aliases : other names, such as DOIs
    status : ``broken`` where the manifest cannot be had or read, ``invalid`` where it breaks the
        specification
    reason : why it is not ok
    labels : the recipe that turns its output into labels; None where evidence gives none
    """

    id: str
    version: str
    sha256: str
    aliases: tuple[str, ...] = ()
    status: Status = "ok"
    reason: str | None = None
    name: str = ""
    description: str = ""
    task: str | None = None
    dims: str | None = None
    weights: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    labels: str | None = None


@dataclass(frozen=True)
class SearchHit:
    """A model with its place in the answer.

    Parameters
    ----------
    score : relevance; 0 where no words were given
    runs_here : a framework for some of its weights is installed
    """

    card: Card
    score: float
    runs_here: bool


@dataclass(frozen=True)
class SearchView:
    """The answer of a search.

    Parameters
    ----------
    hits : most relevant first
    of : how many models there are
    fetched_at : when the index was read, seconds since 1970
    stale : it is old, and could not be read again
    """

    hits: tuple[SearchHit, ...]
    of: int
    fetched_at: float
    stale: bool


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


@dataclass(frozen=True)
class ImageChecked:
    """One image (one series of a file) against one model.

    Parameters
    ----------
    series : its number where the file holds several; else None
    error : why there is no answer; None when there is one
    """

    image: Path
    series: int | None
    report: CheckReport
    error: BmzError | None

    @property
    def name(self) -> str:
        """Give the path, and the series where there are several."""
        return str(self.image) if self.series is None else f"{self.image}[{self.series}]"

    @property
    def verdict(self) -> str | None:
        """Give ``fits``, ``adapts`` or ``mismatch``; None when there is no answer."""
        return None if self.error else self.report.verdict

    @property
    def warnings(self) -> int:
        """Count the warnings."""
        return len(self.report.warnings)


@dataclass(frozen=True)
class CheckSummary:
    """All images of one call, in its order."""

    model: str
    model_sha256: str
    images: tuple[ImageChecked, ...]

    @property
    def exit_status(self) -> int:
        """Say 1 when an image does not fit, else 3 when one could not be told, else 0."""
        verdicts = {image.verdict for image in self.images}
        return 1 if "mismatch" in verdicts else 3 if None in verdicts else 0
