"""The label recipe ``boundary``: cells between boundaries, each grown from one seed."""

from __future__ import annotations

import math
from itertools import product
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, LabelArray, TensorDecoder
from bmz.base.values import dataclass
from bmz.plan.tile_way import TileWay
from bmz.process.distance_watershed import depth_of, flooded
from bmz.process.recipe import SHARES, InBlocks, Knob, Labelled, Recipe
from bmz.process.relabel import (
    ChannelsDiffer,
    are_shares,
    connected,
    on_input_grid,
    one_map,
    renumbered,
    sizes,
)

A_SPECK = 40
"""A cluster of parts with more than one speck per this many pixels is fragmented by noise. F1
hardly depends on it between 10 and 60, on the masks of ``benchmarks/parity.py`` and on those of
its ``--held-out`` alike."""

DIAGONAL = 2
"""Minimum number of axes along which a step across an edge or a corner moves."""

Numbers = NDArray[np.intp]


def number_insides(inside: BoolArray, sure: BoolArray, least: float) -> LabelArray:
    """Label face-connected parts, and decide whether parts that touch only at a corner are one.

    Two cells often touch at a corner, so such parts keep separate numbers, with three exceptions:
    parts that meet where no boundary is near are one object; a speck next to a larger part is
    dropped; and if there are many specks, noise has fragmented what is one object.

    Parameters
    ----------
    inside : ((z,) y, x)
    sure : same shape, the pixels of `inside` that no boundary is near
    least : pixels of the smallest part; smaller ones are specks

    Returns
    -------
    ((z,) y, x) int
        numbers above 0, with gaps; 0 outside and at specks that are dropped
    """
    from bmz.process.region_loops import join_corners

    parts, count = connected(inside)
    by_sure, by_any = np.arange(count + 1), np.arange(count + 1)
    deep = (None,) * (len("zyx") - inside.ndim)
    steps = np.array([step for step in product((-1, 0, 1), repeat=len("zyx")) if _is_corner(step)])
    if not join_corners(parts[deep], sure[deep], steps, by_sure, by_any):
        return parts
    return renumbered(parts, _kept_numbers((by_sure, by_any), sizes(parts), least))


def _is_corner(step: tuple[int, ...]) -> bool:
    # of two opposite steps only the one that leads back
    return sum(map(abs, step)) >= DIAGONAL and step < (0,) * len(step)


class Contacts(NamedTuple):
    """Pairs of parts that touch at corners.

    Parameters
    ----------
    one, other : (n,) numbers of the two parts
    both_sure : (n,) whether no boundary is near where they touch
    """

    one: Numbers
    other: Numbers
    both_sure: BoolArray


def numbers_of_parts(contacts: Contacts, pixels: Numbers, least: float) -> Numbers:
    """Return the number that each part of an inside keeps, as `number_insides` describes.

    Parameters
    ----------
    contacts : where parts touch
    pixels : (parts + 1,) number of pixels of the background and of each part
    least : pixels of the smallest part
    """
    from bmz.process.region_loops import join_pairs

    by_sure, by_any = np.arange(len(pixels)), np.arange(len(pixels))
    one, other, both_sure = contacts
    join_pairs(by_any, one, other)
    join_pairs(by_sure, one[both_sure], other[both_sure])
    return _kept_numbers((by_sure, by_any), pixels[1:], least)


def _kept_numbers(parents: tuple[Numbers, Numbers], pixels: Numbers, least: float) -> Numbers:
    # one number per part, from the parts it is joined with where both are sure, and anywhere
    from bmz.process.region_loops import number_roots

    for parent in parents:
        number_roots(parent)
    number, cluster = parents
    size = np.bincount(number, np.append(0, pixels), len(number)).astype(np.intp)
    return _without_specks(number, size, cluster, least)


def _without_specks(number: Numbers, size: Numbers, cluster: Numbers, least: float) -> Numbers:
    # the number that each part keeps; `size` is indexed by number, `cluster` by part
    of_number = np.zeros(len(size), np.intp)
    of_number[number] = cluster
    rising = np.argsort(size, kind="stable")
    largest = np.zeros(int(cluster.max()) + 1, np.intp)
    largest[of_number[rising]] = rising
    speck = (size > 0) & (size < least)
    crumbled = np.bincount(of_number, speck) * A_SPECK > np.bincount(of_number, size)
    numbers = np.where(speck, 0, np.arange(len(size)))
    numbers[largest] = largest
    numbers = np.where(crumbled[of_number], largest[of_number], numbers)
    numbers[number[0]] = 0
    return numbers[number]


