"""The label recipe ``prompts``: masks of objects that a network segmented from prompts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray
from bmz.base.axes import Box
from bmz.base.errors import not_none
from bmz.base.values import dataclass
from bmz.image.prompt_files import Prompt
from bmz.process.object_columns import Columns, scored
from bmz.process.recipe import Knob, Labelled, Recipe
from bmz.process.relabel import in_raster_order

CORNERS = "corners"
"""Name of the box of each mask among the further outputs of the network."""

TILES = "tiles"
"""Name of the tile of each mask among the further outputs of the network."""

PROMPT = "prompt"
"""The name of the prompt of an object, also the name of the table column."""

_SURE = float(np.log(0.999 / 0.001))  # logit of certain pixels

SAME = 0.5
"""Minimum IoU, within the overlap of two tiles, of two masks of the same object."""


@dataclass(frozen=True)
class PromptSettings:
    """The parameters of the recipe."""

    spacing: Annotated[
        int, Knob("distance between the points of the grid, px of the network's input", 1)
    ] = 32
    scores: Annotated[str, Knob("id of the output with the scores")] = "scores"
    score_threshold: Annotated[float, Knob("minimum score of an object")] = 0.88
    stability: Annotated[float, Knob("minimum IoU of an object's mask with a wider one", 0, 1)] = (
        0.95
    )
    mask_threshold: Annotated[float, Knob("an object is where its mask is above this value")] = 0.5
    overlap: Annotated[
        float, Knob("maximum share of a mask that better masks may already cover", 0, 1)
    ] = 0.5
    most_of_tile: Annotated[
        float, Knob("a mask that covers more than this share of its tile is background", 0, 1)
    ] = 0.5
    least_px: Annotated[int, Knob("smallest mask, px of the network's input", 1)] = 20
    ask_with: Annotated[
        str,
        Knob(
            "prompts for the objects of a mask and for outlines; auto: a point for an object of "
            "a mask, a box for an outline",
            choices=("auto", "point", "box", "mask"),
        ),
    ] = "auto"
    margin: Annotated[int, Knob("margin of the box around an object, px", 0)] = 0

    def for_prompts(self, asked: Collection[str]) -> PromptSettings:
        """Return the settings for prompts of the user: no object is rejected by its appearance.

        Parameters
        ----------
        asked : names of the parameters that the user set, which are kept
        """
        mild: dict[str, Any] = {"score_threshold": -np.inf, "stability": 0.0}
        mild |= {"most_of_tile": 1.0, "least_px": 1}
        return replace(self, **{n: value for n, value in mild.items() if n not in asked})


@dataclass(frozen=True)
class ObjectMasks:
    """Masks of single objects, each within its own box.

    Parameters
    ----------
    masks : mask of each, (y, x) of its box
    scores : (n,) float32
    corners : (n, 4), first y and x of each box, and y and x after its last, px
    tiles : (n, 4), the same for the tile in which each was found
    names : (n,) str, of the prompts; None if all are unnamed
    """

    masks: Sequence[BoolArray]
    scores: FloatArray
    corners: NDArray[np.intp]
    tiles: NDArray[np.intp]
    names: NDArray[np.str_] | None = None

    @classmethod
    def joined(cls, parts: Sequence[ObjectMasks], *, named: bool = False) -> ObjectMasks:
        """Join the masks of several tiles; return none for none.

        Parameters
        ----------
        named : whether their prompts have names
        """
        none = np.zeros((0, 4), np.intp)
        return cls(
            [mask for part in parts for mask in part.masks],
            np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
            np.concatenate([none, *(part.corners for part in parts)]),
            np.concatenate([none, *(part.tiles for part in parts)]),
            np.concatenate([np.zeros(0, "U1"), *(not_none(part.names) for part in parts)])
            if named
            else None,
        )

    def as_outputs(self) -> tuple[AnyArray, dict[str, AnyArray]]:
        """Return the masks as an array of arrays, and the further outputs."""
        masks = np.empty(len(self.masks), object)
        masks[:] = list(self.masks)
        names = {} if self.names is None else {PROMPT: self.names}
        return masks, {CORNERS: self.corners, TILES: self.tiles, **names}


def grid_points(shape: tuple[int, int], spacing_px: int) -> NDArray[np.intp]:
    """Return the centre of every square of a grid that covers an image, in raster order.

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
    masks: AnyArray,
    scores: AnyArray,
    tile: Box,
    settings: PromptSettings,
    names: Sequence[str] | None = None,
) -> ObjectMasks:
    """Drop masks that are not objects, and crop the others to their boxes.

    Parameters
    ----------
    masks : (n, y, x) of a tile, any number
    scores : (n,), score of each
    tile : the tile in the image, px
    names : of the prompts; None if all are unnamed
    """
    origin = np.array([side.start for side in tile])
    inside = masks > settings.mask_threshold
    areas = inside.sum(axis=(1, 2))
    most = settings.most_of_tile * inside[0].size if len(inside) else 0
    good = (scores >= settings.score_threshold) & (areas >= settings.least_px) & (areas <= most)
    good[good] = stability(masks[good], settings.mask_threshold) >= settings.stability
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
        None if names is None else np.array([*names, ""])[:-1][good],
    )


