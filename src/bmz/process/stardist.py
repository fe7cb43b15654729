"""The label recipe ``stardist``: object probability and ray distances become labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from bmz.base.arrays import (
    AnyArray,
    FloatArray,
    LabelArray,
    LazyArray,
    TensorDecoder,
)
from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.plan.tile_way import TileWay
from bmz.process.blocks import boxes_of_map
from bmz.process.object_classes import best_classes, class_names
from bmz.process.object_columns import OUTLINE, Columns, scored
from bmz.process.recipe import (
    SHARES,
    InBlocks,
    Knob,
    Labelled,
    Place,
    Recipe,
    Value,
)
from bmz.process.relabel import in_raster_order, require_plane
from bmz.process.star_polygons import (
    FEWEST_RAYS,
    Stars,
    render_polygons,
    require_rays,
)
from bmz.process.star_stacks import (
    FEWEST_RAYS_3D,
    anisotropy_of,
    golden_spiral,
    render_polyhedra,
    suppress_polyhedra,
)
from bmz.process.star_suppression import PAIRS_AT_ONCE, Crowd

ANY_PLACE = 0
"""Value for which overlaps have no label of their own."""

STACK = 3


@dataclass(frozen=True)
class Candidates:
    """Positions in an output map that may be the centre of an object, in raster order.

    Parameters
    ----------
    points : (n, 2 or 3) int64, centres ((z,) y, x) in px of the input
    distances : (n, rays) float32, px of the input
    scores : (n,) float32, probabilities
    classes : (n, classes) float32, class probabilities; no columns if the network predicts none
    """

    points: AnyArray
    distances: FloatArray
    scores: FloatArray
    classes: FloatArray

    def within(self, shape: tuple[int, ...]) -> Candidates:
        """Drop those whose centre lies outside an image of `shape` px, such as in its padding."""
        outside = (self.points < 0) | (self.points >= np.asarray(shape))
        return self.take(np.flatnonzero(~np.any(outside, axis=1)))

    def take(self, which: AnyArray) -> Candidates:
        """Return the candidates that an index or a mask selects."""
        return Candidates(
            self.points[which], self.distances[which], self.scores[which], self.classes[which]
        )

    def ranked(self) -> Crowd:
        """Return the candidates in the order of falling score."""
        return Crowd.ranked(self.points, self.distances, self.scores)

    def columns(self, names: Sequence[str]) -> Columns:
        """Return the score of each, and its best class if there are classes of these names."""
        return {**scored(self.scores), **best_classes(self.classes, names)}


@dataclass(frozen=True)
class StarSettings:
    """The parameters of the recipe, in the order of the reference page."""

    prob_threshold: Annotated[
        float, Knob("minimum probability of an object", 0, 1, cures=SHARES)
    ] = 0.5
    nms_threshold: Annotated[
        float, Knob("maximum overlap of two objects, as a share of their size", 0, 1)
    ] = 0.4
    border: Annotated[
        int, Knob("width of the border without centres, cells of the network's grid", 0, grows=1)
    ] = 2
    network_grid: Annotated[
        str,
        Knob(
            "(z,)y,x: px of the input per cell of the network's grid (config.stardist); empty: "
            "as for the map"
        ),
    ] = ""
    anisotropy: Annotated[
        str, Knob("stacks: anisotropy of the rays along z, y, x (config.stardist)")
    ] = "1,1,1"
    overlap_label: Annotated[
        int, Knob("stacks: label where objects overlap; 0: the best object")
    ] = ANY_PLACE
    classes: Annotated[
        str, Knob("names of the classes, whose maps follow the distances; background first")
    ] = ""

    @property
    def class_count(self) -> int:
        """The number of classes that the network distinguishes, including the background."""
        return len(class_names(self.classes))

    def border_entries(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Return the width of the border along each axis, entries of a map of this `grid`.

        stardist omits cells of the grid on which the network predicts. A map that was exported on
        a finer grid (``export_TF`` with ``upsample_grid``) has several entries per cell.

        Raises
        ------
        NetworkGridUnclear
            `network_grid` is not one whole number per axis.
        """
        if not self.network_grid:
            return (self.border,) * len(grid)
        try:
            cells = tuple(map(int, self.network_grid.split(",")))
        except ValueError as why:
            raise NetworkGridUnclear(self.network_grid, len(grid)) from why
        if len(cells) != len(grid) or min(cells) < 1:
            raise NetworkGridUnclear(self.network_grid, len(grid))
        return tuple(-(-self.border * cell // step) for cell, step in zip(cells, grid, strict=True))


class NetworkGridUnclear(WrongUsage):
    """The grid of the network is not one whole number per axis."""

    def __init__(self, text: str, axes: int) -> None:
        super().__init__(
            f"recipe 'stardist' cannot read the grid of the network '{text}' of {axes} axes",
            hint="give one whole number per axis, such as --set network_grid=2,2",
            code="recipe.network-grid",
        )


def ray_lengths(channels: int, _axes: int, parameters: Mapping[str, Value]) -> tuple[bool, ...]:
    """Return which channels are distances and therefore lengths; a `LengthsFunction`."""
    classes = len(class_names(str(parameters["classes"])))
    return (False, *(True,) * (channels - 1 - classes), *(False,) * classes)


def find_candidates(
    output: AnyArray,
    grid: tuple[int, ...],
    prob_threshold: float,
    border: int | tuple[int, ...],
    place: Place | None = None,
    classes: int = 0,
) -> Candidates:
    """Find the positions with a probability above the threshold and a finite outline.

    Parameters
    ----------
    output : (1 + rays + classes, (z,) y, x), probability, distances in px of the input, and the
        probability of each class
    grid : spacing of the map along (z,) y and x, px of the input
    prob_threshold : candidates have a higher probability
    border : number of outermost entries of the whole map without candidates; one number for all
        axes or one each
    place : position of the output in the whole map; None if it is the whole
    classes : how many of the last channels are class probabilities
    """
    probability = output[0]
    widths = (border,) * probability.ndim if isinstance(border, int) else border
    inner = inner_part(place or Place.of_whole(probability.shape), probability.shape, widths)
    likely = np.zeros(probability.shape, np.bool_)
    likely[inner] = probability[inner] > prob_threshold
    at = np.nonzero(likely)
    first = len(output) - classes
    candidates = Candidates(
        np.stack(at, axis=1) * np.asarray(grid, np.int64),
        _read(output[1:first], at),
        probability[at].astype(np.float32),
        _read(output[first:], at),
    )
    if np.isfinite(candidates.distances.sum()) and np.isfinite(candidates.scores.sum()):
        return candidates
    finite = np.isfinite(candidates.distances).all(axis=1) & np.isfinite(candidates.scores)
    return candidates if finite.all() else candidates.take(finite)


def _read(maps: AnyArray, at: tuple[AnyArray, ...]) -> FloatArray:
    # values of the channels at n positions, (n, channels) float32, transposed while in the cache
    values = np.empty((len(at[0]), len(maps)), np.float32)
    for start in range(0, len(values) if len(maps) else 0, PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        place: tuple[Any, ...] = (slice(None), *(along[part] for along in at))
        values[part] = maps[place].T
    return values


def inner_part(place: Place, shape: tuple[int, ...], border: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the part of an output that lies within the border of the whole map."""
    ends = zip(place.origin, place.whole, shape, border, strict=True)
    return tuple(
        slice(max(edge - first, 0), max(min(whole - edge - first, size), 0))
        for first, whole, size, edge in ends
    )


def label_stars(
    output: AnyArray,
    grid: tuple[int, ...],
    settings: StarSettings,
    *,
    place: Place | None = None,
) -> Labelled:
    """Label the best objects that hardly overlap, given probability and ray distances.

    Parameters
    ----------
    output : (1 + rays, y, x); ray k points to (sin, cos) of 2 pi k / rays in (y, x); or
        (1 + rays, z, y, x) with the rays of `bmz.process.star_stacks.golden_spiral`. The maps of
        classes, if there are any, come last
    grid : spacing of the map along (z,) y and x, px of the input
    place : position of the output in the map of the image, whose border has no candidates; None
        if it is the whole
    settings : the parameters

    Returns
    -------
    Labelled
        of shape ``output.shape[1:] * grid``; the score of an object is its probability. Voxels
        with the overlap label are background if it is negative, else another object with score 0

    Raises
    ------
    DimensionsNotDone
        `output` is neither (c, y, x) nor (c, z, y, x).
    ChannelsDiffer
        There are fewer rays than an outline needs.
    AnisotropyUnclear, NetworkGridUnclear
        These are not three positive numbers, or not one whole number per axis.
    """
    if output.ndim < 1 + STACK:
        return drawn_stars(best_stars(output, grid, settings, place), output, grid, settings, place)
    labels, winners = ranked_stars(output, grid, settings, place)
    columns = winners.columns(class_names(settings.classes))
    extra = max(int(labels.max(initial=0)) - len(winners.scores), 0)  # up to that of the overlap
    columns = {n: np.append(c, np.zeros(extra, c.dtype)) for n, c in columns.items()}
    return in_raster_order(labels, columns)


def drawn_stars(
    winners: Candidates,
    output: AnyArray,
    grid: tuple[int, ...],
    settings: StarSettings,
    place: Place | None = None,
) -> Labelled:
    """Return the labels of a plane whose objects are known.

    Parameters
    ----------
    winners : the objects, best first
    output, grid, settings, place : as in `label_stars`
    """
    shape = (output.shape[1] * grid[0], output.shape[2] * grid[1])
    labels = render_polygons(winners.points, winners.distances, winners.scores, shape)
    columns = winners.columns(class_names(settings.classes))
    outlines = outlines_of(winners.points, winners.distances, grid, place)
    return in_raster_order(labels, {**columns, **outlines})


def outlines_of(
    points: AnyArray, distances: AnyArray, grid: tuple[int, ...], place: Place | None
) -> Columns:
    """Return the column of polygons in coordinates of the image.

    Parameters
    ----------
    points, distances : see `Candidates`
    grid, place : of the map in which they were found, as in `label_stars`
    """
    origin = np.asarray((0, 0) if place is None else place.origin)
    # shifted before the corners are calculated, so that they are the same in parts
    corners = Stars.of(points + origin * np.asarray(grid), distances).corners()
    return {OUTLINE: corners.transpose(0, 2, 1).astype(np.float32)}


def ranked_stars(
    output: AnyArray, grid: tuple[int, ...], settings: StarSettings, place: Place | None = None
) -> tuple[LabelArray, Candidates]:
    """Return labels in the order of falling probability, as stardist numbers them.

    Parameters
    ----------
    output, grid, place : as in `label_stars`

    Returns
    -------
    ((z,) y, x) int32, Candidates
        labels 1 to n, and the overlap label if there is one; the candidate of each label
    """
    if output.ndim == 1 + STACK:
        return _in_stack(output, grid, settings, place)
    winners = best_stars(output, grid, settings, place)
    shape = (output.shape[1] * grid[0], output.shape[2] * grid[1])
    labels = render_polygons(winners.points, winners.distances, winners.scores, shape)
    return labels, winners


def best_stars(
    output: AnyArray, grid: tuple[int, ...], settings: StarSettings, place: Place | None = None
) -> Candidates:
    """Return the objects of a plane, best first; see `label_stars`."""
    require_plane("stardist", output)
    candidates = candidates_of(output, grid, settings, place)
    return candidates.take(candidates.ranked().chosen(settings.nms_threshold))


def candidates_of(
    output: AnyArray, grid: tuple[int, ...], settings: StarSettings, place: Place | None
) -> Candidates:
    """Return the candidates that the settings allow; see `find_candidates`."""
    if output.ndim == STACK:
        require_rays(output, FEWEST_RAYS + settings.class_count)
    threshold, border = settings.prob_threshold, settings.border_entries(grid)
    return find_candidates(output, grid, threshold, border, place, settings.class_count)


def _in_stack(
    output: AnyArray, grid: tuple[int, ...], settings: StarSettings, place: Place | None
) -> tuple[LabelArray, Candidates]:
    require_rays(output, FEWEST_RAYS_3D + settings.class_count)
    count = len(output) - 1 - settings.class_count
    rays = golden_spiral(count, anisotropy_of(settings.anisotropy))
    candidates = candidates_of(output, grid, settings, place)
    winners = candidates.take(
        suppress_polyhedra(
            candidates.points, candidates.distances, candidates.scores, rays, settings.nms_threshold
        )
    )
    shape = tuple(size * step for size, step in zip(output.shape[1:], grid, strict=True))
    labels = render_polyhedra(
        winners.points, winners.distances, rays, shape, settings.overlap_label
    )
    return labels, winners


def longest_ray(maps: LazyArray, parameters: Mapping[str, Value], grid: Sequence[int]) -> int:
    """Return the longest ray of any candidate, entries of the map.

    A star whose centre lies outside a block with its overlap would not be found at all, so the
    overlap is at least this long; see `bmz.process.recipe.OverlapFunction`.
    """
    longest, classes = 0.0, len(class_names(str(parameters["classes"])))
    for box in boxes_of_map(maps):
        part = np.asarray(maps[box])
        rays = part[1 : len(part) - classes][:, part[0] > float(parameters["prob_threshold"])]
        longest = max(longest, float(rays[np.isfinite(rays)].max(initial=0)))
    return int(np.ceil(longest / min(grid[-2:])))


STARDIST = Recipe(
    name="stardist",
    what="object probability and distances along rays: the best star-convex objects",
    source="Schmidt et al. 2018, doi 10.1007/978-3-030-00934-2_30; Weigert et al. 2020, doi "
    "10.1109/WACV45572.2020.9093435; stardist 0.9.2",
    label=label_stars,
    kept="bmz.process.kept_stars:KeptStars",
    placed=True,
    in_blocks=InBlocks(least_overlap=longest_ray),
    settings=StarSettings,
    tiles=TileWay(source="stardist 0.9.2, StarDistPadAndCropResizer: mirrored, at the end only"),
    rescale_why="outlines are polygons, whose distances scale with the image",
    lengths=ray_lengths,
    sparse=True,
    polygons=True,
    on_tensors=TensorDecoder("bmz.process.star_tensors:label_stars_there", 64),
)
"""The recipe of StarDist models."""
