"""The recipes ``contour`` and ``distance_watershed``: which maps they read, and how."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import disk
from tests.process.ideal_maps import cells, contour, foreground

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.contour import label_contours, named_maps
from bmz.process.distance_watershed import label_by_distance
from bmz.process.matching import match_labels
from bmz.process.output_map import ChannelsDiffer
from bmz.process.thresholds import OTSU, threshold_of

TRUTH = cells(11)
F, C = foreground(TRUTH), contour(TRUTH)
NONE = np.zeros_like(F)


def centres() -> FloatArray:
    points = np.zeros(F.shape, np.float32)
    for place in ndimage.center_of_mass(F, TRUTH, range(1, TRUTH.max() + 1)):
        points[tuple(round(at) for at in place)] = 1
    return points


def depth() -> FloatArray:
    away: AnyArray = ndimage.distance_transform_edt(F * (1 - C))
    near: AnyArray = away / away.max()
    return near.astype(np.float32)


@pytest.mark.parametrize(
    ("channels", "maps", "more"),
    [
        ("F+C", [F, C], {}),
        ("C + F", [C, F], {}),
        ("F+C+M", [F - C, C, F], {}),
        ("B+C+F", [1 - F, C, F - C], {}),
        ("F+P", [F, centres()], {"seed_size": 0}),
        ("F+C+Db", [F, C, depth()], {"distance_threshold": 0.05, "seed_size": 0}),
        ("F+-+C", [F, F * 9, C], {}),
        ("F+T", [F, C], {}),
        ("M+C", [F, C], {}),
    ],
)
def test_representations_of_the_same_cells_give_the_same_cells(
    channels: str, maps: list[FloatArray], more: dict[str, float]
) -> None:
    found = label_contours(np.stack(maps), (1, 1), channels=channels, **more).labels

    assert match_labels(found, TRUTH, 0.6).f1 >= 0.95
    np.testing.assert_array_equal(found > 0, TRUTH > 0)


def test_fixed_thresholds_are_compared_as_given() -> None:
    maps = np.stack([0.4 * F, 0.6 * C])

    assert label_contours(maps, (1, 1)).labels.max() == TRUTH.max()
    assert label_contours(maps, (1, 1), foreground_threshold=0.5).labels.max() == 0
    every = label_contours(maps, (1, 1), contour_threshold=0.7).labels
    assert every.max() == ndimage.label(TRUTH)[1]


def test_specks_are_no_seeds_unless_asked_for() -> None:
    noisy = NONE.copy()
    noisy[::9, ::9] = 1
    maps = np.stack([np.maximum(F, noisy), C])

    assert label_contours(maps, (1, 1)).labels.max() == TRUTH.max()
    assert label_contours(maps, (1, 1), seed_size=0).labels.max() > TRUTH.max() + 10


def test_the_surface_decides_where_cells_meet() -> None:
    maps = np.zeros((2, 9, 24), np.float32)
    maps[0, 2:7, 1:23] = 1
    maps[0, 2:7, 8] = 0.6
    maps[1, 2:7, 7:16] = 0.6
    maps[1, 2:7, 14] = 0.9
    words = {"foreground_threshold": 0.5, "contour_threshold": 0.5}

    by_foreground = label_contours(maps, (1, 1), **words).labels
    by_contour = label_contours(maps, (1, 1), surface="contour", **words).labels

    # the dim column is the eighth, and the best contour six further on
    assert np.bincount(by_foreground[4])[1] in {7, 8}
    assert np.bincount(by_contour[4])[1] in {13, 14}


def test_scores_are_the_mean_foreground() -> None:
    done = label_contours(np.stack([0.8 * F, C]), (1, 1))

    assert done.scores is not None
    assert done.scores == pytest.approx(0.8)


@pytest.mark.parametrize(("channels", "count"), [("F+C", 3), ("F+Q", 2), ("C+P", 2), ("", 1)])
def test_letters_that_do_not_fit_the_output_are_refused(channels: str, count: int) -> None:
    with pytest.raises(ChannelsDiffer, match="recipe 'contour'"):
        named_maps(np.zeros((count, 4, 4)), channels)


def test_a_surface_that_is_not_there_is_refused() -> None:
    with pytest.raises(ChannelsDiffer, match="a map of the distance"):
        label_contours(np.stack([F, C]), (1, 1), surface="distance")


def test_a_stack_is_flooded_too() -> None:
    maps = np.repeat(np.stack([F, C])[:, None], 5, 1)

    found = label_contours(maps, (1, 1, 1)).labels

    assert all(np.array_equal(plane, TRUTH) for plane in found)


def test_otsu_leaves_out_what_is_no_number() -> None:
    values = np.array([0.0, 0.0, 1.0, 1.0, np.nan, np.inf])

    assert 0 <= threshold_of(values, OTSU) < 1
    assert threshold_of(values, 0.3) == 0.3
    assert threshold_of(np.full(3, np.nan), OTSU) == np.inf


def two_discs(between: float) -> FloatArray:
    mask = np.zeros((50, 80), np.float32)
    for x in (40 - between / 2, 40 + between / 2):
        mask[disk((25, x), 15)] = 1
    return mask[None]


def test_discs_that_touch_are_parted_and_an_ellipse_is_not() -> None:
    assert label_by_distance(two_discs(26), (1, 1)).labels.max() == 2
    assert label_by_distance(two_discs(6), (1, 1)).labels.max() == 1
    assert label_by_distance(two_discs(26), (1, 1), neck=20.0).labels.max() == 1


def test_a_cut_loses_no_pixel() -> None:
    labels = label_by_distance(two_discs(26), (1, 1)).labels

    np.testing.assert_array_equal(labels > 0, two_discs(26)[0] > 0)
    left, right = np.bincount(labels.ravel())[1:]
    assert left == pytest.approx(right, rel=0.05)


def test_distances_are_in_pixels_of_the_input() -> None:
    fine = two_discs(26)

    coarse = label_by_distance(fine[:, ::2], (2, 1)).labels

    assert coarse.shape == fine.shape[1:]
    assert coarse.max() == 2
