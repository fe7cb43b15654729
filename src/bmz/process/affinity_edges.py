"""Pairs of pixels, and how much they belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray

Offset = tuple[int, ...]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Edges:
    """Pairs of pixels, and how much they belong together.

    Parameters
    ----------
    one, other : (edges,) flat positions
    together : (edges,) float32, 0 to 1
    """

    one: Indices
    other: Indices
    together: FloatArray

    def take(self, which: AnyArray) -> Edges:
        """Give the edges that an index or a mask selects."""
        return Edges(self.one[which], self.other[which], self.together[which])


def edges_of(
    maps: FloatArray, offsets: Sequence[Offset], mask: BoolArray, stride: int = 1
) -> Edges:
    """Collect the pairs of pixels of all offsets that lie within the image and the mask.

    Parameters
    ----------
    maps : (c, (z,) y, x), 1 where a pixel and the one at the offset belong together
    stride : only pixels whose positions along y and x are multiples of this have an edge
    """
    place = np.arange(mask.size).reshape(mask.shape)
    parts = []
    for values, offset in zip(maps, offsets, strict=True):
        here = tuple(
            slice(max(-o, 0), n - max(o, 0)) for o, n in zip(offset, mask.shape, strict=True)
        )
        there = tuple(
            slice(max(o, 0), n - max(-o, 0)) for o, n in zip(offset, mask.shape, strict=True)
        )
        if any(abs(o) >= n for o, n in zip(offset, mask.shape, strict=True)):
            continue
        both = mask[here] & mask[there]
        if stride > 1:
            both &= _every(mask.shape, stride)[here]
        parts.append((place[here][both], place[there][both], values[here][both]))
    empty = (np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0, np.float32))
    return Edges(*(np.concatenate(side) for side in zip(empty, *parts, strict=True)))


def _every(shape: tuple[int, ...], stride: int) -> BoolArray:
    chosen = np.zeros(shape, np.bool_)
    chosen[..., ::stride, ::stride] = True
    return chosen
