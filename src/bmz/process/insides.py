"""Number the insides of cells, where some touch at a corner and noise crumbles others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bmz.base.arrays import BoolArray, LabelArray

A_SPECK = 40
"""What holds more specks than one in so many entries is crumbled by noise. From 10 to 60 F1 hardly
depends on it, on the masks of ``benchmarks/parity.py`` and on those of its ``--held-out`` alike."""

Numbers = NDArray[np.intp]


def number_insides(inside: BoolArray, sure: BoolArray, least: float) -> LabelArray:
    """Give a number to what is connected by faces, and judge what touches at a corner alone.

    Two cells often touch at a corner, so parts that do are two, but for three cases: both are one
    where nothing speaks for a boundary between them; a speck beside something larger is no part;
    and where specks are many, noise has crumbled what is one.

    Parameters
    ----------
    inside : ((z,) y, x)
    sure : of the same shape, the part of `inside` that no boundary is near
    least : entries of the smallest part; what is smaller is a speck

    Returns
    -------
    ((z,) y, x) int
        numbers above 0, with gaps; 0 outside and at specks that count for nothing
    """
    corners = np.ones((3,) * inside.ndim)
    parts, count = ndimage.label(inside)
    touching, clusters = ndimage.label(inside, corners)
    if count == clusters:
        return np.asarray(parts)
    number = _joined(parts, count, ndimage.label(sure, corners)[0])
    cluster = np.zeros(count + 1, np.intp)
    cluster[parts.ravel()] = touching.ravel()
    size = np.bincount(number, np.bincount(parts.ravel(), minlength=count + 1), count + 1)
    size[number[0]] = 0
    numbers: LabelArray = _without_specks(number, size, cluster, least).astype(parts.dtype)[parts]
    return numbers


def _joined(parts: LabelArray, count: int, sure: LabelArray) -> Numbers:
    # each part by the number of one of those that it is connected with by what is sure
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    place = np.flatnonzero(sure)
    part, core = parts.ravel()[place], sure.ravel()[place]
    leader = np.zeros(int(sure.max(initial=0)) + 1, part.dtype)
    leader[core] = part
    apart = part != leader[core]
    pairs = part[apart], leader[core[apart]]
    graph = coo_array((np.ones(len(pairs[0])), pairs), shape=(count + 1, count + 1))
    found: Numbers = connected_components(graph, directed=False)[1].astype(np.intp)
    return found


def _without_specks(number: Numbers, size: Numbers, cluster: Numbers, least: float) -> Numbers:
    # of each part the number that it keeps; `size` and `cluster` of all numbers
    of_number = np.zeros(len(size), np.intp)
    of_number[number] = cluster
    rising = np.argsort(size, kind="stable")
    largest = np.zeros(int(cluster.max()) + 1, np.intp)
    largest[of_number[rising]] = rising
    speck = (size > 0) & (size < least)
    crumbled = np.bincount(of_number, speck) * A_SPECK > np.bincount(of_number, size)
    kept = np.where(speck, 0, np.arange(len(size)))
    kept[largest] = largest
    kept = np.where(crumbled[of_number], largest[of_number], kept)
    kept[number[0]] = 0
    return kept[number]
