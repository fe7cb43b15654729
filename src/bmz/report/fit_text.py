"""The models of the zoo by their fit to one image, as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from shlex import quote
from typing import TYPE_CHECKING

from bmz.report.search_text import SHORT_FORMATS, listing
from bmz.report.text import Line, document_text, short_verdict
from bmz.results.fit import FitView, ModelFit

if TYPE_CHECKING:
    from bmz.results.documents import FitDocument, RankedModel


HEADINGS = ("model", "verdict", "score", "task", "runs here", "labels", "reasons")


def fit_table(models: Iterable[ModelFit]) -> list[tuple[str, ...]]:
    """Give a line of cells for each model, under the headings `HEADINGS`."""
    return [_cells(model) for model in models]


def _cells(model: ModelFit) -> tuple[str, ...]:
    return (
        model.id,
        short_verdict(model.verdict, model.warnings),
        f"{model.score:.2f}",
        model.task or "",
        ", ".join(dict.fromkeys(SHORT_FORMATS.get(name, name) for name in model.weights)),
        model.labels or "",
        ", ".join(finding.code for finding in model.reasons),
    )


def fit_summary(view: FitView) -> list[Line]:
    """Count the verdicts, and say what to do next."""
    counts = Counter(_outcome(model) for model in view.models)
    told = [f"{counts[words]} {words}" for words in _OUTCOMES if counts[words]]
    age = " (an old list: it could not be read again)" if view.stale else ""
    lines: list[Line] = [("note", f"of {len(view.models)} models {', '.join(told)}{age}")]
    if view.any_fits:
        best = view.ranked[0]
        lines.append(
            ("hint", f"bmz check {best.id} {quote(str(view.image))} tells the reasons in full")
        )
    elif view.ranked and view.ranked[0].reasons:
        worst = view.ranked[0].reasons[0]
        lines.append(("hint", f"the best is held back by: {worst.message}; {worst.hint}"))
    return lines


_OUTCOMES = FITS, ADAPTS, WARNED, NOT_HERE, MISMATCH, UNREAD = (
    "fit",
    "fit with what bmz run adapts",
    "fit with warnings",
    "would fit but do not run here",
    "do not fit",
    "cannot be read (see --json)",
)


def _outcome(model: ModelFit) -> str:
    if model.verdict is None:
        return UNREAD
    if model.verdict != "mismatch":
        if model.warnings:
            return WARNED
        return FITS if model.verdict == "fits" else ADAPTS
    errors = (finding for finding in model.findings if finding.severity == "error")
    of_model = all(error.code.startswith(("package.", "weights.")) for error in errors)
    return NOT_HERE if of_model else MISMATCH


def fit_json(view: FitView, top: int | None = None) -> str:
    """Give the document ``bmz.fit/1``.

    Parameters
    ----------
    top : only so many; None for all, with those that cannot be read
    """
    document: FitDocument = {
        "schema": "bmz.fit/1",
        "image": str(view.image),
        "models": [_plain(model) for model in view.models[:top]],
        **listing(len(view.models), view.fetched_at, stale=view.stale),
    }
    return document_text(document)


def _plain(model: ModelFit) -> RankedModel:
    broken = [model.broken] if model.broken else []
    return {
        "id": model.id,
        "version": model.version,
        "status": model.status,
        "verdict": model.verdict,
        "warnings": model.warnings,
        "score": round(model.score, 4),
        "reasons": [finding.message for finding in model.reasons] or broken,
        "task": model.task,
        "weights_here": model.weights,
        "labels": model.labels,
        "sample_compared": model.sampled,
        "findings": model.findings,
    }