NONE = -1
"""There is no such channel."""

BY_COUNT = -2
"""A single channel is the boundary; of two, the first is the foreground, the last the boundary."""

BY_KIND = -1.0
"""One seed per connected inside if there is a foreground, otherwise seeds `APART_PX` apart.
A multiple of this value multiplies that distance."""

APART_PX = 10.0

SURE = 0.2
"""Pixels below this share of the boundary's threshold are certainly inside."""


@dataclass(frozen=True)
class BoundarySettings:
    """Parameters of the recipe."""

    foreground_channel: Annotated[int, Knob("-1: none; -2: the first of two", BY_COUNT)] = BY_COUNT
    boundary_channel: Annotated[int, Knob("-2: the last of one or two", BY_COUNT)] = BY_COUNT
    background_channel: Annotated[int, Knob("-1: none", NONE)] = NONE
    foreground_threshold: Annotated[
        float, Knob("minimum foreground probability of a cell", 0, 1)
    ] = 0.5
    boundary_threshold: Annotated[
        float,
        Knob(
            "maximum boundary of an inside, with what the foreground lacks to 1; probability",
            0,
            1,
            cures=SHARES,
        ),
    ] = 0.5
    seed_distance: Annotated[
        float,
        Knob(
            "px between seeds; 0: one seed per connected inside; -1: 0 with a foreground, 10 "
            "without",
            BY_KIND,
            grows=1,
        ),
    ] = BY_KIND
    sigma: Annotated[
        float, Knob("smoothing of the distance to a boundary, px of the input", 0, grows=1)
    ] = 2.0
    min_size: Annotated[int, Knob("smallest object, px of the input", 0)] = 15


@dataclass(frozen=True)
class Cells:
    """Maps of where cells can be, from one output; all of shape ((z,) y, x).

    Parameters
    ----------
    boundary : map to flood
    mask : pixels that belong to some cell
    inside : pixels of `mask` that are not boundary, from which cells grow
    sure : pixels of `inside` that no boundary is near
    bounded : False if no map shows the background, so that cells fill the image
    """

    boundary: AnyArray
    mask: BoolArray
    inside: BoolArray
    sure: BoolArray
    bounded: bool


def label_cells(output: AnyArray, grid: tuple[int, ...], settings: BoundarySettings) -> Labelled:
    """Label cells by a watershed of the boundary map from seeds inside the cells.

    With a foreground there is one seed per connected inside: where the foreground exceeds the
    boundary by a margin (the rule of torch-em's ``watershed_from_components``), so that a faint
    boundary in a weak foreground separates two cells. Unlike in torch-em, insides that touch only
    at a corner are two, as `number_insides` describes. With boundaries only, seeds are the local
    maxima of the smoothed distance to the nearest boundary, and cells fill the image (PlantSeg's
    distance transform watershed). `seed_distance` selects one or the other explicitly. Pixels of
    objects that are too small go to their neighbours.

    Parameters
    ----------
    output : (c, (z,) y, x), probabilities
    grid : spacing of the map, px of the input; distances and sizes take it into account
    settings : parameters of the recipe

    Returns
    -------
    Labelled
        of shape ``output.shape[1:] * grid``, without scores

    Raises
    ------
    ChannelsDiffer
        A channel does not exist, or there are three or more and the settings do not identify them.
    """
    cells = find_cells(output, settings)
    apart = settings.seed_distance
    if apart < 0:
        apart = 0.0 if cells.bounded else apart / BY_KIND * APART_PX
    if apart == 0:
        seeds = number_insides(cells.inside, cells.sure, settings.min_size / math.prod(grid))
    else:
        seeds = spread_seeds(cells, grid, apart, settings.sigma)
    return flooded_cells(cells.boundary, cells.mask, seeds, settings.min_size, grid)


