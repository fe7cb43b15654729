"""Compute features of an image with the first layers of a small network.

The network is the first eleven blocks of EfficientNet-Lite0 as trained on photographs (ImageNet),
run by NumPy alone: matrix products for its pointwise convolutions, shifted sums for the others.
If a framework is loaded anyway, it may run the same layers; see `layers_run_by`.
``model_cards/kinds/network.py`` writes its weights and documents their origin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from itertools import product
from math import isqrt
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from bmz.base.arrays import AnyArray, FloatArray, shipped_arrays
from bmz.base.values import dataclass

ARRAYS = Path(__file__).with_name("kind_network.npz")
"""Written by ``model_cards/kinds/network.py``."""

SIDE_PX = 192
"""Longer side of the network's input, px."""

STEP_PX = 16
"""Sides are multiples of this, by which the last block is coarser than the input."""

TOP = 6.0
"""Activations are clipped at this value."""

CACHED = 2**18
"""Approximate number of values computed at a time: they fit into the cache of a core."""

LONG = 1024
"""Approximate number of contiguous values that NumPy multiplies efficiently."""


@dataclass(frozen=True, eq=False)
class Block:
    """An inverted residual block (Sandler et al. 2018) with batch normalisation folded in.

    Parameters
    ----------
    expand : (c, e) weights and (e,) offsets of the pointwise convolution before; None without
    depthwise : (k, k, e) weights and (e,) offsets
    project : (e, d) weights and (d,) offsets of the pointwise convolution after
    stride : stride of the depthwise convolution
    is_told : whether features are computed from its output
    """

    expand: tuple[FloatArray, FloatArray] | None
    depthwise: tuple[FloatArray, FloatArray]
    project: tuple[FloatArray, FloatArray]
    stride: int
    is_told: bool

    def output(self, image: FloatArray) -> FloatArray:
        """Return the (y, x, d) output of a (y, x, c) input, computed a few rows at a time.

        The values between the convolutions have several times the channels of input and output;
        those of a few rows fit into the cache.
        """
        kernel = len(self.depthwise[0])
        (top, rows), (_, columns) = (_around(n, kernel, self.stride) for n in image.shape[:2])
        weights = _beside(self.depthwise[0], columns if self.stride == 1 else 1)
        out = np.empty((rows, columns, len(self.project[1])), np.float32)
        count = max(1, CACHED // (image.shape[1] * len(self.depthwise[1]) * self.stride))
        for first in range(0, rows, count):
            part = out[first : first + count]
            start = first * self.stride - top
            inner = self._inner(image, start, start + (len(part) - 1) * self.stride + kernel)
            seen = _seen_by(inner, weights, (len(part), columns), self.stride)
            np.matmul(_cut(seen, self.depthwise[1]), self.project[0], out=part)
        out += self.project[1]
        if self.adds_input:
            out += image
        return out

    @property
    def adds_input(self) -> bool:
        """Return whether the input, which has the same shape, is added to the output."""
        taken = self.depthwise[0].shape[-1] if self.expand is None else len(self.expand[0])
        return self.stride == 1 and len(self.project[1]) == taken

    def _inner(self, image: FloatArray, start: int, stop: int) -> FloatArray:
        """Return rows of the input of the depthwise convolution, 0 beyond the image."""
        rows, columns = image.shape[:2]
        left, _ = _around(columns, len(self.depthwise[0]), self.stride)
        wide = columns + len(self.depthwise[0]) - 1
        inner = np.zeros((stop - start, wide, len(self.depthwise[1])), np.float32)
        some = image[max(start, 0) : min(stop, rows)]
        target = inner[max(-start, 0) :][: len(some), left : left + columns]
        if self.expand is None:
            target[...] = some
        else:
            _cut(some @ self.expand[0], self.expand[1], out=target)
        return inner


Layer = tuple[FloatArray, FloatArray]
"""Weights (inputs, outputs), or (k k, channels) of a depthwise convolution, and offsets."""


@cache
def _stem_and_blocks() -> tuple[Layer, tuple[Block, ...]]:
    arrays = shipped_arrays(ARRAYS)
    layers = _layers(arrays)
    stem = next(layers)
    return stem, tuple(_block(row, layers) for row in arrays["blocks"])


def _block(row: AnyArray, layers: Iterator[Layer]) -> Block:
    """Take the layers of a block, which come in the order in which they are run."""
    stride, is_told, is_expanded = map(int, row)
    expand = next(layers) if is_expanded else None
    weights, offsets = next(layers)
    side = isqrt(len(weights))
    depthwise = weights.reshape(side, side, -1), offsets
    return Block(expand, depthwise, next(layers), stride, bool(is_told))


def _layers(arrays: Mapping[str, AnyArray]) -> Iterator[Layer]:
    """Yield the layers; a few arrays hold all weights in sequence, since this is faster to read.

    Weights are stored in few bits, with a scale per output.
    """
    at, column = {"bytes": 0, "halves": 0}, 0
    for rows, columns, is_small in arrays["layers"].tolist():
        kept = "bytes" if is_small else "halves"
        part = slice(at[kept], at[kept] + rows * columns)
        at[kept], own = part.stop, slice(column, column + columns)
        weights = arrays[kept][part].reshape(rows, columns) * arrays["scales"][own]
        yield weights, arrays["offsets"][own]
        column += columns


LayersRunner: TypeAlias = Callable[[FloatArray], Sequence[FloatArray]]
"""Takes (y, x, 1 or 3) float32, and returns (c, y, x) of each block with `is_told`."""


@dataclass(frozen=True, eq=False)
class Layers:
    """The network for images with one or three colours.

    Parameters
    ----------
    stem : (9 colours, c) weights and (c,) offsets of a convolution of 3 x 3 px with stride 2
    blocks : blocks that follow
    """

    stem: Layer
    blocks: tuple[Block, ...]

    def run(self, values: FloatArray) -> Sequence[FloatArray]:
        """Run the network with NumPy; see `LayersRunner`."""
        values = _windows(values, 3, 2) @ self.stem[0]
        values = _cut(values, self.stem[1], out=values)
        told: list[FloatArray] = []
        for block in self.blocks:
            values = block.output(values)
            if block.is_told:
                told.append(np.moveaxis(values, -1, 0))
        return told


@cache
def layers_of(colours: int) -> Layers:
    """Return the network for three colours, or for one that represents three equal ones."""
    (weights, offsets), blocks = _stem_and_blocks()
    if colours == 1:
        weights = weights.reshape(-1, 3, weights.shape[-1]).sum(1)
    return Layers((weights, offsets), blocks)


_RUNNERS: list[LayersRunner] = []


@contextmanager
def layers_run_by(runner: LayersRunner) -> Iterator[None]:
    """Use another runner for the layers in the block, in all threads of this process.

    Its features may differ by 1e-4 from those of NumPy, and probabilities of kinds by 1e-6.
    """
    _RUNNERS.append(runner)
    try:
        yield
    finally:
        _RUNNERS.remove(runner)


def _runner(colours: int) -> LayersRunner:
    return next(reversed([*_RUNNERS]), layers_of(colours).run)


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
    told = _runner(values.shape[-1])(values)
    joined = np.concatenate([part for seen in told for part in _mean_and_spread(seen)])
    return np.asarray(np.sign(joined) * np.log1p(np.abs(joined)), np.float32)


def _mean_and_spread(seen: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the standard deviation of each channel of (c, y, x)."""
    channels = seen.reshape(len(seen), -1)
    count = channels.shape[1]
    mean = channels @ np.full(count, 1 / count, np.float32)
    apart = channels - mean[:, np.newaxis]
    return mean, np.sqrt(np.einsum("cp,cp->c", apart, apart) / np.float32(count - 1))


def _cut(values: FloatArray, offsets: FloatArray, out: FloatArray | None = None) -> FloatArray:
    values += offsets
    return np.clip(values, 0, TOP, out=values if out is None else out)


def _resized(image: FloatArray) -> FloatArray:
    """Resize to `SIDE_PX` at the longer side, by weights that fall evenly with the distance."""
    longer = max(image.shape[:2])
    sides = [max(2, round(n * SIDE_PX / longer / STEP_PX)) * STEP_PX for n in image.shape[:2]]
    planes = [
        _shorter(_shorter(plane, sides[0]).T, sides[1]).T for plane in np.moveaxis(image, -1, 0)
    ]
    return np.stack(planes, axis=-1)


def _shorter(plane: FloatArray, target: int) -> FloatArray:
    """Resize along y: each of the (target, x) rows is computed from a few nearby rows."""
    rows = np.empty((target, plane.shape[1]), np.float32)
    for first, (near, weights) in zip(
        range(0, target, STEP_PX), _near_weights(len(plane), target), strict=True
    ):
        np.matmul(weights, plane[near], out=rows[first : first + STEP_PX])
    return rows


@lru_cache(maxsize=16)  # images of a run are of few sizes
def _near_weights(length: int, target: int) -> Sequence[tuple[slice, FloatArray]]:
    """Return, for every `STEP_PX` results, the samples that they depend on and their weights."""
    weights, parts = _weights(length, target), list[tuple[slice, FloatArray]]()
    for first in range(0, target, STEP_PX):
        some = weights[first : first + STEP_PX]
        used = np.flatnonzero(some.any(0))
        near = slice(used[0], used[-1] + 1)
        parts.append((near, np.ascontiguousarray(some[:, near])))
    return parts


def _weights(length: int, target: int) -> FloatArray:
    """Return the (target, length) weights of samples along one side; rows add up to 1."""
    reach = max(1.0, length / target)
    centres = (np.arange(target) + 0.5) * length / target - 0.5
    far = np.abs(centres[:, np.newaxis] - np.arange(length)) / reach
    weights = np.clip(1 - far, 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def _around(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros before a side, as in TensorFlow's "SAME", and the side of the output."""
    side = -(-length // stride)
    return max(0, (side - 1) * stride + kernel - length) // 2, side


def _windows(image: FloatArray, kernel: int, stride: int) -> FloatArray:
    """Return the (y, x, k k c) inputs of each output of a convolution."""
    (top, rows), (left, columns) = (_around(n, kernel, stride) for n in image.shape[:2])
    padded = np.pad(image, [(top, kernel - 1), (left, kernel - 1), (0, 0)])
    parts = [
        padded[y : y + stride * rows : stride, x : x + stride * columns : stride]
        for y, x in product(range(kernel), repeat=2)
    ]
    return np.concatenate(parts, axis=-1)


def _beside(weights: FloatArray, columns: int) -> FloatArray:
    """Repeat (k, k, e) weights for as many columns as are computed at a time.

    NumPy is fast on long rows, and in a depthwise convolution with stride 1, adjacent pixels form
    one longer row.
    """
    most = max(1, LONG // weights.shape[-1])
    times = max(n for n in range(1, min(most, columns) + 1) if columns % n == 0)
    return np.tile(weights, (1, 1, times))


def _seen_by(
    inner: FloatArray, weights: FloatArray, sides: tuple[int, int], stride: int
) -> FloatArray:
    """Convolve depthwise.

    Parameters
    ----------
    inner : (.., .., e) input including its padding
    weights : (k, k, n e) result of `_beside`
    sides : size of the output
    """
    rows, columns = sides
    kernel, channels = len(weights), inner.shape[-1]
    beside = weights.shape[-1] // channels
    down, right, near = inner.strides
    windows = as_strided(
        inner,
        (rows, columns // beside, kernel, kernel, beside * channels),
        (down * stride, right * beside * stride, down, right, near),
    )
    # all products for a pixel are summed in one pass
    seen: FloatArray = np.einsum("yxklc,klc->yxc", windows, weights)
    return seen.reshape(rows, columns, channels)
