"""``bmz test``: does a model do here what its own test tensors say?"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Progress, nobody
from bmz.engine.load import find_model
from bmz.engine.model_code import Permit
from bmz.engine.model_trial import ModelTrial
from bmz.results.test import ModelCheck, ModelTestResult
from bmz.spec.package_files import PackageInvalid, PathLeavesPackage
from bmz.zoo.settings import settings_from_environment


@dataclass(frozen=True)
class ModelTestRequest:
    """The options of one call of ``bmz test``.

    Parameters
    ----------
    models : see ``bmz.engine.load.load_model``
    weights : a weights format; None for all that the model ships
    device : ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``
    trust : whether code of the models may run
    reference : run bioimageio.core beside it
    workers : models that are tested at once, each in a process
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
    """Test models, one after the other or several at once; one never stops the others.

    Parameters
    ----------
    listener : is called for each model as it is done, where there are several

    Returns
    -------
    tuple of ModelTestResult
        in the order of the call
    """
    results: dict[str, ModelTestResult] = {}
    total = len(request.models)
    for result in _results(request, listener):
        results[result.model] = result
        if total > 1:
            listener(Progress("models", len(results), total, result.model))
    return tuple(results[word] for word in request.models)


def _results(request: ModelTestRequest, listener: Listener) -> Iterator[ModelTestResult]:
    if len(request.models) == 1:
        yield from (check_model(word, request, listener) for word in request.models)
        return
    broken: list[str] = []
    with _pool(request.workers) as pool:
        jobs = {pool.submit(check_model, word, request): word for word in request.models}
        for job in as_completed(jobs):
            try:
                yield job.result()
            except BrokenProcessPool:  # one process died, and took what was in hand with it
                broken.append(jobs[job])
    for word in broken:
        yield _alone(word, request)


def _alone(word: str, request: ModelTestRequest) -> ModelTestResult:
    """Test a model in a process of its own, whose death is a failure of this model."""
    try:
        with _pool(1) as pool:
            return pool.submit(check_model, word, request).result()
    except BrokenProcessPool:
        why = "the process died: a framework crashed, or memory ran out"
        return ModelTestResult(word, (ModelCheck("process.survives", "failed", why),))


def _pool(workers: int) -> ProcessPoolExecutor:
    # not forked: a framework that was loaded here would not survive it
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def check_model(
    word: str, request: ModelTestRequest, listener: Listener = nobody
) -> ModelTestResult:
    """Test one model."""
    settings = settings_from_environment()
    try:
        package, model = find_model(word, settings, listener=listener)
    except (PackageInvalid, PathLeavesPackage) as why:
        return ModelTestResult(word, (ModelCheck("manifest.valid", "failed", why.message),))
    except BmzError as why:
        return ModelTestResult(word, (ModelCheck("manifest.valid", "skipped", str(why)),))
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
    return ModelTestResult(word, tuple(trial.checks()))
