"""Measure how far images lie from those that were learnt from, and what that says."""

from __future__ import annotations

import numpy as np
from scipy import optimize

PRIOR = 0.05
"""Share of images of kinds that the classifier has never seen, as assumed."""


def nearness(places: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Give the distance of each place to the nearest centre.

    Parameters
    ----------
    places : (n, m), in the unit of `unlikeness`
    centres : (c, m)
    """
    return np.sqrt(((places[:, None] - centres[None]) ** 2).sum(-1)).min(1)


def fading(known: np.ndarray, strange: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Find a and b of 1 / (1 + exp(b (d - a))), the probability that a kind is a known one.

    Parameters
    ----------
    known, strange : distances of images of kinds that were learnt from and that were left out
    weights : of the known ones
    """

    def loss(values: np.ndarray) -> float:
        a, b = values
        lost = (weights * np.logaddexp(0, b * (known - a))).sum() / weights.sum()
        return float((1 - PRIOR) * lost + PRIOR * np.logaddexp(0, -b * (strange - a)).mean())

    start = np.array([np.quantile(known, 0.99), 5.0])
    best = optimize.minimize(loss, start, bounds=[(0.0, 50.0), (0.1, 50.0)])
    return float(best.x[0]), float(best.x[1])
