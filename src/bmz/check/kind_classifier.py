"""The classifier of kinds of images: its arrays, and what they make of features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bmz.base.arrays import FloatArray

ARRAYS = Path(__file__).with_name("kind.npz")
"""Written by ``model_cards/kinds/train.py``, which says what each array holds."""

LARGEST = 4.0
"""Standardised features are cut off at this many deviations."""


@dataclass(frozen=True, eq=False)
class Head:
    """A small network on standardised features.

    Parameters
    ----------
    mean, scale : (k,) of the features
    layers : weights (n, m) and offsets (m,) of each layer; all but the last are rectified
    temperature : by which the last is divided, so that probabilities are true ones
    """

    mean: FloatArray
    scale: FloatArray
    layers: tuple[tuple[FloatArray, FloatArray], ...]
    temperature: float

    def probabilities(self, row: FloatArray) -> FloatArray:
        """Give the probability of each kind.

        Parameters
        ----------
        row : (k,) features
        """
        values = np.clip((row - self.mean) / self.scale, -LARGEST, LARGEST)
        for number, (weights, offsets) in enumerate(self.layers):
            values = values @ weights + offsets
            if number < len(self.layers) - 1:
                values = np.maximum(values, 0)
        powers = np.exp((values - values.max()) / self.temperature)
        shares: FloatArray = powers / powers.sum()
        return shares


@dataclass(frozen=True, eq=False)
class KindClassifier:
    """What tells kinds from features.

    Parameters
    ----------
    families : family of each kind
    structures : structure of each column of `shares`
    shares : (kinds, structures) how much of each kind shows which structure; rows add up to 1
    grey, colour : networks for images in grey and in colour
    centre, axes : (k,) mean and (k, m) directions in which kinds lie apart, of grey features
    """

    families: tuple[str, ...]
    structures: tuple[str, ...]
    shares: FloatArray
    grey: Head
    colour: Head
    centre: FloatArray
    axes: FloatArray

    def probabilities(self, row: FloatArray) -> FloatArray:
        """Give the probability of each kind.

        Parameters
        ----------
        row : features as `bmz.check.kind_features.features` gives them
        """
        if np.isfinite(row).all():
            return self.colour.probabilities(row)
        return self.grey.probabilities(row[: len(self.grey.mean)])

    def place(self, row: FloatArray) -> FloatArray:
        """Give (m,) the place of an image among others; unlike kinds lie apart."""
        return np.clip(row[: len(self.centre)] - self.centre, *self._limits()) @ self.axes

    def _limits(self) -> tuple[FloatArray, FloatArray]:
        most = LARGEST * self.grey.scale
        return -most, most


@cache
def kind_classifier() -> KindClassifier:
    """Read the classifier that comes with bmz."""
    with np.load(ARRAYS, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return KindClassifier(
        tuple(map(str, arrays["families"])),
        tuple(map(str, arrays["structures"])),
        arrays["shares"],
        _head(arrays, "grey"),
        _head(arrays, "colour"),
        arrays["centre"],
        arrays["axes"],
    )


def _head(arrays: dict[str, FloatArray], name: str) -> Head:
    layers = list[tuple[FloatArray, FloatArray]]()
    while f"{name}_weights{len(layers)}" in arrays:
        number = len(layers)
        layers.append((arrays[f"{name}_weights{number}"], arrays[f"{name}_offsets{number}"]))
    return Head(
        arrays[f"{name}_mean"],
        arrays[f"{name}_scale"],
        tuple(layers),
        float(arrays[f"{name}_temperature"]),
    )
