"""Flows that objects would have by diffusion from their middles, and how far others are from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import FloatArray, LabelArray

HEAT = np.float32(1e20)
"""What flows in at the centre a step. Only ratios count; this leaves room for faint far pixels."""


def flow_errors(labels: LabelArray, flow: FloatArray) -> FloatArray:
    """Return the mean squared distance of two unit flows over the pixels of each object.

    Parameters
    ----------
    labels : (y, x), 1 to n without gaps
    flow : (2, y, x) float32, the predicted flow along y and along x, about 1 px a step

    Returns
    -------
    (n,) float32, 0 (equal) to about 4 (opposite)
    """
    slices = ndimage.find_objects(labels)
    boxes = np.array([(y.start, y.stop, x.start, x.stop) for y, x in slices], np.intp)
    return errors_of(flow, labels, np.arange(1, len(boxes) + 1), boxes)


def errors_of(
    flow: FloatArray, labels: LabelArray, numbers: NDArray[np.intp], boxes: NDArray[np.intp]
) -> FloatArray:
    """Return the errors of some objects; see `flow_errors`.

    Parameters
    ----------
    numbers : (n,) their labels
    boxes : (n, 4) first and last y + 1, first and last x + 1 of each
    """
    from bmz.process.flow_loop import errors_by_heat

    errors = np.empty(len(boxes), np.float32)
    if len(boxes):
        errors_by_heat(labels, numbers, boxes, HEAT, room_for_heat(boxes), flow, errors)
    return errors


def room_for_heat(boxes: NDArray[np.intp]) -> FloatArray:
    """Allocate an array for the heat of the largest of some objects, with a margin of one px.

    Parameters
    ----------
    boxes : (n, 4) first and last y + 1, first and last x + 1 of each
    """
    largest = ((boxes[:, 1] - boxes[:, 0] + 2) * (boxes[:, 3] - boxes[:, 2] + 2)).max()
    return np.empty((3, largest), np.float32)


def flows_of_labels(labels: LabelArray) -> FloatArray:
    """Return the unit flow from each pixel of an object towards its centre, by diffusion.

    Heat flows in at the pixel nearest to the mean of the object's pixels and spreads over the
    object by repeated means over 3 x 3 pixels, nothing outside; twice as many steps as the height
    plus the width of the object (each plus 2). The flow is the direction in which heat rises.
    Source: Stringer et al. 2021 (doi 10.1038/s41592-020-01018-x), as cellpose 3.1.1.3 does it.

    Parameters
    ----------
    labels : (y, x), 1 to n without gaps, 0 background

    Returns
    -------
    (2, y, x) float32, flow along y and along x; 0 in the background
    """
    flow = np.zeros((2, *labels.shape), np.float32)
    slices = ndimage.find_objects(labels)
    if slices:
        from bmz.process.flow_loop import flows_by_heat

        boxes = np.array([(y.start, y.stop, x.start, x.stop) for y, x in slices], np.intp)
        flows_by_heat(labels, boxes, HEAT, room_for_heat(boxes), flow)
    return flow
