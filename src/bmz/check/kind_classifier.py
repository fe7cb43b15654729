"""The classifier of kinds of images: its arrays, and what they make of features."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray, shipped_arrays
from bmz.base.values import dataclass

ARRAYS = Path(__file__).with_name("kind.npz")
"""Written by ``model_cards/kinds/train.py``, which says what each array holds."""

LARGEST = 4.0
"""Standardised features are cut off at this many deviations."""

LEAST_SHARE = 1e-3
"""Added to a probability of the forest before its logarithm is taken."""

GREY_STAINED = 0.2
"""So much of the probability of stained tissue is left for a grey image, beside other families.

Stains are told by their colours, and grey pictures of them are rare: 7 of the 509 grey images that
were learnt from. Their variants without colours are not, and let every coarse tissue look stained.
"""


def as_of_grey(shares: FloatArray, families: AnyArray) -> FloatArray:
    """Bring the probabilities of kinds to what a grey image may show; their sum stays.

    Parameters
    ----------
    shares : (..., kinds)
    families : (kinds,) the family of each
    """
    rarer = shares * np.where(np.asarray(families) == "stained", GREY_STAINED, 1.0)
    grey: FloatArray = rarer * (shares.sum(-1, keepdims=True) / rarer.sum(-1, keepdims=True))
    return grey


@dataclass(frozen=True, eq=False)
class Forest:
    """Extremely randomised trees (Geurts et al. 2006), one after another.

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
        """Return the mean of what the leaves say.

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
    """What answers for grey or for colour images: two unlike classifiers, weighed.

    The first classes tell families better, the others kinds within a family.

    Parameters
    ----------
    mean, scale : (k,) of what the network sees, the last k features
    weights, offsets : (k, families + kinds) and (families + kinds,) of a logistic regression on it
    forest : trees on the features made by hand, which come first; they tell kinds
    mix : (2, 2) factors of the regression and the forest, for families and for kinds, chosen so
        that probabilities are true ones
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
    """Return (k,) what the network sees, about its mean, in deviations.

    Parameters
    ----------
    row : (n,) features
    mean, scale : (k,) of the last k of them
    """
    values: FloatArray = (row[-len(mean) :] - mean) / scale
    return np.clip(values, -LARGEST, LARGEST)


def _mixed(linear: FloatArray, shares: FloatArray, factors: FloatArray) -> FloatArray:
    """Weigh the logits of a regression and the probabilities of a forest."""
    trees = np.log(shares + LEAST_SHARE)
    logits = factors[0] * (linear - linear.mean()) + factors[1] * (trees - trees.mean())
    powers = np.exp(logits - logits.max())
    mixed: FloatArray = powers / powers.sum()
    return mixed


@dataclass(frozen=True, eq=False)
class KindClassifier:
    """What tells kinds from features.

    Parameters
    ----------
    families : family of each kind
    structures : structure of each column of `shares`
    shares : (kinds, structures) how much of each kind shows which structure; rows add up to 1
    mean, scale : (k,) of what the network sees
    axes : (k, m) directions of what the network sees in which kinds lie apart, in the unit of
        `bmz.check.kind_features.unlikeness`
    centres : (c, m) the places of the kinds of all sources that were learnt from
    fade : from about which distance an image is of no known kind, and how suddenly
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
        """Return the probability of each kind; what is missing to 1 is an unknown kind.

        Parameters
        ----------
        row : features as `bmz.check.kind_features.features` gives them
        """
        far = float(np.linalg.norm(self.centres - self.place(row), axis=1).min())
        known = 1 / (1 + np.exp(self.fade[1] * (far - self.fade[0])))
        if np.isfinite(row).all():
            shares = kind_head("colour").probabilities(row)
        else:
            shares = as_of_grey(kind_head("grey").probabilities(row), np.array(self.families))
        return np.asarray(known * shares)

    def place(self, row: FloatArray) -> FloatArray:
        """Return (m,) the place of an image among others; unlike kinds lie apart."""
        place: FloatArray = standardised(row, self.mean, self.scale) @ self.axes
        return place


@cache
def kind_classifier() -> KindClassifier:
    """Read what heads for grey and for colour images have in common."""
    arrays = _arrays("common")
    return KindClassifier(
        tuple(map(str, arrays["families"])),
        tuple(map(str, arrays["structures"])),
        *(arrays[name] for name in ("shares", "mean", "scale", "axes", "centres", "fade")),
    )


@cache
def kind_head(name: Literal["grey", "colour"]) -> Head:
    """Read what answers for grey or for colour images; most calls ask for one of them."""
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
    """Give nodes to leaves, too: what is kept of inner nodes alone takes less room."""
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
    """Read the arrays of one part; numbers of 16 bits are made longer, to reckon with them."""
    arrays = shipped_arrays(ARRAYS, prefix=f"{part}_")
    return {
        name.partition("_")[2]: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in arrays.items()
    }
