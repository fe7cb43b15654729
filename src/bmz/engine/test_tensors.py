"""Read, prepare and label the test tensors of a model, and measure its sample once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import AnswerIsNo, BmzError, CouldNotTell
from bmz.base.notes import Notes
from bmz.base.values import dataclass
from bmz.check.axes import COLOURS
from bmz.check.measured import MOST_CHANNELS, UNSEEN, PlaneMeasures, look_at, measure_plane
from bmz.engine.labelling import Labelling, decide_labelling, parted_steps
from bmz.image.npy import npy_array, npy_mapped
from bmz.predict.cutting import Tensor
from bmz.process.adapt import cast_within_range
from bmz.spec.made_for import made_for
from bmz.spec.model import ModelSpec, TensorSpec
from bmz.spec.package_files import verified
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import notes_folders

if TYPE_CHECKING:
    from bmz.predict.backend import Backend, LoadRequest

Taken = Mapping[str, tuple[AnyArray, str]]
"""Tensor id -> array and letters of its axes."""


class NoTestTensor(CouldNotTell):
    """A description names no test tensor."""

    def __init__(self, tensor: str) -> None:
        super().__init__(
            f"the description names no test tensor for '{tensor}'",
            hint="tell the model's authors: without it, nobody can check whether the model works",
            code="test.no-tensor",
        )


class TensorWrong(AnswerIsNo):
    """A test tensor is not an array of numbers, or does not have the described axes."""

    def __init__(self, tensor: str, why: str) -> None:
        super().__init__(
            f"the test tensor of '{tensor}' is wrong: {why}",
            hint="the package is at fault; tell the model's authors",
            code="test.tensor",
        )


@dataclass(frozen=True)
class OwnTensors:
    """The test inputs of a model, and its expected outputs.

    Parameters
    ----------
    taken : inputs as stored, cast to their declared dtype
    inputs : inputs after the declared preprocessing, in the order of the description
    expected : expected outputs after the declared postprocessing, in the order of the description
    """

    taken: Taken
    inputs: Sequence[Tensor]
    expected: Sequence[AnyArray]


def read_test_tensors(model: ModelSpec, inputs: Sequence[TensorSpec] | None = None) -> OwnTensors:
    """Read the test tensors and apply the declared preprocessing.

    Parameters
    ----------
    inputs : the inputs to read; None for all of `given_inputs`

    Raises
    ------
    NoTestTensor, TensorWrong
        A test tensor is not described, or differs from its description.
    CouldNotTell
        A file does not exist or is not the one described, or a step does not fit its tensor.
    """
    from bmz.engine.pipeline import network_inputs  # here: not needed for samples

    tensors = given_inputs(model) if inputs is None else inputs
    taken = {
        tensor.id: (cast_within_range(_read(tensor, model), tensor.dtype), tensor.letters)
        for tensor in tensors
    }
    return OwnTensors(
        taken, network_inputs(taken, model), [_read(tensor, model) for tensor in model.outputs]
    )


def given_inputs(model: ModelSpec) -> tuple[TensorSpec, ...]:
    """Return the inputs used in a test: required ones, and optional ones with a test tensor."""
    return tuple(tensor for tensor in model.inputs if not tensor.optional or tensor.test)


def finished(model: ModelSpec, outputs: Sequence[AnyArray], inputs: Taken) -> list[AnyArray]:
    """Apply the declared postprocessing to the outputs of the network.

    Parameters
    ----------
    outputs : outputs of the network, in the order of the description
    inputs : the inputs, to which a step may refer

    Raises
    ------
    BmzError
        A step does not fit its tensor.
    """
    from bmz.engine.known_tensors import KnownTensors  # here: not needed for samples
    from bmz.engine.pipeline import all_stepped

    return all_stepped(model, KnownTensors.of(model, inputs, outputs))


def sample_tensors(model: ModelSpec) -> OwnTensors | None:
    """Read the test tensors for optional use; None if they cannot be used.

    ``bmz test`` reports their errors.
    """
    try:
        return read_test_tensors(model, model.required_inputs)
    except (BmzError, OSError):
        return None


_NEAR = 1e-3
"""Relative and absolute tolerance of values, which is enough to tell outputs apart."""

_MISMATCHED = 1e-3
"""Share of the values that may differ by more."""


def gives_expected(model: ModelSpec, tensors: OwnTensors, outputs: Sequence[AnyArray]) -> bool:
    """Return whether the postprocessed outputs of the network match the test outputs.

    Parameters
    ----------
    outputs : outputs of the network for the test inputs, in the order of the description
    """
    try:
        results = finished(model, outputs, tensors.taken)
    except BmzError:
        return False  # the steps of one output need not fit another
    return all(map(_same, results, tensors.expected))


def _same(output: AnyArray, expected: AnyArray) -> bool:
    if output.shape != expected.shape:
        return False
    values, reference = output.astype(np.float64), expected.astype(np.float64)
    near = np.isclose(values, reference, rtol=_NEAR, atol=_NEAR)
    return bool(1 - near.mean() <= _MISMATCHED)


OUTPUTS = Notes.of("outputs", 2, tuple[str, ...], one_per_key=True)
"""Names of the outputs in the order of the description; the key is the format of the weights."""


def open_by_test(
    model: ModelSpec,
    weights_format: str,
    request: LoadRequest,
    opener: Callable[[str, LoadRequest], Backend],
    notes_of: Callable[[], Sequence[Path]],
) -> Backend:
    """Open weights; if it is unclear which output is which, identify them with the test tensors.

    The result is stored in our notes on the package, so that this is done only once.

    Parameters
    ----------
    model : the model, whose test tensors are files of the package
    weights_format : weights format, as in model descriptions
    request : request with which to open the backend
    opener : loads weights, such as ``bmz.predict.formats.open_backend``
    notes_of : returns the folders of our notes; all are read, and the last is written to

    Raises
    ------
    OutputsUnclear
        The test tensors are absent, or do not identify the outputs either.
    """
    from bmz.predict.output_order import OutputsUnclear  # here: not needed for samples

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
    tensors = sample_tensors(model)
    if tensors is None:
        return None  # the caller reports that the outputs are unclear
    inputs = [tensor.array for tensor in tensors.inputs]
    agree = []
    for names in candidates:
        with closing(opened(names)) as backend:
            outputs = backend.run(inputs)
        if gives_expected(model, tensors, outputs):
            agree.append(names)
    return agree[0] if len(agree) == 1 else None


def as_maps(model: ModelSpec, inputs: Taken, outputs: Sequence[AnyArray]) -> list[AnyArray]:
    """Apply the declared steps that compute maps, such as sigmoid, but not those that label."""
    from bmz.engine.known_tensors import KnownTensors  # here: not needed for samples
    from bmz.engine.pipeline import all_stepped

    known = KnownTensors.of(model, inputs, outputs)
    return all_stepped(model, known, lambda tensor: parted_steps(tensor.steps)[0])


def labels_of_first(
    model: ModelSpec, labelling: Labelling, inputs: Taken, outputs: Sequence[AnyArray]
) -> AnyArray:
    """Label the output of the network for the first image of the test inputs.

    Parameters
    ----------
    labelling : labelling with a recipe
    inputs : the inputs, from `first_of_batch`
    outputs : outputs of the network, in the order of the description

    Returns
    -------
    ((z,) y, x) integers

    Raises
    ------
    BmzError
        A step or the recipe does not accept the output.
    """
    from bmz.engine.known_tensors import KnownTensors  # here: not needed for samples
    from bmz.engine.pipeline import labels_of

    array, letters = inputs[model.inputs[0].id]
    sizes = dict(zip(letters, array.shape, strict=True))
    shape = {axis: sizes[axis] for axis in model.space}
    return labels_of(KnownTensors.of(model, inputs, outputs), model, labelling, shape).labels


def own_labels(model: ModelSpec, tensors: OwnTensors, backend: Backend) -> tuple[str, AnyArray]:
    """Return the recipe, and its labels ((z,) y, x) for the first test input.

    Raises
    ------
    BmzError
        There is no recipe, or it does not accept the output.
    """
    labelling = decide_labelling(model, recipe=None, settings={})
    outputs = backend.run([first_of_batch(tensor.array, tensor.axes) for tensor in tensors.inputs])
    taken = {name: (first_of_batch(x, axes), axes) for name, (x, axes) in tensors.taken.items()}
    return labelling.choice.name, labels_of_first(model, labelling, taken, outputs)


def first_of_batch(array: AnyArray, letters: str) -> AnyArray:
    """Return the first image of a tensor, keeping the batch axis."""
    return array.take([0], letters.index("b")) if "b" in letters else array


def first_inputs(model: ModelSpec) -> Taken:
    """Read the first image of each required test input; empty if one does not exist."""
    taken = {}
    for tensor in model.required_inputs:
        array = sample_tensor(tensor, model)
        if array is None:
            return {}
        cast = cast_within_range(array, tensor.dtype)
        taken[tensor.id] = (first_of_batch(cast, tensor.letters), tensor.letters)
    return taken


def sample_tensor(
    tensor: TensorSpec, model: ModelSpec, reader: Callable[[Path], AnyArray] = npy_array
) -> AnyArray | None:
    """Read a test tensor for optional use; None if there is no usable one.

    ``bmz test`` reports its errors.

    Parameters
    ----------
    reader : reads its file, such as `bmz.image.npy.npy_mapped` for a part of it
    """
    try:
        return _read(tensor, model, reader)
    except (BmzError, OSError):
        return None


def _read(
    tensor: TensorSpec, model: ModelSpec, reader: Callable[[Path], AnyArray] = npy_array
) -> AnyArray:
    if tensor.test is None:
        raise NoTestTensor(tensor.id)
    verified(tensor.test, f"test tensor of {tensor.id}", model.folder)
    try:
        array = reader(tensor.test.path)
    except CouldNotTell as why:
        raise TensorWrong(tensor.id, why.message) from why
    if array.ndim != len(tensor.letters):
        difference = f"{array.ndim} axes, but the description says {tensor.letters}"
        raise TensorWrong(tensor.id, difference)
    return array


MEASURES = Notes.of("measures", 6, dict[int, PlaneMeasures])
"""Measures by channel of the model; the key is the sha256 of its manifest.

