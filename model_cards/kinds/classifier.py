"""Fit a classifier to measured planes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

LARGEST = 4.0
"""Standardised features are cut off at this many deviations."""


@dataclass(frozen=True, eq=False)
class Network:
    """Layers of a small network on standardised features.

    Parameters
    ----------
    mean, scale : (k,) of the features
    weights : one (n, m) array a layer, and its (m,) offsets
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: list[tuple[np.ndarray, np.ndarray]]

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Give (n, kinds) logits of (n, k) features."""
        values = np.clip((rows - self.mean) / self.scale, -LARGEST, LARGEST)
        for number, (weight, offset) in enumerate(self.weights):
            values = values @ weight + offset
            if number < len(self.weights) - 1:
                values = np.maximum(values, 0)
        return values


@dataclass(frozen=True)
class Setting:
    """How a network is fitted.

    Parameters
    ----------
    hidden : width of the hidden layer; 0 for multinomial logistic regression
    decay : of squared weights
    steps : of the optimiser
    dropout : share of the features left out in each step
    seed : of the starting weights
    """

    hidden: int = 0
    decay: float = 1e-3
    steps: int = 300
    dropout: float = 0.0
    seed: int = 0


def fitted(rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, setting: Setting) -> Network:
    """Fit a network to features.

    Parameters
    ----------
    rows : (n, k) features
    targets : (n, kinds) probabilities
    weights : (n,) of each row
    """
    torch.manual_seed(setting.seed)
    mean, scale = rows.mean(0), rows.std(0) + 1e-3
    x = torch.tensor(np.clip((rows - mean) / scale, -LARGEST, LARGEST), dtype=torch.float32)
    y = torch.tensor(targets, dtype=torch.float32)
    w = torch.tensor(weights / weights.mean(), dtype=torch.float32)
    widths = [x.shape[1], *([setting.hidden] if setting.hidden else []), y.shape[1]]
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    if not setting.hidden:
        nn.init.zeros_(layers[0].weight)
    parameters = [p for layer in layers for p in layer.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=0.03 if not setting.hidden else 0.005)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, setting.steps)
    for _ in range(setting.steps):
        optimiser.zero_grad()
        loss = _loss(layers, x, y, w, setting)
        loss.backward()
        optimiser.step()
        schedule.step()
    return Network(
        mean,
        scale,
        [(_array(layer.weight.T), _array(layer.bias)) for layer in layers],
    )


def _array(values: torch.Tensor) -> np.ndarray:
    return values.detach().numpy().copy()


def _loss(
    layers: list[nn.Linear], x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, setting: Setting
) -> torch.Tensor:
    values = nn.functional.dropout(x, setting.dropout)
    for layer in layers[:-1]:
        values = torch.relu(layer(values))
    logits = layers[-1](values)
    cross = -(y * torch.log_softmax(logits, 1)).sum(1)
    penalty = sum((layer.weight**2).sum() for layer in layers)
    return (w * cross).mean() + setting.decay * penalty


def softmax(logits: np.ndarray) -> np.ndarray:
    """Give probabilities of logits along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
