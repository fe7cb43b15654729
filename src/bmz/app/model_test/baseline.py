"""``bmz test --baseline``: what has changed since an earlier test, so that only changes fail."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bmz.base.errors import CouldNotTell
from bmz.report.tested_text import SCHEMA
from bmz.results.test import CheckChange, ModelCheck, ModelTestResult

_READABLE = ("bmz.test/1", SCHEMA)

Baseline = Mapping[str, Mapping[str, str]]
"""For each model the status of each check."""


class BaselineUnreadable(CouldNotTell):
    """A file is no result of ``bmz test``."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' is no baseline: {why}",
            hint=f"make one from a state that is right: bmz test MODEL... --json > {path.name}",
            code="baseline.unreadable",
        )


def read_baseline(path: Path, *, strict: bool = False) -> Baseline:
    """Read the document that ``bmz test --json`` wrote, also that of an earlier version.

    Parameters
    ----------
    strict : what was a warning counts as failed, as it does now

    Raises
    ------
    BaselineUnreadable
        The file is not there, or is another document.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] not in _READABLE:
            raise BaselineUnreadable(path, f"its schema is {document['schema']!r}, not {SCHEMA!r}")
        return {
            model["model"]: {
                check["name"]: "failed"
                if strict and check["status"] == "warning"
                else check["status"]
                for check in model["checks"]
            }
            for model in document["models"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as why:
        raise BaselineUnreadable(path, str(why)) from why


def read_models(path: Path) -> tuple[str, ...]:
    """Read the names of models, one per line; what follows a ``#`` is a comment.

    Raises
    ------
    BaselineUnreadable
        The file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as why:
        raise BaselineUnreadable(path, str(why)) from why
    words = (line.partition("#")[0].strip() for line in lines)
    return tuple(word for word in words if word)


def changes(models: Sequence[ModelTestResult], baseline: Baseline) -> tuple[CheckChange, ...]:
    """Give every check whose status differs from the baseline, in the order of the models."""
    return tuple(change for model in models for change in _changes(model, baseline))


def _changes(model: ModelTestResult, baseline: Baseline) -> Iterator[CheckChange]:
    earlier = dict(baseline.get(model.model, {}))
    for check in model.checks:
        status = earlier.pop(check.name, None)
        if status != check.status and not (status is None and check.status != "failed"):
            yield CheckChange(model.model, check.name, status, check.status, check.detail)
    for name, status in earlier.items():
        yield CheckChange(model.model, name, status, None, "it was not made")


def with_known_failures(
    models: Sequence[ModelTestResult], differences: Sequence[CheckChange]
) -> tuple[ModelTestResult, ...]:
    """Give the models with the failures that were in the baseline as skipped."""
    new = {(change.model, change.check) for change in differences if change.worse}

    def forgiven(model: ModelTestResult, check: ModelCheck) -> ModelCheck:
        if check.status != "failed" or (model.model, check.name) in new:
            return check
        return replace(check, status="skipped", detail=f"known before: {check.detail}")

    return tuple(
        replace(model, checks=tuple(forgiven(model, check) for check in model.checks))
        for model in models
    )