def stability(masks: AnyArray, threshold: float) -> FloatArray:
    """Return the stability of masks: the IoU of those at a higher and at a lower threshold.

    Source: Kirillov et al. 2023, appendix B, where the threshold of the logit is shifted by 1.

    Parameters
    ----------
    masks : (n, y, x); probabilities if the threshold is between 0 and 1, else logits; the result
        is 1 for masks of another dtype than floating point, which have no threshold
    threshold : of the masks

    Returns
    -------
    (n,) float64
    """
    if masks.dtype.kind != "f" or not len(masks):
        return np.ones(len(masks))
    if 0 < threshold < 1:
        odds = threshold / (1 - threshold) * np.array([math.e, 1 / math.e])
        high, low = odds / (1 + odds)
    else:
        high, low = threshold + 1, threshold - 1
    narrow, wide = ((masks > limit).sum(axis=(1, 2)) for limit in (high, low))
    return np.asarray(narrow / np.maximum(wide, 1))


def prompts_of_labels(strips: Iterable[AnyArray]) -> Iterator[Prompt]:
    """Yield each object of a label mask as a prompt, in the order of their numbers.

    Parameters
    ----------
    strips : (rows, x) each, one below another
    """
    parts: dict[int, list[tuple[int, int, BoolArray]]] = {}
    row = 0
    for strip in strips:
        for number, top, left, mask in _parts_of(strip):
            parts.setdefault(number, []).append((row + top, left, mask))
        row += len(strip)
    for number in sorted(parts):
        y, x, mask = _put_together(parts.pop(number))
        yield Prompt(np.zeros((0, 2)), mask=mask, corner=(y, x), name=str(number))


def _parts_of(labels: AnyArray) -> Iterator[tuple[int, int, int, BoolArray]]:
    """Yield number, first row and column, and pixels of each object of a part of a mask."""
    from scipy.ndimage import find_objects  # here: it takes long to import

    numbers, order = np.unique(np.append(0, labels), return_inverse=True)
    order = order.ravel()[1:].reshape(labels.shape).astype(np.int32)
    for number, box in enumerate(find_objects(order, len(numbers) - 1), start=1):
        y, x = (int(side.start) for side in box)
        yield int(numbers[number]), y, x, order[box] == number


def _put_together(parts: Sequence[tuple[int, int, BoolArray]]) -> tuple[int, int, BoolArray]:
    if len(parts) == 1:
        return parts[0]
    top, left = min(y for y, _, _ in parts), min(x for _, x, _ in parts)
    bottom = max(y + mask.shape[0] for y, _, mask in parts)
    right = max(x + mask.shape[1] for _, x, mask in parts)
    whole = np.zeros((bottom - top, right - left), np.bool_)
    for y, x, mask in parts:
        whole[y - top : y - top + len(mask), x - left : x - left + mask.shape[1]] |= mask
    return top, left, whole


