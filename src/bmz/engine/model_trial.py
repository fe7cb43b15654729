"""The test of one model: files, test tensors, every weights format; its speed and its objects."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from math import prod

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, WrongUsage
from bmz.base.progress import Listener, nobody
from bmz.engine.engines import open_network
from bmz.engine.load import Permit, fetch_code, fetch_tensors, fetch_weights, permit_for
from bmz.engine.model_checks import (
    file_checks,
    manifest_check,
    network_checks,
    own_labels,
    reference_check,
    reproduces,
)
from bmz.engine.test_tensors import OwnTensors, given_inputs, read_test_tensors
from bmz.plan.weights_choice import ORDER, WeightsNotShipped
from bmz.predict.backend import Backend, NoBackend, OutOfMemory
from bmz.predict.formats import DeviceAbsent, resolve_device
from bmz.predict.frameworks import usable_formats
from bmz.process.ops_values import RunsCode
from bmz.results.models import ModelCheck, ObjectSizes, Speed
from bmz.spec.model import ModelSpec, Weights
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings


@dataclass
class ModelTrial:
    """The test of one model, of which each weights format is loaded once.

    Parameters
    ----------
    package, model : that is tested
    settings : of the zoo
    weights : a weights format; None for all that the model ships
    device : ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``
    trust : whether code of the model may run
    reference : run bioimageio.core beside it
    """

    package: Package
    model: ModelSpec
    settings: ZooSettings
    weights: str | None = None
    device: str = "cpu"
    trust: Permit = "no"
    reference: bool = False
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
        is_measured = False
        for entry, reason in planned:
            if reason:
                yield ModelCheck(f"{entry.format}.loads", "skipped", reason)
                continue
            for check, backend in self._of_format(entry):
                yield check
                if backend is not None and not is_measured and self.tensors is not None:
                    is_measured = True
                    yield from network_checks(self.model, self.tensors, backend)

    def _entries(self) -> Sequence[Weights]:
        places = {name: place for place, name in enumerate(ORDER)}
        # a newer bioimageio.spec may know formats of which nothing is known here
        entries = sorted(self.model.weights, key=lambda w: places.get(w.format, len(ORDER)))
        chosen = [entry for entry in entries if self.weights in (None, entry.format)]
        if not chosen:
            raise WeightsNotShipped(self.model, str(self.weights))
        return chosen

    def _reason(self, entry: Weights) -> str:
        """Say why an entry cannot be run here; empty when it can, and its files are here."""
        usable = usable_formats()
        if entry.format not in usable:
            return f"bmz does not run {entry.format}"
        if usable[entry.format]:
            return f"its framework is not installed: {usable[entry.format]}"
        try:
            fetch_code(self.package, self.model, entry, self.settings, self.listener)
            permit_for(self.model, entry, self.trust, self.settings)
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

    def open(self, entry: Weights) -> Backend:
        """Load the network of an entry for the inputs of the test.

        Raises
        ------
        BmzError
            See `bmz.engine.engines.open_network` and `bmz.predict.formats.resolve_device`.
        """
        device = resolve_device(self.device, entry.format)
        permit = permit_for(self.model, entry, self.trust, self.settings)
        ids = [tensor.id for tensor in given_inputs(self.model)]
        return open_network(self.model, entry, device, permit=permit, inputs=ids)

    def _of_format(self, entry: Weights) -> Iterator[tuple[ModelCheck, Backend | None]]:
        """Yield the checks of a format; with the one that reproduced, its network."""
        loads = partial(ModelCheck, f"{entry.format}.loads")
        try:
            backend = self.open(entry)
        except WrongUsage:
            raise  # an option of the call is wrong, and not the model
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
            if self.reference and outputs is not None:
                yield reference_check(self.model, entry, self.tensors, outputs), None

    def measured(self, formats: Collection[str]) -> tuple[tuple[Speed, ...], ObjectSizes | None]:
        """Time the network of some weights formats, and measure the objects of the test input.

        Parameters
        ----------
        formats : that reproduce the test outputs

        Returns
        -------
        tuple of Speed, ObjectSizes or None
            None where no format gives labels with objects
        """
        tensors = read_test_tensors(self.model)
        speeds: list[Speed] = []
        sizes: ObjectSizes | None = None
        for entry in self.model.weights:
            if entry.format in formats:
                with closing(self.open(entry)) as backend:
                    speeds.append(_speed(entry, tensors, backend))
                    sizes = sizes or _sizes(self.model, tensors, backend)
        return tuple(speeds), sizes


RUNS = 6
"""Of these the fastest counts: TorchScript compiles during the first ones."""


def _speed(entry: Weights, tensors: OwnTensors, backend: Backend) -> Speed:
    arrays = [tensor.array for tensor in tensors.inputs]
    took_s = []
    for _ in range(RUNS):
        start = time.perf_counter()
        backend.run(arrays)
        took_s.append(time.perf_counter() - start)
    speed = _pixels(tensors) / min(took_s) / 1e6
    return Speed(entry.format, backend.name, str(backend.device), speed)


def _pixels(tensors: OwnTensors) -> int:
    array, axes = tensors.inputs[0]
    return prod(n for n, axis in zip(array.shape, axes, strict=True) if axis in "bzyx")


def _sizes(model: ModelSpec, tensors: OwnTensors, backend: Backend) -> ObjectSizes | None:
    try:
        recipe, labels = own_labels(model, tensors, backend)
    except BmzError:
        return None  # the check called 'labels' says why, and stands on the card
    diameters = _diameters(labels, model.space)
    if not len(diameters):
        return None
    low, middle, high = np.percentile(diameters, [5, 50, 95])
    return ObjectSizes(recipe, len(diameters), float(low), float(middle), float(high))


def _diameters(labels: AnyArray, space: str) -> AnyArray:
    """Give the diameter of a ball of the volume of each object, or of a circle of its area, px."""
    sizes = np.bincount(labels.ravel())[1:].astype(np.float64)
    sizes = sizes[sizes > 0]
    diameters: AnyArray = np.cbrt(6 * sizes / np.pi) if "z" in space else np.sqrt(4 * sizes / np.pi)
    return diameters
