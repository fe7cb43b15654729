"""Classify the kind of an image from its features, with a trained classifier."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray, shipped_arrays
from bmz.base.values import dataclass

ARRAYS = Path(__file__).with_name("kind.npz")
"""Arrays of the classifier; ``model_cards/kinds/train.py`` writes and documents them."""

LARGEST = 4.0
"""Standardised features are cut off at this many deviations."""

LEAST_SHARE = 1e-3
"""Added to a probability of the forest before its logarithm is taken."""

GREY_STAINED = 0.2
"""Factor on the probability of stained tissue for a grey image, relative to other families.

Stains are recognised by colour, and grey images of them are rare: 7 of the 509 grey images in the
training data. Their variants without colours are not, and make every coarse tissue look stained.
"""


def as_of_grey(shares: FloatArray, families: AnyArray) -> FloatArray:
    """Adjust the probabilities of kinds to what a grey image may show, preserving their sum.

    Parameters
    ----------
    shares : (..., kinds)
    families : (kinds,) family of each kind
    """
    rarer = shares * np.where(np.asarray(families) == "stained", GREY_STAINED, 1.0)
    grey: FloatArray = rarer * (shares.sum(-1, keepdims=True) / rarer.sum(-1, keepdims=True))
    return grey


@dataclass(frozen=True, eq=False)
class Forest:
    """Extremely randomised trees (Geurts et al. 2006), stored one after another.

    Parameters
    ----------
    roots : (trees,) first node of each tree
    feature : (nodes,) feature that a node tests; -1 at a leaf
    threshold : (nodes,) up to this value, the left node follows
    left, right : (nodes,) nodes that follow; at a leaf, `left` is its row of `leaves`
    leaves : (leaves, kinds) probabilities
    """

    roots: AnyArray
    feature: AnyArray
    threshold: FloatArray
    left: AnyArray
    right: AnyArray
    leaves: FloatArray

    def probabilities(self, row: FloatArray) -> FloatArray:
        """Return the mean of the probabilities at the leaves.

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
class Head:
    """The classifier for grey or for colour images: a weighted combination of two.

    The first classes distinguish families better, the others kinds within a family.

    Parameters
    ----------
    mean, scale : (k,) mean and deviation of the network's features, the last k features
    weights, offsets : (k, families + kinds) and (families + kinds,) of a logistic regression on
        the network's features
    forest : trees on the handcrafted features, which come first; they distinguish kinds
    mix : (2, 2) factors of the regression and the forest, for families and for kinds, chosen so
        that probabilities are calibrated
    family_of : (kinds,) number of the family of each kind
    """

    mean: FloatArray
    scale: FloatArray
    weights: FloatArray
    offsets: FloatArray
    forest: Forest
    mix: FloatArray
    family_of: AnyArray

    def probabilities(self, row: FloatArray) -> FloatArray:
        """Return the probability of each kind.

        Parameters
        ----------
        row : (n,) features
        """
        linear = standardised(row, self.mean, self.scale) @ self.weights + self.offsets
        trees = self.forest.probabilities(row)
        of_families: FloatArray = np.bincount(self.family_of, trees).astype(np.float64)
        count = len(of_families)
        families = _mixed(linear[:count], of_families, self.mix[0])
        kinds = _mixed(linear[count:], trees, self.mix[1])
        inside = np.bincount(self.family_of, kinds)
        shares: FloatArray = kinds * (families / inside)[self.family_of]
        return shares


