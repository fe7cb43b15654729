"""Open a network: identify its outputs, and choose its framework and precision."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.files import sha256_of
from bmz.base.notes import Notes
from bmz.base.progress import Listener, Note, nobody
from bmz.base.values import dataclass
from bmz.engine.labelling import Labelling
from bmz.engine.load import NeedsTrust, Permit, model_code
from bmz.engine.pipeline import network_inputs
from bmz.engine.request import PrecisionOption
from bmz.engine.test_tensors import (
    first_inputs,
    gives_expected,
    labels_of_first,
    open_by_test,
    sample_tensors,
)
from bmz.plan.weights_choice import (
    FLOAT32,
    LEAST_IOU,
    NOT_MEASURED,
    PrecisionChoice,
    Trial,
    Way,
    choose_precision,
)
from bmz.predict.backend import (
    CPU,
    Backend,
    Device,
    LoadRequest,
    NoBackend,
    Precision,
    PrecisionUnsupported,
)
from bmz.predict.formats import (
    WeightsFormat,
    backends,
    framework_version,
    open_backend,
    processor_name,
)
from bmz.predict.frameworks import AUTO
from bmz.process.matching import match_labels
from bmz.spec.model import MAPS, ModelSpec, Weights


def open_network(  # noqa: PLR0913  (five of them are keywords with defaults)
    model: ModelSpec,
    weights: Weights,
    device: Device = CPU,
    *,
    precision: Precision = "float32",
    backend: str = "",
    permit: Permit = "no",
    inputs: Sequence[str] | None = None,
    threads: int | None = None,
) -> Backend:
    """Load the network of a weights entry, whose files must be present and verified.

    Parameters
    ----------
    model, weights : the model, and the entry to load
    device : from ``bmz.predict.formats.resolve_device``
    precision : precision of the arithmetic
    backend : the framework; empty for the one to which the format belongs
    permit : whether code of the model may run; weights without code always may
    inputs : ids of the inputs that will be passed; None for all that are not optional
    threads : maximum number of threads on a CPU; None for as many as the process may use

    Raises
    ------
    NeedsTrust
        The entry runs code and is not permitted to.
    NoBackend, WeightsUnreadable, TensorCountDiffers, OutputsUnclear
        As in ``bmz.predict.formats.open_backend``.
    NotConfinable, ChildRefused, ChildDied
        As in ``bmz.predict.confined.open_confined``.
    """
    code = model_code(weights)
    if code is not None and permit == "no":
        raise NeedsTrust(model, code)
    network = model.undecoded()
    required = tuple(tensor.id for tensor in model.required_inputs)
    given = required if inputs is None else tuple(inputs)
    letters = {tensor.id: tensor.letters for tensor in model.inputs}
    request = LoadRequest(
        path=weights.file.path,
        input_ids=given,
        output_ids=tuple(tensor.id for tensor in network.outputs),
        device=device,
        precision=precision,
        backend=backend,
        kept=_kept(model, weights) if backend else None,
        threads=threads,
        architecture=weights.architecture,
        strict=weights.strict,
        # permitted at this point; code that builds a network of a known library needs no permit
        trusted=code is not None or weights.architecture is not None,
        input_axes=tuple(letters[name] for name in given),
        output_axes=tuple(tensor.letters for tensor in network.outputs),
        output_channels=tuple(tensor.channels for tensor in network.outputs),
    )
    opened = _opened(network, weights, request, confined=code is not None and permit == "confined")
    if model.decoder is None:
        return opened
    from bmz.predict.map_decoder import DecodedBackend  # here: few networks have one

    return DecodedBackend.of(opened, model.decoder, request, len(MAPS))


def _opened(model: ModelSpec, weights: Weights, request: LoadRequest, *, confined: bool) -> Backend:
    if confined:
        from bmz.predict.confined import open_confined  # here: few models run code

        files = (weights.file.path, *(file.path for file in weights.beside))
        return open_confined(weights.format, request, files)
    return open_by_test(model, weights.format, request, open_backend, partial(_notes, model))


def _kept(model: ModelSpec, weights: Weights) -> Path:
    """Return the path prefix, in our notes, of files compiled from weights for this CPU."""
    sha256 = weights.file.sha256 or sha256_of(weights.file.path)
    digest = hashlib.sha256(f"{sha256} {processor_name()}".encode()).hexdigest()[:16]
    return _notes(model)[-1] / f"compiled.{digest}"


def _notes(model: ModelSpec) -> tuple[Path, ...]:
    from bmz.zoo.settings import settings_from_environment
    from bmz.zoo.store import notes_folders

    settings = settings_from_environment()
    return notes_folders(model.folder / "bioimageio.yaml", model.sha256, settings)


CHOICES = Notes.of("precision", 3, PrecisionChoice, one_per_key=True)
"""The key is everything that a choice depends on: weights, device, frameworks and labels."""

PRECISIONS: Mapping[str, Precision] = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
}
_ROUNDS = 3
_MOST_S = 2.0
"""No further round begins after this time, s."""

_CLOSE = 1e-3
"""Share of the range by which float32 values may differ, since sums are taken in another order."""

Open = Callable[[Way], Backend]
Label = Callable[[Sequence[AnyArray]], AnyArray]


@dataclass(frozen=True)
class NetworkChoice:
    """Which network, where it runs, and how its output becomes labels.

    Parameters
    ----------
    notes : folders of our notes on the package; all are read, and the last is written to
    permit : whether code of the model may run
    backend : the frameworks that may run it, as in ``bmz.predict.formats.backends``
    """

    model: ModelSpec
    weights: Weights
    device: Device
    labelling: Labelling
    notes: tuple[Path, ...]
    permit: Permit = "no"
    backend: str = AUTO

    @property
    def entries(self) -> Mapping[str, WeightsFormat]:
        """The frameworks that may run it: name -> entry."""
        return backends(self.weights.format, self.backend, self.device)


def precision_of(choice: PrecisionChoice) -> Precision:
    """Return the chosen precision; float32 before it has been measured."""
    return PRECISIONS.get(choice.name, "float32")


def way_of(choice: PrecisionChoice) -> Way:
    """Return the chosen precision and framework."""
    return Way(precision_of(choice), choice.backend)


def is_measured(network: NetworkChoice) -> bool:
    """Return whether choosing how to run a model may require its test tensors."""
    return network.device.kind != "cpu" or len(network.entries) > 1


def decide_precision(
    precision: PrecisionOption,
    network: NetworkChoice,
    *,
    measure: bool = True,
    listener: Listener = nobody,
) -> PrecisionChoice:
    """Decide the framework and the precision of a run; measurements are remembered.

    Parameters
    ----------
    precision : the precision that the user requested
    network : the network, whose weights are present
    measure : whether the network may be run to decide
    listener : is told the result of a measurement

    Raises
    ------
    PrecisionUnsupported
        No framework computes in the requested precision on the device.
    NoBackend, BackendUnknown
        As in ``bmz.predict.formats.backends``.
    """
    by_word = _by_word(precision, network)
    # a framework that is not compared with that of the format must reproduce the test tensors
    alone = set(network.entries) if "" not in network.entries else set[str]()
    if measure:
        for backend in alone | ({by_word.backend} if by_word else set()):
            refuse_mistranslated(network, backend)
    return by_word or _remembered(precision, network, measure=measure, listener=listener)


def _by_word(precision: PrecisionOption, network: NetworkChoice) -> PrecisionChoice | None:
    """Choose without a measurement; None if one is needed."""
    if precision != "auto" and precision != "float32":  # noqa: PLR1714  (mypy narrows this)
        return _asked(precision, network)
    if len(network.entries) == 1:
        ((backend, entry),) = network.entries.items()
        if precision == "float32" or len(entry.weighed(network.device)) == 1:
            return PrecisionChoice("float32", FLOAT32.why, backend)
    return None


TRANSLATIONS = Notes.of("translation", 1, bool, one_per_key=True)
"""Whether a framework reproduces the test outputs; the key is that of a choice and its name."""


class Mistranslated(CouldNotTell):
    """A framework that translates another one's weights does not reproduce the test tensors."""

    def __init__(self, model: str, backend: str) -> None:
        super().__init__(
            f"{backend} does not reproduce the test output of '{model}', or there is none to "
            "compare with",
            hint="--backend native",
            code="backend.differs",
        )


