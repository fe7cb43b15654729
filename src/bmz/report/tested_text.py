"""Write the results of model tests as text, JSON and JUnit XML, and write model cards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from bmz.base.computer import version
from bmz.report.check_text import xml_text
from bmz.report.model_text import model_rows
from bmz.report.text import Line, Row, document_text
from bmz.results.models import (
    CardView,
    CheckChange,
    ModelTestResult,
)

if TYPE_CHECKING:
    from bmz.results.model_documents import ChangedCheck, TestDocument, TestedModel


SCHEMA = "bmz.test/2"
"""In version 1, poor quality was ``failed``; since then it is a ``warning``."""

_WIDTH = 44  # width of a name such as tensorflow_saved_model_bundle.reproduces


def tested_lines(models: Sequence[ModelTestResult]) -> list[Line]:
    """List every check of one model; for several models, one line each and a summary."""
    if len(models) == 1:
        checks = models[0].checks
        lines = [("answer", f"{c.status:<8}{c.name:<{_WIDTH}} {c.detail}".rstrip()) for c in checks]
        return [*lines, ("answer", f"{models[0].model}: {status_words(models[0])}")]
    lines = [("answer", model_line(model)) for model in models]
    counts = [f"{sum(m.status == s for m in models)} {s}" for s in ("passed", "failed")]
    left = sum(m.status == "not-applicable" for m in models)
    more = f", {left} not applicable" if left else ""
    more += _warned(sum(model.warnings for model in models), "; ")
    return [*lines, ("answer", f"{len(models)} models: {', '.join(counts)}{more}")]


def model_line(model: ModelTestResult) -> str:
    """Describe one model on one line."""
    passed = sum(check.status == "passed" for check in model.checks)
    worst = model.worst
    why = f"  {worst.name}: {worst.detail}" if worst else ""
    count = f"{passed} check{'s' * (passed != 1)} passed{_warned(model.warnings, ', ')}"
    return f"{model.status:<15} {model.model}  {count}{why}"


def status_words(model: ModelTestResult) -> str:
    """Return the status of a model in words, with the number of warnings."""
    return f"{model.status}{_warned(model.warnings, ', with ')}"


def _warned(count: int, before: str) -> str:
    return f"{before}{count} warning{'s' * (count != 1)}" if count else ""


def change_lines(changes: Sequence[CheckChange]) -> list[Line]:
    """List the changes since the baseline, those for the worse first."""
    if not changes:
        return [("answer", "nothing has changed since the baseline")]
    ordered = sorted(changes, key=lambda change: not change.worse)
    return [("error" if entry.worse else "answer", _change_words(entry)) for entry in ordered]


def _change_words(change: CheckChange) -> str:
    was, now = (status or "not made" for status in (change.before, change.now))
    return f"{change.model}: {change.check} was {was}, is {now} ({change.detail})"


def model_tests_json(
    models: Sequence[ModelTestResult], changes: Sequence[CheckChange] | None = None
) -> str:
    """Return the document ``bmz.test/2``, with the changes if there is a baseline."""
    document: TestDocument = {"schema": "bmz.test/2", "models": list(map(tested_model, models))}
    if changes is not None:
        document["changes"] = [_change(change) for change in changes]
    return document_text(document)


def tested_model(model: ModelTestResult) -> TestedModel:
    """Return the entry of a tested model in a document."""
    return {
        "model": model.model,
        "status": model.status,
        "warnings": model.warnings,
        "checks": model.checks,
    }


def _change(change: CheckChange) -> ChangedCheck:
    return {
        "model": change.model,
        "check": change.check,
        "before": change.before,
        "now": change.now,
        "detail": change.detail,
        "worse": change.worse,
    }


def tested_junit(models: Sequence[ModelTestResult]) -> str:
    """Return JUnit XML: one suite per model, one test case per check.

    JUnit has no warnings: a check with a warning passes, and its output says so.
    """
    root = ET.Element("testsuites")
    for model in models:
        statuses = [check.status for check in model.checks]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=f"bmz test {model.model}",
            tests=str(len(statuses)),
            failures=str(statuses.count("failed")),
            skipped=str(statuses.count("skipped")),
        )
        for check in model.checks:
            case = ET.SubElement(suite, "testcase", classname=model.model, name=check.name)
            if check.status == "failed":
                ET.SubElement(case, "failure", message=check.detail)
            elif check.status == "skipped":
                ET.SubElement(case, "skipped", message=check.detail)
            else:
                warned = "warning: " if check.status == "warning" else ""
                ET.SubElement(case, "system-out").text = f"{warned}{check.detail}"
    return xml_text(root)


def zoo_reports(models: Sequence[ModelTestResult]) -> str:
    """Return a JSON report in the form of the zoo's partner tools, or several by model name.

    Source: ``ToolCompatibilityReport`` of bioimage-io/collection,
    ``src/backoffice/compatibility.py``.
    """
    reports = {model.model: _zoo_report(model) for model in models}
    return json.dumps(reports[models[0].model] if len(models) == 1 else reports, indent=2)


def _zoo_report(model: ModelTestResult) -> dict[str, Any]:
    counted = [check for check in model.checks if check.status != "skipped"]
    passed = sum(check.status == "passed" for check in counted)
    # as in the zoo, a model that works in one of its formats is compatible; the score is the
    # fraction of the performed checks that passed
    runs = any(c.name.endswith(".reproduces") and c.status == "passed" for c in counted)
    status = "passed" if runs else model.status
    worst = next((check for check in counted if check.status == "failed"), None)
    return {
        "status": status,
        "score": 0.0 if status == "not-applicable" else round(passed / len(counted), 4),
        "error": f"{worst.name}: {worst.detail}" if status == "failed" and worst else None,
        "details": {
            "bmz": version(),
            "checks": [asdict(check) for check in model.checks],
        },
        "badge": None,
        "links": [],
    }


SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Inputs": ("made for", "input", "pixels", "objects", "images"),
    "Outputs": ("task", "output", "maps", "labels"),
    "Requirements": ("weights", "runs code", "packages"),
    "Licence and citation": ("licence", "cite", "tags"),
    "Known defects": ("defects",),
    "Identity": ("identity",),
}
"""Headings of the card, and the rows of ``bmz show`` below each."""

NAMED = frozenset({"made for", "runs code", "licence", "cite", "tags", "task"})
"""Rows that are shown with their name, as their text would be unclear without it."""


def card_text(card: CardView) -> str:
    """Return the card in Markdown."""
    model = card.view.model
    rows = _under_headings(model_rows(card.view))
    parts = [f"# Model card: {model.id}", _plain(model.description or model.name)]
    for heading, names in SECTIONS.items():
        texts = [
            f"{name}: {text}" if name in NAMED else text
            for name in names
            for text in rows.get(name, ())
        ]
        if texts:
            parts.append(f"## {heading}\n\n" + "\n".join(f"- {_plain(text)}" for text in texts))
    parts.append("## Measured\n\n" + "\n\n".join(_measured(card)))
    versions = ", ".join(f"{name} {number}" for name, number in card.versions.items())
    parts.append(f"Measured on {card.date} by `bmz card` with {versions}.")
    return "\n\n".join(parts) + "\n"


def _under_headings(rows: Iterable[Row]) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    heading = ""
    for name, text in rows:
        heading = name or heading
        sections.setdefault(heading, []).append(text.removeprefix("- "))
    return sections


def _measured(card: CardView) -> Iterator[str]:
    yield f"`bmz test`: **{status_words(card.tested)}**."
    checks = ((f"`{c.name}`", c.status, c.detail) for c in card.tested.checks)
    yield _table(("check", "result", "figures"), checks)
    if card.speeds:
        yield "The network alone, on its own test input:"
        rows = (
            (f"`{s.format}`", s.backend, s.device, f"{s.megapixels_per_s:.2f}") for s in card.speeds
        )
        yield _table(("weights", "by", "on", "megapixels/s"), rows)
    if card.sizes:
        s = card.sizes
        yield (
            f"Objects in the test input, by the recipe `{s.recipe}`: {s.count}, with diameters "
            f"of {s.low_px:.1f} to {s.high_px:.1f} px (5 % to 95 %), median {s.median_px:.1f} px."
        )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Put the text of a model on one line, and escape HTML."""
    return " ".join(text.replace("<", "&lt;").split())
