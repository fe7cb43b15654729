"""Outlines of labels, and colours for them that neighbours do not share."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from bmz.base.arrays import AnyArray, BoolArray, FloatArray

# Okabe and Ito 2008, "Color Universal Design"
_ORANGE, _SKY, _YELLOW = (0.90, 0.62, 0.0), (0.34, 0.71, 0.91), (0.94, 0.89, 0.26)
_VERMILLION, _GREEN, _PURPLE = (0.84, 0.37, 0.0), (0.0, 0.62, 0.45), (0.80, 0.47, 0.65)
_BLUE, _BLACK = (0.0, 0.45, 0.70), (0.0, 0.0, 0.0)
_ON_DARK = np.array([_YELLOW, _SKY, _ORANGE, _GREEN, _PURPLE, _VERMILLION], np.float32)
_ON_BRIGHT = np.array([_BLUE, _VERMILLION, _GREEN, _PURPLE, _BLACK, _ORANGE], np.float32)

_WIDTH_PX = 2
"""Of an outline."""

_NEIGHBOURS_WITHIN_PX = 6
_STEP_PX = 3
"""Every third pixel is enough to see who is near whom, in a ninth of the time."""


def outlines(labels: AnyArray) -> tuple[BoolArray, BoolArray]:
    """Find the outline of every object, and the thin shade around it.

    The outline lies inside the object and is two pixels wide: where two objects touch, each keeps
    its own.

    Parameters
    ----------
    labels : (y, x) integers, 0 background

    Returns
    -------
    outline, shade : (y, x) bool
        the shade is the pixel outside of the outline on background
    """
    inside = labels > 0
    # no outline along the border of the image: the object goes on there
    edge = inside & (_near_change(labels) | _near_change(labels.T).T)
    shade = np.zeros_like(inside)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        shade[here] |= inside[there]
        shade[there] |= inside[here]
    return edge, shade & ~inside


def _near_change(labels: AnyArray) -> BoolArray:
    """Say where a label changes along x within the 5 x 5 pixels around each."""
    height, width = labels.shape
    changes = labels[:, 1:] != labels[:, :-1]
    along = np.zeros((height, width), np.bool_)
    # between a pixel and the next: from two pixels before to one behind
    for step in range(-_WIDTH_PX, _WIDTH_PX):
        low, high = max(-step, 0), min(width - 1 - step, width)
        along[:, low:high] |= changes[:, low + step : high + step]
    across = along.copy()
    for step in range(1, _WIDTH_PX + 1):
        across[step:] |= along[:-step]
        across[:-step] |= along[step:]
    return across


def outline_colours(labels: AnyArray, *, bright: bool = False) -> FloatArray:
    """Choose a colour for each label, so that objects near each other differ where they can.

    Labels are taken in order; each gets the first colour that no neighbour has, and turns through
    the palette otherwise.

    Parameters
    ----------
    labels : (y, x) integers, 0 background
    bright : the image behind is bright, so that the colours had better be dark

    Returns
    -------
    (most + 1, 3) float32
        red, green, blue from 0 to 1 of label k at k
    """
    chosen = np.zeros(int(labels.max(initial=0)) + 1, int)
    palette, near = _ON_BRIGHT if bright else _ON_DARK, _neighbours(labels)
    for label in np.unique(labels[labels > 0]).tolist():
        taken = {int(chosen[other]) for other in near.get(label, ()) if other < label}
        free = [k for k in range(len(palette)) if k not in taken]
        chosen[label] = free[0] if free else label % len(palette)
    return palette[chosen]


def _neighbours(labels: AnyArray) -> dict[int, set[int]]:
    sparse = labels[::_STEP_PX, ::_STEP_PX]
    # as skimage.segmentation.expand_labels, whose import takes as long as a small run
    away, nearest = distance_transform_edt(sparse == 0, return_indices=True)
    near_enough = away <= _NEIGHBOURS_WITHIN_PX // _STEP_PX
    grown = np.where(near_enough, sparse[tuple(nearest)], 0)
    pairs: set[tuple[int, int]] = set()
    for one, other in ((grown[1:], grown[:-1]), (grown[:, 1:], grown[:, :-1])):
        touch = (one != other) & (one > 0) & (other > 0)
        pairs |= set(zip(one[touch].tolist(), other[touch].tolist(), strict=True))
    near: dict[int, set[int]] = {}
    for a, b in pairs:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    return near