def asked_as(prompt: Prompt, how: str, margin: int) -> Prompt:
    """Turn an object given by its pixels into a prompt by point, box or mask.

    Parameters
    ----------
    prompt : points and boxes are returned unchanged
    how : ``point`` for the pixel deepest inside, ``box`` or ``mask``
    margin : around the object, px
    """
    if prompt.mask is None or how == "mask":
        return prompt
    corner = np.array(prompt.corner, np.float64)
    if how == "box":
        box = [*(corner - margin), *(corner + prompt.mask.shape - 1 + margin)]
        return replace(prompt, mask=None, box=np.array(box))
    from scipy.ndimage import distance_transform_edt  # here: it takes long to import

    depths = distance_transform_edt(np.pad(prompt.mask, 1))[1:-1, 1:-1]
    deepest = np.array(np.unravel_index(depths.argmax(), depths.shape))
    return replace(prompt, mask=None, points=(corner + deepest)[None])


def resized_prompt(prompt: Prompt, factors: Sequence[float]) -> Prompt:
    """Return a prompt in the coordinates of a resized image.

    Parameters
    ----------
    factors : along y and x, px of the resized image per px of the image
    """
    by = np.array(factors, np.float64)

    def moved(places: FloatArray) -> FloatArray:
        return np.asarray((places + 0.5) * np.resize(by, places.shape[-1:]) - 0.5)

    box = None if prompt.box is None else moved(prompt.box)
    if prompt.mask is None:
        return replace(prompt, points=moved(prompt.points), box=box)
    low = np.floor(np.array(prompt.corner) * by).astype(int)
    high = np.ceil((np.array(prompt.corner) + prompt.mask.shape) * by).astype(int)
    rows, columns = (
        np.clip(np.floor((np.arange(a, b) + 0.5) / f).astype(int) - first, 0, size - 1)
        for a, b, f, first, size in zip(
            low, high, by, prompt.corner, prompt.mask.shape, strict=True
        )
    )
    mask = prompt.mask[np.ix_(rows, columns)]
    corner = (int(low[0]), int(low[1]))
    return replace(prompt, points=moved(prompt.points), box=box, mask=mask, corner=corner)


def mask_logits(prompt: Prompt, tile: Box, side: int) -> FloatArray:
    """Draw the mask of a prompt as networks of the Segment Anything family take it.

    The longer side of the tile fills the square, and the rest of the square is background. Source:
    Kirillov et al. 2023, whose network returns and takes logits at a quarter of its resolution;
    micro-sam takes a probability of 0.999 for the object.

    Parameters
    ----------
    prompt : with a mask, px of the image
    tile : that the network sees, px of the image
    side : of the square, px

    Returns
    -------
    (side, side) float32
    """
    logits = np.full((side, side), -_SURE, np.float32)
    mask = prompt.mask
    if mask is None:
        return logits
    sizes = np.array([part.stop - part.start for part in tile])
    factor = sizes.max() / side
    origin = np.array([part.start for part in tile]) - prompt.corner
    at = [np.floor((np.arange(int(np.ceil(n / factor))) + 0.5) * factor).astype(int) for n in sizes]
    rows, columns = (places[:side] + first for places, first in zip(at, origin, strict=True))
    within = [(p >= 0) & (p < n) for p, n in zip((rows, columns), mask.shape, strict=True)]
    inside = np.zeros((len(rows), len(columns)), np.bool_)
    inside[np.ix_(*within)] = mask[np.ix_(rows[within[0]], columns[within[1]])]
    logits[: len(rows), : len(columns)][inside] = _SURE
    if not inside.any():  # an object smaller than a pixel of the square gets one pixel
        y, x = np.clip(
            ((prompt.centre - [p.start for p in tile]) / factor).astype(int), 0, side - 1
        )
        logits[y, x] = _SURE
    return logits


def label_prompted(
    output: AnyArray,
    _grid: tuple[int, ...],
    settings: PromptSettings,
    *,
    shape: tuple[int, ...],
    others: Mapping[str, AnyArray],
) -> Labelled:
    """Paint masks of objects, the best first; further masks only get pixels that are still free.

    A mask that is mostly covered by better ones is dropped as a duplicate of the same object. Masks
    from different tiles that agree in the overlap of the tiles are one object.

    Parameters
    ----------
    output : (n,) arrays, the masks, see `ObjectMasks.as_outputs`; or (..., y, x), as the network
        returns them for one image
    settings : the parameters
    shape : height and width of the image, px
    others : the scores, one per mask, and the boxes of the masks if they have any

    Returns
    -------
    Labelled
        of `shape`, with the score of each object, and the name of its prompt if it has one;
        `drawn` is the score at every pixel
    """
    objects = _objects(output, settings, shape, others)
    labels, drawn = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    columns, _ = painted(objects, settings, labels, drawn)
    done = in_raster_order(labels, columns)
    return Labelled(done.labels, done.columns, drawn=drawn)


