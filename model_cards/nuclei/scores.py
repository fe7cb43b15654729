"""How well a label mask fits the true one: F1 of the objects at an IoU."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Mask = NDArray[np.integer]
IOUS = (0.5, 0.6, 0.7, 0.8, 0.9)


def overlaps(true: Mask, found: Mask) -> NDArray[np.float64]:
    """Give the IoU of every true object (rows) with every found object (columns)."""
    _, rows = np.unique(np.append(true.ravel(), 0), return_inverse=True)
    _, columns = np.unique(np.append(found.ravel(), 0), return_inverse=True)
    shared = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(shared, (rows[:-1], columns[:-1]), 1)
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    return shared[1:, 1:] / np.maximum(union[1:, 1:], 1)


def f1_at(iou: NDArray[np.float64], smallest: float) -> float:
    """Give 2 TP / (true + found), pairing each object once; 1 where nothing is true or found.

    Parameters
    ----------
    iou : (true, found), as `overlaps` gives it
    smallest : the IoU from which a pair counts
    """
    if sum(iou.shape) == 0:
        return 1.0
    fits = iou >= smallest
    pairs = linear_sum_assignment(-(fits + iou * 1e-6))
    return 2.0 * float(fits[pairs].sum()) / sum(iou.shape)


def f1_scores(true: Mask, found: Mask) -> list[float]:
    """Give F1 at every IoU of `IOUS`."""
    iou = overlaps(true, found)
    return [f1_at(iou, smallest) for smallest in IOUS]
