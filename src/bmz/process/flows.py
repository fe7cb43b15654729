"""The label recipe ``flows``: Cellpose flows and cell probability become labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray
from bmz.process.flow_error import flow_errors
from bmz.process.flow_following import follow_flow
from bmz.process.maps import on_input_grid
from bmz.process.output_map import ChannelsDiffer, require_plane
from bmz.process.recipe import Labelled, Parameter, Recipe
from bmz.process.relabel import in_raster_order

FLOW_SCALE = 5.0
"""The network is trained on 5 times the unit flow."""

SEED_RADIUS_PX = 2
"""A seed is where more pixels end than anywhere in the square of this radius around it."""

MORE_ENDS_THAN_AT_A_SEED = 10
MORE_ENDS_THAN_IN_A_SINK = 2

SINK_RADIUS_PX = 5
"""How far a sink may reach from its seed, step by step over places with enough ends."""


@dataclass(frozen=True)
class FlowSettings:
    """The parameters of the recipe; `FLOWS` says what they mean."""

    cellprob_threshold: float = 0.0
    flow_threshold: float = 0.4
    niter: int = 200
    min_size: int = 15
    max_size_fraction: float = 0.4


def label_flows(output: AnyArray, grid: tuple[int, ...], **parameters: Any) -> Labelled:  # noqa: ANN401  (as every recipe)
    """Turn flows and cell probability into labels: pixels that drift to one sink are one cell.

    Parameters
    ----------
    output : (3, y, x): flow along y, flow along x (both times 5), cell probability (logit);
        a flow that is no number counts as 0
    grid : spacing of the map along y and x; labels are repeated to fill it
    **parameters : as in `FlowSettings`

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``, without scores

    Raises
    ------
    DimensionsNotDone
        `output` is not (c, y, x); stacks are not done yet.
    ChannelsDiffer
        There are more or less than 3 channels.
    """
    require_plane("flows", output)
    if len(output) != 3:  # noqa: PLR2004  (named in the message)
        raise ChannelsDiffer("flows", "3 channels (flow y, flow x, cell probability)", len(output))
    return Labelled(on_input_grid(_labels(output, FlowSettings(**parameters)), grid))


def _labels(output: AnyArray, wanted: FlowSettings) -> LabelArray:
    flow, cell = _pixels_a_step(output[:2]), output[2] > wanted.cellprob_threshold
    ends = follow_flow(flow, cell, wanted.niter)
    labels = np.zeros(cell.shape, np.int32)
    labels[cell] = _sinks(ends, cell.shape)[ends[0], ends[1]]
    largest = wanted.max_size_fraction * labels.size
    labels = in_raster_order(without(labels, sizes(labels) > largest)).labels
    if wanted.flow_threshold > 0:
        labels = without(labels, flow_errors(labels, flow) > wanted.flow_threshold)
    labels = without(labels, sizes(labels) < wanted.min_size)
    labels = fill_holes(in_raster_order(labels).labels)
    # filling a hole removes what lies in it, or leaves little of it
    return in_raster_order(without(labels, sizes(labels) < wanted.min_size)).labels


def _pixels_a_step(flow: AnyArray) -> FloatArray:
    # further than across the plane leads no further, and must not overflow
    far = float(max(flow.shape))
    finite = np.nan_to_num(np.asarray(flow, np.float32), nan=0, posinf=0, neginf=0)
    a_step: FloatArray = np.clip(finite / np.float32(FLOW_SCALE), -far, far)
    return a_step


def _sinks(ends: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Mark the places where many pixels end, a number for each seed and what is joined to it.

    Where sinks overlap, the one with more ends at its seed has the place.

    Parameters
    ----------
    ends : (2, pixels) y and x, whole px
    shape : of the plane
    """
    margin = SINK_RADIUS_PX
    row = shape[1] + 2 * margin
    count = np.bincount(
        (ends[0] + margin) * row + ends[1] + margin, minlength=(shape[0] + 2 * margin) * row
    )
    seeds = _seeds(count, row)
    around = _square(margin, row)
    crowded = count[seeds[:, None] + around] > MORE_ENDS_THAN_IN_A_SINK
    joined = _joined(crowded.reshape(len(seeds), 2 * margin + 1, 2 * margin + 1))
    which, place = np.nonzero(joined.reshape(crowded.shape))
    sinks = np.zeros(count.shape, np.int32)
    sinks[seeds[which] + around[place]] = which + 1  # of equal places the last one, the best, stays
    return sinks.reshape(-1, row)[margin:-margin, margin:-margin]


