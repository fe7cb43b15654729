"""The label recipe ``affinities``: neighbours near and far that belong together, or do not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray
from bmz.base.errors import WrongUsage
from bmz.process.linkage import Borders, merged
from bmz.process.maps import on_input_grid
from bmz.process.output_map import ChannelsDiffer
from bmz.process.recipe import Labelled, Parameter, Recipe
from bmz.process.relabel import in_raster_order

Offset = tuple[int, ...]
Indices = NDArray[np.intp]

NONE = -1


class OffsetsUnclear(WrongUsage):
    """Nothing says to which neighbour a channel of affinities belongs."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(
            f"recipe 'affinities' cannot read the offsets '{text}': {why}",
            hint="give one a channel with --set offsets='-1,0;0,-1;-9,0;0,-9' (y,x; or z,y,x)",
            code="recipe.offsets",
        )


@dataclass(frozen=True)
class AffinitySettings:
    """The parameters of the recipe; `AFFINITIES` says what they mean."""

    offsets: str = ""
    one_is_apart: bool = False
    foreground_channel: int = NONE
    foreground_threshold: float = 0.5
    stride: int = 1
    seed: float = 0.9
    growth: float = 0.1
    merge: float = 0.5


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


def label_affinities(output: AnyArray, grid: tuple[int, ...], **parameters: Any) -> Labelled:  # noqa: ANN401  (as every recipe)
    """Join pixels by their affinities.

    With affinities to far pixels it is the mutex watershed: all edges are seen from the strongest
    to the weakest; one to a direct neighbour joins, unless its two objects were told apart; one
    to a far pixel tells apart, unless its ends are one object (Wolf et al. 2020). With direct
    neighbours alone, pixels with an affinity above `seed` are fragments, which grow over those
    above `growth`, and fragments are joined while the mean affinity along their border is above
    `merge` (average linkage).

    Parameters
    ----------
    output : (c, (z,) y, x), probabilities; one channel an offset
    grid : spacing of the map, px of the input; offsets count entries of the map
    **parameters : as in `AffinitySettings`

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``, without scores; a pixel that is joined to none is
        background where there is no far affinity, and an object of its own otherwise

    Raises
    ------
    OffsetsUnclear, ChannelsDiffer
        The offsets are none, or not as many as there are affinities.
    """
    wanted = AffinitySettings(**parameters)
    maps, mask = _parted(output, wanted)
    offsets = offsets_of(wanted.offsets, len(maps), maps.ndim - 1)
    near = [i for i, offset in enumerate(offsets) if sum(map(abs, offset)) == 1]
    far = [i for i in range(len(offsets)) if i not in near]
    if not near:
        raise OffsetsUnclear(wanted.offsets, "none of them is that of a direct neighbour")
    joins = edges_of(maps[near], [offsets[i] for i in near], mask)
    if far:
        apart = edges_of(maps[far], [offsets[i] for i in far], mask, wanted.stride)
        labels = mutex_watershed(joins, apart, mask)
    else:
        labels = agglomerated(joins, mask, wanted)
    return in_raster_order(on_input_grid(labels, grid))


def offsets_of(text: str, channels: int, axes: int) -> list[Offset]:
    """Read offsets such as ``-1,0;0,-1``; an empty text means the direct neighbours.

    Raises
    ------
    OffsetsUnclear
        It is no list of whole numbers, one a channel with one number an axis.
    """
    if not text:
        if channels != axes:
            raise OffsetsUnclear(text, f"there are {channels} channels of {axes} axes")
        return [tuple(-int(i == axis) for i in range(axes)) for axis in range(axes)]
    if not re.fullmatch(r"\s*-?\d+(\s*[,;]\s*-?\d+)*\s*", text):
        raise OffsetsUnclear(text, "they are no whole numbers")
    offsets = [tuple(map(int, one.split(","))) for one in text.split(";")]
    if len(offsets) != channels or {len(offset) for offset in offsets} != {axes}:
        raise OffsetsUnclear(text, f"wanted {channels}, one a channel, each with {axes} numbers")
    if not all(any(offset) for offset in offsets):
        raise OffsetsUnclear(text, "one of them is no step at all")
    return offsets


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


