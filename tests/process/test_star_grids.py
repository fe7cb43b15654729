"""Stars of any grid and any number of rays give the objects, whole and in blocks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from tests.process.ideal_maps import cells, probability, star_distances

from bmz.base.arrays import FloatArray, LabelArray
from bmz.process.blocks import BlockWork, label_blocks
from bmz.process.matching import match_labels
from bmz.process.recipe import Value
from bmz.process.recipes import RECIPES
from bmz.process.relabel import in_raster_order
from bmz.process.star_stacks import golden_spiral

STARDIST = RECIPES["stardist"]


def plane_maps(truth: LabelArray, rays: int, grid: tuple[int, ...]) -> FloatArray:
    maps = np.concatenate([probability(truth)[None], star_distances(truth, rays)])
    noise = np.random.default_rng(0).normal(0, 0.1, maps[1:].shape)
    maps[1:] += noise * (maps[1:] > 0)
    return np.ascontiguousarray(maps[(slice(None), *(slice(None, None, g) for g in grid))], "f4")


def both_ways(
    maps: FloatArray, grid: tuple[int, ...], given: dict[str, Value], side: int
) -> tuple[LabelArray, LabelArray]:
    parameters = STARDIST.parameters_from(given, {})
    in_blocks = np.zeros([n * g for n, g in zip(maps.shape[1:], grid, strict=True)], np.uint32)
    whole = STARDIST.apply(maps, grid, parameters).labels
    found = label_blocks(BlockWork(maps, grid, STARDIST, parameters, side, 8), in_blocks)
    return whole, found.numbers()[in_blocks].astype(np.int32)


@pytest.mark.parametrize(
    ("grid", "rays"),
    [((1, 1), 8), ((2, 2), 32), ((4, 4), 96), ((1, 2), 16), ((4, 2), 33), ((3, 1), 64)],
)
def test_cells_come_back_from_every_grid_and_number_of_rays(
    grid: tuple[int, int], rays: int
) -> None:
    truth = cells(4, 192, 4)

    given: dict[str, Value] = {"prob_threshold": 0.4, "border": 0}
    whole, parts = both_ways(plane_maps(truth, rays, grid), grid, given, 192 // max(grid) // 2)

    assert match_labels(whole, truth, 0.5).f1 >= 0.95
    np.testing.assert_array_equal(parts, whole)


def balls(shape: tuple[int, ...], spacing: tuple[float, ...]) -> LabelArray:
    """Draw balls, of which planes lie `spacing` apart, in the middle of boxes."""
    labels = np.zeros(shape, np.int32)
    place = np.indices(shape) * np.reshape(spacing, (3, 1, 1, 1))
    rng = np.random.default_rng(2)
    number = 0
    for y in range(14, shape[1], 28):
        for x in range(14, shape[2], 28):
            middle = np.array([shape[0] * spacing[0] / 2, y, x]) + rng.uniform(-2, 2, 3)
            number += 1
            away = np.square(place - middle.reshape(3, 1, 1, 1)).sum(axis=0)
            labels[away <= rng.uniform(9, 12) ** 2] = number
    return in_raster_order(labels).labels


def stack_maps(truth: LabelArray, rays: int, anisotropy: tuple[float, ...]) -> FloatArray:
    directions = golden_spiral(rays, (anisotropy[0], anisotropy[1], anisotropy[2])).directions
    depth = ndimage.distance_transform_edt(truth > 0, sampling=anisotropy)
    maps = np.zeros((1 + rays, *truth.shape), np.float32)
    at = np.nonzero(truth)
    maps[0][at] = depth[at] / depth.max()
    start, own = np.stack(at).astype(np.float64), truth[at]
    high = np.array(truth.shape)[:, None] - 1
    for ray, direction in enumerate(directions, start=1):
        alive, length = np.ones(len(own), np.bool_), np.zeros(len(own))
        for step in np.arange(0.5, 40, 0.5):
            now = np.rint(start + step * direction[:, None]).astype(int)
            inside = (now >= 0).all(axis=0) & (now <= high).all(axis=0)
            alive &= inside & (truth[tuple(np.clip(now, 0, high))] == own)
            if not alive.any():
                break
            length[alive] = step
        maps[ray][at] = length
    return maps


@pytest.mark.parametrize(
    ("rays", "grid", "anisotropy"),
    [
        (32, (1, 1, 1), (1.0, 1.0, 1.0)),
        (64, (1, 2, 2), (2.0, 1.0, 1.0)),
        (96, (2, 4, 4), (1.0, 1.0, 1.0)),
        (24, (1, 4, 2), (2.0, 1.0, 1.0)),
    ],
)
def test_balls_come_back_from_anisotropic_grids_and_rays(
    rays: int, grid: tuple[int, ...], anisotropy: tuple[float, ...]
) -> None:
    truth = balls((12 if anisotropy[0] > 1 else 24, 56, 56), anisotropy)
    maps = stack_maps(truth, rays, anisotropy)
    maps = np.ascontiguousarray(maps[(slice(None), *(slice(None, None, g) for g in grid))])
    given: dict[str, Value] = {
        "prob_threshold": 0.4, "border": 0, "anisotropy": ",".join(map(str, anisotropy)),
    }  # fmt: skip

    whole, parts = both_ways(maps, grid, given, 28 // max(grid))

    assert truth.max() == 4
    assert match_labels(whole, truth, 0.5).f1 == 1
    np.testing.assert_array_equal(parts, whole)
