"""Output for authors of models: the packages that were made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bmz.report.tested_text import tested_lines, tested_model
from bmz.report.text import Line, document_text, failure_of
from bmz.results.models import ModelTestResult
from bmz.results.packages import AdoptedPackage, AdoptFailure, AdoptSummary, DescribedPackage

if TYPE_CHECKING:
    from bmz.results.model_documents import AdoptDocument, AdoptedModel, DescribeDocument

Outcome = tuple[AdoptedPackage, ModelTestResult] | AdoptFailure


def adopt_lines(summary: AdoptSummary) -> Iterator[Line]:
    """Describe each package: what remains to be stated, and the result of its test."""
    for outcome in summary.outcomes:
        if isinstance(outcome, AdoptFailure):
            yield "error", str(outcome.error)
            yield "hint", outcome.error.hint
            continue
        package, test = outcome
        yield "answer", f"{package.checkpoint}: {package.family}; {package.why}"
        yield from (("note", note) for note in package.notes)
        yield "answer", f"wrote {package.package} and {package.archive}"
        yield from tested_lines([test])


def adopt_json(summary: AdoptSummary) -> str:
    """Return the document ``bmz.adopt/1``."""
    models = [_adopted(outcome) for outcome in summary.outcomes]
    document: AdoptDocument = {"schema": "bmz.adopt/1", "models": models}
    return document_text(document)


def _adopted(outcome: Outcome) -> AdoptedModel:
    if isinstance(outcome, AdoptFailure):
        failure = failure_of(outcome.error)
        return {"checkpoint": outcome.checkpoint, "status": "failed", "error": failure}
    package, test = outcome
    return {
        "checkpoint": package.checkpoint,
        "status": "adopted",
        "package": str(package.package),
        "archive": str(package.archive),
        "family": package.family,
        "why": package.why,
        "notes": package.notes,
        "test": tested_model(test),
        "error": None,
    }


def describe_lines(written: DescribedPackage) -> Iterator[Line]:
    """Describe what was added and why, and what was written."""
    for proposal in written.proposals:
        yield "answer", f"{proposal.where}: {proposal.value}"
        yield "answer", f"  {proposal.why}"
    for proposal in written.refused:
        yield "note", f"left out: {proposal.where}: {proposal.value}; {proposal.why}"
    yield "answer", f"wrote {written.package} and {written.text}, for a pull request"


def describe_json(written: DescribedPackage) -> str:
    """Return the document ``bmz.describe/1``."""
    document: DescribeDocument = {
        "schema": "bmz.describe/1",
        "model": written.model,
        "package": str(written.package),
        "text": str(written.text),
        "proposals": written.proposals,
        "refused": written.refused,
    }
    return document_text(document)
