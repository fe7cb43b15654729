"""Cells of Omnipose: what hangs together once all pixels have drawn back from the edge."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bmz.base.arrays import BoolArray, FloatArray, LabelArray

BY_DISTANCE = 0

WIDTHS_PER_MEAN_DISTANCE = 2.0
"""Steps by default, in mean distances to the edge; the steps become ever shorter."""


def skeleton_labels(
    flow: FloatArray, cell: BoolArray, distance: FloatArray, steps: int = BY_DISTANCE
) -> LabelArray:
    """Give each pixel the number of the cluster into which it moves.

    Step t is the unit flow over 1 + t, so that pixels draw back from the edge of their cell into
    a skeleton and not to one point, however long the cell; ends that touch, diagonals included,
    are one cell. Source: Cutler et al. 2022 (suppressed Euler integration), doi
    10.1038/s41592-022-01639-4.

    Parameters
    ----------
    flow : (axes, (z,) y, x) float32, any length
    cell : ((z,) y, x), the pixels that move
    distance : ((z,) y, x) float32, to the edge, px
    steps : how many; 0: twice the mean distance, at least 1

    Returns
    -------
    ((z,) y, x) int32, 0 background
    """
    labels = np.zeros(cell.shape, np.int32)
    if not cell.any():
        return labels
    if steps == BY_DISTANCE:
        steps = max(round(WIDTHS_PER_MEAN_DISTANCE * float(distance[cell].mean())), 1)
    length = np.sqrt(np.square(flow, dtype=np.float64).sum(axis=0))
    unit = np.where(cell, flow / np.maximum(length, 1e-6), 0).astype(np.float32)
    place = np.stack(np.nonzero(cell)).astype(np.float32)
    high = np.array(cell.shape, np.float32)[:, None] - 1
    for step in range(steps):
        moves = [ndimage.map_coordinates(part, place, order=1, mode="nearest") for part in unit]
        place = np.clip(place + np.stack(moves) / np.float32(1 + step), 0, high)
    ends = tuple(np.rint(place).astype(np.intp))
    reached = np.zeros(cell.shape, np.bool_)
    reached[ends] = True
    clusters, _ = ndimage.label(reached, np.ones((3,) * cell.ndim))
    labels[cell] = clusters[ends]
    return labels
