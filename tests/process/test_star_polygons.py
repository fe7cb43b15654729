"""Star-convex polygons: what they share, which of them stay, and how they are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from skimage.draw import polygon

from bmz.base.arrays import FloatArray
from bmz.process import star_suppression
from bmz.process.star_polygons import Stars, least_overlap_areas, overlap_areas, render_polygons
from bmz.process.star_suppression import (
    ROUNDING,
    Crowd,
    most_covered,
    most_in_common,
    non_maximum_suppression,
)

SEEDS = st.integers(0, 2**32 - 1)


def random_stars(seed: int, n: int, spread: int = 25) -> Stars:
    """Ragged polygons of many sizes, some with corners in their centre."""
    rng = np.random.default_rng(seed)
    rays = int(rng.integers(3, 33))
    size = rng.choice([0.5, 4.0, 10.0, 40.0], n)[:, None]
    ragged = rng.uniform(rng.choice([0.0, 0.8]), 1, (n, rays))
    return Stars.of(rng.integers(0, spread, (n, 2)), size * ragged)


def ranked(stars: Stars) -> Crowd:
    """Rank polygons as they come."""
    places = np.arange(len(stars))
    return Crowd.of(stars, places, places)


def disc(y: float, x: float, radius: float, rays: int = 256) -> tuple[FloatArray, FloatArray]:
    return np.array([[y, x]]), np.full((1, rays), radius, np.float32)


def shared_area(shapely: Any, stars: Stars) -> FloatArray:
    corners = np.moveaxis(stars.corners(), 1, 2)
    half = len(stars) // 2
    shapes = shapely.polygons(corners)
    areas: FloatArray = shapely.area(shapely.intersection(shapes[:half], shapes[half:]))
    return areas


@given(SEEDS)
def test_shared_areas_are_those_of_shapely(seed: int) -> None:
    shapely = pytest.importorskip("shapely")
    stars = random_stars(seed, 60)
    first = np.arange(30)

    found = overlap_areas(stars, first, first + 30)

    largest = float(stars.areas().max())
    assert np.allclose(found, shared_area(shapely, stars), rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("apart", [0.0, 0.3, 5.0, 9.9, 10.1, 19.0, 25.0])
def test_two_discs_share_a_lens(apart: float) -> None:
    points, distances = (
        np.concatenate(pair) for pair in zip(disc(3, 4, 10), disc(3, 4 + apart, 10), strict=True)
    )

    found = overlap_areas(Stars.of(points, distances), np.array([0]), np.array([1]))[0]

    half = min(apart / 20, 1)
    lens = 200 * np.arccos(half) - apart * np.sqrt(max(100 - apart**2 / 4, 0)) * (half < 1)
    assert found == pytest.approx(lens, rel=2e-3, abs=1e-2)


@given(SEEDS)
def test_quick_bounds_hold_the_exact_area_between_them(seed: int) -> None:
    stars = random_stars(seed, 60)
    a, b = np.arange(30), np.arange(30) + 30
    offset = (stars.points[b] - stars.points[a]).astype(np.float32)
    areas = stars.areas()

    exact = overlap_areas(stars, a, b)

    least = least_overlap_areas(stars.distances[a], stars.distances[b], offset)
    slack = 1e-4 * areas.max()
    assert np.all(least <= exact + slack)
    assert np.all(exact <= np.minimum(areas[a], areas[b]) + slack)


@given(SEEDS, st.floats(0.01, 0.9))
def test_pairs_that_are_not_looked_at_share_no_more_than_is_allowed(
    seed: int, threshold: float
) -> None:
    stars = random_stars(seed, 60)
    a, b = np.arange(30), np.arange(30) + 30
    areas = stars.areas()

    near = ranked(stars)._near_enough(a, b, np.float32(threshold))

    far = np.setdiff1d(np.arange(30), near)
    allowed = threshold * np.minimum(areas[a], areas[b])
    slack = 1e-4 * areas.max()
    assert np.all(overlap_areas(stars, a[far], b[far]) <= allowed[far] + slack)


def slanted(count: int, apart: float) -> Stars:
    """Ellipses of 20 by 6 px along the diagonal, beside each other."""
    angle = np.arange(32) * (2 * np.pi / 32) - np.pi / 4
    radii = 1 / np.sqrt((np.cos(angle) / 20) ** 2 + (np.sin(angle) / 6) ** 2)
    centres = 100 + np.arange(count)[:, None] * apart * np.array([1, -1]) / np.sqrt(2)
    return Stars.of(centres, np.tile(radii, (count, 1)))


def test_slanted_neighbours_whose_upright_boxes_overlap_are_not_looked_at() -> None:
    stars = slanted(2, apart=13)

    near = ranked(stars)._near_enough(np.array([0]), np.array([1]), np.float32(0.4))

    assert near.size == 0


def test_only_pairs_that_can_share_too_much_are_disputes() -> None:
    apart, close = (ranked(slanted(5, apart=px)) for px in (13, 3))

    assert apart.disputes(np.arange(5), 0.4)[1].size == 0
    better, worse = close.disputes(np.arange(5), 0.4)
    assert set(worse) == {1, 2, 3, 4}
    assert np.all(better < worse)


@given(SEEDS)
def test_boxes_bound_what_two_polygons_share_and_what_they_cover(seed: int) -> None:
    stars = random_stars(seed, 60)
    a, b = np.arange(30), np.arange(30) + 30
    areas, crowd = stars.areas(), ranked(stars)

    shared = most_in_common(*crowd._both(a, b, np.maximum, np.minimum))
    covered = most_covered(*crowd._both(a, b, np.minimum, np.maximum))

    exact, slack = overlap_areas(stars, a, b), 1e-4 * areas.max()
    assert np.all(exact <= np.maximum(shared, 0) + slack)
    assert np.all(areas[a] + areas[b] - exact <= covered + slack)


def test_boxes_tell_that_two_discs_share_most_of_their_area() -> None:
    discs = Stars.of(np.array([[50.0, 50], [50, 51]]), np.full((2, 32), 10))

    a, b, crowd = np.array([0]), np.array([1]), ranked(discs)

    covered = most_covered(*crowd._both(a, b, np.minimum, np.maximum))
    assert discs.areas().sum() - covered[0] > 0.8 * discs.areas()[0]


def test_candidates_that_are_decided_at_once_are_those_that_rounds_keep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seed in range(20):
        stars = random_stars(seed, 60)
        scores = np.random.default_rng(seed).random(60)
        at_once = non_maximum_suppression(stars.points, stars.distances, scores, 0.3)
        with monkeypatch.context() as patch:
            patch.setattr(star_suppression, "FEW", 0)
            in_rounds = non_maximum_suppression(stars.points, stars.distances, scores, 0.3)

        assert at_once.tolist() == in_rounds.tolist()


@given(SEEDS)
def test_the_area_two_polygons_share_has_no_order(seed: int) -> None:
    stars = random_stars(seed, 40)
    a, b = np.arange(20), np.arange(20) + 20

    one, other = overlap_areas(stars, a, b), overlap_areas(stars, b, a)

    assert np.allclose(one, other, rtol=1e-4, atol=1e-5 * float(stars.areas().max()))


@given(SEEDS)
def test_a_polygon_shares_its_whole_area_with_itself(seed: int) -> None:
    stars = random_stars(seed, 20)
    every = np.arange(20)

    found = overlap_areas(stars, every, every)

    # a thin polygon is the difference of areas as large as its reach
    slack = 1e-5 * stars.areas() + 1e-6 * stars.reach() ** 2
    assert np.all(np.abs(found - stars.areas()) <= slack)


def one_by_one(stars: Stars, scores: FloatArray, threshold: float) -> list[int]:
    """Suppress as the paper words it: one candidate after the other."""
    areas, kept = stars.areas(), list[int]()
    least = np.float32(max(threshold, ROUNDING))
    for i in np.argsort(-scores, kind="stable"):
        better = np.array(kept, np.intp)
        shared = overlap_areas(stars, np.full(len(kept), i), better)
        if not np.any(shared > least * np.minimum(areas[i], areas[better])):
            kept.append(int(i))
    return kept


@given(seed=SEEDS, threshold=st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.9]), n=st.integers(0, 80))
def test_many_at_a_time_keeps_what_one_by_one_keeps(seed: int, threshold: float, n: int) -> None:
    stars = random_stars(seed, n, spread=120)
    scores = np.random.default_rng(seed).choice(np.linspace(0, 1, 30), n)

    kept = non_maximum_suppression(stars.points, stars.distances, scores, threshold)

    assert kept.tolist() == one_by_one(stars, scores, threshold)


def test_of_equal_polygons_with_equal_scores_the_first_stays() -> None:
    points, distances = disc(5, 5, 4)

    kept = non_maximum_suppression(
        points.repeat(3, 0), distances.repeat(3, 0), np.array([0.7, 0.8, 0.8]), 0.5
    )

    assert kept.tolist() == [1]


def test_a_giant_among_thousands_does_not_change_what_stays() -> None:
    y, x = (axis.ravel() * 10.0 for axis in np.indices((40, 40)))
    points = np.stack([np.append(y, 5000), np.append(x, 5000)], axis=1)
    distances = np.full((1601, 8), 4.0)
    distances[-1] = 2000

    kept = non_maximum_suppression(points, distances, np.linspace(1, 0.5, 1601), 0.4)

    assert kept.tolist() == list(range(1601))


def from_outline_px(y: int, x: int, corners: FloatArray) -> float:
    """Give the distance of a pixel centre to the nearest edge of a polygon (2, corners)."""
    start = corners.T - (y, x)
    along = np.roll(start, -1, axis=0) - start
    share = np.clip(-(start * along).sum(1) / (along**2).sum(1), 0, 1)
    return float(np.hypot(*(start + share[:, None] * along).T).min())


@given(SEEDS)
@example(592616)
def test_a_polygon_is_drawn_as_scikit_image_draws_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-5, 45, (1, 2))
    distances = rng.uniform(0.5, 20, (1, 17)).astype(np.float32)

    drawn = render_polygons(points, distances, np.ones(1), (40, 30))

    corners = Stars.of(points, distances).corners()[0]
    expected = np.zeros((40, 30), np.int32)
    expected[polygon(*corners, expected.shape)] = 1
    differing = zip(*np.nonzero(drawn != expected), strict=True)
    # on the outline itself the last digit decides
    assert all(from_outline_px(y, x, corners) < 1e-5 for y, x in differing)


def test_pixels_on_the_outline_belong_to_the_polygon() -> None:
    drawn = render_polygons(np.array([[2, 2]]), np.full((1, 4), 2.0), np.ones(1), (5, 5))

    assert drawn.tolist() == [
        [0, 0, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 0, 0],
    ]


def test_where_polygons_overlap_the_higher_score_wins() -> None:
    points, distances = np.array([[5, 4], [5, 8]]), np.full((2, 32), 4.0)

    drawn = render_polygons(points, distances, np.array([0.9, 0.6]), (11, 13))

    assert drawn[5].tolist() == [1] * 9 + [2] * 4


def test_lines_longer_than_a_part_are_drawn_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    points, distances = np.array([[9, 9], [15, 12]]), np.full((2, 16), 8.0)
    whole = render_polygons(points, distances, np.array([0.6, 0.9]), (30, 30))
    monkeypatch.setattr("bmz.process.star_polygons.PIXELS_AT_ONCE", 5)

    parts = render_polygons(points, distances, np.array([0.6, 0.9]), (30, 30))

    assert np.array_equal(parts, whole)
