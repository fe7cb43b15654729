"""Fit a classifier to measured planes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.tree._tree import Tree
from torch import nn

LARGEST = 4.0
"""Standardised features are cut off at this many deviations."""

LEAST_SHARE = 1e-3
"""Added to a probability of the forest before its logarithm is taken."""

LEAF_LEVELS = 15
"""Probabilities at a leaf are kept in so many steps."""


@dataclass(frozen=True, eq=False)
class Linear:
    """Multinomial logistic regression on standardised features.

    Parameters
    ----------
    mean, scale : (k,) of the features
    weights, offsets : (k, kinds) and (kinds,)
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Give (n, kinds) logits of (n, k) features, about their mean."""
        values = np.clip((rows - self.mean) / self.scale, -LARGEST, LARGEST)
        logits = values @ self.weights + self.offsets
        return logits - logits.mean(1, keepdims=True)


def linear(
    rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, decay: float, steps: int
) -> Linear:
    """Fit logistic regression with Adam, from weights of zero.

    Parameters
    ----------
    rows : (n, k) features
    targets : (n, kinds) probabilities
    weights : (n,) of each row
    decay : of the squared weights
    steps : of the optimiser
    """
    mean, scale = rows.mean(0), rows.std(0) + 1e-3
    x = torch.tensor(np.clip((rows - mean) / scale, -LARGEST, LARGEST), dtype=torch.float32)
    y = torch.tensor(targets, dtype=torch.float32)
    w = torch.tensor(weights / weights.mean(), dtype=torch.float32)
    layer = nn.Linear(x.shape[1], y.shape[1])
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        cross = -(y * torch.log_softmax(layer(x), 1)).sum(1)
        ((w * cross).mean() + decay * (layer.weight**2).sum()).backward()
        optimiser.step()
        schedule.step()
    return Linear(mean, scale, _array(layer.weight.T), _array(layer.bias))


def _array(values: torch.Tensor) -> np.ndarray:
    return values.detach().numpy().copy()


def forest(
    rows: np.ndarray, truth: np.ndarray, weights: np.ndarray, trees: int, leaf: int
) -> ExtraTreesClassifier:
    """Fit extremely randomised trees (Geurts et al. 2006)."""
    model = ExtraTreesClassifier(trees, min_samples_leaf=leaf, max_features=40, random_state=0)
    return model.fit(rows, truth, sample_weight=weights)


def forest_shares(model: ExtraTreesClassifier, rows: np.ndarray, kinds: int) -> np.ndarray:
    """Give (n, kinds) the probabilities of a forest, by its leaves as they are kept."""
    shares = np.zeros((len(rows), kinds))
    for estimator in model.estimators_:
        levels = leaf_levels(estimator.tree_)[estimator.apply(rows)]
        shares[:, model.classes_] += levels / levels.sum(1, keepdims=True)
    return shares / len(model.estimators_)


def leaf_levels(tree: Tree) -> np.ndarray:
    """Give (nodes, classes) the probabilities at the nodes of a tree, in `LEAF_LEVELS`."""
    values = tree.value[:, 0]
    return np.rint(LEAF_LEVELS * values / values.sum(1, keepdims=True))


def logits_of(shares: np.ndarray) -> np.ndarray:
    """Give (n, classes) logarithms of probabilities, about their mean."""
    logits = np.log(shares + LEAST_SHARE)
    return logits - logits.mean(1, keepdims=True)


def forest_arrays(model: ExtraTreesClassifier, kinds: int) -> dict[str, np.ndarray]:
    """Give the trees one after the other as arrays, nodes in the order of depth first.

    Returns
    -------
    dict
        `roots` (trees,); `inner` bits of the nodes that are no leaves; of these `feature`,
        `threshold`, and `right`: so many nodes on is the node on the right, as the one on the left
        comes next; `leaves` (kinds, leaves), in `LEAF_LEVELS`
    """
    trees = [estimator.tree_ for estimator in model.estimators_]
    feature = np.concatenate([tree.feature for tree in trees])
    inner = feature >= 0
    right = np.concatenate([tree.children_right - np.arange(tree.node_count) for tree in trees])
    levels = np.concatenate([leaf_levels(tree) for tree in trees])[~inner]
    leaves = np.zeros((kinds, len(levels)), np.uint8)
    leaves[model.classes_] = levels.T
    return {
        "roots": np.cumsum([0, *(tree.node_count for tree in trees)])[:-1].astype(np.int32),
        "inner": np.packbits(inner),
        "feature": feature[inner].astype(np.int16),
        "threshold": np.concatenate([tree.threshold for tree in trees])[inner],
        "right": right[inner].astype(np.int16),
        "leaves": leaves,
    }


def softmax(logits: np.ndarray) -> np.ndarray:
    """Give probabilities of logits along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
