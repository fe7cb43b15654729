"""The recipe ``stardist`` in stacks: polyhedra kept and drawn as the reference does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.matching import match_labels
from bmz.process.star_stacks import (
    AnisotropyUnclear,
    golden_spiral,
    render_polyhedra,
    suppress_polyhedra,
)
from bmz.process.stardist import StarSettings, label_stars

RAYS = 96
ROUND = golden_spiral(RAYS, (1.0, 1.0, 1.0))


def ball(radius: float, count: int = 1) -> FloatArray:
    return np.full((count, RAYS), radius, np.float32)


def reference() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        return pytest.importorskip("stardist.geometry"), pytest.importorskip("stardist.rays3d")


@pytest.mark.parametrize("anisotropy", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.0, 3.0, 0.5)])
def test_every_direction_points_through_one_face(anisotropy: tuple[float, float, float]) -> None:
    rays = golden_spiral(RAYS, anisotropy)
    towards = np.random.default_rng(0).standard_normal((500, 3))

    parts = np.einsum("fkd,nd->nfk", rays.shares, towards)

    assert ((parts > 1e-9).all(axis=2).sum(axis=1) == 1).all()
    assert len(rays.faces) == 2 * RAYS - 4  # Euler: a closed surface of triangles


def test_neighbours_share_the_edge_across_from_the_corner() -> None:
    for face, corners in enumerate(ROUND.faces):
        for k in range(3):
            other = ROUND.neighbours[face, k]

            assert set(corners) - {corners[k]} < set(ROUND.faces[other])
            assert other != face


def test_a_ball_is_drawn_round_and_cut_at_the_edge_of_the_stack() -> None:
    middle, corner = np.array([[12.0, 12.0, 12.0]]), np.array([[0.0, 0.0, 0.0]])

    whole = render_polyhedra(middle, ball(8), ROUND, (25, 25, 25))
    cut = render_polyhedra(corner, ball(8), ROUND, (25, 25, 25))

    place = np.indices((25, 25, 25)) - 12
    away = np.sqrt(np.square(place).sum(axis=0))
    assert (away[whole > 0] <= 8).all()
    assert (whole[away < 7] > 0).all()
    # a quarter of each axis' half, and the planes through the centre
    assert np.array_equal(cut[:9, :9, :9], whole[12:21, 12:21, 12:21])


def test_of_overlapping_objects_the_first_is_on_top_unless_overlap_has_a_label() -> None:
    points = np.array([[10.0, 10.0, 8.0], [10.0, 10.0, 16.0]])

    best = render_polyhedra(points, ball(6, 2), ROUND, (21, 21, 25))
    marked = render_polyhedra(points, ball(6, 2), ROUND, (21, 21, 25), overlap_label=-7)

    assert best[10, 10, 12] == 1
    assert marked[10, 10, 12] == -7
    assert np.array_equal(marked > 0, (best > 0) & (marked != -7))


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_kept_objects_overlap_by_no_more_than_the_threshold(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(8, 16, (6, 3)).round()
    distances = rng.uniform(3, 6, (6, 1)) * rng.uniform(0.8, 1, (6, RAYS))

    kept = suppress_polyhedra(points, distances, rng.random(6), ROUND, threshold)

    drawn = [render_polyhedra(points[[k]], distances[[k]], ROUND, (25, 25, 25)) > 0 for k in kept]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            # volumes are those of polyhedra, voxels are counted: a tenth apart at this size
            least = min(np.count_nonzero(one), np.count_nonzero(other))
            assert np.count_nonzero(one & other) <= (threshold + 0.15) * least


def test_the_best_of_those_at_one_place_is_kept() -> None:
    points = np.array([[9.0, 9.0, 9.0], [9.0, 9.0, 10.0], [9.0, 9.0, 40.0]])

    kept = suppress_polyhedra(points, ball(5, 3), np.array([0.6, 0.9, 0.7]), ROUND, 0.4)

    assert kept.tolist() == [1, 2]


def crowd(seed: int) -> tuple[AnyArray, FloatArray, FloatArray]:
    """Give centres, distances and scores of polyhedra of three sizes that lie close together."""
    rng = np.random.default_rng(seed)
    points = rng.integers(0, (20, 36, 36), (60, 3))
    sizes = rng.choice([0.4, 3, 7], (60, 1), p=[0.2, 0.6, 0.2])
    long = 1 + np.abs(ROUND.directions @ rng.standard_normal((60, 3, 1)))[..., 0]
    distances = (sizes * long * rng.uniform(0.8, 1, (60, RAYS))).astype(np.float32)
    return points, distances, rng.random(60)


def test_those_are_dropped_that_share_too_many_voxels_with_a_better_one() -> None:
    points, distances, scores = crowd(3)
    sizes = distances[:, ROUND.faces].astype(np.float64).prod(axis=2) @ ROUND.solid
    room = (80, 96, 96)
    held = [
        np.flatnonzero(render_polyhedra(points[[k]] + 30, distances[[k]], ROUND, room))
        for k in range(len(points))
    ]
    chosen: list[int] = []
    for nth in np.argsort(-scores).tolist():
        shared = [len(np.intersect1d(held[nth], held[k], assume_unique=True)) for k in chosen]
        if all(n <= 0.3 * min(sizes[nth], sizes[k]) for n, k in zip(shared, chosen, strict=True)):
            chosen.append(nth)

    kept = suppress_polyhedra(points, distances, scores, ROUND, 0.3)

    assert kept.tolist() == chosen
    assert 10 < len(kept) < 50


@pytest.mark.parametrize("seed", range(3))
def test_giants_are_kept_and_drawn_as_small_ones_are(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, distances, scores = crowd(seed)
    kept = suppress_polyhedra(points, distances, scores, ROUND, 0.3)
    drawn = render_polyhedra(points[kept], distances[kept], ROUND, (20, 40, 40))

    monkeypatch.setattr("bmz.process.star_stacks.WIDEST_MAP", 3)

    assert np.array_equal(suppress_polyhedra(points, distances, scores, ROUND, 0.3), kept)
    again = render_polyhedra(points[kept], distances[kept], ROUND, (20, 40, 40))
    assert np.array_equal(again, drawn)


@pytest.mark.parametrize("words", ["", "1,2", "1,0,1", "a,b,c", "1,1,inf"])
def test_an_anisotropy_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(AnisotropyUnclear, match="cannot read the anisotropy"):
        label_stars(np.zeros((9, 4, 8, 8), np.float32), (1, 1, 1), StarSettings(anisotropy=words))


def stack_maps(mask: AnyArray, anisotropy: tuple[int, int, int]) -> tuple[FloatArray, Any]:
    """Give ideal maps of a mask with a probability that has no two equal values."""
    geometry, rays3d = reference()
    utils = pytest.importorskip("stardist.utils")
    rays = rays3d.Rays_GoldenSpiral(RAYS, anisotropy=anisotropy)
    distances = geometry.star_dist3D(mask, rays)
    depth = utils.edt_prob(mask, anisotropy=anisotropy)
    noise = np.random.default_rng(0).random(mask.shape)
    probability = (0.8 * depth + 0.15 + 0.05 * noise).astype(np.float32)
    return np.concatenate([probability[None], np.moveaxis(distances, -1, 0)]), rays


def their_labels(output: FloatArray, rays: Any, grid: tuple[int, ...], shape: Any) -> AnyArray:
    from stardist.geometry import polyhedron_to_label
    from stardist.nms import non_maximum_suppression_3d

    points, scores, distances = non_maximum_suppression_3d(
        np.ascontiguousarray(np.moveaxis(output[1:], 0, -1)),
        np.ascontiguousarray(output[0]),
        rays,
        grid=grid,
        nms_thresh=0.3,
        prob_thresh=0.55,
    )
    labels: AnyArray = polyhedron_to_label(
        distances, points, rays, shape, prob=scores, verbose=False
    )
    return labels.astype(np.int32)


@pytest.mark.parametrize("anisotropy", [(1, 1, 1), (2, 1, 1)])
def test_nuclei_of_a_stack_are_those_of_stardist(
    anisotropy: tuple[int, int, int], shared: Path
) -> None:
    mask = tifffile.imread(shared / "data/stardist/mask3d.tif")
    output, rays = stack_maps(mask, anisotropy)
    coarse = output[:, ::1, ::2, ::2]
    theirs = their_labels(coarse, rays, (1, 2, 2), mask.shape)

    done = label_stars(
        coarse,
        (1, 2, 2),
        StarSettings(
            prob_threshold=0.55, nms_threshold=0.3, anisotropy=",".join(map(str, anisotropy))
        ),
    )

    ours = done.labels[tuple(slice(n) for n in mask.shape)]
    assert match_labels(ours, theirs, 0.9).f1 >= 0.97
    assert theirs.max() >= 35


@pytest.mark.slow
def test_nuclei_of_a_full_grid_are_those_of_stardist(shared: Path) -> None:
    mask = tifffile.imread(shared / "data/stardist/mask3d.tif")
    output, rays = stack_maps(mask, (1, 1, 1))
    theirs = their_labels(output, rays, (1, 1, 1), mask.shape)

    done = label_stars(output, (1, 1, 1), StarSettings(prob_threshold=0.55, nms_threshold=0.3))

    assert match_labels(done.labels, theirs, 0.9).f1 >= 0.97
