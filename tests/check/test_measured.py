from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage as ndi

from bmz.base.notes import plain_of, value_of
from bmz.check import measured
from bmz.check.measured import (
    MOST_CHANNELS,
    PlaneMeasures,
    image_measures,
    measure_plane,
    polarity,
)
from bmz.check.pixel_values import (
    bits,
    contrast,
    noise_level,
    outliers,
    saturation,
    within_unit,
)
from bmz.image.pixels import Pixels

Plane = NDArray[Any]


def spots(side: int = 128, *, top: int = 1000) -> Plane:
    """Scatter round spots on a dim ground with noise, uint16."""
    random = np.random.default_rng(3)
    points = np.zeros((side, side))
    points[tuple(random.integers(10, side - 10, (2, 12)))] = 1
    spots = ndi.gaussian_filter(points, 5)
    noisy = 100 + top * spots / spots.max() + random.normal(0, 5, spots.shape)
    counts: Plane = np.clip(noisy, 0, None).astype(np.uint16)
    return counts


def test_bright_spots_are_bright_and_their_negative_is_dark() -> None:
    plane = spots()

    upright, inverted = polarity(plane), polarity(plane.max() - plane)

    assert upright is not None
    assert inverted is not None
    assert (upright.side, inverted.side) == ("bright", "dark")
    assert upright.reliability > 0.5


@pytest.mark.parametrize(
    "plane",
    [np.zeros((64, 64)), np.random.default_rng(0).normal(size=(256, 256))],
    ids=["flat", "noise"],
)
def test_a_plane_without_structure_has_no_polarity(plane: Plane) -> None:
    assert polarity(plane) is None


def test_a_hot_pixel_dominates_and_the_range_without_it_is_told() -> None:
    plane = spots()
    clean = plane.max()
    plane[5, 5] = 60_000

    found = outliers(plane)

    assert found.dominate
    assert (found.pixels, found.highest, found.highest_without) == (1, 60_000, clean)


def test_a_hot_pixel_is_found_among_saturated_ones() -> None:
    plane = np.minimum(spots(), 300)
    plane[120, 120] = 60_000

    found = outliers(plane)

    assert found.dominate
    assert found.highest_without == 300


def test_a_bright_spot_seen_through_a_lens_is_no_outlier() -> None:
    plane = np.full((128, 128), 10.0)
    plane[60:63, 60:63] = [[500, 800, 500], [800, 1000, 800], [500, 800, 500]]

    found = outliers(plane)

    assert not found.dominate
    assert found.stretch == 1


def test_an_outlier_within_the_range_does_not_dominate() -> None:
    plane = spots()
    plane[5, 5] = plane.max() + 50

    found = outliers(plane)

    assert found.pixels == 1
    assert not found.dominate


@pytest.mark.parametrize(("top", "bit_depth"), [(255, 8), (4095, 12), (3000, None)])
def test_objects_cut_off_at_one_value_are_saturated(top: int, bit_depth: int | None) -> None:
    plane = np.minimum(spots(top=20_000), top)

    found = saturation(plane)

    assert found.cuts
    assert (found.level, found.bits) == (top, bit_depth)


def test_an_image_with_few_pixels_at_its_top_is_not_saturated() -> None:
    found = saturation(spots())

    assert not found.cuts
    assert found.pixels >= 1


def test_a_flat_plane_is_flat_and_not_saturated() -> None:
    plane = np.full((64, 64), 255, np.uint8)

    found = saturation(plane), contrast(plane)

    assert not found[0].cuts
    assert (found[1].low, found[1].high, found[1].to_noise) == (255, 255, None)


