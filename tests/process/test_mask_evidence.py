"""What is measured of a mask without ground truth goes the way that sense demands."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import ndimage

from bmz.base.arrays import AnyArray
from bmz.process.mask_evidence import MaskOnImage, copy_evidence, mask_evidence

CENTRES = [(20, 20), (20, 60), (60, 25), (65, 70), (45, 100), (90, 95)]


def discs(radius: int = 9, shape: tuple[int, ...] = (110, 120)) -> AnyArray:
    y, x = np.indices(shape[-2:])
    mask = np.zeros(shape, np.int32)
    for number, (at_y, at_x) in enumerate(CENTRES, start=1):
        mask[..., (y - at_y) ** 2 + (x - at_x) ** 2 <= radius**2] = number
    return mask


def picture(mask: AnyArray, noise: float = 2.0) -> AnyArray:
    values = 20.0 + 100.0 * (mask > 0)
    smooth: AnyArray = ndimage.gaussian_filter(values, (0, 0.7, 0.7)[-mask.ndim :])
    return smooth + np.random.default_rng(0).normal(0, noise, mask.shape)


def evidence(
    mask: AnyArray, image: AnyArray, foreground: AnyArray | None = None
) -> dict[str, float]:
    foreground = discs() > 0 if foreground is None else foreground
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return mask_evidence(MaskOnImage(mask, image[None], foreground[None].astype(np.float32)))


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (4, 1, 300)])
def test_a_strip_of_one_line_is_measured(size: tuple[int, ...]) -> None:
    mask = np.zeros(size, np.int32)
    mask[..., :40, :40] = 1
    image = 20.0 + 100.0 * (mask > 0)

    found = evidence(mask, image, mask > 0)

    assert found["threshold_dice"] == pytest.approx(1, abs=0.05)


def test_a_mask_on_its_objects_stands_out_more_than_one_beside_them() -> None:
    mask = discs()
    image = picture(mask)
    right, beside = evidence(mask, image), evidence(np.roll(mask, 9, 1), image)

    for name in ("contrast", "threshold_dice", "separation", "edge"):
        assert right[name] > beside[name], name
    for name in ("faint", "edge_within", "undecided"):
        assert right[name] <= beside[name], name
    assert right["threshold_dice"] > 0.95
    assert right["side"] == 1


def test_dark_objects_are_on_the_other_side() -> None:
    mask = discs()

    assert evidence(mask, 200 - picture(mask))["side"] == -1


@pytest.mark.parametrize("sigma", [2.0, 4.0])
def test_a_blurred_image_is_less_sharp(sigma: float) -> None:
    mask = discs()
    image = picture(mask, noise=0.5)
    blurred = ndimage.gaussian_filter(image, sigma)

    sharp, soft = evidence(mask, image), evidence(mask, blurred)
    assert soft["sharpness"] < sharp["sharpness"]
    assert soft["sharpness_coarse"] < sharp["sharpness_coarse"]
    assert soft["edge_width"] > sharp["edge_width"]
    assert soft["noise"] < sharp["noise"]


def test_noise_is_measured_against_the_step_of_the_objects() -> None:
    mask = discs()
    clean, noisy = (evidence(mask, picture(mask, noise))["noise"] for noise in (1.0, 20.0))

    assert clean == pytest.approx(0.01, rel=0.4)
    assert noisy == pytest.approx(20 * clean, rel=0.3)


def test_shapes_and_sizes_are_told() -> None:
    mask = discs()
    mask[mask == 1] = 0
    mask[18:22, 18:22] = 1  # a speck
    mask[60:62, 0:110] = 3  # a streak, from the border on
    told = evidence(mask, picture(mask))

    assert told["objects"] == pytest.approx(np.log(7))
    assert told["tiny"] == pytest.approx(1 / 6)
    assert told["cut"] == pytest.approx(1 / 6)
    assert told["filled"] == pytest.approx(1, abs=0.03)


def test_a_mask_without_objects_or_without_background_tells_only_that() -> None:
    none, full = np.zeros((20, 30), np.int32), np.ones((20, 30), np.int32)
    image = np.random.default_rng(0).normal(size=(20, 30))
    foreground = np.zeros((20, 30))

    empty = evidence(none, image, foreground)
    assert (empty["objects"], empty["covered"]) == (0, 0)
    assert np.isnan(empty["contrast"])
    assert np.isnan(empty["size_spread"])
    assert evidence(full, image, foreground)["covered"] == 1


def test_a_flat_image_shows_no_contrast() -> None:
    assert evidence(discs(), np.full((110, 120), 7.0))["contrast"] < 1e-3


def test_values_that_are_no_numbers_are_looked_over() -> None:
    mask = discs()
    image = picture(mask)
    image[0, :] = np.nan
    image[1, 3] = np.inf

    assert evidence(mask, image)["contrast"] > 5


def test_a_stack_is_judged_within_its_planes() -> None:
    mask = np.stack([discs(), np.zeros_like(discs()), discs(5)])
    told = evidence(mask, picture(mask), mask > 0)

    assert told["threshold_dice"] > 0.9
    assert told["contrast"] > 5


def test_maps_on_a_coarser_grid_are_compared_with_the_nearest_pixels() -> None:
    mask = discs()
    half = (mask > 0)[::2, ::2]

    assert evidence(mask, picture(mask), half)["separation"] > 3


def test_copies_agree_as_far_as_their_objects_do() -> None:
    mask = discs()
    without = np.where(mask > 3, 0, mask)
    told = copy_evidence(mask, {"mirrored": mask, "noisier": without})

    assert told["agrees_mirrored"] == 1
    assert told["agrees_noisier"] == pytest.approx(2 / 3)
    assert told["agrees_least"] == told["agrees_noisier"]
    assert told["agrees"] == pytest.approx(5 / 6)
    assert told["count_change"] == pytest.approx(np.log2(7 / 4) / 2)
    assert told["agrees_tight"] == told["agrees"]
    assert told["stays_always"] == 0.5
    assert told["stays_never"] == 0


def test_objects_of_a_mask_without_background_are_all_counted() -> None:
    halves = np.repeat([[1, 2]], 4, 0).repeat(3, 1)

    told = copy_evidence(halves, {"mirrored": halves})

    assert (told["stays_always"], told["count_change"]) == (1, 0)


def test_what_is_missed_or_merged_is_told_by_bright_middles() -> None:
    mask = discs()
    image = picture(mask)
    merged = np.where(mask > 1, mask - 1, mask)
    merged[20, 20:60] = 1
    few = np.where(mask > 3, 0, mask)
    right, together, missing = (evidence(one, image) for one in (mask, merged, few))

    assert right["single_peak"] == 1
    assert right["missed_peaks"] == 0
    assert right["left_out"] < 0.05
    assert together["single_peak"] < 1
    assert missing["missed_peaks"] == pytest.approx(0.5)
    assert missing["left_out"] > 0.5


def test_an_outline_beside_the_steepest_place_is_told_with_its_side() -> None:
    image = picture(discs(11))
    small, right, large = (evidence(discs(radius), image) for radius in (8, 11, 14))

    assert small["edge_shift"] > 0.1 > abs(right["edge_shift"])
    assert large["edge_shift"] < -0.05
    assert right["edge_peak"] > max(small["edge_peak"], large["edge_peak"])
    assert large["taken_in"] > right["taken_in"] + 0.1


def test_where_there_is_no_object_copies_tell_nothing() -> None:
    empty = np.zeros((20, 30), np.int32)

    assert copy_evidence(empty, {"mirrored": empty}) == {}
    assert copy_evidence(discs(), {}) == {}
