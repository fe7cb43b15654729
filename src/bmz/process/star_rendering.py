"""Draw star-convex polygons into a label mask, all at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray
from bmz.process.star_polygons import Indices, Stars, ranges

PIXELS_AT_ONCE = 1 << 17
"""Pixels of lines of bounding boxes that are looked at together, so that they stay in the cache."""

ON_THE_EDGE = np.float32(1e-6)
"""A pixel this near to the outline, as a share of its way from the centre, belongs to it."""


def render_polygons(
    points: AnyArray, distances: AnyArray, scores: AnyArray, shape: tuple[int, int]
) -> NDArray[np.int32]:
    """Give each pixel the number of the best polygon that holds its centre.

    Polygon i becomes label i + 1; of two with the same score the later one wins. A pixel whose
    centre lies on the outline belongs to the polygon, as in ``skimage.draw.polygon``.

    Parameters
    ----------
    points : (n, 2), centres (y, x) in px; they may lie outside the mask
    distances : (n, rays), px
    scores : (n,)
    shape : height and width of the mask, px

    Returns
    -------
    (y, x) int32; a polygon that others hide has no pixel
    """
    labels = np.zeros(shape, np.int32)
    order = np.argsort(np.asarray(scores), kind="stable")
    stars = Stars.of(np.asarray(points)[order], np.asarray(distances)[order])
    gauges = stars.gauges()
    low, high = _windows(stars, shape)
    star, y = ranges(low[:, 0], high[:, 0])
    for part in _parts(high[star, 1] - low[star, 1]):
        line, x = ranges(low[star[part], 1], high[star[part], 1])
        s, row = star[part][line], y[part][line]
        inside = _inside(stars, gauges, s, row, x)
        # where polygons overlap the last one written, which is the best, stays
        labels[row[inside], x[inside]] = order[s[inside]] + 1
    return labels


def _parts(widths: Indices) -> Iterator[slice]:
    # runs of lines with so many pixels, or a single longer line
    pixels = np.cumsum(widths)
    start = 0
    while start < len(widths):
        before = pixels[start] - widths[start]
        stop = int(np.searchsorted(pixels, before + PIXELS_AT_ONCE, side="right"))
        yield slice(start, max(stop, start + 1))
        start = max(stop, start + 1)


def _windows(stars: Stars, shape: tuple[int, int]) -> tuple[Indices, Indices]:
    box = stars.boxes().reshape(-1, 2, 2) + stars.points[:, None]
    slack = float(ON_THE_EDGE) * stars.reach()[:, None]
    low = np.clip(np.ceil(box[:, 0] - slack), 0, shape).astype(np.intp)
    high = np.clip(np.floor(box[:, 1] + slack) + 1, 0, shape).astype(np.intp)
    return low, np.maximum(high, low)


def _inside(stars: Stars, gauges: FloatArray, star: Indices, y: Indices, x: Indices) -> BoolArray:
    off_y = (y - stars.points[star, 0]).astype(np.float32)
    off_x = (x - stars.points[star, 1]).astype(np.float32)
    turn = np.arctan2(off_y, off_x) * np.float32(stars.rays / (2 * np.pi))
    wedge = np.floor(turn).astype(np.intp) % stars.rays
    along_y, along_x = gauges
    share = off_y * along_y[star, wedge] + off_x * along_x[star, wedge]
    inside: BoolArray = share <= 1 + ON_THE_EDGE
    return inside