def find_cells(output: AnyArray, settings: BoundarySettings) -> Cells:
    """Threshold the maps of foreground, boundary and background as `label_cells` describes."""
    foreground_at, boundary_at = channels_of(len(output), settings)
    boundary = one_map("boundary", output, boundary_at)
    covered = _covered(output, foreground_at, settings.background_channel, boundary)
    most = settings.boundary_threshold
    if covered is None:
        mask, inside = np.ones(boundary.shape, np.bool_), ~(boundary > most)
        return Cells(boundary, mask, inside, boundary < SURE * most, bounded=False)
    foreground, share = covered
    mask, depth = share > settings.foreground_threshold, foreground - boundary
    inside, sure = mask & (depth > 1 - most), mask & (depth > 1 - SURE * most)
    return Cells(boundary, mask, inside, sure, bounded=True)


def _covered(
    output: AnyArray, foreground_at: int, background_at: int, boundary: AnyArray
) -> tuple[AnyArray, AnyArray] | None:
    # the foreground, and the map that masks cells: 1 - background if there is a background
    share = None if background_at == NONE else 1 - one_map("boundary", output, background_at)
    if foreground_at == NONE:
        return None if share is None else (share, share)
    foreground = one_map("boundary", output, foreground_at)
    if are_shares(output):
        # classes exclude each other, so a cell is the sum of its inside and its boundary
        foreground = foreground + boundary
    return foreground, foreground if share is None else share


def spread_seeds(
    cells: Cells, grid: tuple[int, ...], apart_px: float, sigma_px: float
) -> LabelArray:
    """Label the local maxima of the smoothed distance to the nearest pixel that is not inside.

    Parameters
    ----------
    cells : maps of the cells
    grid : spacing of the map, px of the input, one number per axis
    apart_px : a maximum is the largest value within this distance along every axis; equal
        maxima are both kept
    sigma_px : standard deviation of the Gaussian that smooths the distance

    Returns
    -------
    ((z,) y, x) int
        1 to n, 0 where there is no seed. If the background is known, a connected inside without
        a maximum is a seed as a whole, so that no object is lost to a larger neighbour.
    """
    everywhere = cells.inside.all()  # then there is no distance to measure, and only one seed
    depth = cells.inside * np.float32(1) if everywhere else depth_of(cells.inside, grid)
    window = [2 * max(round(apart_px / step), 1) + 1 for step in grid]
    top = cells.inside & ndimage.smooth_peaks(depth, [sigma_px / step for step in grid], window)
    if cells.bounded:
        parts = ndimage.label(cells.inside)[0]
        seeded = np.bincount(parts[top], minlength=int(parts.max()) + 1) > 0
        top |= cells.inside & ~seeded[parts]
    seeds: LabelArray = ndimage.label(top, np.ones((3,) * top.ndim))[0]
    return seeds


def channels_of(count: int, settings: BoundarySettings) -> tuple[int, int]:
    """Return the channels of foreground and boundary among `count`; `NONE` if there is none.

    Raises
    ------
    ChannelsDiffer
        There are three or more, and the settings do not identify both.
    """
    asked = (settings.foreground_channel, settings.boundary_channel)
    if BY_COUNT in asked and count > len(asked):
        which = "told which channel is which, with foreground_channel and boundary_channel,"
        raise ChannelsDiffer("boundary", f"to be {which}", count)
    foreground, boundary = (NONE, 0) if count == 1 else (0, 1)
    return (
        foreground if asked[0] == BY_COUNT else asked[0],
        boundary if asked[1] == BY_COUNT else asked[1],
    )


def flooded_cells(
    boundary: AnyArray, mask: BoolArray, seeds: LabelArray, min_size: int, grid: tuple[int, ...]
) -> Labelled:
    """Flood a boundary map from seeds; pixels of objects that are too small go to neighbours.

    Parameters
    ----------
    boundary, mask : maps as in `Cells`
    seeds : same shape, 0 where there is no seed
    min_size : size of the smallest object, px of the input
    grid : spacing of the map, px of the input, one number per axis
    """
    labels = flooded(boundary, seeds, mask, least=min_size / math.prod(grid))
    return Labelled(on_input_grid(renumbered(labels), grid))


