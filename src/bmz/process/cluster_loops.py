"""Compiled loops that find the sinks of a flow, and measure clusters of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import BoolArray, FloatArray, LabelArray
from bmz.process.compiled import compiled

Indices = NDArray[np.intp]

SIZE, FIRST, TOP, BOTTOM, LEFT, RIGHT, RUNS, COLUMN_RUNS = range(8)
"""Columns of the result of `measure_clusters`."""


@compiled
def count_ends(ends: Indices, count: LabelArray) -> None:
    """Count how many pixels end at each position."""
    for nth in range(ends.size):
        count[ends[nth]] += 1


@compiled
def number_ends(pixels: Indices, ends: Indices, sinks: LabelArray, labels: LabelArray) -> None:
    """Label each pixel with the number of the sink in which it ends.

    Parameters
    ----------
    pixels : (n,) flat positions in `labels`
    ends : (n,) flat positions in `sinks`
    sinks, labels : flattened arrays
    """
    for nth in range(pixels.size):
        labels[pixels[nth]] = sinks[ends[nth]]


@compiled
def grow_sinks(
    count: LabelArray,
    seeds: Indices,
    around: Indices,
    limits: tuple[int, int],
    sinks: LabelArray,
    room: Indices,
) -> None:
    """Grow each seed by one pixel per round over positions with enough ends; later seeds win.

    Parameters
    ----------
    count : flattened, with a margin that no sink can grow beyond
    seeds : (n,) flat positions; seed k gets the number k + 1
    around : flat steps to the neighbours
    limits : number of rounds, and the number of ends that a position must exceed
    sinks : flattened zeros, receive the numbers
    room : working memory for the largest possible sink
    """
    rounds, least = limits
    for nth in range(len(seeds)):
        room[0], begin, end = seeds[nth], 0, 1
        sinks[seeds[nth]] = nth + 1
        for _ in range(rounds):
            newest = end
            for at in range(begin, newest):
                for step in around:
                    place = room[at] + step
                    if count[place] > least and sinks[place] != nth + 1:
                        sinks[place] = nth + 1
                        room[end] = place
                        end += 1
            begin = newest


@compiled
def measure_clusters(labels: LabelArray, facts: Indices) -> None:
    """Measure the size and box of each cluster, and count its runs of pixels.

    Parameters
    ----------
    labels : (y, x), 0 background
    facts : (highest label + 1, 8) zeros; receive the number of pixels, the flat position of the
        first one, the box (first y, last y + 1, first x, last x + 1), and the number of runs of
        pixels along x and along y
    """
    height, width = labels.shape
    for y in range(height):
        row, above = labels[y], labels[max(y - 1, 0)]
        x = 0
        while x < width:
            label, begin = row[x], x
            if label == 0:
                x += 1
                continue
            own = facts[label]
            while x < width and row[x] == label:
                own[COLUMN_RUNS] += y == 0 or above[x] != label
                x += 1
            if own[SIZE] == 0:
                own[FIRST], own[TOP] = y * width + begin, y
                own[LEFT], own[RIGHT] = begin, x
            own[SIZE] += x - begin
            own[BOTTOM] = y + 1
            own[LEFT], own[RIGHT] = min(own[LEFT], begin), max(own[RIGHT], x)
            own[RUNS] += 1


@compiled
def find_same(labels: LabelArray, before: LabelArray, same: LabelArray) -> None:
    """Find the clusters that have all their pixels in one earlier cluster.

    Parameters
    ----------
    labels, before : flattened labels, now and earlier
    same : (highest label + 1,) the presumed earlier cluster of each; set to -1 if it is not
    """
    for place in range(labels.size):
        label = labels[place]
        if label and same[label] != before[place]:
            same[label] = -1


@compiled
def fill_field(flow: FloatArray, cell: BoolArray, field: FloatArray) -> None:
    """Arrange the flow of a plane for `bmz.process.flow_loop.drift_in_plane`, 0 outside `cell`.

    Parameters
    ----------
    flow : (2, y, x) float32
    cell : (y, x)
    field : (y + 1, x + 1, 2) float32, receives the result
    """
    zero = np.float32(0)
    height, width = cell.shape
    for y in range(height + 1):
        from_y = min(y, height - 1)
        for x in range(width + 1):
            from_x = min(x, width - 1)
            inside = cell[from_y, from_x]
            field[y, x, 0] = flow[0, from_y, from_x] if inside else zero
            field[y, x, 1] = flow[1, from_y, from_x] if inside else zero


@compiled
def note_limits(
    probability: FloatArray, least: np.float32, rows: tuple[int, int], limits: FloatArray
) -> None:
    """Compute the range of thresholds in which a step from each pixel reads the same flow.

    A step reads a pixel and its neighbours to the right and below.

    Parameters
    ----------
    probability : (y, x)
    least : current threshold, above which pixels have a flow
    rows : first row and last row + 1 to process
    limits : (y, x, 2), receives the lowest threshold of the range and the end, which is excluded
    """
    height, width = probability.shape
    lowest, highest = np.float32(-np.inf), np.float32(np.inf)
    for y in range(rows[0], rows[1]):
        below = min(y + 1, height - 1)
        for x in range(width):
            low, high = lowest, highest
            for i in (y, below):
                for j in (x, min(x + 1, width - 1)):
                    value = probability[i, j]
                    if value > least:
                        high = min(high, value)
                    elif value > low:
                        low = value
            limits[y, x, 0], limits[y, x, 1] = low, high


@compiled
def list_stale(
    probability: FloatArray, least: np.float32, valid: FloatArray, cells: Indices, stale: Indices
) -> tuple[int, int]:
    """List the pixels of cells, and those among them whose end is not valid at the threshold.

    Parameters
    ----------
    probability : flattened
    least : current threshold
    valid : (pixels, 2) range of thresholds for which the end of each pixel is valid, without its
        upper end; for stale pixels it is reset to everything below their own probability
    cells, stale : working memory for all pixels, receives the lists

    Returns
    -------
    int, int
        length of each list
    """
    many = old = 0
    for place in range(probability.size):
        if probability[place] > least:
            cells[many] = place
            many += 1
            if not valid[place, 0] <= least < valid[place, 1]:
                valid[place, 0], valid[place, 1] = -np.inf, probability[place]
                stale[old] = place
                old += 1
    return many, old
