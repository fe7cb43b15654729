"""What the test of models came to, in words, as JSON, JUnit and as the zoo's own reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from bmz.base.version import version
from bmz.report.check_documents import xml_text
from bmz.report.text import Line, document_text
from bmz.results.test import (
    CheckChange,
    ModelTested,
)

if TYPE_CHECKING:
    from bmz.results.documents import ChangedCheck, TestDocument, TestedModel


SCHEMA = "bmz.test/2"
"""In number 1 a quality that is poor was ``failed``; it is a ``warning`` since."""

_WIDTH = 44  # of a name such as tensorflow_saved_model_bundle.reproduces


def tested_lines(models: Sequence[ModelTested]) -> list[Line]:
    """Tell every check of one model; of several, a line each and a sum."""
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


def model_line(model: ModelTested) -> str:
    """Tell one model in a line."""
    passed = sum(check.status == "passed" for check in model.checks)
    worst = model.worst
    why = f"  {worst.name}: {worst.detail}" if worst else ""
    count = f"{passed} check{'s' * (passed != 1)} passed{_warned(model.warnings, ', ')}"
    return f"{model.status:<15} {model.model}  {count}{why}"


def status_words(model: ModelTested) -> str:
    """Give the status of a model in words, with the number of warnings."""
    return f"{model.status}{_warned(model.warnings, ', with ')}"


def _warned(count: int, before: str) -> str:
    return f"{before}{count} warning{'s' * (count != 1)}" if count else ""


def change_lines(changes: Sequence[CheckChange]) -> list[Line]:
    """Tell what has changed since the baseline, the worse first."""
    if not changes:
        return [("answer", "nothing has changed since the baseline")]
    ordered = sorted(changes, key=lambda change: not change.worse)
    return [("error" if one.worse else "answer", _change_words(one)) for one in ordered]


def _change_words(one: CheckChange) -> str:
    was, now = (status or "not made" for status in (one.before, one.now))
    return f"{one.model}: {one.check} was {was}, is {now} ({one.detail})"


def tested_json(
    models: Sequence[ModelTested],
    changes: Sequence[CheckChange] | None = None,  # noqa: PT028  (it is no test)
) -> str:
    """Give the document ``bmz.test/2``, with the changes where there is a baseline."""
    tested: list[TestedModel] = [
        {
            "model": m.model,
            "status": m.status,
            "warnings": m.warnings,
            "checks": m.checks,
        }
        for m in models
    ]
    document: TestDocument = {"schema": "bmz.test/2", "models": tested}
    if changes is not None:
        document["changes"] = [_change(change) for change in changes]
    return document_text(document)


def _change(change: CheckChange) -> ChangedCheck:
    return {
        "model": change.model,
        "check": change.check,
        "before": change.before,
        "now": change.now,
        "detail": change.detail,
        "worse": change.worse,
    }


def tested_junit(models: Sequence[ModelTested]) -> str:
    """Give JUnit XML: a suite for each model, a test case for each check.

    JUnit has no warnings: such a case passes, and its output says so.
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


def zoo_reports(models: Sequence[ModelTested]) -> str:
    """Give one report a model in the form of the zoo's partner tools; of several, by name.

    Source: ``ToolCompatibilityReport`` of bioimage-io/collection,
    ``src/backoffice/compatibility.py``.
    """
    reports = {model.model: _zoo_report(model) for model in models}
    return json.dumps(reports[models[0].model] if len(models) == 1 else reports, indent=2)


def _zoo_report(model: ModelTested) -> dict[str, Any]:
    counted = [check for check in model.checks if check.status != "skipped"]
    passed = sum(check.status == "passed" for check in counted)
    # a model that works in one of its formats is compatible, as the zoo counts; the score tells
    # the share of checks that passed, of those that were made
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