TILES = TileWay(
    by_halo="around planes",
    source="torch-em 0.10.9, util/prediction.py: predict_with_halo mirrors by the halo on every "
    "side, predict_with_padding leaves a legal size as it is",
)
"""How torch-em pads. The network's own zero padding around an image is worse:
``benchmarks/borders.py`` compares both with a larger image."""


BOUNDARY = Recipe(
    name="boundary",
    what="boundaries, with or without a foreground: watershed from one seed per cell",
    source="torch-em watershed_from_components, UnMICST; PlantSeg distance transform",
    label=label_cells,
    # on membranes of a real network, the adjusted Rand index between blocks and one piece was
    # at least 0.99
    in_blocks=InBlocks(far_seeing=True),
    tiles=TILES,
    settings=BoundarySettings,
    on_tensors=TensorDecoder("bmz.process.region_tensors:label_cells_there", 96),
)
"""Label recipe of boundary and contour maps."""


SIDE_PX = 1024
"""Only the centre of larger planes is inspected."""

PLANES = 8
"""Of more planes, only this many are inspected, evenly spaced."""


SPECK_PX = 3
"""Largest piece that counts as a speck."""


class Pieces(NamedTuple):
    """Number of nonzero values of a mask, and of their connected pieces.

    Parameters
    ----------
    values, pieces : totals over the planes that were inspected
    specks : pieces of at most `SPECK_PX`
    left_out : how many integers from 1 to the largest value are missing from the whole mask
    """

    values: int
    pieces: int
    specks: int
    left_out: int


def only_value(mask: AnyArray) -> int | None:
    """Return the only nonzero value of a mask; None if there are several, or none.

    Parameters
    ----------
    mask : integers from 0
    """
    value = int(mask.max(initial=0))
    return value if value and not ((mask != 0) & (mask != value)).any() else None


def piece_count(foreground: AnyArray, least_share: float = 0.0) -> int:
    """Count the connected pieces of a foreground; pixels that touch at a corner are connected.

    Parameters
    ----------
    foreground : nonzero pixels are foreground
    least_share : pieces smaller than this share of the largest one are ignored
    """
    from skimage.measure import label  # here: it takes long to import

    areas = np.bincount(label(foreground != 0).ravel())[1:]
    return int(np.count_nonzero(areas >= least_share * areas.max(initial=0)))


def holes(plane: AnyArray) -> int:
    """Count the holes in a value that covers all corners of a plane; 0 if it does not.

    Parameters
    ----------
    plane : (y, x), 0 and one value
    """
    around = plane[:: max(len(plane) - 1, 1), :: max(plane.shape[1] - 1, 1)]
    return piece_count(plane == 0) if around.all() else 0


def pieces_of_planes(mask: AnyArray) -> Pieces:
    """Count values and their pieces in each plane, since an object may reappear in another one.

    Parameters
    ----------
    mask : (..., y, x) integers from 0
    """
    from skimage.measure import label

    if not mask.size:
        return Pieces(0, 0, 0, 0)
    y, x = (slice(max(0, (n - SIDE_PX) // 2), (n + SIDE_PX) // 2) for n in mask.shape[-2:])
    planes = mask.reshape(-1, *mask.shape[-2:])[:, y, x]
    chosen = np.linspace(0, len(planes) - 1, min(len(planes), PLANES)).astype(int)
    counts = np.zeros(3, int)
    for plane in planes[chosen]:
        areas = np.bincount(label(plane, background=0).ravel())[1:]
        specks = np.count_nonzero(areas <= SPECK_PX)
        counts += [np.count_nonzero(np.unique(plane)), len(areas), specks]
    left_out = int(mask.max()) - int(np.count_nonzero(np.unique(mask)))
    return Pieces(int(counts[0]), int(counts[1]), int(counts[2]), left_out)


def numbered_pieces(mask: AnyArray) -> AnyArray:
    """Label each connected piece of equal values from 1; 0 stays background.

    Parameters
    ----------
    mask : integers from 0

    Returns
    -------
    int64 array of the shape of `mask`
    """
    from skimage.measure import label

    numbered: AnyArray = label(mask, background=0)
    return numbered
