"""Decide the stand-in for a manifest: its test input, its structure and its weights."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from tests.conformance.manifest import SPACE, Axis, Manifest, Tensor
from tests.conformance.steps import applied

Array = NDArray[Any]

WIDTH = 3
_LEAST = {"z": 4, "y": 32, "x": 32, "object": 2, "point": 3}
_KEPT = 16  # entries of the test output that no halo touches, at least
_SMOOTH = {"z": 1.5, "y": 5.0, "x": 5.0}  # blobs, so that labels are not single pixels


class NoStandIn(Exception):
    """A manifest for which no stand-in can be made, with the reason."""


@dataclass(frozen=True)
class Network:
    """A network in the words of ``architecture.StandIn``, with its weights.

    Parameters
    ----------
    kwargs : arguments of ``StandIn``
    weights : its state dict
    """

    kwargs: Mapping[str, Any]
    weights: Mapping[str, Array]


def random_of(alias: str) -> np.random.Generator:
    """Give the random numbers of a model: the same ones each time."""
    return np.random.default_rng(zlib.crc32(alias.encode()))


def sizes_of_inputs(manifest: Manifest) -> dict[tuple[str, str], int]:
    """Choose the smallest legal size of each axis of each input that leaves something inside."""
    halos: dict[str, int] = {}
    for tensor in manifest.outputs:
        for axis in tensor.axes:
            wide = axis.halo * max(1, round(1 / axis.rule.factor))
            halos[axis.name] = max(halos.get(axis.name, 0), wide)
    return {
        (tensor.name, axis.name): _legal(axis, 2 * halos.get(axis.name, 0))
        for tensor in manifest.inputs
        for axis in tensor.axes
    }


def _legal(axis: Axis, margin: int) -> int:
    rule = axis.rule
    if rule.follows:
        raise NoStandIn(f"input axis {axis.name} follows another tensor")
    wanted = 1 if axis.name == "batch" else _LEAST.get(axis.name, 1)
    if margin:
        wanted = max(wanted, margin + _KEPT)
    steps = math.ceil(max(0, wanted - rule.least) / rule.step) if rule.step else 0
    return rule.least + steps * rule.step


def sizes_of_output(tensor: Tensor, sizes: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Give the size of each axis of an output, for a test input of the chosen sizes."""
    found = {}
    for axis in tensor.axes:
        rule = axis.rule
        if rule.follows is not None:
            size = sizes[rule.follows] * rule.factor + rule.added
            if size != round(size):
                raise NoStandIn(f"axis {axis.name} of {tensor.name} would have {size} entries")
            found[axis.name] = round(size)
        elif rule.free:
            others = [size for (_, name), size in sizes.items() if name == axis.name]
            found[axis.name] = others[0] if others else 1
        else:
            found[axis.name] = rule.least
    return found


def test_input(
    tensor: Tensor, sizes: Mapping[tuple[str, str], int], random: np.random.Generator
) -> Array:
    """Draw a test input: blobs within the declared range, of the declared dtype."""
    shape = [sizes[tensor.name, name] for name in tensor.names]
    low, high = _limits(tensor)
    if not tensor.space or "object" in tensor.names:
        drawn = random.random(shape)
    else:
        sigma = [_SMOOTH.get(name, 0.0) for name in tensor.names]
        drawn = ndi.gaussian_filter(random.random(shape, dtype=np.float32), sigma)
        drawn = (drawn - drawn.min()) / (np.ptp(drawn) or 1)
    values = low + drawn * (high - low)
    return np.asarray(np.round(values) if high - low > 1 else values).astype(tensor.dtype)


def _limits(tensor: Tensor) -> tuple[float, float]:
    low, high = tensor.limits
    if low is not None and high is not None:
        return low, high
    widest = {"uint8": 255.0, "uint16": 4000.0, "int64": 31.0}
    if tensor.name == "point_labels":
        return 0.0, 1.0
    return 0.0, widest.get(tensor.dtype, 255.0 if tensor.steps else 1.0)


def prepared(tensor: Tensor, x: Array, *, old: bool) -> Array:
    """Preprocess a test input as the format of its manifest says.

    Format 0.4 hands float32 to the network; 0.5 the declared dtype, unless the last step casts.
    """
    done = applied(tensor.steps, x, tensor.names)
    if old:
        return done.astype(np.float32)
    last = tensor.steps[-1].get("id") if tensor.steps else None
    return done if last == "ensure_dtype" else done.astype(tensor.dtype)


def finished(tensor: Tensor, y: Array) -> Array:
    """Postprocess what the network gave; both formats end with the declared dtype."""
    return applied(tensor.steps, y, tensor.names).astype(tensor.dtype)


