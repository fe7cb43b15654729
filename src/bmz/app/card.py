"""``bmz card``: what a model says of itself, and what is measured of it here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from math import prod

import numpy as np

from bmz.app.model_test import ModelTestRequest, check_model
from bmz.app.model_test.checks import own_labels
from bmz.app.show import show_model
from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.progress import Listener, nobody
from bmz.base.version import versions
from bmz.engine.load import find_model, permit_for
from bmz.engine.model_code import Permit
from bmz.engine.networks import open_network
from bmz.engine.test_tensors import OwnTensors, given_inputs, read_test_tensors
from bmz.predict.backend import Backend
from bmz.predict.devices import resolve_device
from bmz.results.test import CardView, ModelTested, ObjectSizes, Speed
from bmz.spec.model import ModelSpec, Weights
from bmz.zoo.settings import settings_from_environment

RUNS = 6
"""Of these the fastest counts: TorchScript compiles during the first ones."""


def make_card(
    word: str, *, device: str = "cpu", trust: Permit = "no", listener: Listener = nobody
) -> CardView:
    """Test a model as ``bmz test`` does, time its formats, and measure the objects of its sample.

    Parameters
    ----------
    word : see ``bmz.engine.load.load_model``
    device, trust : see ``bmz test``

    Raises
    ------
    BmzError
        The model is not there, or its description is invalid.
    """
    settings = settings_from_environment()
    view = show_model(word, settings, listener)
    tested = check_model(word, ModelTestRequest((word,), device=device, trust=trust), listener)
    _, model = find_model(word, settings, listener=listener)
    speeds: list[Speed] = []
    sizes: ObjectSizes | None = None
    for entry in _reproduced(model, tested):
        tensors = read_test_tensors(model)
        where = resolve_device(device, entry.format)
        permit = permit_for(model, entry, trust, settings)
        ids = [tensor.id for tensor in given_inputs(model)]
        with closing(open_network(model, entry, where, permit=permit, inputs=ids)) as backend:
            speeds.append(_speed(entry, tensors, backend))
            sizes = sizes or _sizes(model, tensors, backend)
    today = datetime.now(UTC).date().isoformat()
    return CardView(view, tested, tuple(speeds), sizes, today, versions())


def _reproduced(model: ModelSpec, tested: ModelTested) -> Iterator[Weights]:
    passed = {check.name for check in tested.checks if check.status == "passed"}
    return (entry for entry in model.weights if f"{entry.format}.reproduces" in passed)


def _speed(entry: Weights, tensors: OwnTensors, backend: Backend) -> Speed:
    arrays = [tensor.array for tensor in tensors.inputs]
    took = []
    for _ in range(RUNS):
        start = time.perf_counter()
        backend.run(arrays)
        took.append(time.perf_counter() - start)
    pixels = _pixels(tensors)
    return Speed(entry.format, backend.name, str(backend.device), pixels / min(took) / 1e6)


def _pixels(tensors: OwnTensors) -> int:
    array, axes = tensors.inputs[0]
    return prod(n for n, axis in zip(array.shape, axes, strict=True) if axis in "bzyx")


def _sizes(model: ModelSpec, tensors: OwnTensors, backend: Backend) -> ObjectSizes | None:
    try:
        recipe, labels = own_labels(model, tensors, backend)
    except BmzError:
        return None  # the check called 'labels' says why, and stands on the card
    diameters = _diameters(labels)
    if not len(diameters):
        return None
    low, middle, high = np.percentile(diameters, [5, 50, 95])
    return ObjectSizes(recipe, len(diameters), float(low), float(middle), float(high))


def _diameters(labels: AnyArray) -> AnyArray:
    sizes = np.bincount(labels.ravel())[1:].astype(np.float64)
    sizes = sizes[sizes > 0]
    # of a circle of that area, or of a ball of that volume
    stack = labels.ndim == 3  # noqa: PLR2004  (z, y, x)
    found: AnyArray = np.cbrt(6 * sizes / np.pi) if stack else np.sqrt(4 * sizes / np.pi)
    return found
