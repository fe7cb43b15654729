"""What the first layers of a small network see in an image.

The network is the first eleven blocks of EfficientNet-Lite0 as trained on photographs (ImageNet),
run by NumPy alone: matrix products for its pointwise convolutions, shifted sums for the others.
``model_cards/kinds/network.py`` writes its weights and says where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray

ARRAYS = Path(__file__).with_name("kind_network.npz")
"""Written by ``model_cards/kinds/network.py``."""

SIDE_PX = 192
"""The longer side of what the network sees."""

STEP_PX = 16
"""Sides are multiples of it: so much coarser is the last block."""

TOP = 6.0
"""Activations are cut off here."""


@dataclass(frozen=True, eq=False)
class Block:
    """An inverted residual block (Sandler et al. 2018) with batch normalisation folded in.

    Parameters
    ----------
    expand : (c, e) weights and (e,) offsets of the pointwise convolution before; None without
    depthwise : (k, k, e) weights and (e,) offsets
    project : (e, d) weights and (d,) offsets of the pointwise convolution after
    stride : of the depthwise convolution
    is_told : its output is described
    """

    expand: tuple[FloatArray, FloatArray] | None
    depthwise: tuple[FloatArray, FloatArray]
    project: tuple[FloatArray, FloatArray]
    stride: int
    is_told: bool

    def output(self, image: FloatArray) -> FloatArray:
        """Give the (y, x, d) output of a (y, x, c) input."""
        inner = image
        if self.expand is not None:
            inner = _cut(image @ self.expand[0] + self.expand[1])
        inner = _cut(_depthwise(inner, self.depthwise[0], self.stride) + self.depthwise[1])
        out: FloatArray = inner @ self.project[0] + self.project[1]
        return out + image if out.shape == image.shape else out


@cache
def _stem_and_blocks() -> tuple[tuple[FloatArray, FloatArray], tuple[Block, ...]]:
    with np.load(ARRAYS, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return _layer(arrays, "stem"), tuple(_blocks(arrays))


def _blocks(arrays: dict[str, AnyArray]) -> Iterator[Block]:
    for number, (stride, is_told) in enumerate(arrays["blocks"]):
        expand, depthwise, project = (
            _layer(arrays, f"{number}_{name}") if f"{number}_{name}_weights" in arrays else None
            for name in ("expand", "depthwise", "project")
        )
        if depthwise is None or project is None:
            raise ValueError(f"{ARRAYS.name} lacks layers of block {number}")
        yield Block(expand, depthwise, project, int(stride), bool(is_told))


def _layer(arrays: dict[str, AnyArray], name: str) -> tuple[FloatArray, FloatArray]:
    """Give weights, kept as small numbers with a scale for each output, and offsets."""
    weights = arrays[f"{name}_weights"] * arrays[f"{name}_scales"].astype(np.float32)
    return weights, arrays[f"{name}_offsets"].astype(np.float32)


def network_features(image: FloatArray) -> FloatArray:
    """Describe an image by the mean and the spread of what each channel of some blocks gives.

    Parameters
    ----------
    image : (y, x) or (y, x, 3) float32, about 0 to 1

    Returns
    -------
    (464,) float32
    """
    colours = image if image.ndim == 3 else image[..., np.newaxis]  # noqa: PLR2004
    values = 2 * _resized(np.clip(colours, 0, 1)) - 1
    if values.shape[-1] == 1:
        values = np.repeat(values, 3, axis=-1)
    stem, blocks = _stem_and_blocks()
    values = _cut(_windows(values, 3, 2) @ stem[0] + stem[1])
    told: list[FloatArray] = []
    for block in blocks:
        values = block.output(values)
        if block.is_told:
            told += [values.mean((0, 1)), values.std((0, 1), ddof=1)]
    joined = np.concatenate(told)
    return np.asarray(np.sign(joined) * np.log1p(np.abs(joined)), np.float32)


def _cut(values: FloatArray) -> FloatArray:
    return np.clip(values, 0, TOP, out=values)


def _resized(image: FloatArray) -> FloatArray:
    """Resize to `SIDE_PX` at the longer side, by weights that fall evenly with the distance."""
    longer = max(image.shape[:2])
    sides = [max(2, round(n * SIDE_PX / longer / STEP_PX)) * STEP_PX for n in image.shape[:2]]
    rows = _weights(image.shape[0], sides[0])
    columns = _weights(image.shape[1], sides[1])
    planes = [rows @ plane @ columns.T for plane in np.moveaxis(image, -1, 0)]
    return np.stack(planes, axis=-1)


def _weights(length: int, target: int) -> FloatArray:
    """Give (target, length) weights of samples along one side; rows add up to 1."""
    reach = max(1.0, length / target)
    centres = (np.arange(target) + 0.5) * length / target - 0.5
    far = np.abs(centres[:, np.newaxis] - np.arange(length)) / reach
    weights = np.clip(1 - far, 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def _padded(image: FloatArray, kernel: int, stride: int) -> tuple[FloatArray, list[int]]:
    """Pad with zeros as TensorFlow's "SAME" does, and give the sides of the output."""
    sides = [-(-n // stride) for n in image.shape[:2]]
    missing = [
        max(0, (o - 1) * stride + kernel - n) for o, n in zip(sides, image.shape, strict=False)
    ]
    pads = [(n // 2, n - n // 2) for n in missing]
    return np.pad(image, [*pads, (0, 0)]), sides


def _windows(image: FloatArray, kernel: int, stride: int) -> FloatArray:
    """Give (y, x, k k c) the inputs of each output of a convolution."""
    padded, (rows, columns) = _padded(image, kernel, stride)
    parts = [
        padded[y : y + stride * rows : stride, x : x + stride * columns : stride]
        for y, x in product(range(kernel), repeat=2)
    ]
    return np.concatenate(parts, axis=-1)


def _depthwise(image: FloatArray, weights: FloatArray, stride: int) -> FloatArray:
    kernel = len(weights)
    padded, (rows, columns) = _padded(image, kernel, stride)
    total = np.zeros((rows, columns, image.shape[-1]), np.float32)
    products = np.empty_like(total)
    for y, x in product(range(kernel), repeat=2):
        part = padded[y : y + stride * rows : stride, x : x + stride * columns : stride]
        total += np.multiply(part, weights[y, x], out=products)
    return total
