"""The label recipe ``gasp``: superpixels of a boundary map, joined by average linkage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy import ndimage

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.plan.tile_way import TileWay
from bmz.process.depth import depth_of
from bmz.process.flooding import flooded
from bmz.process.linkage import merged, touching
from bmz.process.maps import on_input_grid, one_map, without_small
from bmz.process.recipe import InBlocks, Knob, Labelled, Recipe
from bmz.process.relabel import in_raster_order


@dataclass(frozen=True)
class GaspSettings:
    """The parameters of the recipe."""

    channel: Annotated[int, Knob("channel of the boundary, counted from 0", 0)] = 0
    beta: Annotated[float, Knob("the larger, the more objects stay apart", 0, 1)] = 0.5
    threshold: Annotated[float, Knob("boundary of a superpixel, probability", 0, 1)] = 0.5
    sigma_seeds: Annotated[
        float, Knob("smoothing of the distance, px of the input", 0, grows=1)
    ] = 1.0
    sigma_weights: Annotated[
        float, Knob("smoothing of the boundary, px of the input", 0, grows=1)
    ] = 2.0
    superpixel_size: Annotated[int, Knob("smallest superpixel, px of the input", 0, grows=2)] = 100
    min_size: Annotated[int, Knob("smallest object, px of the input", 0)] = 100


def label_gasp(output: AnyArray, grid: tuple[int, ...], settings: GaspSettings) -> Labelled:
    """Part the image into superpixels along boundaries, and join those with hardly any between.

    Superpixels are the watershed of the smoothed boundary from the peaks of the distance to it.
    Two are joined while the mean boundary between them is below 1 - `beta`, the lowest first
    (average linkage). Objects fill the image; those that are too small give their pixels to
    their neighbours.

    Parameters
    ----------
    output : (c, (z,) y, x), a boundary probability
    grid : spacing of the map, px of the input; distances and sizes heed it
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``, without scores

    Raises
    ------
    ChannelsDiffer
        The output has no such channel.
    """
    boundary = np.nan_to_num(one_map("gasp", output, settings.channel).astype(np.float32))
    pixels = superpixels(boundary, grid, settings)
    number = merged(touching(pixels, boundary), int(pixels.max()), 1 - settings.beta)
    joined = (number + 1).astype(np.int32)[pixels - 1]
    labels = _filled(boundary, joined, settings.min_size, grid)
    return in_raster_order(on_input_grid(labels, grid))


def superpixels(boundary: FloatArray, grid: tuple[int, ...], settings: GaspSettings) -> LabelArray:
    """Give the distance transform watershed of a boundary map.

    Source: Wolny et al. 2020 (PlantSeg, doi 10.7554/eLife.57613), defaults of PlantSeg 2.

    Parameters
    ----------
    boundary : ((z,) y, x) float32
    grid : px of the input for each entry, one number an axis
    settings : `threshold`, both sigmas and `superpixel_size`

    Returns
    -------
    ((z,) y, x) int32, 1 to n, without background
    """
    inside = boundary <= settings.threshold
    depth = np.ones(boundary.shape, np.float32) if inside.all() else depth_of(inside, grid)
    depth = ndimage.gaussian_filter(depth, _steps(settings.sigma_seeds, grid))
    peaks = depth == ndimage.maximum_filter(depth, 3)
    top = peaks & inside
    if not top.any():
        # smoothing can move every peak onto the boundary where little else is there
        top = inside if inside.any() else peaks
    seeds, _ = ndimage.label(top, np.ones((3,) * top.ndim))
    surface = ndimage.gaussian_filter(boundary, _steps(settings.sigma_weights, grid))
    labels = flooded(surface, seeds)
    return in_raster_order(_filled(surface, labels, settings.superpixel_size, grid)).labels


def _filled(
    surface: FloatArray, labels: LabelArray, min_size: int, grid: tuple[int, ...]
) -> LabelArray:
    # what is too small is flooded from around it, unless nothing else is there
    kept = without_small(labels, min_size, grid)
    return labels if kept is labels or not kept.any() else flooded(surface, kept)


def _steps(sigma_px: float, grid: tuple[int, ...]) -> list[float]:
    return [sigma_px / step for step in grid]


GASP = Recipe(
    name="gasp",
    what="boundaries of cells that fill the image: superpixels, joined by average linkage",
    source="Bailoni et al. 2022, doi 10.1109/CVPR52688.2022.01135; PlantSeg, Wolny et al. 2020",
    label=label_gasp,
    in_blocks=InBlocks(far_seeing=True),
    tiles=TileWay(
        by_halo="where cut",
        source="PlantSeg 2.0.0rc13, find_patch_and_halo_shapes: as it is where one patch holds it, "
        "else mirror_pad by the halo along the axes that are cut",
    ),
    settings=GaspSettings,
)
"""The recipe of PlantSeg's boundary maps."""