The version number is increased when `bmz.check.kind_features.features` changes."""


def sample_measures(
    package: Package, model: ModelSpec, settings: ZooSettings
) -> dict[int, PlaneMeasures]:
    """Return the measures of a model's own sample, stored in our notes on its package."""
    return model_measures(model, notes_folders(package.manifest, model.sha256, settings))


def model_measures(model: ModelSpec, notes: Sequence[Path]) -> dict[int, PlaneMeasures]:
    """Return the measures of the sample (else the test tensor) of the first inputs of a model.

    They are computed once and stored in the last of `notes`. There are none if the tensors of the
    model are not available, or if a file is not the one described.

    Parameters
    ----------
    notes : folders of our notes on the package; all are read, and the last is written to
    """
    remembered = MEASURES.find(notes, model.sha256)
    if remembered is not None:
        return remembered
    measures = _measured(model)
    if measures:
        MEASURES.keep(notes[-1], model.sha256, measures)
    return measures


def _measured(model: ModelSpec) -> dict[int, PlaneMeasures]:
    measures_of: dict[int, PlaneMeasures] = {}
    for tensor in model.required_inputs:
        start = len(measures_of)
        planes = _planes(tensor, model)
        look = look_at(np.stack(planes, -1)) if planes and _takes_colours(tensor, model) else None
        for number, plane in enumerate(planes):
            position = start + number
            is_unseen = position >= MOST_CHANNELS or is_white_noise(plane)
            measures = measure_plane(plane, UNSEEN if is_unseen else look)
            if measures is not None:
                measures_of[position] = measures
    return measures_of


