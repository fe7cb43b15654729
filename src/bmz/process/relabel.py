"""Number the objects of a label mask 1, 2, 3 in the order in which a reader meets them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.process.recipe import Labelled

SPARSE = 4
"""With numbers above this many times the pixels, a table of all numbers costs more than a sort."""


def in_raster_order(labels: AnyArray, scores: FloatArray | None = None) -> Labelled:
    """Give the objects the numbers 1 to n, without gaps, in raster order of their first pixels.

    Parameters
    ----------
    labels : (..., y, x) integers; 0 and below is background
    scores : (m,), the score of label k at k - 1, with m at least the highest label

    Returns
    -------
    Labelled
        `labels` int32 of the same shape; `scores` (n,) float32 of the objects that have a pixel
    """
    flat = np.ascontiguousarray(labels).reshape(-1)
    if not np.any(flat > 0):
        nobody = None if scores is None else np.zeros(0, np.float32)
        return Labelled(np.zeros(np.shape(labels), np.int32), nobody)
    old = _in_order_of_appearance(flat)
    number = _numbered(flat, old).reshape(np.shape(labels))
    return Labelled(number, None if scores is None else np.asarray(scores, np.float32)[old - 1])


def _in_order_of_appearance(flat: LabelArray) -> NDArray[np.int64]:
    begins = np.flatnonzero((flat > 0) & np.concatenate([[True], flat[1:] != flat[:-1]]))
    values = flat[begins].astype(np.int64)
    if values.max() > SPARSE * flat.size:
        found, first = np.unique(values, return_index=True)
    else:
        table = np.full(int(values.max()) + 1, len(values))
        table[values[::-1]] = np.arange(len(values))[::-1]  # the last one written is the first seen
        found = np.flatnonzero(table < len(values))
        first = table[found]
    ordered: NDArray[np.int64] = found[np.argsort(first)]
    return ordered


def _numbered(flat: LabelArray, old: NDArray[np.int64]) -> NDArray[np.int32]:
    new = np.arange(1, len(old) + 1, dtype=np.int32)
    if old.max() > SPARSE * flat.size:
        rising = np.argsort(old)
        place = np.minimum(np.searchsorted(old[rising], flat), len(old) - 1)
        return np.where(flat > 0, new[rising][place], np.int32(0))
    table = np.zeros(int(old.max()) + 1, np.int32)
    table[old] = new
    return table[np.maximum(flat, 0)]


def closed_up(labels: AnyArray) -> tuple[LabelArray, AnyArray]:
    """Give labels without gaps in their order, and the number that each had.

    ``skimage.segmentation.relabel_sequential`` gives the same, and sorts the whole image for it.

    Parameters
    ----------
    labels : (...) integers, 0 is background

    Returns
    -------
    (...) integers
        1 to n, and 0 where `labels` is 0
    (n,) integers
        the number that label k had, at k - 1
    """
    most = int(labels.max(initial=0))
    if most > 2 * labels.size:  # a table of all numbers would be larger than the image
        found, flat = np.unique(labels, return_inverse=True)
        present = found[found > 0]
        return flat.reshape(labels.shape) + (1 - len(found) + len(present)), present
    there = np.zeros(most + 1, np.bool_)
    there[labels.reshape(-1)] = True
    if there[1:].all():
        return labels, np.arange(1, most + 1)
    there[0] = False
    ranks = np.where(there, np.cumsum(there), 0)
    return ranks[labels], np.flatnonzero(there)