@settings(max_examples=20)
@given(sigma=st.floats(0.5, 100))
def test_the_noise_is_found_under_smooth_structure(sigma: float) -> None:
    ramp = np.add.outer(np.arange(128.0), np.arange(128.0))
    plane = ramp + np.random.default_rng(0).normal(0, sigma, ramp.shape)

    assert noise_level(plane) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize(
    ("values", "stored", "used", "step"),
    [
        (np.array([[0, 4095, 7, 1]], np.uint16), 16, 12, 1),
        (np.array([[0, 4095, 7, 1]], np.uint16) * 16, 16, 12, 16),
        (np.array([[0, 255, 1, 3]], np.uint8), 8, 8, 1),
        (np.zeros((2, 2), np.uint8), 8, 0, 1),
    ],
)
def test_the_bits_in_use_are_counted(values: Plane, stored: int, used: int, step: int) -> None:
    found = bits(values)

    assert found is not None
    assert (found.stored, found.used, found.step) == (stored, used, step)


def test_fractions_have_no_bits_and_may_lie_within_the_unit() -> None:
    fractions = np.array([[0.0, 0.5, 1.0]])

    assert bits(fractions) is None
    assert within_unit(fractions)
    assert not within_unit(fractions * 2)
    assert not within_unit(np.array([[0, 1]], np.uint8))


@pytest.mark.parametrize("plane", [spots(), spots() / 2000, np.zeros((32, 32), np.uint8)])
def test_measures_come_back_from_json_as_they_were(plane: Plane) -> None:
    measures = measure_plane(plane)
    assert measures is not None

    back = value_of(PlaneMeasures, json.loads(json.dumps(plain_of(measures))))

    assert back == measures


def test_pixels_that_are_no_numbers_are_counted_and_left_out() -> None:
    plane = spots().astype(np.float32)
    plane[0, 0], plane[0, 1] = np.nan, np.inf

    found = measure_plane(plane)

    assert found is not None
    assert found.nonfinite == 2
    assert np.isfinite(found.maximum)
    assert measure_plane(np.full((4, 4), np.nan)) is None


def test_the_plane_is_left_as_it_was() -> None:
    plane = spots()
    before = plane.copy()

    measure_plane(plane)

    np.testing.assert_array_equal(plane, before)


@pytest.mark.parametrize("number", [0, 1])
def test_the_hot_pixel_of_a_real_image_dominates(shared: Path, number: int) -> None:
    folder = shared / "data" / "neubias"
    hot = tifffile.imread(folder / "xyc_16bit__membranes_nuclei_hot_pixel.tif")[number]
    clean = tifffile.imread(folder / "xyc_8bit__membranes_nuclei.tif")[number]

    found = outliers(hot), outliers(clean)

    assert found[0].dominate
    assert found[0].pixels == 1
    assert not found[1].dominate


def test_untouched_nuclei_are_bright_neither_saturated_nor_spotted(shared: Path) -> None:
    paths = sorted((shared / "data" / "dsb2018" / "test" / "images").glob("*.tif"))[::8]

    found = [measure_plane(tifffile.imread(path)) for path in paths]

    assert len(found) == 10
    for measures in found:
        assert measures is not None
        assert not measures.outliers.dominate
        assert not measures.saturation.cuts
        assert measures.polarity is not None
        assert measures.polarity.side == "bright"


def test_of_many_channels_only_the_first_are_looked_at_and_all_are_measured() -> None:
    pixels = Pixels(np.stack([spots(64)] * (MOST_CHANNELS + 2)), ("c", "y", "x"))

    measures = image_measures(pixels, range(MOST_CHANNELS + 2))

    assert sorted(measures) == list(range(MOST_CHANNELS + 2))
    looked_at = [position for position, of_one in measures.items() if of_one.kind is not None]
    assert looked_at == list(range(MOST_CHANNELS))


def test_a_channel_that_a_model_is_given_again_is_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def counted(*given: Any) -> PlaneMeasures | None:
        calls.append(given)
        return measure_plane(*given)

    monkeypatch.setattr(measured, "measure_plane", counted)

    measures = image_measures(Pixels(np.stack([spots(64)] * 2), ("c", "y", "x")), (1, 1, -1, 1))

    assert list(measures) == [0, 1, 3]
    assert measures[0] is measures[3]
    assert len(calls) == 1
