"""Filters tile by tile, and orders by counting: the same bits as SciPy's and NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as reference

from bmz.base import ndimage
from bmz.base.arrays import FloatArray, stable_order
from bmz.process.affinity_maps import full_affinity, sigma_against_noise


@pytest.mark.parametrize("mode", ["reflect", "nearest"])
@pytest.mark.parametrize("shape", [(90, 131), (3, 70, 65)])
def test_a_map_is_smoothed_tile_by_tile_with_the_same_bits(
    shape: tuple[int, ...], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).random(shape, np.float32)
    sigmas = (0.0, 1.0, 2.0)[-len(shape) :]
    monkeypatch.setattr(ndimage, "SIDE_PX", 16)
    smooth = ndimage.smoothed(values, sigmas, mode=mode)

    assert np.array_equal(smooth, reference.gaussian_filter(values, sigmas, mode=mode))


def test_the_highest_around_is_that_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((95, 120), np.float32).round(1)
    monkeypatch.setattr(ndimage, "SIDE_PX", 16)

    highest = ndimage.highest_around(values, (5, 9))

    assert np.array_equal(highest, reference.maximum_filter(values, (5, 9)))


@pytest.mark.parametrize("sigmas", [(0.0, 0.0), (1.5, 2.0)])
def test_smooth_peaks_are_those_of_the_map_that_is_smoothed_whole(
    sigmas: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).random((95, 120), np.float32).round(1)
    smooth = reference.gaussian_filter(values, sigmas)
    monkeypatch.setattr(ndimage, "SIDE_PX", 16)

    peaks = ndimage.smooth_peaks(values, sigmas, (3, 5))

    assert np.array_equal(peaks, smooth == reference.maximum_filter(smooth, (3, 5)))


@pytest.mark.parametrize("values", [
    np.random.default_rng(0).standard_normal(3000).astype(np.float32).round(2),
    np.array([0.0, -0.0, 1, -np.inf, 0, -1, np.inf, -0.0, 1e-40, -1e-40], np.float32),
    np.array([], np.float32),
    np.array([3.0, 1.0, 3.0, 2.0]),
])  # fmt: skip
def test_equal_values_keep_their_order(values: FloatArray) -> None:
    assert stable_order(values).tolist() == np.argsort(values, kind="stable").tolist()


def test_noise_and_full_affinity_are_read_off_the_histograms_of_numpy() -> None:
    maps = np.random.default_rng(1).random((2, 60, 70), np.float32)
    maps[0, :9] = 1
    bins = np.linspace(0.5, 1, 4097)
    away = [
        np.abs(line[..., 1:-1] - (line[..., 2:] + line[..., :-2]) / 2)
        for line in (np.moveaxis(maps, axis, -1) for axis in (1, 2))
    ]
    middle = np.searchsorted(
        np.cumsum(sum(np.histogram(one, 4096, (0, 1))[0] for one in away)),
        sum(one.size for one in away) / 2,
    )
    counts = np.histogram(maps, bins)[0]
    rank = np.searchsorted(np.cumsum(counts), 0.99 * counts.sum())

    sigma = sigma_against_noise(maps, np.asarray)
    full = full_affinity(maps, np.asarray, 0.0)

    noise = middle / 4096 / (0.6745 * np.sqrt(1.5))
    assert sigma == min(noise / 0.03 / (2 * np.sqrt(np.pi)), 3.0)
    assert full == 0.5 + 0.5 * (rank + 1) / 4096