def mutex_watershed(joins: Edges, apart: Edges, mask: BoolArray) -> LabelArray:
    """Part the pixels of a mask by the mutex watershed.

    Source: Wolf et al. 2020, doi 10.1109/TPAMI.2020.2980827, algorithm 1.

    Parameters
    ----------
    joins : edges that join; the stronger, the more their ends belong together
    apart : edges that tell apart; the stronger, the less their ends belong together
    mask : ((z,) y, x), pixels that take part

    Returns
    -------
    ((z,) y, x) int32, 0 outside the mask
    """
    from bmz.process.affinity_loops import cut_edges

    one = np.concatenate([joins.one, apart.one])
    other = np.concatenate([joins.other, apart.other])
    strength = np.concatenate([joins.together, 1 - apart.together])
    order = np.argsort(-strength, kind="stable")
    roots = cut_edges(mask.size, one, other, order, len(joins.one))
    return _numbered(roots, mask)


def agglomerated(joins: Edges, mask: BoolArray, wanted: AffinitySettings) -> LabelArray:
    """Join direct neighbours as `label_affinities` says.

    Parameters
    ----------
    joins : edges between direct neighbours
    mask : ((z,) y, x), pixels that take part
    wanted : `seed`, `growth` and `merge`

    Returns
    -------
    ((z,) y, x) int32, 0 background
    """
    from bmz.process.affinity_loops import grow_fragments

    order = np.argsort(-joins.together, kind="stable")
    rising = -joins.together[order]
    sure = int(np.searchsorted(rising, -wanted.seed, side="left"))
    likely = int(np.searchsorted(rising, -wanted.growth, side="left"))
    roots = grow_fragments(mask.size, joins.one, joins.other, order[:likely], sure)
    fragments = in_raster_order(_numbered(roots, mask & (roots >= 0).reshape(mask.shape))).labels
    flat = fragments.reshape(-1)
    border = joins.take((flat[joins.one] > 0) & (flat[joins.other] > 0))
    distance = 1 - border.together.astype(np.float64)
    ends = flat[border.one] - 1, flat[border.other] - 1
    borders = Borders.of(*ends, distance, np.ones(len(distance)))
    number = merged(borders, int(fragments.max()), 1 - wanted.merge)
    labels: LabelArray = np.append(0, number + 1).astype(np.int32)[fragments]
    return labels


def _parted(output: AnyArray, wanted: AffinitySettings) -> tuple[FloatArray, BoolArray]:
    maps = np.nan_to_num(np.asarray(output, np.float32))
    mask = np.ones(maps.shape[1:], np.bool_)
    channel = wanted.foreground_channel
    if channel != NONE:
        if channel >= len(maps):
            raise ChannelsDiffer("affinities", f"a foreground channel {channel}", len(maps))
        mask = maps[channel] > wanted.foreground_threshold
        maps = np.delete(maps, channel, axis=0)
    return (1 - maps if wanted.one_is_apart else maps), mask


def _every(shape: tuple[int, ...], stride: int) -> BoolArray:
    chosen = np.zeros(shape, np.bool_)
    chosen[..., ::stride, ::stride] = True
    return chosen


def _numbered(roots: Indices, mask: BoolArray) -> LabelArray:
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.unique(roots.reshape(mask.shape)[mask], return_inverse=True)[1] + 1
    return labels


OFFSETS = "y,x or z,y,x of each channel, joined by ;  empty: the direct neighbours z, y, x"

AFFINITIES = Recipe(
    name="affinities",
    what="affinities to neighbours: the mutex watershed, or agglomeration where none is far",
    source="Wolf et al. 2020, doi 10.1109/TPAMI.2020.2980827; BiaPy 3.7.1 for direct neighbours",
    label=label_affinities,
    parameters=(
        Parameter("offsets", "", OFFSETS),
        Parameter("one_is_apart", False, "1 means apart (torch-em), not together"),  # noqa: FBT003  (a default, named by its parameter)
        Parameter("foreground_channel", NONE, "channel of a foreground; -1: none", NONE),
        Parameter("foreground_threshold", 0.5, "least foreground, probability", 0, 1),
        Parameter("stride", 1, "far affinities are read at every n-th pixel of y and x", 1),
        Parameter("seed", 0.9, "affinity of sure fragments; direct neighbours only", 0, 1),
        Parameter("growth", 0.1, "least affinity that fragments grow over; the same", 0, 1),
        Parameter("merge", 0.5, "mean affinity that joins fragments; the same", 0, 1),
    ),
)
"""The recipe of affinity maps."""
