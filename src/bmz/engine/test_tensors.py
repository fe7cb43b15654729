"""The test tensors of a model: read, prepared, and labelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bmz.base.arrays import AnyArray
from bmz.base.errors import AnswerIsNo, BmzError, CouldNotTell
from bmz.engine.labelling import Labelling, parted_steps
from bmz.engine.pipeline import KnownTensors, all_stepped, labels_of, network_inputs
from bmz.image.npy import npy_array
from bmz.predict.cutting import Tensor
from bmz.process.adapt import cast_within_range
from bmz.spec.model import ModelSpec, TensorSpec
from bmz.spec.package_files import verified

Taken = Mapping[str, tuple[AnyArray, str]]
"""Id of a tensor -> array and letters."""


class NoTestTensor(CouldNotTell):
    """A description names no test tensor."""

    def __init__(self, tensor: str) -> None:
        super().__init__(
            f"the description names no test tensor for '{tensor}'",
            hint="tell the model's authors: without it nobody can tell whether the model works",
            code="test.no-tensor",
        )


class TensorWrong(AnswerIsNo):
    """A test tensor is no array of numbers, or not of the axes that are described."""

    def __init__(self, tensor: str, why: str) -> None:
        super().__init__(
            f"the test tensor of '{tensor}' is wrong: {why}",
            hint="the package is at fault; tell the model's authors",
            code="test.tensor",
        )


@dataclass(frozen=True)
class OwnTensors:
    """What a model should make of what.

    Parameters
    ----------
    taken : inputs as they are stored, cast to their declared dtype
    inputs : the same after the declared preprocessing, in the order of the description
    expected : what the outputs should be after the declared postprocessing, in its order
    """

    taken: Taken
    inputs: Sequence[Tensor]
    expected: Sequence[AnyArray]


def read_test_tensors(model: ModelSpec, inputs: Sequence[TensorSpec] | None = None) -> OwnTensors:
    """Read the test tensors and apply the declared preprocessing.

    Parameters
    ----------
    inputs : that are given; None for all of `given_inputs`

    Raises
    ------
    NoTestTensor, TensorWrong
        They are not described, or not as described.
    CouldNotTell
        A file is not there or another one, or a step does not go with its tensor.
    """
    tensors = given_inputs(model) if inputs is None else inputs
    taken = {
        tensor.id: (cast_within_range(_read(tensor, model), tensor.dtype), tensor.letters)
        for tensor in tensors
    }
    return OwnTensors(
        taken, network_inputs(taken, model), [_read(tensor, model) for tensor in model.outputs]
    )


def given_inputs(model: ModelSpec) -> tuple[TensorSpec, ...]:
    """Give the inputs that a test gives: those that must be, and optional ones with a tensor."""
    return tuple(tensor for tensor in model.inputs if not tensor.optional or tensor.test)


def finished(model: ModelSpec, outputs: Sequence[AnyArray], taken: Taken) -> list[AnyArray]:
    """Apply the declared postprocessing to the outputs of the network.

    Parameters
    ----------
    outputs : of the network, in the order of the description
    taken : the inputs, to which a step may refer

    Raises
    ------
    BmzError
        A step does not go with its tensor.
    """
    return all_stepped(model, KnownTensors.of(model, taken, outputs))


def as_maps(model: ModelSpec, taken: Taken, outputs: Sequence[AnyArray]) -> list[AnyArray]:
    """Apply the declared steps that give maps, such as sigmoid, and not those that give labels."""
    known = KnownTensors.of(model, taken, outputs)
    return all_stepped(model, known, lambda tensor: parted_steps(tensor.steps)[0])


def labels_of_first(
    model: ModelSpec, labelling: Labelling, taken: Taken, outputs: Sequence[AnyArray]
) -> AnyArray:
    """Label what the network made of the first image of the test inputs.

    Parameters
    ----------
    labelling : with a recipe
    taken : the inputs, see `first_of_batch`
    outputs : of the network, in the order of the description

    Returns
    -------
    ((z,) y, x) integers

    Raises
    ------
    BmzError
        A step or the recipe does not take the output.
    """
    array, letters = taken[model.inputs[0].id]
    sizes = dict(zip(letters, array.shape, strict=True))
    shape = {axis: sizes[axis] for axis in model.space}
    return labels_of(KnownTensors.of(model, taken, outputs), model, labelling, shape).labels


def first_of_batch(array: AnyArray, letters: str) -> AnyArray:
    """Give the first image of a tensor, with its axis of the batch."""
    return array.take([0], letters.index("b")) if "b" in letters else array


def first_inputs(model: ModelSpec) -> Taken:
    """Read the first image of each test input that must be; empty where one is not there."""
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
    """Read a test tensor where it is only an aid; None where there is none that can be used.

    Of its faults ``bmz test`` tells.

    Parameters
    ----------
    reader : of its file, such as `bmz.image.npy.npy_mapped` for a part of it
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
        difference = f"{array.ndim} axes, described are {tensor.letters}"
        raise TensorWrong(tensor.id, difference)
    return array
