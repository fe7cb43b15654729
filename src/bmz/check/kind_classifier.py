"""The classifier of kinds of images: its arrays, and what they make of features."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray, shipped_arrays
from bmz.base.values import dataclass

ARRAYS = Path(__file__).with_name("kind.npz")
"""Written by ``model_cards/kinds/train.py``, which says what each array holds."""

LARGEST = 4.0
"""Standardised features are cut off at this many deviations."""

LEAST_SHARE = 1e-3
"""Added to a probability of the forest before its logarithm is taken."""


@dataclass(frozen=True, eq=False)
class Forest:
    """Extremely randomised trees (Geurts et al. 2006), one after the other.

    Parameters
    ----------
    roots : (trees,) the first node of each
    feature : (nodes,) the feature that a node asks for; -1 at a leaf
    threshold : (nodes,) up to this value the answer is on the left
    left, right : (nodes,) the nodes that follow; at a leaf `left` is its row of `leaves`
    leaves : (leaves, kinds) probabilities
    """

    roots: AnyArray
    feature: AnyArray
    threshold: FloatArray
    left: AnyArray
    right: AnyArray
    leaves: FloatArray

    def probabilities(self, row: FloatArray) -> FloatArray:
        """Give the mean of what the leaves say.

        Parameters
        ----------
        row : (k,) features
        """
        nodes = self.roots
        while (inner := self.feature[nodes] >= 0).any():
            low = row[self.feature[nodes]] <= self.threshold[nodes]
            nodes = np.where(inner, np.where(low, self.left[nodes], self.right[nodes]), nodes)
        shares = self.leaves[self.left[nodes]]
        mean: FloatArray = (shares / shares.sum(1, keepdims=True)).mean(0)
        return mean


@dataclass(frozen=True, eq=False)
class Mixture:
    """Two unlike classifiers, weighed.

    Parameters
    ----------
    mean, scale : (k,) of what the network sees, the last k features
    weights, offsets : (k, kinds) and (kinds,) of a logistic regression on it
    forest : trees on the features made by hand, which come first
    mix : factors of the two, chosen so that probabilities are true ones
    """

    mean: FloatArray
    scale: FloatArray
    weights: FloatArray
    offsets: FloatArray
    forest: Forest
    mix: FloatArray

    def probabilities(self, row: FloatArray) -> FloatArray:
        """Give the probability of each class.

        Parameters
        ----------
        row : (n,) features
        """
        linear = self.standardised(row) @ self.weights + self.offsets
        trees = np.log(self.forest.probabilities(row) + LEAST_SHARE)
        logits = self.mix[0] * (linear - linear.mean()) + self.mix[1] * (trees - trees.mean())
        powers = np.exp(logits - logits.max())
        shares: FloatArray = powers / powers.sum()
        return shares

    def standardised(self, row: FloatArray) -> FloatArray:
        """Give (k,) what the network sees, about its mean, in deviations."""
        values: FloatArray = (row[-len(self.mean) :] - self.mean) / self.scale
        return np.clip(values, -LARGEST, LARGEST)


@dataclass(frozen=True, eq=False)
class Head:
    """What answers for grey or for colour images.

    Parameters
    ----------
    families, kinds : the first tells families better, the second kinds within a family
    family_of : (kinds,) number of the family of each kind
    """

    families: Mixture
    kinds: Mixture
    family_of: AnyArray

    def probabilities(self, row: FloatArray) -> FloatArray:
        """Give the probability of each kind.

        Parameters
        ----------
        row : (n,) features
        """
        families, kinds = self.families.probabilities(row), self.kinds.probabilities(row)
        inside = np.bincount(self.family_of, kinds)
        shares: FloatArray = kinds * (families / inside)[self.family_of]
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
    axes : (k, m) directions of what the network sees in which kinds lie apart, in the unit of
        `bmz.check.kind_features.unlikeness`
    centres : (c, m) the places of the kinds of all sources that were learnt from
    fade : from about which distance an image is of no known kind, and how suddenly
    """

    families: tuple[str, ...]
    structures: tuple[str, ...]
    shares: FloatArray
    grey: Head
    colour: Head
    axes: FloatArray
    centres: FloatArray
    fade: FloatArray

    def probabilities(self, row: FloatArray) -> FloatArray:
        """Give the probability of each kind; what is missing to 1 is an unknown kind.

        Parameters
        ----------
        row : features as `bmz.check.kind_features.features` gives them
        """
        far = float(np.linalg.norm(self.centres - self.place(row), axis=1).min())
        known = 1 / (1 + np.exp(self.fade[1] * (far - self.fade[0])))
        coloured = bool(np.isfinite(row).all())
        head = self.colour if coloured else self.grey
        shares: FloatArray = known * head.probabilities(row)
        return shares

    def place(self, row: FloatArray) -> FloatArray:
        """Give (m,) the place of an image among others; unlike kinds lie apart."""
        place: FloatArray = self.grey.kinds.standardised(row) @ self.axes
        return place


@cache
def kind_classifier() -> KindClassifier:
    """Read the classifier that comes with bmz."""
    arrays = shipped_arrays(ARRAYS)
    return KindClassifier(
        tuple(map(str, arrays["families"])),
        tuple(map(str, arrays["structures"])),
        arrays["shares"],
        _head(arrays, "grey"),
        _head(arrays, "colour"),
        arrays["axes"],
        arrays["centres"],
        arrays["fade"],
    )


def _head(arrays: dict[str, AnyArray], name: str) -> Head:
    families, kinds = (_mixture(arrays, f"{name}_{level}") for level in ("families", "kinds"))
    return Head(families, kinds, np.unique(arrays["families"], return_inverse=True)[1])


def _mixture(arrays: dict[str, AnyArray], name: str) -> Mixture:
    roots, feature, threshold, right, leaves = (
        arrays[f"{name}_{part}"] for part in ("roots", "feature", "threshold", "right", "leaves")
    )
    nodes, at_leaf = np.arange(len(feature)), feature < 0
    # the node on the left comes next; leaves have rows of their own, in the same order
    left = np.where(at_leaf, at_leaf.cumsum() - 1, nodes + 1)
    forest = Forest(roots, feature, threshold, left, nodes + right, leaves.astype(np.float32))
    mean, scale, weights, offsets = (
        arrays[f"{name}_{part}"] for part in ("mean", "scale", "weights", "offsets")
    )
    return Mixture(mean, scale, weights, offsets, forest, arrays[f"{name}_mix"])
