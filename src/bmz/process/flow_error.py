"""Compare predicted flows with the flows that the found objects would have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bmz.base.arrays import FloatArray, LabelArray

Indices = NDArray[np.intp]

SIDE_CLASS_PX = 8
"""Objects whose height and width agree up to this many px are diffused together."""

VALUES_AT_ONCE = 1 << 16
"""Pixels of windows that are diffused together, so that they stay in the cache."""

HEAT = np.float32(1e20)
"""What flows in at the centre a step. Only ratios count; this leaves room for faint far pixels."""


def flow_errors(labels: LabelArray, flow: FloatArray) -> FloatArray:
    """Give for each object the mean squared distance of two unit flows over its pixels.

    Parameters
    ----------
    labels : (y, x), 1 to n without gaps
    flow : (2, y, x) float32, the predicted flow along y and along x, about 1 px a step

    Returns
    -------
    (n,) float32, 0 (equal) to about 4 (opposite)
    """
    pixels = _Pixels.of(labels)
    wanted, (y, x) = _unit_flows(pixels), (pixels.y, pixels.x)
    apart = np.square(wanted[0] - flow[0, y, x]) + np.square(wanted[1] - flow[1, y, x])
    errors: FloatArray = np.bincount(pixels.owner, apart, len(pixels.size)) / pixels.size
    return errors.astype(np.float32)


def flows_of_labels(labels: LabelArray) -> FloatArray:
    """Give the unit flow from each pixel of an object towards its centre, by diffusion.

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
    pixels = _Pixels.of(labels)
    flow = np.zeros((2, *labels.shape), np.float32)
    flow[:, pixels.y, pixels.x] = _unit_flows(pixels)
    return flow


@dataclass(frozen=True)
class _Pixels:
    """The pixels of all objects, object by object, each in raster order.

    Parameters
    ----------
    y, x, owner : (pixels,) position in the image, number of the object from 0
    begin, size : (n,) where each object begins and how many pixels it has
    low : (n, 2) lowest y and x of each object
    sides : (n, 2) height and width of each object, px
    """

    y: Indices
    x: Indices
    owner: Indices
    begin: Indices
    size: Indices
    low: Indices
    sides: Indices

    @classmethod
    def of(cls, labels: LabelArray) -> _Pixels:
        flat = np.flatnonzero(labels)
        owner = labels.reshape(-1)[flat].astype(np.intp) - 1
        order = np.argsort(owner, kind="stable")
        owner, (y, x) = owner[order], np.divmod(flat[order], labels.shape[1])
        size = np.bincount(owner)
        begin = np.cumsum(size) - size
        found = ndimage.find_objects(labels)
        box = np.array([[(s.start, s.stop) for s in slices] for slices in found], np.intp)
        low, high = np.moveaxis(box.reshape(-1, 2, 2), 2, 0)
        return cls(y, x, owner, begin, size, low, high - low)

    def centres(self) -> Indices:
        """Give the index of the pixel of each object that is nearest to the mean of its pixels."""
        apart = np.zeros(len(self.owner))
        for axis, place in enumerate((self.y, self.x)):
            inside = place - self.low[self.owner, axis]
            mean = np.bincount(self.owner, inside) / self.size
            apart += np.square(inside - mean[self.owner])
        nearest = np.minimum.reduceat(apart, self.begin)
        hits = np.flatnonzero(apart == nearest[self.owner])
        return hits[np.searchsorted(hits, self.begin)]  # the first of equals

    def of_objects(self, objects: Indices) -> tuple[Indices, Indices]:
        """Give the pixels of some objects, and for each pixel the place of its object there."""
        many = self.size[objects]
        place = np.repeat(np.arange(len(objects)), many)
        first = self.begin[objects] - (np.cumsum(many) - many)
        return np.arange(many.sum()) + first[place], place


