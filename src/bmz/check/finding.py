"""Define the findings of the check, the verdict they add up to, and the refusal of an image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypedDict, Unpack

from bmz.base.errors import AnswerIsNo, BmzError
from bmz.base.values import dataclass
from bmz.check.codes import CODES, Severity
from bmz.image.formats import name_of

if TYPE_CHECKING:
    from bmz.check.kind import ImageKind

Evidence = Literal["declared", "curated", "measured"]
Verdict = Literal["fits", "adapts", "mismatch"]


class Details(TypedDict, total=False):
    """Optional details of a finding beyond its message; see `Finding`."""

    wanted: str
    found: str
    hint: str
    evidence: Evidence


@dataclass(frozen=True)
class Finding:
    """One fact about how an image fits a model.

    Parameters
    ----------
    code
        Its permanent name, ``group.case``
    severity
        Its consequence for the result; `of` looks it up by the code
    where
        The tensor and axis, such as ``input0.x``
    message
        One sentence
    wanted
        What the model requires, as short text
    found
        What the image has, as short text
    hint
        The next step
    evidence
        Its source: the manifest, our table of facts, or the pixels
    """

    code: str
    severity: Severity
    where: str
    message: str
    wanted: str = ""
    found: str = ""
    hint: str = ""
    evidence: Evidence = "declared"

    @classmethod
    def of(
        cls,
        code: str,
        where: str,
        message: str,
        *,
        milder: bool = False,
        **details: Unpack[Details],
    ) -> Self:
        """Create a finding with the severity that `CODES` states for its code.

        Parameters
        ----------
        milder : whether this is the milder case of the code, which has its own severity

        Raises
        ------
        KeyError
            The code is not in `CODES`.
        ValueError
            The code has no milder case.
        """
        known = CODES[code]
        severity = known.milder if milder else known.severity
        if severity is None:
            raise ValueError(f"the finding '{code}' has no milder case")
        return cls(code, severity, where, message, **details)

    @classmethod
    def of_error(cls, error: BmzError, where: str, evidence: Evidence = "declared") -> Self:
        """Create a finding from an error that another room raised.

        An error whose code is not in `CODES` is a finding of severity error.
        """
        severity = CODES[error.code].severity if error.code in CODES else "error"
        return cls(error.code, severity, where, error.message, hint=error.hint, evidence=evidence)

    @property
    def is_adapted(self) -> bool:
        """Return whether the finding is about something that ``bmz run`` adapts."""
        return self.severity == "note" and self.code in CODES and CODES[self.code].adapted

    @property
    def is_only_for_labels(self) -> bool:
        """Return whether the finding counts only if a label mask is requested."""
        return self.code in CODES and CODES[self.code].only_for_labels

    @property
    def cured_by(self) -> str:
        """The option of ``bmz run`` that may resolve the finding; empty if there is none."""
        return CODES[self.code].cured_by if self.code in CODES else ""

    @property
    def is_need(self) -> bool:
        """Return whether it states what the model needs to run here, not how well an image fits."""
        return self.code in CODES and CODES[self.code].is_need

    @property
    def is_forceable(self) -> bool:
        """Return whether ``--force`` runs an image despite this finding."""
        return self.code not in CODES or CODES[self.code].forceable


@dataclass(frozen=True)
class CheckReport:
    """All findings of one image and one model.

    Parameters
    ----------
    kind : what the image shows, as stated by the user, else as determined from its pixels; None
        if they are inconclusive or were not examined
    """

    findings: tuple[Finding, ...]
    kind: ImageKind | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Return the findings that make the result wrong or impossible."""
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Return the findings that should be examined before the result is trusted."""
        return tuple(f for f in self.findings if f.severity == "warning")

    @property
    def verdict(self) -> Verdict:
        """Return ``mismatch`` for any error, else ``adapts`` if anything is adapted, else ``fits``.

        Warnings do not change the verdict, so it is reported together with their number.
        """
        if self.errors:
            return "mismatch"
        return "adapts" if any(f.is_adapted for f in self.findings) else "fits"

    def with_more(self, findings: Iterable[Finding]) -> CheckReport:
        """Return a report with further findings."""
        return replace(self, findings=(*self.findings, *findings))


class DoesNotFit(AnswerIsNo):
    """The check found errors: no result is better than the result that the model would return."""

    def __init__(self, image: Path, errors: tuple[Finding, ...]) -> None:
        first = errors[0]
        more = " (or run anyway: --force)" if all(e.is_forceable for e in errors) else ""
        super().__init__(
            f"'{name_of(image)}' does not fit: {first.message}",
            hint=f"{first.hint}{more}".strip(),
            code=first.code,
        )
        self.errors = errors


def unforceable(report: CheckReport) -> tuple[Finding, ...]:
    """Return the errors of a report that ``--force`` cannot override."""
    return tuple(finding for finding in report.errors if not finding.is_forceable)


def refuse_errors(image: Path, report: CheckReport, *, force: bool) -> None:
    """Raise an error for the errors in a report, unless they are overridden.

    Raises
    ------
    DoesNotFit
        There is an error, and `force` is not set or cannot override it.
    """
    fatal = unforceable(report) if force else report.errors
    if fatal:
        raise DoesNotFit(image, fatal)
