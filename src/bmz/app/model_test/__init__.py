"""``bmz test``: does a model do here what its own test tensors say?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context

from bmz.app.model_test.checks import (
    file_checks,
    manifest_check,
    network_checks,
    reference_check,
    reproduces,
)
from bmz.base.errors import BmzError, WrongUsage
from bmz.base.progress import Listener, Progress, nobody
from bmz.engine.load import fetch_code, fetch_tensors, fetch_weights, find_model, permit_for
from bmz.engine.model_code import Permit
from bmz.engine.networks import open_network
from bmz.engine.test_tensors import OwnTensors, given_inputs, read_test_tensors
from bmz.plan.weights_choice import ORDER, WeightsNotShipped
from bmz.predict.backend import Backend, NoBackend, OutOfMemory
from bmz.predict.devices import DeviceAbsent, resolve_device
from bmz.predict.frameworks import usable_formats
from bmz.process.ops_errors import RunsCode
from bmz.results.test import ModelCheck, ModelTested
from bmz.spec.errors import PackageInvalid, PathLeavesPackage
from bmz.spec.model import ModelSpec, Weights
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings, settings_from_environment


@dataclass(frozen=True)
class ModelTestRequest:
    """The words of one call of ``bmz test``.

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


def check_models(request: ModelTestRequest, listener: Listener = nobody) -> tuple[ModelTested, ...]:
    """Test models, one after the other or several at once; one never stops the others.

    Parameters
    ----------
    listener : is told of each model as it is done, where there are several

    Returns
    -------
    tuple of ModelTested
        in the order of the call
    """
    done: dict[str, ModelTested] = {}
    total = len(request.models)
    for model in _tested(request, listener):
        done[model.model] = model
        if total > 1:
            listener(Progress("models", len(done), total, model.model))
    return tuple(done[word] for word in request.models)


def _tested(request: ModelTestRequest, listener: Listener) -> Iterator[ModelTested]:
    if len(request.models) == 1:
        yield from (check_model(word, request, listener) for word in request.models)
        return
    broken: list[str] = []
    with _pool(request.workers) as pool:
        jobs = {pool.submit(check_model, word, request): word for word in request.models}
        for setup in as_completed(jobs):
            try:
                yield setup.result()
            except BrokenProcessPool:  # one process died, and took what was in hand with it
                broken.append(jobs[setup])
    for word in broken:
        yield _alone(word, request)


def _alone(word: str, request: ModelTestRequest) -> ModelTested:
    """Test a model in a process of its own, whose death is a failure of this model."""
    try:
        with _pool(1) as pool:
            return pool.submit(check_model, word, request).result()
    except BrokenProcessPool:
        died = "the process died: a framework crashed, or memory ran out"
        return ModelTested(word, (ModelCheck("process.survives", "failed", died),))


def _pool(workers: int) -> ProcessPoolExecutor:
    # not forked: a framework that was loaded here would not survive it
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def check_model(word: str, request: ModelTestRequest, listener: Listener = nobody) -> ModelTested:
    """Test one model."""
    settings = settings_from_environment()
    try:
        package, model = find_model(word, settings, listener=listener)
    except (PackageInvalid, PathLeavesPackage) as why:
        return ModelTested(word, (ModelCheck("manifest.valid", "failed", why.message),))
    except BmzError as why:
        return ModelTested(word, (ModelCheck("manifest.valid", "skipped", str(why)),))
    testing = Testing(package, model, request, settings, listener)
    return ModelTested(word, tuple(testing.checks()))


@dataclass
class Testing:
    """The test of one model, of which each weights format is loaded once."""

    package: Package
    model: ModelSpec
    request: ModelTestRequest
    settings: ZooSettings
    listener: Listener = nobody
    tensors: OwnTensors | None = field(default=None, init=False)

    def checks(self) -> Iterator[ModelCheck]:
        """Make every check, and yield each as it is made."""
        yield manifest_check(self.model)
        entries = self._entries()
        planned = [(entry, self._reason(entry)) for entry in entries]
        fetch_tensors(self.package, self.model, self.settings, self.listener)
        usable = [entry for entry, reason in planned if not reason]
        yield from file_checks(self.model, usable, local=self.package.remote is None)
        yield from self._read_tensors()
        looked = False
        for entry, reason in planned:
            if reason:
                yield ModelCheck(f"{entry.format}.loads", "skipped", reason)
                continue
            for check, backend in self._of_format(entry):
                yield check
                if backend is not None and not looked and self.tensors is not None:
                    looked = True
                    yield from network_checks(self.model, self.tensors, backend)

    def _entries(self) -> Sequence[Weights]:
        wanted = self.request.weights
        places = {name: place for place, name in enumerate(ORDER)}
        # a newer bioimageio.spec may know formats of which nothing is known here
        entries = sorted(self.model.weights, key=lambda w: places.get(w.format, len(ORDER)))
        found = [entry for entry in entries if wanted in (None, entry.format)]
        if not found:
            raise WeightsNotShipped(self.model, str(wanted))
        return found

    def _reason(self, entry: Weights) -> str:
        """Say why an entry cannot be run here; empty when it can, and its files are here."""
        usable = usable_formats()
        if entry.format not in usable:
            return f"bmz does not run {entry.format}"
        if usable[entry.format]:
            return f"its framework is not installed: {usable[entry.format]}"
        try:
            fetch_code(self.package, self.model, entry, self.settings, self.listener)
            permit_for(self.model, entry, self.request.trust, self.settings)
            if self.package.remote is not None:
                fetch_weights(self.package, self.model, entry, self.settings, self.listener)
        except BmzError as why:
            return str(why)
        return ""

    def _read_tensors(self) -> Iterator[ModelCheck]:
        try:
            self.tensors = read_test_tensors(self.model)
        except RunsCode as why:
            yield ModelCheck("tensors.readable", "skipped", str(why))
        except BmzError as why:
            yield ModelCheck("tensors.readable", "failed", str(why))
        else:
            shapes = ", ".join("x".join(map(str, t.array.shape)) for t in self.tensors.inputs)
            yield ModelCheck("tensors.readable", "passed", f"inputs {shapes}")

    def _of_format(self, entry: Weights) -> Iterator[tuple[ModelCheck, Backend | None]]:
        """Yield the checks of a format; with the one that reproduced, its network."""
        loads = partial(ModelCheck, f"{entry.format}.loads")
        try:
            device = resolve_device(self.request.device, entry.format)
            permit = permit_for(self.model, entry, self.request.trust, self.settings)
            ids = [tensor.id for tensor in given_inputs(self.model)]
            backend = open_network(self.model, entry, device, permit=permit, inputs=ids)
        except WrongUsage:
            raise  # the words of the call, not the model
        except (NoBackend, DeviceAbsent, OutOfMemory) as why:
            yield loads("skipped", str(why)), None
            return
        except BmzError as why:
            yield loads("failed", str(why)), None
            return
        with closing(backend):
            yield loads("passed", f"{backend.name} on {backend.device}"), None
            if self.tensors is None:
                return
            check, outputs = reproduces(self.model, entry, self.tensors, backend)
            yield check, backend if check.status == "passed" else None
            if self.request.reference and outputs is not None:
                yield reference_check(self.model, entry, self.tensors, outputs), None
