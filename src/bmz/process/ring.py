"""Let labels take in the pixels around them."""

from __future__ import annotations

import numpy as np

from bmz.base.arrays import AnyArray, LabelArray


def with_ring(labels: LabelArray, surface: AnyArray, ring: int) -> LabelArray:
    """Let each label take in the background that shares a face with it, `ring` times.

    A foreground that was trained on cells without their outermost pixels (``find_boundaries`` of
    scikit-image, inner or thick) gives cells that are one pixel too small on every side, however
    sharp or blurred the map is. Two labels never become one: a pixel between two goes to the one
    whose pixel beside it lies lower on the surface.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background
    surface : of the same shape, low inside cells
    ring : how many pixels wide, entries of the map
    """
    for _ in range(ring):
        labels = _wider(labels, surface)
    return labels


def _wider(labels: LabelArray, surface: AnyArray) -> LabelArray:
    wider, lowest = labels.copy(), np.full(labels.shape, np.inf, np.float32)
    for axis in range(labels.ndim):
        ahead = (slice(None),) * axis + (slice(1, None),)
        behind = (slice(None),) * axis + (slice(None, -1),)
        for here, there in ((ahead, behind), (behind, ahead)):
            taken = (labels[here] == 0) & (labels[there] > 0) & (surface[there] < lowest[here])
            wider[here][taken] = labels[there][taken]
            lowest[here][taken] = surface[there][taken]
    return wider
