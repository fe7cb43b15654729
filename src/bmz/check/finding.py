"""What the check says: findings, and the verdict they add up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
Evidence = Literal["declared", "curated", "measured"]
Verdict = Literal["fits", "adapts", "mismatch"]

ADAPTED = frozenset(
    {"axes.extra", "axes.order", "dtype.cast", "size.below-least", "size.off-step", "size.fixed"}
)
"""Codes of notes that tell of something ``bmz run`` changes; other notes tell what is unknown."""

ADAPTED_WHEN_NOTED = frozenset({"channel.order"})
"""Codes that tell of a change where they are a note; usually they are a warning."""


@dataclass(frozen=True)
class Finding:
    """One thing about an image and a model.

    Parameters
    ----------
    code
        Its name for good, ``group.case``
    severity
        ``error`` the result would be wrong or cannot be computed; ``warning`` look before
        you trust; ``note`` it is adapted, or unknown
    where
        The tensor and axis, such as ``input0.x``
    message
        One sentence
    wanted, found
        The two sides, as short text
    hint
        The next step
    evidence
        Who says so: the manifest, our table of facts, or pixels
    """

    code: str
    severity: Severity
    where: str
    message: str
    wanted: str = ""
    found: str = ""
    hint: str = ""
    evidence: Evidence = "declared"


@dataclass(frozen=True)
class CheckReport:
    """All findings of one image and one model."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Give the findings that make the result wrong or impossible."""
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Give the findings that ask for a look before the result is trusted."""
        return tuple(f for f in self.findings if f.severity == "warning")

    @property
    def verdict(self) -> Verdict:
        """Say ``mismatch`` for any error, else ``adapts`` if anything is adapted, else ``fits``.

        Warnings do not change it, so that it is told together with their number.
        """
        if self.errors:
            return "mismatch"
        noted = {f.code for f in self.findings if f.severity == "note"}
        adapted = any(f.code in ADAPTED for f in self.findings) or noted & ADAPTED_WHEN_NOTED
        return "adapts" if adapted else "fits"

    def with_more(self, findings: Iterable[Finding]) -> CheckReport:
        """Give a report with further findings."""
        return CheckReport((*self.findings, *findings))
