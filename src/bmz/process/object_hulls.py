"""Areas of the convex hulls of all objects at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.process.object_runs import Integers, Runs


def convex_areas(runs: Runs) -> Integers:
    """Count the pixels in the convex hull of each object of a plane.

    Source: ``skimage.morphology.convex_hull_image``: the hull of the middles of the edges of all
    pixels, with the pixels whose middle lies in it or on its border. Here of all objects at once,
    in whole numbers (half pixels are counted), which takes a hundredth of the time.

    Returns
    -------
    (n,) int64
    """
    rows = _rows(runs)
    if not len(rows.label):
        return np.zeros(runs.count, np.int64)
    left = _chain(rows.label, rows.y, rows.first)
    right = _chain(rows.label, rows.y, -rows.last)
    count = runs.count
    top, bottom = np.full(count, rows.y.max()), np.zeros(count, np.int64)
    np.minimum.at(top, rows.label, rows.y)
    np.maximum.at(bottom, rows.label, rows.y)
    heights = bottom - top + 1
    label = np.repeat(np.arange(count), heights)
    # 0, 1, 2 ... within each object
    within = np.arange(len(label)) - np.repeat(np.cumsum(heights) - heights, heights)
    y = top[label] + within
    first, last = left.ends(label, 2 * y), -right.ends(label, 2 * y)
    inside: AnyArray = np.bincount(label, np.maximum(last - first + 1, 0), minlength=count)
    return inside.astype(np.int64)


@dataclass(frozen=True)
class _Rows:
    """The first and the last pixel of each object in each row, sorted by object and row."""

    label: Integers
    y: Integers
    first: Integers
    last: Integers


def _rows(runs: Runs) -> _Rows:
    (y,) = runs.others
    key = runs.own * (int(y.max(initial=0)) + 1) + y
    order = np.argsort(key, kind="stable")
    groups = np.flatnonzero(np.diff(key[order], prepend=-1))
    if not len(groups):
        nothing = np.zeros(0, np.int64)
        return _Rows(nothing, nothing, nothing, nothing)
    return _Rows(
        runs.own[order][groups],
        y[order][groups],
        np.minimum.reduceat(runs.first[order], groups),
        np.maximum.reduceat(runs.last[order], groups),
    )


@dataclass(frozen=True)
class _Chain:
    """The left side of the hulls of all objects, in half pixels, sorted by object and y."""

    key: Integers
    span: int
    y: Integers
    x: Integers

    def ends(self, label: Integers, y: Integers) -> Integers:
        """Give the first pixel at or right of the chain, for objects and their rows."""
        at = np.searchsorted(self.key, label * self.span + y + 1, side="right") - 1
        dy = self.y[at + 1] - self.y[at]
        x = self.x[at] * dy + (self.x[at + 1] - self.x[at]) * (y - self.y[at])
        first: Integers = -((-x) // (2 * dy))  # rounded up, from half pixels to pixels
        return first


def _chain(label: Integers, y: Integers, first: Integers) -> _Chain:
    """Find the convex chain left of the middles of the edges of the `first` pixels."""
    # an edge to the left, one above and one below
    labels = np.concatenate([label, label, label])
    ys = np.concatenate([2 * y, 2 * y - 1, 2 * y + 1])
    xs = np.concatenate([2 * first - 1, 2 * first, 2 * first])
    span = int(ys.max()) + 3
    key = labels * span + ys + 1
    order = np.argsort(key, kind="stable")
    groups = np.flatnonzero(np.diff(key[order], prepend=-1))
    x = np.minimum.reduceat(xs[order], groups)
    key = key[order][groups]
    ys, labels = ys[order][groups], labels[order][groups]
    while True:
        # where several points beside each other bulge in, none of them is a corner
        bulges = np.zeros(len(x), np.bool_)
        before, here, after = slice(None, -2), slice(1, -1), slice(2, None)
        chord = (x[after] - x[before]) * (ys[here] - ys[before])
        own = (x[here] - x[before]) * (ys[after] - ys[before])
        bulges[1:-1] = (own >= chord) & (labels[before] == labels[after])
        if not bulges.any():
            return _Chain(key, span, ys, x)
        x, ys, labels, key = (part[~bulges] for part in (x, ys, labels, key))