LEAST_LIKENESS = 0.1
"""Minimum correlation of neighbouring pixels in an image; optics cause a far higher one."""


def is_white_noise(plane: AnyArray) -> bool:
    """Return whether neighbouring pixels are uncorrelated, as in a tensor of random numbers.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit
    """
    values = np.nan_to_num(plane.astype(np.float64))
    values -= values.mean()
    power = float((values * values).mean())
    beside = float((values[:, 1:] * values[:, :-1]).mean()) if values.shape[1] > 1 else 0.0
    return power > 0 and beside < LEAST_LIKENESS * power


def _takes_colours(tensor: TensorSpec, model: ModelSpec) -> bool:
    """Return whether the channels are red, green and blue, by name or for stained tissue."""
    channels = tensor.axis("c")
    names = {name.lower() for name in channels.names} if channels else set()
    if tensor.channels != 3:  # noqa: PLR2004 - red, green and blue
        return False
    return (bool(names) and names <= COLOURS) or "stained" in made_for(model).families


def _planes(tensor: TensorSpec, model: ModelSpec) -> list[AnyArray]:
    array = sample_tensor(tensor, model, npy_mapped)
    if array is None or tensor.axis("y") is None:
        return []
    letters = tensor.letters
    middle = tuple(
        slice(None) if axis in "cyx" else size // 2
        for axis, size in zip(letters, array.shape, strict=True)
    )
    left = [axis for axis in letters if axis in "cyx"]
    planes = np.asarray(array[middle]).transpose([left.index(a) for a in "cyx" if a in left])
    return list(planes if "c" in left else planes[None])
