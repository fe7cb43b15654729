"""The label recipe ``affinities``: whether pixels and near or far neighbours belong together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

import numpy as np

from bmz.base.arrays import (
    AnyArray,
    BoolArray,
    FloatArray,
    LabelArray,
    LazyArray,
    stable_order,
)
from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.process.affinity_maps import (
    Edges,
    Indices,
    Offset,
    Reader,
    edges_of,
    full_affinity,
    sigma_against_noise,
)
from bmz.process.gasp import Linking, agglomerated
from bmz.process.recipe import SHARES, InBlocks, Knob, Labelled, Recipe, Value
from bmz.process.relabel import ChannelsDiffer, on_input_grid, renumbered, without_small

NONE = -1

OF_MAP = -1.0
"""The value is computed from the map."""

AS_NEIGHBOURS_ASK = -1

LEAST_TABLE = 1021
"""Initial size of the hash table, which grows as needed."""

SPECK = 15
"""Smallest object if all neighbours are direct, px of the input; smaller ones are noise."""


class OffsetsUnclear(WrongUsage):
    """The offsets do not state which neighbour each channel of affinities belongs to."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(
            f"recipe 'affinities' cannot read the offsets '{text}': {why}",
            hint="give one offset per channel with --set offsets='-1,0;0,-1;-9,0;0,-9' (y,x; or "
            "z,y,x)",
            code="recipe.offsets",
        )


@dataclass(frozen=True)
class AffinitySettings:
    """Parameters of the recipe; `seed` to `sigma` apply only if all neighbours are direct."""

    offsets: Annotated[
        str, Knob("y,x or z,y,x per channel, separated by ;  empty: the direct neighbours z, y, x")
    ] = ""
    one_is_apart: Annotated[bool, Knob("1 means apart (torch-em), not together")] = False
    foreground_channel: Annotated[int, Knob("channel of the foreground; -1: none", NONE)] = NONE
    foreground_threshold: Annotated[
        float, Knob("minimum foreground probability", 0, 1, cures=SHARES)
    ] = 0.5
    stride: Annotated[int, Knob("far affinities are read at every n-th pixel along y and x", 1)] = 1
    seed: Annotated[
        float,
        Knob(
            "affinity of certain fragments, as a share of full affinity; direct neighbours only",
            0,
            1,
        ),
    ] = 0.9
    seed_size: Annotated[int, Knob("smallest seed, px of the map; direct neighbours only", 0)] = 3
    growth: Annotated[
        float, Knob("minimum affinity over which fragments grow; direct neighbours only", 0, 1)
    ] = 0.5
    merge: Annotated[
        float, Knob("minimum median affinity that joins fragments; direct neighbours only", 0, 1)
    ] = 0.7
    pairs: Annotated[
        int, Knob("minimum number of pixel pairs in a border that joins; direct neighbours only", 1)
    ] = 1
    full: Annotated[
        float,
        Knob("affinity that counts as 1; -1: from the map; direct neighbours only", OF_MAP, 1),
    ] = OF_MAP
    sigma: Annotated[
        float,
        Knob(
            "Gaussian against noise, px of the map; -1: by its noise; direct neighbours only",
            OF_MAP,
            9,
        ),
    ] = OF_MAP
    min_size: Annotated[
        int,
        Knob(
            "smallest object, px of the input; -1: 15 with direct neighbours only, else 0",
            AS_NEIGHBOURS_ASK,
        ),
    ] = AS_NEIGHBOURS_ASK


def label_affinities(
    output: AnyArray, grid: tuple[int, ...], settings: AffinitySettings
) -> Labelled:
    """Merge pixels into objects by their affinities.

    If there are affinities to far pixels, this is the mutex watershed (Wolf et al. 2020): edges
    are processed from the strongest to the weakest; an edge to a direct neighbour merges two
    objects unless they were separated before, and an edge to a far pixel separates its ends
    unless they are one object. If all neighbours are direct, pixels whose affinities all exceed
    `seed` form fragments, which grow over affinities above `growth`; fragments are merged while
    the median affinity along their border is at least `merge` (`bmz.process.gasp`). These three
    thresholds are shares of `full`, the affinity of the map where it is certain. A map with
    pixel noise is smoothed first, by `sigma`.

    Parameters
    ----------
    output : (c, (z,) y, x), probabilities; one channel per offset
    grid : spacing of the map, px of the input; offsets are in pixels of the map
    settings : parameters of the recipe

    Returns
    -------
    Labelled
        of shape ``output.shape[1:] * grid``, without scores; a pixel that is merged with no other
        is background if there is no far affinity, and an object of its own otherwise

    Raises
    ------
    OffsetsUnclear, ChannelsDiffer
        The offsets cannot be read, are not one per affinity, or include no direct neighbour, or
        the foreground channel does not exist.
    """
    maps, mask = _parted(output, settings)
    offsets = offsets_of(settings.offsets, len(maps), maps.ndim - 1)
    near = [i for i, offset in enumerate(offsets) if sum(map(abs, offset)) == 1]
    far = [i for i in range(len(offsets)) if i not in near]
    if not near:
        raise OffsetsUnclear(settings.offsets, "none of them belongs to a direct neighbour")
    if far:
        joins = edges_of(maps[near], [offsets[i] for i in near], mask)
        apart = edges_of(maps[far], [offsets[i] for i in far], mask, settings.stride)
        labels = mutex_watershed(joins, apart, mask)
    else:
        known = [offsets[i] for i in near]
        labels = agglomerated(maps[near], known, mask, _linking(maps, settings, np.asarray))
    least = settings.min_size if settings.min_size >= 0 else SPECK * (not far)
    return Labelled(on_input_grid(renumbered(without_small(labels, least, grid)), grid))


