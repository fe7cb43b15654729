"""The common finish of all label recipes: smooth, fill, drop by size and place, number anew."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from bmz.base.arrays import AnyArray, BoolArray, LabelArray
from bmz.process.recipe import Finish, Labelled
from bmz.process.relabel import in_raster_order

Box = tuple[slice, ...]

HALF = 0.5
"""A pixel belongs to a smoothed object where it is more inside than outside."""

REACH_SIGMAS = 3
"""How far a smoothed outline can move."""


def finish_labels(labelled: Labelled, wanted: Finish) -> Labelled:
    """Smooth and fill objects, drop some, and number the others in raster order.

    Parameters
    ----------
    labelled : ((z,) y, x) on the grid of the image, with scores or without; classes are given
        back as they are, because their numbers mean something
    wanted : sizes in px of the image; 0 and false ask for nothing

    Returns
    -------
    Labelled
        1 to n without gaps; the scores of those that are left
    """
    if labelled.classes or labelled.labels.size == 0:
        return labelled
    labels = labelled.labels
    if wanted.smooth > 0:
        labels = smoothed(labels, wanted.smooth)
    if wanted.fill_holes:
        labels = without_holes(labels)
    return in_raster_order(_kept(labels, wanted), labelled.scores)


def smoothed(labels: LabelArray, sigma_px: float) -> LabelArray:
    """Smooth the outline of every object with a Gaussian; objects never overlap after it.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background
    sigma_px : standard deviation of the Gaussian; a thin object that would vanish stays as it is
    """
    result = labels.copy()
    for number, box in _boxes(labels, round(REACH_SIGMAS * sigma_px) + 1):
        window = labels[box]
        own = window == number
        soft = ndimage.gaussian_filter(own.astype(np.float32), sigma_px, mode="nearest") > HALF
        inside = soft & (own | (window == 0))
        if inside.any():
            result[box][own] = 0
            result[box][inside] = number
    return result


def without_holes(labels: LabelArray) -> LabelArray:
    """Fill background that an object encloses; other objects within it stay.

    Parameters
    ----------
    labels : ((z,) y, x), 0 background
    """
    result = labels.copy()
    for number, box in _boxes(labels, 0):
        own = labels[box] == number
        if own.all():
            continue
        hole = ndimage.binary_fill_holes(own) & (labels[box] == 0)
        result[box][hole] = number
    return result


def at_border(labels: LabelArray) -> BoolArray:
    """Say for labels 0 to the highest whether they touch the edge of the image along y or x."""
    touches = np.zeros(int(labels.max(initial=0)) + 1, np.bool_)
    for edge in (labels[..., :1, :], labels[..., -1:, :], labels[..., :1], labels[..., -1:]):
        touches[np.unique(edge)] = True
    return touches


def _kept(labels: LabelArray, wanted: Finish) -> AnyArray:
    if not (wanted.min_size or wanted.max_size or wanted.remove_border) or not labels.size:
        return labels
    size = np.bincount(labels.ravel())
    bad = size < wanted.min_size
    if wanted.max_size:
        bad |= size > wanted.max_size
    if wanted.remove_border:
        bad |= at_border(labels)
    bad[0] = True
    return np.where(bad[labels], 0, labels)


def _boxes(labels: LabelArray, margin: int) -> Iterator[tuple[int, Box]]:
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            wide = (slice(max(s.start - margin, 0), s.stop + margin) for s in box)
            yield number, tuple(wide)