def painted(
    objects: ObjectMasks, settings: PromptSettings, labels: AnyArray, drawn: AnyArray
) -> tuple[Columns, NDArray[np.intp]]:
    """Paint masks of objects; see `label_prompted`.

    Parameters
    ----------
    labels, drawn : (y, x) integers and float32, all 0, in memory or on disk; become the number
        and the score of the object at each pixel

    Returns
    -------
    Columns
        score and name of label k at k - 1
    (n, 4) int
        the box of label k + 1, as in `ObjectMasks.corners`
    """
    first: list[int] = []  # the best mask of each object
    boxes: list[NDArray[np.intp]] = []
    seen: dict[int, list[NDArray[np.intp]]] = {}  # the tiles in which each object was found
    for k in np.argsort(-objects.scores, kind="stable").tolist():
        corners, tile, mask = objects.corners[k], objects.tiles[k], objects.masks[k]
        place = (slice(corners[0], corners[2]), slice(corners[1], corners[3]))
        there = labels[place]
        free = mask & (there == 0)
        number = _same_object(labels, place, mask, tile, seen)
        if not number and mask.sum() - free.sum() > settings.overlap * mask.sum():
            continue
        if not free.any():
            continue
        if not number:
            first.append(k)
            boxes.append(corners)
            number = len(first)
        seen.setdefault(number, []).append(tile)
        there[free] = number
        drawn[place][free] = objects.scores[first[number - 1]]
        box = boxes[number - 1]
        low, high = np.minimum(box[:2], corners[:2]), np.maximum(box[2:], corners[2:])
        boxes[number - 1] = np.concatenate([low, high])
    best = np.array(first, np.intp)
    names = {} if objects.names is None else {PROMPT: objects.names[best]}
    whole = np.array(boxes, np.intp).reshape(-1, 4)
    return {**scored(objects.scores[best]), **names}, whole


def _objects(
    output: AnyArray, settings: PromptSettings, shape: Sequence[int], others: Mapping[str, AnyArray]
) -> ObjectMasks:
    scores = np.asarray(others[settings.scores], np.float32).reshape(-1)
    if CORNERS in others:
        return ObjectMasks(list(output), scores, others[CORNERS], others[TILES], others.get(PROMPT))
    whole = tuple(slice(0, size) for size in shape)
    return kept_masks(output.reshape(-1, *output.shape[-2:]), scores, whole, settings)


def _same_object(
    labels: LabelArray,
    place: Box,
    mask: BoolArray,
    own: NDArray[np.intp],
    seen: Mapping[int, Sequence[NDArray[np.intp]]],
) -> int:
    # the label of an object of another tile that agrees in the overlap of both tiles; 0 for none
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
    # the part of a box between `low` and `high`, relative to `low`
    return tuple(
        slice(max(side.start - first, 0), max(min(side.stop, end) - first, 0))
        for side, first, end in zip(place, low.tolist(), high.tolist(), strict=True)
    )


def _within(place: Box, low: NDArray[np.intp], high: NDArray[np.intp]) -> Box:
    # the part of a box between `low` and `high`, relative to its start
    return tuple(
        slice(max(first - side.start, 0), max(min(end, side.stop) - side.start, 0))
        for side, first, end in zip(place, low.tolist(), high.tolist(), strict=True)
    )


PROMPTS = Recipe(
    name="prompts",
    what="a network that returns the object at a point is prompted with a grid of points",
    source="Kirillov et al. 2023, Segment Anything, arXiv 2304.02643, appendix B; Archit et al. "
    "2025, micro-sam, doi 10.1038/s41592-024-02580-4",
    label=label_prompted,
    settings=PromptSettings,
    per_object=True,
    prompted=True,
    rescale="labels",
    rescale_why="the network returns the masks of objects, not a map",
)
"""The recipe of micro-sam and other promptable networks."""