def make_network(
    manifest: Manifest,
    sizes: Mapping[tuple[str, str], int],
    inputs: Sequence[Array],
    random: np.random.Generator,
) -> Network:
    """Decide the structure and draw the weights.

    Parameters
    ----------
    sizes : of all axes of the test inputs
    inputs : the prepared test inputs; weights are drawn for values such as theirs
    """
    image = manifest.inputs[0]
    if not {"y", "x"} <= set(image.space):
        raise NoStandIn(f"the first input, {image.name}, is not an image")
    parts = ["image", *(_part(tensor, image, sizes) for tensor in manifest.inputs[1:])]
    told = [
        {"axes": list(tensor.names), "part": part}
        for tensor, part in zip(manifest.inputs, parts, strict=True)
    ]
    stacked = [
        (sizes.get((tensor.name, "channel"), 1), x)
        for tensor, x, part in zip(manifest.inputs, inputs, parts, strict=True)
        if part != "side"
    ]
    outputs = [_head(tensor, image, sizes) for tensor in manifest.outputs]
    weights: dict[str, Array] = {"side": _side(inputs, random)}
    weights |= _mix(stacked, len(image.space), random)
    for number, head in enumerate(outputs):
        count = math.prod(head["own"].values())
        weights[f"heads.{number}.linear.weight"] = random.normal(0, 1.5, (count, WIDTH))
        middle = _middle(manifest.outputs[number])
        weights[f"heads.{number}.linear.bias"] = random.normal(middle, 0.5, count)
    channels = sum(count for count, _ in stacked)
    kwargs = {
        "inputs": told,
        "channels": channels,
        "width": WIDTH,
        "outputs": outputs,
        "given_back": _given_back(manifest),
    }
    return Network(kwargs, {name: w.astype(np.float32) for name, w in weights.items()})


def _given_back(manifest: Manifest) -> dict[str, int]:
    """Pair outputs with inputs whose test tensor is the very same file (micro-SAM's embeddings)."""
    if manifest.old:
        return {}
    tested = [tensor["test_tensor"]["source"] for tensor in manifest.content["inputs"]]
    return {
        str(number): tested.index(tensor["test_tensor"]["source"])
        for number, tensor in enumerate(manifest.content["outputs"])
        if tensor["test_tensor"]["source"] in tested
    }


def _part(tensor: Tensor, image: Tensor, sizes: Mapping[tuple[str, str], int]) -> str:
    same = tensor.space == image.space and not tensor.optional
    alike = all(sizes[tensor.name, a] == sizes[image.name, a] for a in tensor.space)
    return "beside" if same and alike else "side"


def _side(inputs: Sequence[Array], random: np.random.Generator) -> Array:
    scale = [max(float(np.abs(x.astype(np.float64)).mean()), 1e-3) for x in inputs]
    return np.asarray(random.uniform(0.5, 1.0, len(inputs)) / scale)


def _mix(
    stacked: Sequence[tuple[int, Array]], dims: int, random: np.random.Generator
) -> dict[str, Array]:
    """Draw a convolution whose outputs have a mean near 0 and a deviation near 1."""
    channels = sum(count for count, _ in stacked)
    kernel = random.normal(0, 1, (WIDTH, channels, *[3] * dims))
    kernel -= kernel.mean(tuple(range(2, 2 + dims)), keepdims=True) * 0.8  # sees edges, too
    bias, first = np.zeros(WIDTH), 0
    for count, x in stacked:
        wide = x.astype(np.float64)
        part = kernel[:, first : first + count]
        part /= (float(wide.std()) or 1.0) * math.sqrt(count * 3**dims) / 2
        bias -= part.sum(tuple(range(1, 2 + dims))) * wide.mean()
        first += count
    return {"mix.weight": kernel, "mix.bias": bias + random.normal(0, 0.3, WIDTH)}


def _head(tensor: Tensor, image: Tensor, sizes: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    mine = sizes_of_output(tensor, sizes)
    shared = [name for name in image.space if name in mine]
    every, sized = {}, {}
    for axis in (axis for axis in tensor.axes if axis.name in shared):
        have, want = sizes[image.name, axis.name], mine[axis.name]
        if axis.rule.follows and have % want == 0:
            every[axis.name] = have // want
        elif have != want:
            sized[axis.name] = want
    own = {n: s for n, s in mine.items() if n not in (*shared, "batch", "object")}
    return {
        "axes": list(tensor.names),
        "own": own,
        "gone": [name for name in image.space if name not in shared],
        "every": {name: step for name, step in every.items() if step > 1},
        "sized": sized,
        "ending": _ending(tensor),
        "dtype": _network_dtype(tensor),
    }


def _ending(tensor: Tensor) -> str:
    steps = {step.get("id") or step.get("name") for step in tensor.steps}
    if "sigmoid" in steps or not set(SPACE) & set(tensor.names):
        return "none"
    if "channel" not in tensor.names or tensor.dtype.startswith("uint"):
        return "labels"
    return "sigmoid"


def _middle(tensor: Tensor) -> float:
    """Give the logit of a declared threshold, so that both sides of it are met; else 0."""
    thresholds = [(step.get("kwargs") or {}).get("threshold") for step in tensor.steps]
    share = next((t for t in thresholds if isinstance(t, float)), 0.5)
    return math.log(share / (1 - share))


def _network_dtype(tensor: Tensor) -> str:
    """Give what the network returns: whole numbers only where nothing comes after it."""
    whole = tensor.dtype.startswith("uint") and not tensor.steps
    return tensor.dtype if whole else "float32"