def refuse_mistranslated(network: NetworkChoice, backend: str) -> None:
    """Raise if a framework that translates weights does not reproduce the model's test output.

    The result is stored in our notes on the package.

    Raises
    ------
    Mistranslated
        The values differ, or there are no test tensors.
    BmzError
        The framework does not load or run the network.
    """
    if not network.entries[backend].translates:
        return
    key = choice_key(network, f"translation by {backend}")
    gives = TRANSLATIONS.find(network.notes, key)
    if gives is None:
        tensors = sample_tensors(network.model)
        gives = False
        if tensors is not None:
            with closing(open_way(network, Way("float32", backend))) as opened:
                outputs = opened.run([tensor.array for tensor in tensors.inputs])
            gives = gives_expected(network.model, tensors, outputs)
        TRANSLATIONS.keep(network.notes[-1], key, gives)
    if not gives:
        raise Mistranslated(network.model.id, backend)


def _asked(precision: Precision, network: NetworkChoice) -> PrecisionChoice:
    for backend, entry in network.entries.items():
        if precision in entry.precisions(network.device):
            return PrecisionChoice(precision, "as requested", backend)
    module = next(iter(network.entries.values())).module
    raise PrecisionUnsupported(module, network.device, precision)


def _remembered(
    precision: PrecisionOption, network: NetworkChoice, *, measure: bool, listener: Listener
) -> PrecisionChoice:
    key = choice_key(network, precision)
    remembered = CHOICES.find(network.notes, key)
    if remembered is not None:
        return remembered
    if not measure:
        return replace(NOT_MEASURED, backend=next(iter(network.entries)))
    ways = tuple(_ways(precision, network, listener))
    trials = _measured(network, ways) if len(ways) > 1 else ()
    if not trials:  # the test input may become available later
        return replace(choose_precision(()), backend=ways[0].backend)
    choice = choose_precision(trials)
    CHOICES.keep(network.notes[-1], key, choice)
    whole = [trial for trial in trials if trial.precision == FLOAT32.name]
    if len(whole) > 1:  # used if the first tile of an image does not agree
        CHOICES.keep(network.notes[-1], choice_key(network, FLOAT32.name), choose_precision(whole))
    sentence = f"'{network.model.id}' runs in {way_of(choice)} from now on: measured {choice.why}"
    listener(Note(sentence))
    return choice


