"""Make the test tensors that a description lacks: an image of a legal size, and the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from math import ceil
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import SPACE
from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.values import dataclass
from bmz.engine.model_trial import ModelTrial
from bmz.engine.test_tensors import Taken, finished, given_inputs, sample_tensor
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image
from bmz.plan.weights_choice import ORDER
from bmz.process.adapt import cast_within_range
from bmz.spec.facts import known_diameter_px
from bmz.spec.model import AxisSpec, Fixed, LikeAxis, ModelSpec, Stepped, TensorSpec

PLANE_PX, STACK_PX = 256, 64
"""Side of a generated test input in a 2-D and in a 3-D model, px, if the network accepts it."""

DISC_PX = 16.0
"""Diameter of the discs of a drawn test input, px, if no diameter of the objects is known."""


class NothingRan(CouldNotTell):
    """No weights of a model could be run to compute its test output."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(
            f"no test output can be made, because no weights of '{model}' could be run: {why}",
            hint="'bmz test' shows what each weights format needs",
            code="describe.nothing-ran",
        )


@dataclass(frozen=True)
class MadeTests:
    """Test tensors that were made.

    Parameters
    ----------
    arrays : tensor id -> test tensor, for inputs and outputs that lack one
    why : tensor id -> how it was made
    """

    arrays: Mapping[str, AnyArray]
    why: Mapping[str, str]


def lacks_tests(model: ModelSpec) -> bool:
    """Return whether a required input or an output has no test tensor."""
    return any(tensor.test is None for tensor in (*model.required_inputs, *model.outputs))


def made_tests(trial: ModelTrial) -> MadeTests:
    """Make the missing test tensors; existing ones are kept.

    Raises
    ------
    NothingRan
        No weights can run here, for example because they run code that is not trusted.
    """
    model = trial.model
    taken: dict[str, tuple[AnyArray, str]] = {}
    why = {}
    for tensor in given_inputs(model):
        there = sample_tensor(tensor, model)
        if there is None:
            there, why[tensor.id] = _input_for(tensor, model)
        taken[tensor.id] = (cast_within_range(there, tensor.dtype), tensor.letters)
    arrays = {name: taken[name][0] for name in why}
    outputs, by = _outputs(trial, taken)
    for tensor, array in zip(model.outputs, outputs, strict=True):
        if why or tensor.test is None:
            arrays[tensor.id] = array.astype(tensor.dtype)
            why[tensor.id] = f"the output of {by} for the test input"
    return MadeTests(arrays, why)


def _outputs(trial: ModelTrial, taken: Taken) -> tuple[list[AnyArray], str]:
    from bmz.engine.pipeline import network_inputs  # here: not needed for samples

    refused = "it ships no known format"
    entries = [e for e in trial.model.weights if e.format in ORDER]
    for entry in sorted(entries, key=lambda entry: ORDER.index(entry.format)):
        try:
            inputs = network_inputs(taken, trial.model)
            with closing(trial.open(entry)) as backend:
                outputs = backend.run([tensor.array for tensor in inputs])
                return finished(trial.model, outputs, taken), f"{entry.format} in {backend.name}"
        except BmzError as failure:
            refused = f"{entry.format}: {failure.message}"
    raise NothingRan(trial.model.id, refused)


def _input_for(tensor: TensorSpec, model: ModelSpec) -> tuple[AnyArray, str]:
    sizes = {axis.letter: _size(axis, model) for axis in tensor.axes}
    if tensor.sample is not None:
        sample = _from_sample(tensor, tensor.sample.path, sizes)
        if sample is not None:
            return sample, f"the middle of its sample {tensor.sample.path.name}"
    diameter = known_diameter_px(model)
    wide = diameter.value if diameter is not None else DISC_PX
    words = f"synthetic: discs of {wide:g} px on a noisy background, at the smallest sizes from "
    return _drawn(tensor, sizes, wide), f"{words}{PLANE_PX} px that it takes; give a real image"


def _size(axis: AxisSpec, model: ModelSpec) -> int:
    """Return a legal size: the fixed one, or one close to the largest side."""
    size = axis.size
    if isinstance(size, LikeAxis):
        tensors = (*model.inputs, *model.outputs)
        like = next(tensor for tensor in tensors if tensor.id == size.tensor).axis(size.axis)
        if like is None:
            return 1
        return round(_size(like, model) * like.scale / axis.scale) + size.offset
    if isinstance(size, Fixed):
        return size.size
    if axis.letter not in SPACE:
        return getattr(size, "least", 1)
    most = PLANE_PX if "z" not in model.space else STACK_PX
    halos = [a.halo * a.scale for t in model.outputs if (a := t.axis(axis.letter)) is not None]
    most = max(most, ceil(4 * max(halos, default=0) / axis.scale))
    if isinstance(size, Stepped):
        return size.least + max(ceil((most - size.least) / size.step), 0) * size.step
    return most


def _from_sample(tensor: TensorSpec, path: Path, sizes: Mapping[str, int]) -> AnyArray | None:
    """Return the middle of a sample; None if its axes differ, or if it is too small."""
    try:
        pixels = read_image(inspect_image(path))
    except (BmzError, OSError):
        return None
    letters, array = "".join(pixels.axes), np.asarray(pixels.array)
    for letter in set(tensor.letters) - set(letters) & {"b", "c"}:
        letters, array = f"{letter}{letters}", array[None]
    if sorted(letters) != sorted(tensor.letters):
        return None
    array = array.transpose([letters.index(letter) for letter in tensor.letters])
    wanted = [sizes[letter] for letter in tensor.letters]
    if any(n < size for n, size in zip(array.shape, wanted, strict=True)):
        return None
    starts = [(n - size) // 2 for n, size in zip(array.shape, wanted, strict=True)]
    box = tuple(slice(at, at + size) for at, size in zip(starts, wanted, strict=True))
    return np.ascontiguousarray(array[box])


def _drawn(tensor: TensorSpec, sizes: Mapping[str, int], wide: float) -> AnyArray:
    """Draw discs, or balls, on a noisy background, within the declared range of values."""
    shape = tuple(sizes[letter] for letter in tensor.letters)
    rng = np.random.default_rng(0)
    image = rng.normal(0.1, 0.02, shape)
    space = [letter for letter in tensor.letters if letter in SPACE]
    along = [np.arange(sizes[letter]) for letter in space]
    pitch = 2 * wide
    squares = [
        np.square((place % pitch) - wide).reshape(
            [-1 if letter == own else 1 for own in tensor.letters]
        )
        for letter, place in zip(space, along, strict=True)
    ]
    if squares:
        inside = np.sqrt(sum(squares[1:], start=squares[0])) < wide / 2
        image = np.where(inside, image + 0.7, image)
    low, high = _limits(tensor)
    return low + np.clip(image, 0, 1) * (high - low)


def _limits(tensor: TensorSpec) -> tuple[float, float]:
    low, high = tensor.value_range
    if low is not None and high is not None and np.isfinite([low, high]).all():
        return float(low), float(high)
    if tensor.dtype in {"uint8", "int8"}:
        return 0.0, float(np.iinfo(tensor.dtype).max)
    return 0.0, 4095.0 if "int" in tensor.dtype else 1.0


def tensor_files(made: MadeTests) -> Iterator[tuple[str, str]]:
    """Yield the id of each tensor and the name of its file."""
    for name in made.arrays:
        plain = "".join(letter if letter.isalnum() else "_" for letter in name)
        yield name, f"test_{plain}.npy"
