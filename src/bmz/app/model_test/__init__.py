"""``bmz test`` and ``bmz card``: test whether models reproduce their test outputs; write cards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from bmz.app.show import show_model
from bmz.base.computer import versions
from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.files import given_text
from bmz.base.progress import Listener, Progress, nobody
from bmz.base.values import dataclass
from bmz.engine.load import Permit, find_model
from bmz.engine.model_trial import ModelTrial
from bmz.report.tested_text import SCHEMA
from bmz.results.models import CardView, CheckChange, ModelCheck, ModelTestResult
from bmz.spec.package_files import PackageInvalid, PathLeavesPackage
from bmz.zoo.settings import settings_from_environment


@dataclass(frozen=True)
class ModelTestRequest:
    """The options of a call of ``bmz test``.

    Parameters
    ----------
    models : see ``bmz.engine.load.load_model``
    weights : a weights format; None for all that the model ships
    device : ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``
    trust : whether code of the models may run
    reference : whether to run bioimageio.core, too
    workers : number of models that are tested at once, each in its own process
    """

    models: tuple[str, ...]
    weights: str | None = None
    device: str = "cpu"
    trust: Permit = "no"
    reference: bool = False
    workers: int = 1


def check_models(
    request: ModelTestRequest, listener: Listener = nobody
) -> tuple[ModelTestResult, ...]:
    """Test models, one after another or several at once; a failure does not stop the others.

    Parameters
    ----------
    listener : is notified of each model that is completed, if there are several

    Returns
    -------
    tuple of ModelTestResult
        In the order of the call.
    """
    results: dict[str, ModelTestResult] = {}
    total = len(request.models)
    for result in _results(request, listener):
        results[result.model] = result
        if total > 1:
            listener(Progress("models", len(results), total, result.model))
    return tuple(results[model] for model in request.models)


def _results(request: ModelTestRequest, listener: Listener) -> Iterator[ModelTestResult]:
    if len(request.models) == 1:
        yield from (check_model(model, request, listener) for model in request.models)
        return
    broken: list[str] = []
    with _pool(request.workers) as pool:
        jobs = {pool.submit(check_model, model, request): model for model in request.models}
        for job in as_completed(jobs):
            try:
                yield job.result()
            except BrokenProcessPool:  # one process died, and all running tests with it
                broken.append(jobs[job])
    for model in broken:
        yield _alone(model, request)


def _alone(source: str, request: ModelTestRequest) -> ModelTestResult:
    """Test a model in its own process; if the process dies, the model has failed."""
    try:
        with _pool(1) as pool:
            return pool.submit(check_model, source, request).result()
    except BrokenProcessPool:
        why = "the process died: a framework crashed, or memory ran out"
        return ModelTestResult(source, (ModelCheck("process.survives", "failed", why),))


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawned, because a framework that has been imported here would not survive a fork
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def check_model(
    source: str, request: ModelTestRequest, listener: Listener = nobody
) -> ModelTestResult:
    """Test one model."""
    settings = settings_from_environment()
    try:
        package, model = find_model(source, settings, listener=listener)
    except (PackageInvalid, PathLeavesPackage) as why:
        return ModelTestResult(source, (ModelCheck("manifest.valid", "failed", why.message),))
    except BmzError as why:
        return ModelTestResult(source, (ModelCheck("manifest.valid", "skipped", str(why)),))
    trial = ModelTrial(
        package,
        model,
        settings,
        request.weights,
        request.device,
        request.trust,
        request.reference,
        listener,
    )
    return ModelTestResult(source, tuple(trial.checks()))


_READABLE = ("bmz.test/1", SCHEMA)

Baseline = Mapping[str, Mapping[str, str]]
"""For each model the status of each check."""


class BaselineUnreadable(CouldNotTell):
    """A file is not a result of ``bmz test``."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' is not a baseline: {why}",
            hint=f"make one from a known good state: bmz test MODEL... --json > {path.name}",
            code="baseline.unreadable",
        )


def read_baseline(path: Path, *, strict: bool = False) -> Baseline:
    """Read a document written by ``bmz test --json``, of this or an earlier version.

    Parameters
    ----------
    strict : whether warnings of the baseline count as failures, as they now do

    Raises
    ------
    BaselineUnreadable
        The file does not exist, or is another document.
    """
    try:
        document = json.loads(given_text(path))
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
    """Read the names of models, one per line; ``#`` starts a comment.

    Raises
    ------
    BaselineUnreadable
        The file cannot be read.
    """
    try:
        lines = given_text(path).splitlines()
    except (OSError, ValueError) as why:
        raise BaselineUnreadable(path, str(why)) from why
    names = (line.partition("#")[0].strip() for line in lines)
    return tuple(name for name in names if name)


def changes(models: Sequence[ModelTestResult], baseline: Baseline) -> tuple[CheckChange, ...]:
    """Return all checks whose status differs from the baseline, in the order of the models."""
    return tuple(change for model in models for change in _changes(model, baseline))


def _changes(model: ModelTestResult, baseline: Baseline) -> Iterator[CheckChange]:
    earlier = dict(baseline.get(model.model, {}))
    for check in model.checks:
        status = earlier.pop(check.name, None)
        if status != check.status and not (status is None and check.status != "failed"):
            yield CheckChange(model.model, check.name, status, check.status, check.detail)
    for name, status in earlier.items():
        yield CheckChange(model.model, name, status, None, "the check was not made")


def with_known_failures(
    models: Sequence[ModelTestResult], differences: Sequence[CheckChange]
) -> tuple[ModelTestResult, ...]:
    """Return the models, with failures that are in the baseline marked as skipped."""
    new = {(change.model, change.check) for change in differences if change.worse}

    def forgiven(model: ModelTestResult, check: ModelCheck) -> ModelCheck:
        if check.status != "failed" or (model.model, check.name) in new:
            return check
        return replace(check, status="skipped", detail=f"known before: {check.detail}")

    return tuple(
        replace(model, checks=tuple(forgiven(model, check) for check in model.checks))
        for model in models
    )


def make_card(
    source: str, *, device: str = "cpu", trust: Permit = "no", listener: Listener = nobody
) -> CardView:
    """Test a model as ``bmz test`` does, time its formats, and measure the objects of its sample.

    Parameters
    ----------
    source : see ``bmz.engine.load.load_model``
    device, trust : see ``bmz test``

    Raises
    ------
    BmzError
        The model does not exist, or its description is invalid.
    """
    settings = settings_from_environment()
    view = show_model(source, settings, listener)
    package, model = find_model(source, settings, listener=listener)
    trial = ModelTrial(package, model, settings, device=device, trust=trust, listener=listener)
    test = ModelTestResult(source, tuple(trial.checks()))
    speeds, sizes = trial.measured(test.reproduced_formats)
    today = datetime.now(UTC).date().isoformat()
    return CardView(view, test, speeds, sizes, today, versions())
