"""What the test of models came to, in words, as JSON, JUnit and as the zoo's own reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal
from xml.etree import ElementTree as ET

from bmz.base.version import version
from bmz.report.lines import Line
from bmz.report.xml_text import xml_text

CheckStatus = Literal["passed", "warning", "failed", "skipped"]
ModelStatus = Literal["passed", "failed", "not-applicable"]
SCHEMA = "bmz.test/2"
"""In number 1 a quality that is poor was ``failed``; it is a ``warning`` since."""

SITE = "https://github.com/bmz-dev/bmz"
_WIDTH = 44  # of a name such as tensorflow_saved_model_bundle.reproduces


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
    def told(self) -> str:
        """Say the status in words, with the number of warnings."""
        return f"{self.status}{_warned(self.warnings, ', with ')}"

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


def tested_lines(models: Sequence[ModelTested]) -> list[Line]:
    """Tell every check of one model; of several, a line each and a sum."""
    if len(models) == 1:
        checks = models[0].checks
        lines = [("answer", f"{c.status:<8}{c.name:<{_WIDTH}} {c.detail}".rstrip()) for c in checks]
        return [*lines, ("answer", f"{models[0].model}: {models[0].told}")]
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
    told = [
        {
            "model": m.model,
            "status": m.status,
            "warnings": m.warnings,
            "checks": [asdict(c) for c in m.checks],
        }
        for m in models
    ]
    more = {} if changes is None else {"changes": [asdict(c) | {"worse": c.worse} for c in changes]}
    return json.dumps({"schema": SCHEMA, "models": told, **more}, indent=2)


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