def standardised(row: FloatArray, mean: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the (k,) features of the network, standardised to zero mean and unit deviation.

    Parameters
    ----------
    row : (n,) features
    mean, scale : (k,) mean and deviation of the last k features
    """
    values: FloatArray = (row[-len(mean) :] - mean) / scale
    return np.clip(values, -LARGEST, LARGEST)


def _mixed(linear: FloatArray, shares: FloatArray, factors: FloatArray) -> FloatArray:
    """Combine the logits of a regression with the probabilities of a forest."""
    trees = np.log(shares + LEAST_SHARE)
    logits = factors[0] * (linear - linear.mean()) + factors[1] * (trees - trees.mean())
    powers = np.exp(logits - logits.max())
    mixed: FloatArray = powers / powers.sum()
    return mixed


@dataclass(frozen=True, eq=False)
class KindClassifier:
    """The classifier that determines kinds from features.

    Parameters
    ----------
    families : family of each kind
    structures : structure of each column of `shares`
    shares : (kinds, structures) share of each kind that shows each structure; rows add up to 1
    mean, scale : (k,) mean and deviation of the network's features
    axes : (k, m) directions in the network's features that separate kinds, in the unit of
        `bmz.check.kind_features.unlikeness`
    centres : (c, m) positions of the kinds of all sources in the training data
    fade : approximate distance from which an image is of no known kind, and steepness of the change
    """

    families: tuple[str, ...]
    structures: tuple[str, ...]
    shares: FloatArray
    mean: FloatArray
    scale: FloatArray
    axes: FloatArray
    centres: FloatArray
    fade: FloatArray

    def probabilities(self, row: FloatArray) -> FloatArray:
        """Return the probability of each kind; the rest to 1 is that of an unknown kind.

        Parameters
        ----------
        row : features returned by `bmz.check.kind_features.features`
        """
        far = float(np.linalg.norm(self.centres - self.place(row), axis=1).min())
        known = 1 / (1 + np.exp(self.fade[1] * (far - self.fade[0])))
        if np.isfinite(row).all():
            shares = kind_head("colour").probabilities(row)
        else:
            shares = as_of_grey(kind_head("grey").probabilities(row), np.array(self.families))
        return np.asarray(known * shares)

    def place(self, row: FloatArray) -> FloatArray:
        """Return the (m,) position of an image in a space in which different kinds are apart."""
        place: FloatArray = standardised(row, self.mean, self.scale) @ self.axes
        return place


@cache
def kind_classifier() -> KindClassifier:
    """Read the part that the heads for grey and for colour images share."""
    arrays = _arrays("common")
    return KindClassifier(
        tuple(map(str, arrays["families"])),
        tuple(map(str, arrays["structures"])),
        *(arrays[name] for name in ("shares", "mean", "scale", "axes", "centres", "fade")),
    )


@cache
def kind_head(name: Literal["grey", "colour"]) -> Head:
    """Read the head for grey or for colour images; most calls need only one of them."""
    arrays = _arrays(name)
    return Head(
        arrays["mean"],
        arrays["scale"],
        arrays["weights"],
        arrays["offsets"],
        _forest(arrays),
        arrays["mix"],
        np.unique(kind_classifier().families, return_inverse=True)[1],
    )


def _forest(arrays: Mapping[str, AnyArray]) -> Forest:
    """Rebuild the nodes of leaves: only inner nodes are stored, which takes less space."""
    leaves = arrays["leaves"].T.astype(np.float32)
    nodes = np.arange(len(arrays["feature"]) + len(leaves))
    inner = np.unpackbits(arrays["inner"], count=len(nodes)).astype(bool)
    feature, threshold, right = np.full(len(nodes), -1), np.zeros(len(nodes), np.float32), nodes + 0
    feature[inner], threshold[inner] = arrays["feature"], arrays["threshold"]
    right[inner] += arrays["right"]
    # the node on the left comes next; leaves have rows of their own, in the same order
    left = np.where(inner, nodes + 1, (~inner).cumsum() - 1)
    return Forest(arrays["roots"], feature, threshold, left, right, leaves)


def _arrays(part: str) -> dict[str, AnyArray]:
    """Read the arrays of one part; 16-bit floats are converted to float32 for computing."""
    arrays = shipped_arrays(ARRAYS, prefix=f"{part}_")
    return {
        name.partition("_")[2]: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in arrays.items()
    }
