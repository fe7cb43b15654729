"""The test tensors of a model: inputs as the network takes them, outputs as they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bmz.base.arrays import AnyArray
from bmz.base.errors import AnswerIsNo, CouldNotTell
from bmz.engine.known_tensors import KnownTensors, all_stepped
from bmz.engine.labelling import parted_steps
from bmz.image.npy import npy_array
from bmz.predict.cutting import Tensor
from bmz.process.adapt import cast_within_range
from bmz.process.ops import apply_steps
from bmz.spec.files import verified
from bmz.spec.model import ModelSpec, TensorSpec

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
    wanted : what the outputs should be after the declared postprocessing, in its order
    """

    taken: Taken
    inputs: Sequence[Tensor]
    wanted: Sequence[AnyArray]


def read_test_tensors(model: ModelSpec) -> OwnTensors:
    """Read the test tensors and apply the declared preprocessing.

    Raises
    ------
    NoTestTensor, TensorWrong
        They are not described, or not as described.
    CouldNotTell
        A file is not there or another one, or a step does not go with its tensor.
    """
    given = given_inputs(model)
    taken = {
        tensor.id: (cast_within_range(_read(tensor, model), tensor.dtype), tensor.letters)
        for tensor in given
    }
    inputs = [
        Tensor(*apply_steps(tensor.steps, *taken[tensor.id], references=taken)) for tensor in given
    ]
    return OwnTensors(taken, inputs, [_read(tensor, model) for tensor in model.outputs])


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


def _read(tensor: TensorSpec, model: ModelSpec) -> AnyArray:
    if tensor.test is None:
        raise NoTestTensor(tensor.id)
    verified(tensor.test, f"test tensor of {tensor.id}", model.folder)
    try:
        array = npy_array(tensor.test.path)
    except CouldNotTell as why:
        raise TensorWrong(tensor.id, why.message) from why
    if array.ndim != len(tensor.letters):
        found = f"{array.ndim} axes, described are {tensor.letters}"
        raise TensorWrong(tensor.id, found)
    return array