def _ways(precision: PrecisionOption, network: NetworkChoice, listener: Listener) -> Iterator[Way]:
    for backend, entry in network.entries.items():
        try:
            offered = entry.weighed(network.device)
        except NoBackend as why:
            if not backend:
                raise
            listener(Note(f"{backend} is not used: {why.message}", "warning"))
            continue
        yield from (Way(name, backend) for name in offered if precision in ("auto", name))


def choice_key(network: NetworkChoice, precision: str) -> str:
    """Return a key of everything that determines how a network is run."""
    weights = network.weights
    labels = network.labelling.as_record()
    return " | ".join(
        (
            weights.file.sha256 or sha256_of(weights.file.path),
            *(entry.hardware(network.device) for entry in network.entries.values()),
            *(framework_version(entry) for entry in network.entries.values()),
            json.dumps([labels["output"], labels["name"], labels["parameters"]], default=str),
            precision,
        )
    )


def _measured(network: NetworkChoice, ways: Sequence[Way]) -> tuple[Trial, ...]:
    taken = first_inputs(network.model)
    if not taken:
        return ()
    inputs = [tensor.array for tensor in network_inputs(taken, network.model)]
    label = None
    if network.labelling.recipe is not None:
        label = partial(labels_of_first, network.model, network.labelling, taken)
    # on a CPU, process time is measured, which other processes do not affect
    clock = time.process_time if network.device.kind == "cpu" else time.perf_counter
    return measure_trials(partial(open_way, network), inputs, ways, label, clock)


