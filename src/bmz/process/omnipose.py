"""Omnipose's maps for the recipe ``flows``: cells are the skeletons into which pixels draw back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from bmz.base import ndimage
from bmz.base.arrays import BoolArray, FloatArray, LabelArray, LazyArray
from bmz.process.blocks import boxes_of_map
from bmz.process.recipe import Value

AUTO = "auto"
"""Whose maps they are is told by their number."""

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
        steps = _steps_by([distance[cell]])
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


def _steps_by(distances: Iterable[FloatArray]) -> int:
    """Give how many steps pixels at these distances to the edge of their cells move."""
    total, count = 0.0, 0
    for some in distances:
        total, count = total + float(some.sum(dtype=np.float64)), count + some.size
    return max(round(WIDTHS_PER_MEAN_DISTANCE * total / max(count, 1)), 1)


def steps_of_whole_map(maps: LazyArray, parameters: Mapping[str, Value]) -> dict[str, Value]:
    """Find how many steps pixels of Omnipose's flows move, as `Recipe.of_whole_map` says."""
    axes, least = len(maps.shape) - 1, float(parameters["cellprob_threshold"])
    if parameters["niter"] != BY_DISTANCE or not is_omnipose(
        str(parameters["style"]), maps.shape[0], axes
    ):
        return {}
    parts = (np.asarray(maps[(slice(axes, axes + 1), *box[1:])]) for box in boxes_of_map(maps))
    return {"niter": _steps_by(part[part > least] for part in parts)}


def omnipose_lengths(channels: int, axes: int, parameters: Mapping[str, Value]) -> tuple[bool, ...]:
    """Say that the distance behind Omnipose's flows is a length, as `LengthsFunction` has it."""
    distance = is_omnipose(str(parameters["style"]), channels, axes)
    return tuple(distance and channel == axes for channel in range(channels))


def gives_omnipose(channels: int, axes: int, stated: Mapping[str, Value]) -> bool:
    """Say whether an output is Omnipose's, by what the model states and its channels.

    Flows of planes that are given as a stack have fewer maps than a stack asks for, and labels of a
    declared step have one: neither says anything.
    """
    style = stated.get("style", AUTO)
    return style == "omnipose" or (style == AUTO and channels == axes + 2)


def is_omnipose(style: str, channels: int, axes: int) -> bool:
    """Say whose maps they are: Omnipose has two behind the flows, where `style` says nothing."""
    return style == "omnipose" or (style == AUTO and channels != axes + 1)
