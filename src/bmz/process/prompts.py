"""The label recipe ``prompts``: masks of objects that a network was asked for, point by point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray
from bmz.base.axes import Box
from bmz.base.values import dataclass
from bmz.process.object_columns import scored
from bmz.process.recipe import Knob, Labelled, Recipe
from bmz.process.relabel import in_raster_order

CORNERS = "corners"
"""Name under which the place of each mask lies beside the outputs of the network."""

TILES = "tiles"
"""Name under which the tile of each mask lies beside the outputs of the network."""

SAME = 0.5
"""Least IoU, where two tiles overlap, of two masks that are one object."""


@dataclass(frozen=True)
class PromptSettings:
    """The parameters of the recipe."""

    spacing: Annotated[int, Knob("between the points of the grid, px that the network sees", 1)] = (
        32
    )
    scores: Annotated[str, Knob("id of the output with the scores")] = "scores"
    score_threshold: Annotated[float, Knob("an object needs a score of at least this")] = 0.88
    mask_threshold: Annotated[float, Knob("an object is where its mask lies above")] = 0.5
    overlap: Annotated[
        float, Knob("most share of a mask that better ones may cover already", 0, 1)
    ] = 0.5
    most_of_tile: Annotated[
        float, Knob("a mask that covers more of its tile is background", 0, 1)
    ] = 0.5
    least_px: Annotated[int, Knob("smallest mask, px that the network sees", 1)] = 20


@dataclass(frozen=True)
class ObjectMasks:
    """Masks of single objects, each within its own box.

    Parameters
    ----------
    masks : of each, (y, x) of its box
    scores : (n,) float32
    corners : (n, 4), first y and x of each box and those behind its last, px
    tiles : (n, 4), the same of the tile that it was found in
    """

    masks: Sequence[BoolArray]
    scores: FloatArray
    corners: NDArray[np.intp]
    tiles: NDArray[np.intp]

    @classmethod
    def joined(cls, parts: Sequence[ObjectMasks]) -> ObjectMasks:
        """Put masks of several tiles together; none give none."""
        none = np.zeros((0, 4), np.intp)
        return cls(
            [mask for part in parts for mask in part.masks],
            np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
            np.concatenate([none, *(part.corners for part in parts)]),
            np.concatenate([none, *(part.tiles for part in parts)]),
        )

    def as_outputs(self) -> tuple[AnyArray, dict[str, AnyArray]]:
        """Give the masks as an array of arrays, and what lies beside them."""
        masks = np.empty(len(self.masks), object)
        masks[:] = list(self.masks)
        return masks, {CORNERS: self.corners, TILES: self.tiles}


def grid_points(shape: tuple[int, int], spacing_px: int) -> NDArray[np.intp]:
    """Give the middle of every square of a grid that covers an image, in raster order.

    Parameters
    ----------
    shape : height and width, px
    spacing_px : side of the squares; the last ones may be smaller

    Returns
    -------
    (n, 2) int
        y and x, px
    """
    ways = [np.arange(0, size, spacing_px) for size in shape]
    middles = [
        (starts + np.minimum(starts + spacing_px, size)) // 2
        for starts, size in zip(ways, shape, strict=True)
    ]
    return np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1).reshape(-1, 2)


def kept_masks(
    masks: AnyArray, scores: AnyArray, tile: Box, settings: PromptSettings
) -> ObjectMasks:
    """Leave out masks that are no objects, and cut the others to their boxes.

    Parameters
    ----------
    masks : (n, y, x) of a tile, any number
    scores : (n,), that of each
    tile : the tile in the image, px
    """
    origin = np.array([side.start for side in tile])
    inside = masks > settings.mask_threshold
    areas = inside.sum(axis=(1, 2))
    most = settings.most_of_tile * inside[0].size if len(inside) else 0
    good = (scores >= settings.score_threshold) & (areas >= settings.least_px) & (areas <= most)
    crops, corners = [], []
    for mask in inside[good]:
        ends = [np.flatnonzero(mask.any(axis=1 - axis))[[0, -1]] + (0, 1) for axis in range(2)]
        crops.append(mask[slice(*ends[0]), slice(*ends[1])].copy())
        corners.append([*(np.array(ends)[:, 0] + origin), *(np.array(ends)[:, 1] + origin)])
    whole = [[*origin, *(side.stop for side in tile)]] * len(crops)
    return ObjectMasks(
        crops,
        np.asarray(scores[good], np.float32),
        np.array(corners, np.intp).reshape(-1, 4),
        np.array(whole, np.intp).reshape(-1, 4),
    )


def label_prompted(
    output: AnyArray,
    _grid: tuple[int, ...],
    settings: PromptSettings,
    *,
    shape: tuple[int, ...],
    others: Mapping[str, AnyArray],
) -> Labelled:
    """Paint masks of objects, the best first; the others get what is still free.

    A mask that better ones cover for the most part is another answer for the same object. Two of
    different tiles that agree where these overlap are one object.

    Parameters
    ----------
    output : (n,) arrays, the masks, see `ObjectMasks.as_outputs`; or (..., y, x), as the network
        gives them for one image
    settings : the parameters
    shape : height and width of the image, px
    others : the scores, one for each mask, and the places of the masks where they have boxes

    Returns
    -------
    Labelled
        of `shape`, with the score of each object; `drawn` is the score at every pixel
    """
    objects = _objects(output, settings, shape, others)
    labels, drawn = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    seen: dict[int, list[NDArray[np.intp]]] = {}  # the tiles that each object was found in
    for k in np.argsort(-objects.scores, kind="stable"):
        first_y, first_x, end_y, end_x = objects.corners[k]
        place = (slice(first_y, end_y), slice(first_x, end_x))
        there, mask = labels[place], objects.masks[k]
        free = mask & (there == 0)
        number = _same_object(labels, place, mask, objects.tiles[k], seen)
        if not number and mask.sum() - free.sum() > settings.overlap * mask.sum():
            continue
        number = number or int(k) + 1
        seen.setdefault(number, []).append(objects.tiles[k])
        there[free] = number
        drawn[place][free] = objects.scores[number - 1]
    done = in_raster_order(labels, scored(objects.scores))
    return Labelled(done.labels, done.columns, drawn=drawn)


def _objects(
    output: AnyArray, settings: PromptSettings, shape: Sequence[int], others: Mapping[str, AnyArray]
) -> ObjectMasks:
    scores = np.asarray(others[settings.scores], np.float32).reshape(-1)
    if CORNERS in others:
        return ObjectMasks(list(output), scores, others[CORNERS], others[TILES])
    whole = tuple(slice(0, size) for size in shape)
    return kept_masks(output.reshape(-1, *output.shape[-2:]), scores, whole, settings)


def _same_object(
    labels: LabelArray,
    place: Box,
    mask: BoolArray,
    own: NDArray[np.intp],
    seen: Mapping[int, Sequence[NDArray[np.intp]]],
) -> int:
    # the label of an object of another tile that is the same where both tiles see it; 0 for none
    numbers = np.unique(labels[place][mask])
    for number, other in ((int(n), tile) for n in numbers[numbers > 0] for tile in seen[int(n)]):
        if (other == own).all():
            continue
        low, high = np.maximum(other[:2], own[:2]), np.minimum(other[2:], own[2:])
        if (low >= high).any():
            continue
        mine = np.zeros(high - low, np.bool_)
        mine[_shifted(place, low, high)] = mask[_within(place, low, high)]
        theirs = labels[low[0] : high[0], low[1] : high[1]] == number
        if mine.any() and (mine & theirs).sum() >= SAME * (mine | theirs).sum():
            return number
    return 0


def _shifted(place: Box, low: NDArray[np.intp], high: NDArray[np.intp]) -> Box:
    # the part of a box between `low` and `high`, counted from `low`
    return tuple(
        slice(max(side.start - first, 0), max(min(side.stop, end) - first, 0))
        for side, first, end in zip(place, low.tolist(), high.tolist(), strict=True)
    )


def _within(place: Box, low: NDArray[np.intp], high: NDArray[np.intp]) -> Box:
    # the part of a box between `low` and `high`, counted from its beginning
    return tuple(
        slice(max(first - side.start, 0), max(min(end, side.stop) - side.start, 0))
        for side, first, end in zip(place, low.tolist(), high.tolist(), strict=True)
    )


PROMPTS = Recipe(
    name="prompts",
    what="a network that gives the object at a point is asked for a grid of them",
    source="Kirillov et al. 2023, Segment Anything, arXiv 2304.02643, appendix B; Archit et al. "
    "2025, micro-sam, doi 10.1038/s41592-024-02580-4",
    label=label_prompted,
    settings=PromptSettings,
    per_object=True,
    prompted=True,
    rescale="labels",
    rescale_why="the network gives the masks of objects, and no map",
)
"""The recipe of micro-sam and other promptable networks."""