def _seeds(count: NDArray[np.intp], row: int) -> NDArray[np.intp]:
    # those with fewer ends first
    many = np.flatnonzero(count > MORE_ENDS_THAN_AT_A_SEED)
    most = count[many[:, None] + _square(SEED_RADIUS_PX, row)].max(axis=1, initial=0)
    seeds = many[count[many] == most]
    ordered: NDArray[np.intp] = seeds[np.argsort(count[seeds], kind="stable")]
    return ordered


def _square(radius: int, row: int) -> NDArray[np.intp]:
    side = np.arange(-radius, radius + 1)
    return (side[:, None] * row + side).ravel()


def _joined(crowded: BoolArray) -> BoolArray:
    # grow from the middle of each window by one px a round, diagonals included
    middle = SINK_RADIUS_PX
    grown = np.zeros(np.add(crowded.shape, (0, 2, 2)), np.bool_)
    grown[:, middle + 1, middle + 1] = True
    for _ in range(SINK_RADIUS_PX):
        rows = grown[:, :-2] | grown[:, 1:-1] | grown[:, 2:]
        grown[:, 1:-1, 1:-1] = (rows[:, :, :-2] | rows[:, :, 1:-1] | rows[:, :, 2:]) & crowded
    return grown[:, 1:-1, 1:-1]


def sizes(labels: LabelArray) -> NDArray[np.intp]:
    """Count the pixels of labels 1 to the highest, (n,)."""
    return np.bincount(labels.ravel(), minlength=1)[1:]


def without(labels: LabelArray, bad: BoolArray) -> LabelArray:
    """Clear the objects whose entry in `bad` (label k at k - 1) is true; numbers stay."""
    if not bad.any():
        return labels
    kept = np.arange(len(bad) + 1, dtype=np.int32)
    kept[1:][bad] = 0
    return kept[labels]


def fill_holes(labels: LabelArray) -> LabelArray:
    """Fill the holes of each object, also where another object lies in one.

    A hole is background, or other objects, without a way out of the object over edges of pixels.

    Parameters
    ----------
    labels : (y, x) integers, 0 background
    """
    filled = labels.copy()
    boxes = ndimage.find_objects(labels)
    for k in np.flatnonzero(_gaps(labels, boxes, 0) & _gaps(labels, boxes, 1)):
        window = filled[boxes[k]]
        window[ndimage.binary_fill_holes(window == k + 1)] = k + 1
    return filled


def _gaps(labels: LabelArray, boxes: list[tuple[slice, slice] | None], axis: int) -> BoolArray:
    # objects with more runs of pixels along an axis than lines: only those can have a hole
    lengthwise = np.moveaxis(labels, axis, 0)
    begins = lengthwise != 0
    begins[1:] &= lengthwise[1:] != lengthwise[:-1]
    runs = np.bincount(lengthwise[begins], minlength=len(boxes) + 1)[1:]
    lines = [0 if box is None else box[1 - axis].stop - box[1 - axis].start for box in boxes]
    return runs > np.array(lines, np.intp)


FLOWS = Recipe(
    name="flows",
    what="Cellpose flows and cell probability: pixels that drift to the same sink",
    source="Stringer et al. 2021, doi 10.1038/s41592-020-01018-x; cellpose 3.1.1.3",
    label=label_flows,
    parameters=(
        Parameter("cellprob_threshold", 0.0, "least cell probability, logit", -6, 6),
        Parameter("flow_threshold", 0.4, "largest error of the flow; 0 checks nothing", 0, 3),
        Parameter("niter", 200, "steps along the flow", 1),
        Parameter("min_size", 15, "smallest object, px of the map; 0 keeps all", 0),
        Parameter("max_size_fraction", 0.4, "largest object, share of the map", 0, 1),
    ),
)
"""The recipe of Cellpose models."""
