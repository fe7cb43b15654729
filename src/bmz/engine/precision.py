"""The precision of a run: as asked for, or measured once on the model's own test input."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.notes import Notes
from bmz.engine.labelling import Labelling
from bmz.engine.model_code import Permit
from bmz.engine.networks import open_network
from bmz.engine.pipeline import network_inputs
from bmz.engine.request import PrecisionWord
from bmz.engine.test_tensors import first_inputs, labels_of_first
from bmz.plan.weights_choice import (
    FLOAT32,
    LEAST_IOU,
    NOT_MEASURED,
    PrecisionChoice,
    Trial,
    choose_precision,
)
from bmz.predict.backend import Backend, Device, Precision, PrecisionUnsupported
from bmz.predict.devices import framework_version
from bmz.predict.formats import runnable
from bmz.process.matching import match_labels
from bmz.spec.model import ModelSpec, Weights
from bmz.zoo.store import sha256_of

CHOICES = Notes.of("precision", 2, PrecisionChoice, one_per_key=True)
"""The key is all that a choice was measured with: weights, device, framework and labels."""

_BY_NAME: Mapping[str, Precision] = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
}
_REPEATS = 3
Open = Callable[[Precision], Backend]


@dataclass(frozen=True)
class NetworkChoice:
    """Which network, where it runs, and how its output becomes labels.

    Parameters
    ----------
    notes : folders for our notes on the package; each is read, the last is written to
    permit : whether code of the model may run
    """

    model: ModelSpec
    weights: Weights
    device: Device
    labelling: Labelling
    notes: tuple[Path, ...]
    permit: Permit = "no"


def precision_of(choice: PrecisionChoice) -> Precision:
    """Give the precision that was chosen; float32 while it is not measured."""
    return _BY_NAME.get(choice.name, "float32")


def decide_precision(
    wanted: PrecisionWord, network: NetworkChoice, *, measure: bool = True
) -> PrecisionChoice:
    """Decide the precision of a run; what was measured once is remembered with our notes.

    Parameters
    ----------
    wanted : the user's word
    network : its weights are there
    measure : the network may be run for it

    Raises
    ------
    PrecisionUnsupported
        The framework does not compute in the wanted precision on the device.
    """
    weights, device = network.weights, network.device
    if wanted == "float32" or (wanted == "auto" and device.kind == "cpu"):
        return FLOAT32
    offered = runnable(weights.format).precisions(device)
    if wanted != "auto":
        if wanted not in offered:
            raise PrecisionUnsupported(runnable(weights.format).module, device, wanted)
        return PrecisionChoice(wanted, "as asked for")
    if len(offered) == 1:
        return FLOAT32
    return _remembered(network, offered, measure=measure)


def _remembered(
    network: NetworkChoice, offered: Sequence[Precision], *, measure: bool
) -> PrecisionChoice:
    key = _key(network)
    kept = CHOICES.find(network.notes, key)
    if kept is not None:
        return kept
    if not measure:
        return NOT_MEASURED
    trials = _measured(network, offered)
    choice = choose_precision(trials)
    if trials:  # else the test input may yet come
        CHOICES.keep(network.notes[-1], key, choice)
    return choice


def _key(network: NetworkChoice) -> str:
    weights = network.weights
    labels = network.labelling.as_record()
    return " | ".join(
        (
            weights.file.sha256 or sha256_of(weights.file.path),
            runnable(weights.format).hardware(network.device),
            framework_version(weights.format),
            json.dumps([labels["output"], labels["name"], labels["parameters"]], default=str),
        )
    )


def _measured(network: NetworkChoice, offered: Sequence[Precision]) -> tuple[Trial, ...]:
    model, weights = network.model, network.weights

    def opened(precision: Precision) -> Backend:
        return open_network(
            model, weights, network.device, precision=precision, permit=network.permit
        )

    taken = first_inputs(model)
    if not taken or network.labelling.recipe is None:
        return ()
    inputs = [tensor.array for tensor in network_inputs(taken, model)]
    label = partial(labels_of_first, model, network.labelling, taken)
    return measure_trials(opened, inputs, offered, label)


def measure_trials(
    opened: Open,
    inputs: Sequence[AnyArray],
    offered: Sequence[Precision],
    label: Callable[[Sequence[AnyArray]], AnyArray],
) -> tuple[Trial, ...]:
    """Run a network in each precision on the same inputs.

    Parameters
    ----------
    opened : loads it in a precision
    inputs : of the network
    offered : float32 first
    label : makes labels of its outputs

    Returns
    -------
    tuple of Trial
        float32 first; without those precisions in which the network fails, and empty where
        float32 fails or makes no object
    """
    trials: list[Trial] = []
    reference: AnyArray | None = None
    for precision in offered:
        try:
            with closing(opened(precision)) as backend:
                took_s, outputs = _timed(backend, inputs)
        except BmzError:
            if reference is None:
                return ()  # the run itself will tell why
            continue
        labels = label(outputs)
        if reference is None:
            reference = labels
            if not labels.any():
                return ()
        trials.append(Trial(precision, took_s, match_labels(labels, reference, LEAST_IOU).f1))
    return tuple(trials)


def _timed(backend: Backend, inputs: Sequence[AnyArray]) -> tuple[float, list[AnyArray]]:
    outputs = backend.run(inputs)  # the first run also chooses algorithms and takes memory
    took = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        backend.run(inputs)
        took.append(time.perf_counter() - start)
    return min(took), outputs
