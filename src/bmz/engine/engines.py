"""Who predicts, bmz itself or bioimageio.core, and in which precision."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from typing_extensions import override

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.files import sha256_of
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
from bmz.predict.backend import CPU, Backend, Device, LoadRequest, Precision, PrecisionUnsupported
from bmz.predict.confined import open_confined
from bmz.predict.core import CORE
from bmz.predict.formats import framework_version, runnable
from bmz.process.matching import match_labels
from bmz.spec.model import ModelSpec, Weights

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
    word: PrecisionWord, network: NetworkChoice, *, measure: bool = True
) -> PrecisionChoice:
    """Decide the precision of a run; what was measured once is remembered with our notes.

    Parameters
    ----------
    word : what the user asked for
    network : its weights are there
    measure : the network may be run for it

    Raises
    ------
    PrecisionUnsupported
        The framework does not compute in the wanted precision on the device.
    """
    weights, device = network.weights, network.device
    if word == "float32" or (word == "auto" and device.kind == "cpu"):
        return FLOAT32
    offered = runnable(weights.format).precisions(device)
    if word != "auto":
        if word not in offered:
            raise PrecisionUnsupported(runnable(weights.format).module, device, word)
        return PrecisionChoice(word, "as asked for")
    if len(offered) == 1:
        return FLOAT32
    return _remembered(network, offered, measure=measure)


def _remembered(
    network: NetworkChoice, offered: Sequence[Precision], *, measure: bool
) -> PrecisionChoice:
    key = _key(network)
    remembered = CHOICES.find(network.notes, key)
    if remembered is not None:
        return remembered
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


def open_reference(
    model: ModelSpec, weights: Weights, inputs: Sequence[str] | None = None
) -> Backend:
    """Open a model in bioimageio.core, confined, whether it runs code of its own or not.

    Whether its code may run is decided before.

    Parameters
    ----------
    inputs : ids of those that will be given; None for all that are not optional

    Raises
    ------
    NotConfinable, ChildRefused, ChildDied
        See ``bmz.predict.confined.open_confined``.
    """
    manifest = next(
        path for name in ("bioimageio.yaml", "rdf.yaml") if (path := model.folder / name).is_file()
    )
    required = tuple(tensor.id for tensor in model.required_inputs)
    request = LoadRequest(
        path=weights.file.path,
        input_ids=required if inputs is None else tuple(inputs),
        output_ids=tuple(tensor.id for tensor in model.outputs),
        device=CPU,
        manifest=manifest.absolute(),
        weights_format=weights.format,
    )
    return open_confined(CORE, request, [model.folder])


WHOLE_PX = 2**30
"""A tile (px) that holds every image."""


@dataclass(frozen=True)
class LoadCase:
    """Which network is loaded, and how.

    Parameters
    ----------
    permit : whether code of the model may run
    threads : of a network on a CPU; None for as many as there are processors
    """

    model: ModelSpec
    weights: Weights
    device: Device
    precision: PrecisionChoice
    permit: Permit
    threads: int | None


class Engine(Protocol):
    """Runs the network of a model."""

    @property
    def whole_images(self) -> bool:
        """It takes images in one piece alone, and is tried on none of their tiles."""

    @property
    def applies_steps(self) -> bool:
        """It applies the declared steps, so that nobody else may."""

    def labelling(self, labelling: Labelling) -> Labelling:
        """Give what is left to be done with its outputs."""

    def tile_px(self, asked: int | None) -> int | None:
        """Give the side of tiles, px; None for those that suit the device."""

    def opened(self, case: LoadCase) -> Backend:
        """Load the network; it is to be closed."""


@dataclass(frozen=True)
class BmzEngine:
    """bmz itself: declared steps over the whole image, tiles, and its own backends."""

    whole_images: bool = False
    applies_steps: bool = False

    def labelling(self, labelling: Labelling) -> Labelling:
        """Leave it as it is."""
        return labelling

    def tile_px(self, asked: int | None) -> int | None:
        """Give what was asked for."""
        return asked

    def opened(self, case: LoadCase) -> Backend:
        """Load the network in the precision that was chosen."""
        return open_network(
            case.model,
            case.weights,
            case.device,
            precision=precision_of(case.precision),
            permit=case.permit,
            threads=case.threads,
        )


@dataclass(frozen=True)
class CoreEngine(Engine):
    """bioimageio.core, confined, on whole images."""

    whole_images: bool = True
    applies_steps: bool = True

    def labelling(self, labelling: Labelling) -> Labelling:
        """Leave the declared steps out, which are done already."""
        return replace(labelling, map_steps=(), label_steps=())

    @override
    def tile_px(self, asked: int | None) -> int | None:
        """Give a tile that holds every image."""
        return WHOLE_PX

    def opened(self, case: LoadCase) -> Backend:
        """Start bioimageio.core in a process of its own."""
        return open_reference(case.model, case.weights)


ENGINES: Mapping[str, Engine] = {"bmz": BmzEngine(), "core": CoreEngine()}
"""By the name that ``--engine`` takes."""
