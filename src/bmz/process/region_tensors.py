"""Connected regions on PyTorch tensors, and the recipes based on them: masks as for arrays.

All decisions are comparisons of the map with a number, or integer arithmetic. There are no sums,
and of several values written to one position the lowest stays, regardless of their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from bmz.base.arrays import AnyArray, LabelArray, LeftToProcessor, TensorPlace
from bmz.base.axes import Box
from bmz.process.boundary import (
    NONE,
    SURE,
    BoundarySettings,
    Contacts,
    channels_of,
    flooded_cells,
    numbers_of_parts,
)
from bmz.process.components import (
    FEWEST_CLASSES,
    ArgmaxSettings,
    ComponentSettings,
    class_numbers,
    classes_of,
)
from bmz.process.object_columns import NO_COLUMNS
from bmz.process.recipe import Labelled
from bmz.process.relabel import FAR_PLACE, SHARE_TOLERANCE, on_input_grid, one_map

if TYPE_CHECKING:
    from torch import Tensor


def connected(there: TensorPlace, values: Tensor, *, diagonal: bool) -> Tensor:
    """Label the connected regions of one value, in raster order of their first pixels.

    As ``skimage.measure.label``. Adjacent pixels of one value along the last axis are a run; runs
    take the lowest number of those they touch, until none changes (Komura 2015,
    doi 10.1016/j.cpc.2015.04.015, joins equivalences in that way).

    Parameters
    ----------
    values : ((z,) y, x) integers or bool, 0 background
    diagonal : pixels that touch at a corner are connected

    Returns
    -------
    ((z,) y, x) int32
        1 to n, 0 background
    """
    torch = there.torch
    if not values.numel():
        return values.to(torch.int32)
    if values.numel() >= FAR_PLACE:
        raise LeftToProcessor(f"the map has {values.numel()} places")
    inside = values != 0
    begins = inside.clone()
    begins[..., 1:] &= values[..., 1:] != values[..., :-1]
    run = torch.cumsum(begins.reshape(-1), 0, dtype=torch.int32).reshape(values.shape) - 1
    count = int(run.reshape(-1)[-1]) + 1
    leader = torch.arange(count, device=there.device)
    for edges in _edges(values, inside, begins, run, diagonal=diagonal):
        leader = _joined(there, leader, *edges)
    first = leader == torch.arange(count, device=there.device)
    number = torch.cumsum(first, 0, dtype=torch.int32)[leader]
    # the first entry is for what precedes the first run
    number = torch.nn.functional.pad(number, (1, 0))
    regions: Tensor = number[run.long() + 1] * inside
    return regions


def _edges(
    values: Tensor, inside: Tensor, begins: Tensor, run: Tensor, *, diagonal: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    # runs that touch, for each direction to a preceding neighbour: two runs first meet where
    # one of them begins
    for here, before in _before(values.dim(), diagonal=diagonal):
        touch = inside[here] & (values[here] == values[before]) & (begins[here] | begins[before])
        yield run[here][touch].long(), run[before][touch].long()


def _before(axes: int, *, diagonal: bool) -> Iterator[tuple[Box, Box]]:
    # for each direction, the pixels that have a preceding neighbour, and these neighbours;
    # those along the last axis alone are within a run
    for step in product((1, 0, -1), repeat=axes):
        ahead = next((s for s in step if s), 0)
        if ahead == 1 and any(step[:-1]) and (diagonal or sum(map(abs, step)) == 1):
            here = tuple(slice(max(s, 0), min(s, 0) or None) for s in step)
            yield here, tuple(slice(max(-s, 0), min(-s, 0) or None) for s in step)


def _joined(there: TensorPlace, leader: Tensor, one: Tensor, other: Tensor) -> Tensor:
    # every entry of `leader` is a leader of its own; so is the result, with those joined that
    # an edge connects
    while True:
        one, other = leader[one], leader[other]
        apart = one != other
        one, other = one[apart], other[apart]
        if not len(one):
            return leader
        low, high = there.torch.minimum(one, other), there.torch.maximum(one, other)
        leader = leader.scatter_reduce(0, high, low, "amin")
        while True:
            shorter = leader[leader]
            if bool((shorter == leader).all()):
                break
            leader = shorter


def label_components_there(
    there: TensorPlace,
    output: AnyArray | Tensor,
    grid: tuple[int, ...],
    settings: ComponentSettings,
) -> Labelled:
    """Label each connected region above a threshold.

    Parameters
    ----------
    there : where tensors are placed
    output, grid, settings : see `bmz.process.components.label_components`
    """
    maps: Any = there.taken(output)
    values: Any = one_map("components", maps, settings.channel)
    above = values > there.limit(settings.threshold, values)
    return _numbered(there, connected(there, above, diagonal=settings.diagonal), grid)


def label_classes_there(
    there: TensorPlace,
    output: AnyArray | Tensor,
    grid: tuple[int, ...],
    settings: ArgmaxSettings,
) -> Labelled:
    """Label each connected region of a class, or each pixel with its class.

    Parameters
    ----------
    there : where tensors are placed
    output, grid, settings : see `bmz.process.components.label_classes`
    """
    maps = there.taken(output)
    number = there.put(class_numbers(len(maps), settings.background))
    classes = number[_first_highest(there, maps)]
    if not settings.instances:
        return Labelled(on_input_grid(there.get(classes), grid), classes=True)
    words = settings.class_words(len(maps))
    regions = connected(there, classes, diagonal=settings.diagonal)
    found = _numbered(there, regions, grid)
    columns = classes_of(there.get(regions), there.get(classes), words) if words else NO_COLUMNS
    return replace(found, columns=columns)


def _first_highest(there: TensorPlace, maps: Tensor) -> Tensor:
    # the first of equal values, with NaN above all others, as in `numpy.argmax`
    best: Tensor = there.torch.zeros(maps.shape[1:], dtype=there.torch.int64, device=there.device)
    highest = maps[0]
    for channel in range(1, len(maps)):
        higher = (maps[channel] > highest) | (maps[channel].isnan() & ~highest.isnan())
        best = there.torch.where(higher, channel, best)
        highest = there.torch.where(higher, maps[channel], highest)
    return best


def _numbered(there: TensorPlace, regions: Tensor, grid: tuple[int, ...]) -> Labelled:
    # repeating pixels does not change the order of the first ones
    labels: LabelArray = there.get(regions)
    return Labelled(on_input_grid(labels, grid))


def label_cells_there(
    there: TensorPlace,
    output: AnyArray | Tensor,
    grid: tuple[int, ...],
    settings: BoundarySettings,
) -> Labelled:
    """Find the seeds of cells; the CPU floods them, so that only the boundary map is copied.

    Parameters
    ----------
    there : where tensors are placed
    output, grid, settings : see `bmz.process.boundary.label_cells`

    Raises
    ------
    LeftToProcessor
        A minimum distance between seeds is requested.
    """
    maps = there.taken(output)
    foreground_at, boundary_at = channels_of(len(maps), settings)
    bounded = foreground_at != NONE or settings.background_channel != NONE
    if settings.seed_distance > 0 or (settings.seed_distance < 0 and not bounded):
        raise LeftToProcessor("seeds that keep a distance are placed on arrays")
    boundary = _one_map(maps, boundary_at)
    mask, inside, sure = _cells(there, maps, boundary, foreground_at, settings)
    seeds = _seeds(there, inside, sure, settings.min_size / math.prod(grid))
    flat, masked = there.get(boundary), there.get(mask)
    return flooded_cells(flat, masked, seeds, settings.min_size, grid)


def _one_map(maps: Any, channel: int) -> Any:  # noqa: ANN401  (tensors)
    return one_map("boundary", maps, channel)


def _cells(
    there: TensorPlace,
    maps: Tensor,
    boundary: Any,  # noqa: ANN401  (a tensor)
    foreground_at: int,
    settings: BoundarySettings,
) -> tuple[Tensor, Tensor, Tensor]:
    # mask, inside and sure, as `bmz.process.boundary.find_cells` has them
    limit, most = partial(there.limit, of=maps), settings.boundary_threshold
    background_at = settings.background_channel
    share = None if background_at == NONE else 1 - _one_map(maps, background_at)
    foreground = share if foreground_at == NONE else _one_map(maps, foreground_at)
    if foreground is None:
        everywhere = there.torch.ones_like(boundary, dtype=there.torch.bool)
        return everywhere, ~(boundary > limit(most)), boundary < limit(SURE * most)
    if foreground_at != NONE and _are_shares(there, maps):
        foreground = foreground + boundary
    covered = foreground if share is None else share
    mask, depth = covered > limit(settings.foreground_threshold), foreground - boundary
    return mask, mask & (depth > limit(1 - most)), mask & (depth > limit(1 - SURE * most))


def _are_shares(there: TensorPlace, maps: Tensor) -> bool:
    # added up channel by channel, as NumPy does along the first axis
    if len(maps) < FEWEST_CLASSES:
        return False
    total = maps[0]
    for channel in maps[1:]:
        total = total + channel
    return bool(((total - 1).abs() < there.limit(SHARE_TOLERANCE, maps)).all())


def _seeds(there: TensorPlace, inside: Tensor, sure: Tensor, least: float) -> LabelArray:
    """Assign numbers to the insides of cells; see `bmz.process.boundary.number_insides`."""
    parts = connected(there, inside, diagonal=False)
    contacts = _contacts(there, parts, sure)
    if not len(contacts.one):
        return there.get(parts)
    pixels = there.get(there.torch.bincount(parts.reshape(-1)))
    numbers = numbers_of_parts(contacts, pixels, least).astype(np.int32)
    return there.get(there.put(numbers)[parts.long()])


def _contacts(there: TensorPlace, parts: Tensor, sure: Tensor) -> Contacts:
    """Return the pairs of parts that meet at corners, each once, sure or not."""
    keys, base = [], int(parts.max()) + 1 if parts.numel() else 1
    for here, before in _before(parts.dim(), diagonal=True):
        one, other = parts[here], parts[before]
        meet = (one != other) & (one > 0) & (other > 0)
        both_sure = (sure[here] & sure[before])[meet].long()
        keys.append((one[meet].long() * base + other[meet].long()) * 2 + both_sure)
    found = there.get(there.torch.unique(there.torch.cat(keys)))
    return Contacts(*np.divmod(found // 2, base), found % 2 > 0)
