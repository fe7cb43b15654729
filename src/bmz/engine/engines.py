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

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.files import sha256_of
from bmz.base.notes import Notes
from bmz.engine.labelling import Labelling
from bmz.engine.load import NeedsTrust, Permit, model_code
from bmz.engine.pipeline import KnownTensors, all_stepped, network_inputs
from bmz.engine.request import WHOLE_IMAGES, PrecisionWord
from bmz.engine.test_tensors import first_inputs, labels_of_first, read_test_tensors
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
from bmz.predict.formats import framework_version, open_backend, runnable
from bmz.predict.output_order import OutputsUnclear
from bmz.process.matching import match_labels
from bmz.spec.model import ModelSpec, Weights

OUTPUTS = Notes.of("outputs", 2, tuple[str, ...], one_per_key=True)
"""Names of the outputs in the order of the description; the key is the format of the weights."""

_MISMATCHED = 1e-3  # of the values: enough to tell one output from another


def open_by_test(
    model: ModelSpec,
    weights_format: str,
    request: LoadRequest,
    opener: Callable[[str, LoadRequest], Backend],
    notes_of: Callable[[], Sequence[Path]],
) -> Backend:
    """Open weights; where nothing says which output is which, let the test tensors say it.

    What was found is kept with our notes on the package, so that it is found out once.

    Parameters
    ----------
    model : its test tensors are files of the package
    weights_format : as in model descriptions
    request : what the backend is opened with
    opener : loads weights, such as ``bmz.predict.formats.open_backend``
    notes_of : gives the folders for our notes; each is read, the last is written to

    Raises
    ------
    OutputsUnclear
        The test tensors are absent, or do not decide it either.
    """
    try:
        return opener(weights_format, request)
    except OutputsUnclear as unclear:
        notes = notes_of()
        known = OUTPUTS.find(notes, weights_format)
        if known in unclear.candidates:
            return opener(weights_format, replace(request, output_names=known))
        agreed = _by_test(model, unclear.candidates, lambda names: opener(
            weights_format, replace(request, output_names=names)))  # fmt: skip
        if agreed is None:
            raise
        OUTPUTS.keep(notes[-1], weights_format, agreed)
        return opener(weights_format, replace(request, output_names=agreed))


def _by_test(
    model: ModelSpec,
    candidates: Sequence[tuple[str, ...]],
    opened: Callable[[tuple[str, ...]], Backend],
) -> tuple[str, ...] | None:
    try:
        tensors = read_test_tensors(model, model.required_inputs)
    except (BmzError, OSError):
        return None  # the caller tells that the outputs are unclear; `bmz test` tells of the file
    inputs = [tensor.array for tensor in tensors.inputs]
    agree = []
    for names in candidates:
        with closing(opened(names)) as backend:
            tried = KnownTensors.of(model, tensors.taken, backend.run(inputs))
        if _agrees(model, tried, tensors.expected):
            agree.append(names)
    return agree[0] if len(agree) == 1 else None


def _agrees(model: ModelSpec, known: KnownTensors, expected: Sequence[AnyArray]) -> bool:
    try:
        outputs = all_stepped(model, known)
    except BmzError:
        return False  # the steps of one output need not suit another
    return all(map(_same, outputs, expected))


def _same(output: AnyArray, expected: AnyArray) -> bool:
    if output.shape != expected.shape:
        return False
    near = np.isclose(output.astype(np.float64), expected.astype(np.float64), rtol=1e-3, atol=1e-3)
    return bool(1 - near.mean() <= _MISMATCHED)


def open_network(  # noqa: PLR0913  (four of them are keywords with defaults)
    model: ModelSpec,
    weights: Weights,
    device: Device = CPU,
    *,
    precision: Precision = "float32",
    permit: Permit = "no",
    inputs: Sequence[str] | None = None,
    threads: int | None = None,
) -> Backend:
    """Load the network of a weights entry, whose files are there and verified.

    Parameters
    ----------
    model, weights : the model, and the entry to load
    device : from ``bmz.predict.formats.resolve_device``
    precision : of the arithmetic
    permit : whether code of the model may run; numbers alone always may
    inputs : ids of those that will be given; None for all that are not optional
    threads : on a CPU, how many at most; None for as many as the process may use

    Raises
    ------
    NeedsTrust
        The entry runs code and is not permitted to.
    NoBackend, WeightsUnreadable, TensorCountDiffers, OutputsUnclear
        See ``bmz.predict.formats.open_backend``.
    NotConfinable, ChildRefused, ChildDied
        See ``bmz.predict.confined.open_confined``.
    """
    code = model_code(weights)
    if code is not None and permit == "no":
        raise NeedsTrust(model, code)
    required = tuple(tensor.id for tensor in model.required_inputs)
    request = LoadRequest(
        path=weights.file.path,
        input_ids=required if inputs is None else tuple(inputs),
        output_ids=tuple(tensor.id for tensor in model.outputs),
        device=device,
        precision=precision,
        threads=threads,
        architecture=weights.architecture,
        strict=weights.strict,
        # permitted by now; a network of a known library is built by code that needs no permit
        trusted=code is not None or weights.architecture is not None,
        output_axes=tuple(tensor.letters for tensor in model.outputs),
        output_channels=tuple(tensor.channels for tensor in model.outputs),
    )
    if code is not None and permit == "confined":
        files = (weights.file.path, *(file.path for file in weights.beside))
        return open_confined(weights.format, request, files)
    return open_by_test(model, weights.format, request, open_backend, partial(_notes, model))


def _notes(model: ModelSpec) -> tuple[Path, ...]:
    from bmz.zoo.settings import settings_from_environment
    from bmz.zoo.store import notes_folders

    settings = settings_from_environment()
    return notes_folders(model.folder / "bioimageio.yaml", model.sha256, settings)


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

    def opened(self, case: LoadCase) -> Backend:
        """Load the network; it is to be closed."""


@dataclass(frozen=True)
class BmzEngine:
    """bmz itself: declared steps over the whole image, tiles, and its own backends."""

    whole_images: bool = WHOLE_IMAGES["bmz"]
    applies_steps: bool = False

    def labelling(self, labelling: Labelling) -> Labelling:
        """Leave it as it is."""
        return labelling

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

    whole_images: bool = WHOLE_IMAGES["core"]
    applies_steps: bool = True

    def labelling(self, labelling: Labelling) -> Labelling:
        """Leave the declared steps out, which are done already."""
        return replace(labelling, map_steps=(), label_steps=())

    def opened(self, case: LoadCase) -> Backend:
        """Start bioimageio.core in a process of its own."""
        return open_reference(case.model, case.weights)


ENGINES: Mapping[str, Engine] = {"bmz": BmzEngine(), "core": CoreEngine()}
"""By the name that ``--engine`` takes."""
