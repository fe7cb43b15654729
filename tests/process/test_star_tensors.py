"""Stars drawn on tensors are those of arrays, bit by bit; here the tensors lie on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.process.ideal_maps import apart, cells, probability, star_distances

from bmz.base.arrays import AnyArray, FloatArray, LeftToProcessor, TensorPlace
from bmz.process import star_tensors
from bmz.process.recipe import Place
from bmz.process.relabel import ChannelsDiffer
from bmz.process.star_suppression import non_maximum_suppression
from bmz.process.star_tensors import label_stars_there
from bmz.process.stardist import StarSettings, label_stars

torch: Any = pytest.importorskip("torch")

THERE = TensorPlace(torch, "cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def maps(seed: int, rays: int = 32, noise: float = 0.5, reach: float = 7) -> FloatArray:
    """Make up the output of a network: objects of many shapes, whose rays are noisy."""
    rng, (height, width) = np.random.default_rng(seed), (31, 43)
    count = round(height * width / (2.2 * reach**2))
    centre = rng.uniform((-2, -2), (height + 2, width + 2), (count, 2))
    angle = np.arange(rays) * 2 * np.pi / rays
    lobes, turn = rng.integers(1, 5, (count, 1)), rng.uniform(0, 6, (count, 1))
    radius = rng.uniform(0.5, 1.5, (count, 1)) * reach * (1 + 0.3 * np.sin(angle * lobes + turn))
    place = np.moveaxis(np.mgrid[:height, :width], 0, -1)
    apart_px = np.linalg.norm(place[:, :, None] - centre, axis=-1)
    nearest = apart_px.argmin(-1)
    likely = 1.2 - apart_px.min(-1) / (1.2 * reach) + rng.normal(0, 0.05, (height, width))
    off = np.moveaxis(place - centre[nearest], -1, 0)
    along = np.stack([np.sin(angle), np.cos(angle)])
    distances = np.moveaxis(radius[nearest], -1, 0) - np.tensordot(along, off, (0, 0))
    distances += rng.normal(0, noise, distances.shape)
    return np.concatenate([likely[None], distances]).astype(np.float32)


def assert_same(output: AnyArray, grid: tuple[int, int], options: StarSettings, **more: Any) -> int:
    expected = label_stars(output, grid, options, **more)
    found = label_stars_there(THERE, output, grid, options, **more)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.labels.dtype == expected.labels.dtype
    assert found.scores is not None
    assert expected.scores is not None
    assert found.scores.dtype == expected.scores.dtype
    return int(expected.labels.max(initial=0))


@pytest.mark.parametrize(
    ("rays", "noise", "threshold"), [(3, 0.5, 0.4), (32, 0, 0), (32, 0.5, 0.4), (65, 1, 1)]
)
def test_masks_are_the_same(rays: int, noise: float, threshold: float) -> None:
    options = StarSettings(nms_threshold=threshold, prob_threshold=0.5, border=rays % 4)

    assert assert_same(maps(rays, rays, noise), (1, 1), options) > 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_masks_of_many_maps_are_the_same(seed: int) -> None:
    for rays in (3, 5, 32, 64):
        for noise in (0, 0.5, 3, 12):
            output = maps(seed, rays, noise, reach=(3, 6, 14, 40)[seed % 4])
            for threshold in (0, 0.1, 0.4, 1):
                options = StarSettings(nms_threshold=threshold, prob_threshold=0.3)
                assert_same(output, ((1, 1), (2, 2))[seed % 2], options)


def test_ties_and_outlines_through_the_middle_of_pixels_give_the_same() -> None:
    # whole and half px: many equal scores, and many pixels that lie exactly on an outline
    for seed in range(2):
        output = np.round(4 * maps(seed, 8, 0.2)) / 4

        assert assert_same(output, (2, 2), StarSettings(prob_threshold=0.25)) > 3


def test_ideal_maps_give_the_same() -> None:
    truth = apart(cells(3))
    output = np.concatenate([probability(truth)[None], star_distances(truth)]).astype(np.float32)

    assert assert_same(output, (1, 1), StarSettings()) > 10


def test_what_is_no_number_and_giants_give_the_same() -> None:
    output = maps(5)
    output[0, 5, 5], output[2, 10, 10], output[3, 30, 30] = np.nan, np.inf, 500
    output[:, 20, 20] = 90

    assert assert_same(output, (1, 1), StarSettings()) > 0
    assert assert_same(np.full_like(output, -1), (1, 1), StarSettings()) == 0
    assert_same(output.astype(np.float64), (1, 1), StarSettings())


def test_a_part_of_a_map_has_the_border_of_the_whole() -> None:
    output, options = maps(6), StarSettings(border=9)
    inner = Place((20, 20), (500, 500))

    assert assert_same(output, (1, 1), options, place=inner) > 0
    assert_same(output, (1, 1), options, place=Place((0, 460), (500, 500)))


def test_pairs_at_the_limit_are_decided_by_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def noted(points: AnyArray, *more: Any) -> AnyArray:
        asked.append(len(points) // 2)
        return non_maximum_suppression(points, *more)

    monkeypatch.setattr(star_tensors, "non_maximum_suppression", noted)
    # two squares on their corners, 8 px from centre to corner and 8 px apart: one shares a
    # quarter of the other
    output = np.zeros((9, 40, 40), np.float32)
    output[1:] = 8 * np.tile([1, np.sqrt(0.5)], 4)[:, None, None]
    output[0, 20, 12], output[0, 20, 20] = 0.9, 0.8
    limit = StarSettings(nms_threshold=0.25, border=0)

    assert_same(output, (1, 1), limit)

    assert asked
    for doubt in (0.0, 1e9):  # nobody is asked, and everybody is
        monkeypatch.setattr(star_tensors, "DOUBT", doubt)
        assert_same(maps(7), (1, 1), StarSettings())


def test_small_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(star_tensors, "ENTRIES_AT_ONCE", 3000)
    monkeypatch.setattr(star_tensors, "PAIRS_AT_ONCE", 50)

    assert assert_same(maps(8), (1, 1), StarSettings()) > 3


def test_stacks_and_endless_rays_are_left_to_the_arrays_and_few_rays_are_refused() -> None:
    with pytest.raises(LeftToProcessor, match="stacks"):
        label_stars_there(THERE, maps(9)[:, None], (1, 1, 1), StarSettings())
    long = maps(9)
    long[:, 20, 20] = 3000
    with pytest.raises(LeftToProcessor, match="longer than 2048 px"):
        label_stars_there(THERE, long, (1, 1), StarSettings())
    with pytest.raises(ChannelsDiffer, match="3 distances"):
        label_stars_there(THERE, long[:3], (1, 1), StarSettings())