def offsets_of(text: str, channels: int, axes: int) -> list[Offset]:
    """Parse offsets such as ``-1,0;0,-1``; an empty text stands for the direct neighbours.

    Raises
    ------
    OffsetsUnclear
        The text is not a list of integer offsets, one per channel with one number per axis, or
        an offset is zero.
    """
    if not text:
        if channels != axes:
            raise OffsetsUnclear(text, f"there are {channels} channels for {axes} axes")
        return [tuple(-int(i == axis) for i in range(axes)) for axis in range(axes)]
    if not re.fullmatch(r"\s*-?\d+(\s*[,;]\s*-?\d+)*\s*", text):
        raise OffsetsUnclear(text, "they are not whole numbers")
    offsets = [tuple(map(int, part.split(","))) for part in text.split(";")]
    if len(offsets) != channels or {len(offset) for offset in offsets} != {axes}:
        raise OffsetsUnclear(text, f"wanted {channels}, one per channel, each with {axes} numbers")
    if not all(any(offset) for offset in offsets):
        raise OffsetsUnclear(text, "one of them is zero along all axes")
    return offsets


def mutex_watershed(joins: Edges, apart: Edges, mask: BoolArray) -> LabelArray:
    """Segment the pixels of a mask by the mutex watershed.

    Source: Wolf et al. 2020, doi 10.1109/TPAMI.2020.2980827, algorithm 1.

    Parameters
    ----------
    joins : attractive edges; the more their ends belong together, the stronger
    apart : repulsive edges; the less their ends belong together, the stronger
    mask : ((z,) y, x), pixels to segment

    Returns
    -------
    ((z,) y, x) int32, 0 outside the mask
    """
    one = np.concatenate([joins.one, apart.one])
    other = np.concatenate([joins.other, apart.other])
    strength = np.concatenate([joins.together, 1 - apart.together])
    order = stable_order(-strength)
    return _numbered(_cut(mask.size, one, other, order, len(joins.one)), mask)


def _cut(count: int, one: Indices, other: Indices, order: Indices, joins: int) -> Indices:
    # the root of each of `count` pixels, see `cut_edges`
    from bmz.process.region_loops import cut_edges, enter

    parent, chains = np.arange(count), np.full((3, count), -1, np.intp)
    chains[2] = 0
    links = np.empty((2, 2 * (len(one) - joins)), np.intp)
    table, progress = np.full(LEAST_TABLE, -1, np.intp), np.zeros(4, np.intp)
    while True:
        cut_edges(parent, chains, links, table, progress, one, other, order, joins)
        if progress[0] == len(order):
            break
        wide = np.full(2 * max(len(table), int(progress[3])) + 1, -1, np.intp)
        enter(wide, table)
        table = wide
    while (parent[parent] != parent).any():
        parent = parent[parent]
    return parent


def linking_of_whole_map(
    maps: LazyArray,
    parameters: Mapping[str, Any],
) -> dict[str, Value]:
    """Compute `full` and `sigma` for direct neighbours; see `Recipe.of_whole_map`."""
    settings = AffinitySettings(
        **{field.name: parameters[field.name] for field in fields(AffinitySettings)}
    )
    axes = len(maps.shape) - 1
    channels = maps.shape[0] - (settings.foreground_channel != NONE)
    if any(sum(map(abs, offset)) != 1 for offset in offsets_of(settings.offsets, channels, axes)):
        return {}
    linking = _linking(maps, settings, lambda part: _parted(part, settings)[0])
    return {"full": linking.full, "sigma": linking.sigma}


def _linking(maps: LazyArray, settings: AffinitySettings, read: Reader) -> Linking:
    sigma = settings.sigma if settings.sigma >= 0 else sigma_against_noise(maps, read)
    full = settings.full if settings.full >= 0 else full_affinity(maps, read, sigma)
    sure = (settings.seed, settings.seed_size)
    return Linking(*sure, settings.growth, settings.merge, settings.pairs, full, sigma)


def _parted(output: AnyArray, settings: AffinitySettings) -> tuple[FloatArray, BoolArray]:
    maps = np.asarray(output, np.float32)
    if not np.isfinite(maps.sum()):
        maps = np.nan_to_num(maps)
    mask = np.ones(maps.shape[1:], np.bool_)
    channel = settings.foreground_channel
    if channel != NONE:
        if channel >= len(maps):
            raise ChannelsDiffer("affinities", f"a foreground channel {channel}", len(maps))
        mask = maps[channel] > settings.foreground_threshold
        maps = np.delete(maps, channel, axis=0)
    return (1 - maps if settings.one_is_apart else maps), mask


def _numbered(roots: Indices, mask: BoolArray) -> LabelArray:
    labels = np.zeros(mask.shape, np.int32)
    inside = roots.reshape(mask.shape)[mask]
    there = np.zeros(mask.size, np.bool_)
    there[inside] = True
    labels[mask] = np.cumsum(there, dtype=np.int32)[inside]
    return labels


AFFINITIES = Recipe(
    name="affinities",
    what="affinities to neighbours: the mutex watershed, or agglomeration if none is far",
    source="Wolf et al. 2020, doi 10.1109/TPAMI.2020.2980827; direct neighbours alone: after BiaPy "
    "3.7.1 (waterz), which floods instead, with growth 0.1, merge 0.5 and pairs 5",
    label=label_affinities,
    in_blocks=InBlocks(far_seeing=True),
    of_whole_map=linking_of_whole_map,
    rescale="labels",
    rescale_why="the offsets are in pixels of the network's grid",
    settings=AffinitySettings,
)
"""Label recipe of affinity maps."""
