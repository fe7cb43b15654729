from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.transform import resize

from bmz.check import object_size as object_size_module
from bmz.check.blobs import MOST_SIDE, Level, octaves, stretched
from bmz.check.object_size import STEEP, Cut, ObjectSize, object_diameter_px, survey

Plane = NDArray[Any]


def discs(diameter: float, *, side: int = 256, gap: float = 1.0, noise: float = 0.05) -> Plane:
    """Lay discs on a jittered grid, `gap` diameters apart, with noise."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:side, :side].astype(float)
    image = np.zeros((side, side))
    step = diameter * (1 + gap)
    for row in np.arange(step / 2, side, step):
        for column in np.arange(step / 2, side, step):
            dy, dx = random.uniform(-0.2, 0.2, 2) * diameter
            far = np.hypot(y - row - dy, x - column - dx)
            image += random.uniform(0.6, 1.0) * np.clip(diameter / 2 - far + 0.5, 0, 1)
    noisy: Plane = image + random.normal(0, noise, image.shape)
    return noisy


def walls(spacing: int, *, side: int = 320) -> Plane:
    """Draw bright walls between cells around scattered seeds."""
    random = np.random.default_rng(2)
    centres = np.arange(spacing // 2, side, spacing)
    grid = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)
    seeds = grid + random.uniform(-0.2, 0.2, grid.shape) * spacing
    y, x = np.mgrid[:side, :side]
    nearest = np.hypot(y[..., None] - seeds[:, 0], x[..., None] - seeds[:, 1]).argmin(-1)
    edge = (ndi.maximum_filter(nearest, 3) != ndi.minimum_filter(nearest, 3)).astype(float)
    image: Plane = ndi.gaussian_filter(edge, 1.0) + random.normal(0, 0.01, edge.shape)
    return image


def diameter(plane: Plane) -> float:
    size = object_diameter_px(plane)
    assert size is not None
    return size.diameter_px


@pytest.mark.parametrize("true_px", [6, 12, 25, 50])
def test_discs_are_measured_within_a_fifth(true_px: int) -> None:
    found = diameter(discs(true_px, side=max(128, 6 * true_px)))

    assert true_px / 1.2 <= found <= true_px * 1.2


def test_dark_discs_measure_as_bright_ones_do() -> None:
    plane = discs(20)

    found = diameter(1 - plane)

    assert found == pytest.approx(diameter(plane), rel=0.02)


@settings(max_examples=10)
@given(gain=st.floats(0.01, 1000), offset=st.floats(-100, 100))
def test_gain_and_offset_of_the_camera_do_not_change_the_size(gain: float, offset: float) -> None:
    plane = discs(16, side=128)

    found = diameter(plane * gain + offset * gain)

    assert found == pytest.approx(diameter(plane), rel=0.05)


@pytest.mark.parametrize("factor", [1 / 3, 1 / 2, 1.5, 3])
def test_the_estimate_follows_a_resize(factor: float) -> None:
    plane = discs(18)

    found = diameter(resize(plane, tuple(round(s * factor) for s in plane.shape)))

    assert found / diameter(plane) / factor == pytest.approx(1, rel=0.2)


def test_cells_between_bright_walls_are_measured_not_their_walls() -> None:
    found = object_diameter_px(walls(40))

    assert found is not None
    assert found.how == "cells between walls"
    assert found.diameter_px == pytest.approx(40, rel=0.25)


@pytest.mark.parametrize(
    "plane",
    [
        np.full((128, 128), 7, np.uint8),
        np.random.default_rng(0).normal(100, 10, (256, 256)),
        np.random.default_rng(0).poisson(3, (256, 256)),
        ndi.zoom(np.random.default_rng(0).normal(size=(64, 64)), 4, order=1),
        np.add.outer(np.arange(256.0), np.arange(256.0)),
        np.full((64, 64), np.nan),
        np.eye(8),
    ],
    ids=["flat", "noise", "photons", "coarse noise", "ramp", "no numbers", "tiny"],
)
def test_a_plane_without_objects_has_no_object_size(plane: Plane) -> None:
    assert object_diameter_px(plane) is None


def test_one_hot_pixel_does_not_change_the_size() -> None:
    plane = discs(20)
    hot = plane.copy()
    hot[100, 100] = 60_000

    found = diameter(hot)

    assert found == pytest.approx(diameter(plane), rel=0.05)


def test_not_a_number_counts_as_ground() -> None:
    plane = discs(20)
    holed = plane.copy()
    holed[0, :5] = np.nan

    found = diameter(holed)

    assert found == pytest.approx(diameter(plane), rel=0.05)


def test_a_stack_is_no_plane() -> None:
    with pytest.raises(ValueError, match="y and x"):
        survey(np.zeros((3, 64, 64)))


def test_of_a_large_plane_a_window_is_looked_at() -> None:
    plane = np.zeros((1400, 1400), np.float32)
    plane[700:956, 1000:1256] = discs(16)

    first = next(octaves(plane))

    assert first.responses[0].shape == (MOST_SIDE, MOST_SIDE)
    assert diameter(plane) == pytest.approx(16, rel=0.2)


def test_an_inverted_plane_is_stretched_to_the_mirror_image() -> None:
    plane = discs(20)

    upright, inverted = stretched(plane), stretched(5 - plane)

    assert upright is not None
    assert inverted is not None
    np.testing.assert_allclose(inverted, 1 - upright, atol=1e-4)


def test_two_measurements_that_agree_are_more_reliable_than_one() -> None:
    sharp, broad = object_diameter_px(discs(20)), object_diameter_px(discs(20, noise=0.4))

    assert sharp is not None
    assert broad is not None
    assert sharp.reliability > broad.reliability


def channel(shared: Path, name: str, number: int) -> Plane:
    stack: Plane = tifffile.imread(shared / "data" / "neubias" / name)
    plane: Plane = stack[number]
    return plane


def test_cells_of_60_px_are_measured_in_the_membranes(shared: Path) -> None:
    found = object_diameter_px(channel(shared, "xyc_8bit__membranes_nuclei.tif", 0))

    assert found is not None
    assert 50 <= found.diameter_px <= 70


def test_cells_of_30_px_are_measured_in_a_sample_tensor(shared: Path) -> None:
    sample = np.load(shared / "models" / "cellpose-cyto" / "test_input.npy")

    found = object_diameter_px(sample[0, 0])

    assert found is not None
    assert 25 <= found.diameter_px <= 36


@pytest.mark.parametrize("factor", [1 / 3, 1 / 2, 2])
def test_true_nuclei_are_followed_through_a_resize(shared: Path, factor: float) -> None:
    plane: Plane = tifffile.imread(shared / "data" / "stardist" / "img2d.tif")
    mask = tifffile.imread(shared / "data" / "stardist" / "mask2d.tif")
    areas = np.bincount(mask.ravel())[1:]
    true_px = 2 * np.sqrt(np.median(areas[areas > 0]) / np.pi)
    large = resize(plane.astype(float), tuple(round(s * factor) for s in plane.shape))

    found = diameter(plane), diameter(large)

    assert found[0] == pytest.approx(true_px, rel=0.2)
    assert found[1] / found[0] / factor == pytest.approx(1, rel=0.2)


def test_an_electron_micrograph_has_no_object_size(shared: Path) -> None:
    from PIL import Image

    plane = np.asarray(Image.open(shared / "data" / "isbi2012" / "images" / "00.png"))

    assert object_diameter_px(plane) is None


def test_a_size_knows_its_reliability_and_spread() -> None:
    size = object_diameter_px(discs(20))

    assert isinstance(size, ObjectSize)
    assert 0 < size.reliability <= 1
    assert size.spread >= 0.1


@pytest.mark.parametrize(
    "plane",
    [
        *(discs(px, side=128) for px in (5, 9, 13, 20)),
        1 - discs(12, side=128),
        walls(24, side=200),
        np.random.default_rng(0).normal(size=(90, 130)),
    ],
    ids=["5 px", "9 px", "13 px", "20 px", "dark", "walls", "noise"],
)
@pytest.mark.parametrize("most_px", [8.0, 50.0])
def test_the_parts_near_the_blobs_are_the_nearest_of_all_parts(
    plane: Plane, most_px: float
) -> None:
    lazy, whole = survey(plane), survey(plane)
    assert lazy is not None
    assert whole is not None

    found = lazy.parts_near_blobs(most_px)

    fitting = [part for part in whole.parts(whole.peak.sign, most_px) if abs(part.slope) <= STEEP]
    gaps = [abs(np.log(part.diameter_px / whole.peak.diameter_px)) for part in fitting]
    assert found == (fitting[int(np.argmin(gaps))] if fitting else None)


def test_levels_far_from_the_blobs_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = []
    known = object_size_module.cut_of

    def noted(level: Level, sign: int) -> Cut:
        cut.append(level.sigma)
        return known(level, sign)

    monkeypatch.setattr(object_size_module, "cut_of", noted)

    found = diameter(discs(20))

    assert cut
    assert all(1 / 2 < 6 * sigma / found < 2 for sigma in cut)
