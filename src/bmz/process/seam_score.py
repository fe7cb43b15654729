"""Do objects end on the lines where tiles meet more often than elsewhere?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from bmz.base.arrays import BoolArray, LazyArray

LEAST_EDGES = 100
"""With fewer edges on the lines beside them a ratio says nothing."""


def seam_score(labels: LazyArray, cuts: Mapping[str, Sequence[float]]) -> float | None:
    """Give the density of object edges on tile lines over that on lines half a tile away.

    1 where tiles leave no trace; above it where they cut objects.

    Parameters
    ----------
    labels : ((z,) y, x)
    cuts : for y and x the positions from 0 to the size at which tiles begin and end, px

    Returns
    -------
    float or None
        None where there is one tile, or hardly an edge to compare with
    """
    on, beside = [0, 0], [0, 0]
    for axis in "yx":
        ends = [round(at) for at in cuts.get(axis, ())]
        size = labels.shape["yx".index(axis) - 2]
        lines = [at for at in ends[1:-1] if 0 < at < size]
        # half a tile before and behind each line
        halves = {(a + b) // 2 for a, b in pairwise(ends) if lines}
        for found, where in ((on, lines), (beside, sorted(halves))):
            for line in where:
                edges = _edges(labels, axis, line) if 0 < line < size else np.zeros(0, np.bool_)
                found[0] += int(np.count_nonzero(edges))
                found[1] += edges.size
    if on[1] == 0 or beside[0] < LEAST_EDGES:
        return None
    return round((on[0] / on[1]) / (beside[0] / beside[1]), 4)


def _edges(labels: LazyArray, axis: str, line: int) -> BoolArray:
    """Say for each pixel along a line whether another label lies on its other side."""
    at = len(labels.shape) + "yx".index(axis) - 2
    box = [slice(0, size) for size in labels.shape]
    box[at] = slice(line - 1, line + 1)
    edges: BoolArray = np.diff(np.asarray(labels[tuple(box)]), axis=at) != 0
    return edges
