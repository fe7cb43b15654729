"""Turn the logits of a network into shares, for a model whose description leaves the step out."""

from __future__ import annotations

from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.process.ops_values import Sigmoid, Softmax

ACTIVATIONS = ("none", "sigmoid", "softmax")
"""What may be done to the maps of a network before a recipe reads them."""


def activated(output: AnyArray, activation: str) -> AnyArray:
    """Give the maps after an activation, as the declared steps of these names do it.

    Parameters
    ----------
    output : (c, ...), logits
    activation : of `ACTIVATIONS`; with ``softmax`` the channels sum to 1 in every pixel
    """
    if activation == "none":
        return output
    step = Softmax() if activation == "softmax" else Sigmoid()
    return step(output, "czyx"[: output.ndim])


class ActivatedMaps:
    """Maps of which parts are read, each part after the activation.

    Parameters
    ----------
    maps : (c, (z,) y, x), an array of which parts are read
    activation : of `ACTIVATIONS`
    """

    def __init__(self, maps: Any, activation: str) -> None:  # noqa: ANN401  (as NumPy or Zarr have it)
        self._maps, self._activation = maps, activation
        self.shape: tuple[int, ...] = tuple(maps.shape)

    def __getitem__(self, region: tuple[Any, ...]) -> AnyArray:
        """Read one channel of a part, or several."""
        channel, *where = region
        every = np.asarray(self._maps[(slice(None), *where)])
        part: AnyArray = activated(every, self._activation)[channel]
        return part