def open_way(network: NetworkChoice, way: Way, threads: int | None = None) -> Backend:
    """Load a network in a framework and a precision.

    Raises
    ------
    BmzError
        As in `bmz.engine.network_choice.open_network`.
    """
    # a network with prompts gets all of its inputs, some of them empty
    asked = [tensor.id for tensor in network.model.inputs] if network.labelling.prompted else None
    return open_network(
        network.model,
        network.weights,
        network.device,
        precision=PRECISIONS[way.precision],
        backend=way.backend,
        permit=network.permit,
        inputs=asked,
        threads=threads,
    )


def measure_trials(
    opened: Open,
    inputs: Sequence[AnyArray],
    ways: Sequence[Way],
    label: Label | None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Trial, ...]:
    """Run a network in several ways on the same inputs, in turn.

    Parameters
    ----------
    opened : loads the network in one of the ways
    inputs : inputs of the network
    ways : frameworks and precisions to try, float32 first
    label : computes labels from the outputs; None to compare the outputs themselves
    clock : returns the time, s

    Returns
    -------
    tuple of Trial
        one trial per way, the first way first, without those in which the network fails. If
        float32 finds no object, only the float32 ways, compared by their values; empty if there
        are fewer than two of these, or if the first way fails
    """
    with ExitStack() as stack:
        loaded: dict[Way, tuple[Backend, list[AnyArray]]] = {}
        for way in ways:
            try:
                backend = stack.enter_context(closing(opened(way)))
                # the first run also selects algorithms and allocates memory
                loaded[way] = backend, backend.run(inputs)
            except BmzError:
                if not loaded:
                    return ()  # the run itself will report the reason
        outputs = {way: output for way, (_, output) in loaded.items()}
        agreements = _agreements(outputs, ways[0], label)
        if agreements == {ways[0]: (1.0, True)}:
            return ()
        took_s = _timed({way: loaded[way][0] for way in agreements}, inputs, clock)
    return tuple(
        Trial(way.precision, took_s[way], f1, way.backend, by_numbers)
        for way, (f1, by_numbers) in agreements.items()
    )


def _agreements(
    outputs: Mapping[Way, Sequence[AnyArray]], first: Way, label: Label | None
) -> dict[Way, tuple[float, bool]]:
    """Compare all ways with the first: by labels, or by values if there are no objects.

    A framework whose values differ in the precision of the first way computes a different network,
    whatever its labels, so it is rejected in every precision.

    Returns
    -------
    dict
        way -> F1, and whether values were compared; F1 is then 1 if they agree, else 0
    """
    alike = {way for way in outputs if way.precision == first.precision}
    same = {way.backend for way in alike if _close(outputs[way], outputs[first])}
    by_numbers = {way: (float(way.backend in same), True) for way in outputs}
    reference = np.zeros(0) if label is None else label(outputs[first])
    if label is None or not reference.any():
        return {way: agrees for way, agrees in by_numbers.items() if way in alike}
    labels = {way: label(output) for way, output in outputs.items() if way.backend in same}
    f1_of = {w: (match_labels(x, reference, LEAST_IOU).f1, False) for w, x in labels.items()}
    return by_numbers | f1_of


def _close(outputs: Sequence[AnyArray], expected: Sequence[AnyArray]) -> bool:
    return all(map(_close_array, outputs, expected))


def _close_array(array: AnyArray, expected: AnyArray) -> bool:
    if array.shape != expected.shape or array.dtype != expected.dtype:
        return False
    finite = expected[np.isfinite(expected)]
    width = float(np.ptp(finite.astype(np.float64))) if finite.size else 0.0
    return np.allclose(array, expected, rtol=0, atol=_CLOSE * width, equal_nan=True)


def _timed(
    loaded: Mapping[Way, Backend], inputs: Sequence[AnyArray], clock: Callable[[], float]
) -> dict[Way, float]:
    """Return the shortest duration of a few runs of each way, run in turn, s."""
    took_s = dict.fromkeys(loaded, np.inf)
    begun = time.perf_counter()
    for _ in range(_ROUNDS):
        for way, backend in loaded.items():
            start = clock()
            backend.run(inputs)
            took_s[way] = min(took_s[way], clock() - start)
        if time.perf_counter() - begun > _MOST_S:
            break
    return took_s