def _unit_flows(pixels: _Pixels) -> FloatArray:
    rise = np.zeros((2, len(pixels.owner)), np.float32)
    if len(pixels.size) == 0:
        return rise
    centres = pixels.centres()
    for together in _batches(pixels.sides):
        _diffuse(pixels, together, centres[together], rise)
    rise /= HEAT
    length = np.sqrt(np.square(rise, dtype=np.float64).sum(axis=0))
    length[length == 0] = 1
    unit: FloatArray = (rise / length).astype(np.float32)
    return unit


def _steps(sides: Indices) -> Indices:
    steps: Indices = 2 * (sides + 2).sum(axis=-1)
    return steps


def _batches(sides: Indices) -> Iterator[Indices]:
    # objects of about the same height and width; in each batch those of fewer steps come first
    classes = -(-sides // SIDE_CLASS_PX)
    order = np.lexsort([_steps(sides), classes[:, 1], classes[:, 0]])
    change = np.flatnonzero(np.diff(classes[order], axis=0).any(axis=1)) + 1
    for same in np.split(order, change):
        window = int((classes[same[0]] * SIDE_CLASS_PX + 2).prod())
        many = max(VALUES_AT_ONCE // window, 1)
        yield from np.split(same, np.arange(many, len(same), many))


def _diffuse(pixels: _Pixels, objects: Indices, centres: Indices, rise: FloatArray) -> None:
    """Write the rise of the heat at the pixels of `objects` into `rise`.

    All objects lie in windows of one size with a free margin; neighbouring windows are
    neighbours in memory, so that a neighbour pixel is a fixed number of values away.
    """
    height, width = pixels.sides[objects].max(axis=0) + 2
    right, down = len(objects), len(objects) * int(width)
    mine, place = pixels.of_objects(objects)
    owner = objects[place]
    row, column = pixels.y[mine] - pixels.low[owner, 0], pixels.x[mine] - pixels.low[owner, 1]
    at = (row + 1) * down + (column + 1) * right + place
    inside = np.zeros(int(height) * down, np.float32)
    inside[at] = 1 / 9
    source = at[np.searchsorted(place, np.arange(right)) + centres - pixels.begin[objects]]

    plate, done = _Plate.of(inside, right, down), 0
    steps = _steps(pixels.sides[objects])
    for last in np.unique(steps):
        plate.warm(source, int(last) - done)
        done = int(last)
        ready = steps[place] == last
        heat, here = plate.heat, at[ready]
        rise[0, mine[ready]] = heat[here + down] - heat[here - down]
        rise[1, mine[ready]] = heat[here + right] - heat[here - right]


@dataclass(frozen=True)
class _Plate:
    """Windows in which heat spreads: the arrays are worked on in place.

    Parameters
    ----------
    heat : (values,) of all windows
    inside : (values,) 1 / 9 on objects, 0 elsewhere
    right, down : how far the next pixel to the right, and below, is
    triple, ninefold : room for the sums over 3 and over 9 pixels
    """

    heat: FloatArray
    inside: FloatArray
    right: int
    down: int
    triple: FloatArray
    ninefold: FloatArray

    @classmethod
    def of(cls, inside: FloatArray, right: int, down: int) -> _Plate:
        triple = np.empty(len(inside) - 2 * right, np.float32)
        ninefold = np.empty(len(triple) - 2 * down, np.float32)
        return cls(np.zeros_like(inside), inside, right, down, triple, ninefold)

    def warm(self, source: Indices, steps: int) -> None:
        """Let heat flow in at `source` and spread, `steps` times."""
        heat, triple, ninefold = self.heat, self.triple, self.ninefold
        right, down = self.right, self.down
        edge = right + down
        for _ in range(steps):
            heat[source] += HEAT
            np.add(heat[: -2 * right], heat[right:-right], out=triple)
            np.add(triple, heat[2 * right :], out=triple)
            np.add(triple[: -2 * down], triple[down:-down], out=ninefold)
            np.add(ninefold, triple[2 * down :], out=ninefold)
            np.multiply(ninefold, self.inside[edge:-edge], out=heat[edge:-edge])
