"""The compiled loops that find sinks of a flow, and what is known of clusters of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import BoolArray, FloatArray, LabelArray
from bmz.process.compiled import compiled

Indices = NDArray[np.intp]

SIZE, FIRST, TOP, BOTTOM, LEFT, RIGHT, RUNS, COLUMN_RUNS = range(8)
"""Columns of what `measure_clusters` tells."""


@compiled
def count_ends(ends: Indices, count: LabelArray) -> None:
    """Count how many pixels end in each place."""
    for nth in range(ends.size):
        count[ends[nth]] += 1


@compiled
def number_ends(pixels: Indices, ends: Indices, sinks: LabelArray, labels: LabelArray) -> None:
    """Label each pixel with the number of the sink in which it ends.

    Parameters
    ----------
    pixels : (n,) flat places in `labels`
    ends : (n,) flat places in `sinks`
    sinks, labels : flat
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
    """Let each seed grow by one pixel a round over places with enough ends; later ones win.

    Parameters
    ----------
    count : flat, with a margin that no sink can grow beyond
    seeds : (n,) flat places; seed k gets the number k + 1
    around : flat steps to the neighbours
    limits : how many rounds, and the ends that a place must have more of
    sinks : flat zeros, become the numbers
    room : for as many places as one sink can have
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
    """Return the size and box of each number, and how often its pixels begin.

    Parameters
    ----------
    labels : (y, x), 0 background
    facts : (highest label + 1, 8) zeros; become the pixels, the flat place of the first one, the
        box (first and last y + 1, first and last x + 1), and the runs of pixels along x and along y
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
    """Find out which clusters have all of their pixels in one earlier cluster.

    Parameters
    ----------
    labels, before : flat
    same : (highest label + 1,) the earlier cluster that is supposed; becomes -1 where it is not
    """
    for place in range(labels.size):
        label = labels[place]
        if label and same[label] != before[place]:
            same[label] = -1


@compiled
def fill_field(flow: FloatArray, cell: BoolArray, field: FloatArray) -> None:
    """Lay out a flow of a plane for `bmz.process.flow_loop.drift_in_plane`, 0 outside of `cell`.

    Parameters
    ----------
    flow : (2, y, x) float32
    cell : (y, x)
    field : (y + 1, x + 1, 2) float32, of any values
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
    """Return the thresholds between which a step from each pixel reads the same flow.

    A step reads a pixel and its neighbours to the right and below.

    Parameters
    ----------
    probability : (y, x)
    least : the threshold, above which pixels have a flow
    rows : the first and the last + 1 that are done
    limits : (y, x, 2), become the lowest threshold and the one that is too high
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
    """List the pixels of cells, and those of them whose end was found at too different a threshold.

    Parameters
    ----------
    probability : flat
    least : the threshold of now
    valid : (pixels, 2) the lowest threshold for which each end holds, and the one that is too
        high; of what is stale all below its own probability
    cells, stale : room for all pixels

    Returns
    -------
    int, int
        how many each of them has
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
