"""The recipes ``contour`` and ``distance_watershed``: which maps they read, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import disk
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label
from skimage.segmentation import watershed
from tests.process.ideal_maps import (
    STRENGTHS,
    boundary,
    cells,
    contour,
    degraded,
    foreground,
    inner_distance,
    points,
    probability,
    without_contour,
)

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.blocks import OTSU, threshold_of, whole_map_parameters
from bmz.process.contour import CONTOUR, ContourSettings, label_contours, named_maps, with_ring
from bmz.process.distance_watershed import DistanceSettings, label_by_distance
from bmz.process.matching import match_labels
from bmz.process.relabel import ChannelsDiffer
from bmz.spec.facts import TABLE, facts_of

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
    channels: str, maps: list[FloatArray], more: dict[str, Any]
) -> None:
    found = label_contours(
        np.stack(maps), (1, 1), ContourSettings(channels=channels, **more)
    ).labels

    assert match_labels(found, TRUTH, 0.6).f1 >= 0.95
    np.testing.assert_array_equal(found > 0, TRUTH > 0)


def test_points_as_biapy_trains_them_are_seeds_as_they_are() -> None:
    points = ndimage.binary_dilation(centres()).astype(np.float32)

    found = label_contours(np.stack([F, points]), (1, 1), ContourSettings(channels="F+P")).labels

    assert ndimage.label(points)[1] == found.max() == TRUTH.max()


def test_a_speck_of_four_pixels_is_no_point() -> None:
    speck = np.zeros_like(F)
    speck[3:5, 3:5] = 1
    specks = ndimage.binary_dilation(centres()) | (speck > 0)

    found = label_contours(
        np.stack([F + speck, specks * F + speck]), (1, 1), ContourSettings(channels="F+P")
    ).labels

    assert found.max() == TRUTH.max()


def test_fixed_thresholds_are_compared_as_given() -> None:
    maps = np.stack([0.4 * F, 0.6 * C])

    assert label_contours(maps, (1, 1), ContourSettings()).labels.max() == TRUTH.max()
    assert label_contours(maps, (1, 1), ContourSettings(foreground_threshold=0.5)).labels.max() == 0
    every = label_contours(maps, (1, 1), ContourSettings(contour_threshold=0.7)).labels
    assert every.max() == ndimage.label(TRUTH)[1]


def test_specks_are_no_seeds_unless_asked_for() -> None:
    noisy = NONE.copy()
    noisy[::9, ::9] = 1
    maps = np.stack([np.maximum(F, noisy), C])

    assert label_contours(maps, (1, 1), ContourSettings()).labels.max() == TRUTH.max()
    assert (
        label_contours(maps, (1, 1), ContourSettings(seed_size=0)).labels.max() > TRUTH.max() + 10
    )


def test_the_surface_decides_where_cells_meet() -> None:
    maps = np.zeros((2, 9, 24), np.float32)
    maps[0, 2:7, 1:23] = 1
    maps[0, 2:7, 8] = 0.6
    maps[1, 2:7, 7:16] = 0.6
    maps[1, 2:7, 14] = 0.9
    words: dict[str, Any] = {"foreground_threshold": 0.5, "contour_threshold": 0.5}

    by_foreground = label_contours(maps, (1, 1), ContourSettings(**words)).labels
    by_contour = label_contours(maps, (1, 1), ContourSettings(surface="contour", **words)).labels

    # the dim column is the eighth, and the best contour six further on
    assert np.bincount(by_foreground[4])[1] in {7, 8}
    assert np.bincount(by_contour[4])[1] in {13, 14}


def test_scores_are_the_mean_foreground() -> None:
    done = label_contours(np.stack([0.8 * F, C]), (1, 1), ContourSettings())

    assert done.scores is not None
    assert done.scores == pytest.approx(0.8)


@pytest.mark.parametrize(("channels", "count"), [("F+C", 3), ("F+Q", 2), ("C+P", 2), ("", 1)])
def test_letters_that_do_not_fit_the_output_are_refused(channels: str, count: int) -> None:
    with pytest.raises(ChannelsDiffer, match="recipe 'contour'"):
        named_maps(np.zeros((count, 4, 4)), channels)


def test_a_surface_that_is_not_there_is_refused() -> None:
    with pytest.raises(ChannelsDiffer, match="a map of the distance"):
        label_contours(np.stack([F, C]), (1, 1), ContourSettings(surface="distance"))


def test_a_stack_is_flooded_too() -> None:
    maps = np.repeat(np.stack([F, C])[:, None], 5, 1)

    found = label_contours(maps, (1, 1, 1), ContourSettings()).labels

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
    assert label_by_distance(two_discs(26), (1, 1), DistanceSettings()).labels.max() == 2
    assert label_by_distance(two_discs(6), (1, 1), DistanceSettings()).labels.max() == 1
    assert label_by_distance(two_discs(26), (1, 1), DistanceSettings(neck=20.0)).labels.max() == 1


def test_a_cut_loses_no_pixel() -> None:
    labels = label_by_distance(two_discs(26), (1, 1), DistanceSettings()).labels

    np.testing.assert_array_equal(labels > 0, two_discs(26)[0] > 0)
    left, right = np.bincount(labels.ravel())[1:]
    assert left == pytest.approx(right, rel=0.05)


def test_distances_are_in_pixels_of_the_input() -> None:
    fine = two_discs(26)

    coarse = label_by_distance(fine[:, ::2], (2, 1), DistanceSettings()).labels

    assert coarse.shape == fine.shape[1:]
    assert coarse.max() == 2


def contour_models() -> dict[str, Mapping[str, Any]]:
    """Give the curated parameters of every model whose recipe is ``contour``."""
    ways = {a: facts.recipe for a in json.loads(TABLE.read_text("utf-8")) if (facts := facts_of(a))}
    return {a: w.value.parameters for a, w in ways.items() if w and w.value.name == "contour"}


TARGETS: Mapping[tuple[str, bool], list[FloatArray]] = {
    ("F+C", True): [without_contour(TRUTH), boundary(TRUTH)],
    ("F+C+M", True): [without_contour(TRUTH), boundary(TRUTH), F],
    ("F+P", False): [F, points(TRUTH)],
    ("F+C+Db", False): [F, boundary(TRUTH), probability(TRUTH)],
}
"""What BiaPy trains; until 3.6.3 (true) it took the contour out of the foreground."""


def test_each_of_the_29_models_has_the_rule_of_its_own_training_targets() -> None:
    known = contour_models()
    old = {alias for alias, way in known.items() if way["channels"] in {"F+C", "F+C+M"}}

    assert len(known) == 29
    assert {a for a in old if known[a]["channels"] == "F+C"} == {
        alias for alias, way in known.items() if way.get("ring") == 1
    }
    assert known.keys() - old == {"plucky-leopard", "proactive-snail"}


@pytest.mark.parametrize("strength", ["ideal", "light", "medium"])
@pytest.mark.parametrize("alias", ["ambitious-kangaroo", "happy-honeybee", "proactive-snail",
                                   "plucky-leopard"])  # fmt: skip
def test_cells_are_as_large_as_those_that_the_model_was_trained_on(
    alias: str, strength: str
) -> None:
    way = contour_models()[alias]
    targets = TARGETS[str(way["channels"]), alias not in {"proactive-snail", "plucky-leopard"}]

    found = label_contours(
        degraded(np.stack(targets), strength), (1, 1), ContourSettings(**way)
    ).labels

    assert np.count_nonzero(found) == pytest.approx(np.count_nonzero(TRUTH), rel=0.03)
    # points have no contour that tells where cells meet
    assert match_labels(found, TRUTH, 0.8).f1 >= (0.6 if way["channels"] == "F+P" else 0.96)


def test_half_of_the_threshold_gives_a_ring_back_only_as_far_as_it_is_blurred() -> None:
    maps = np.stack(TARGETS["F+C", True])
    whole = np.count_nonzero(TRUTH)

    def share(strength: str, **words: Any) -> float:
        found = label_contours(degraded(maps, strength), (1, 1), ContourSettings(**words)).labels
        return np.count_nonzero(found) / whole

    assert share("ideal", growth=0.5) < 0.87
    assert share("light", growth=0.5) < 0.94
    assert share("strong", growth=0.5) > 1.02
    assert [share(strength, ring=1) for strength in STRENGTHS] == pytest.approx([1] * 4, abs=0.03)


def test_growth_of_a_half_is_that_of_biapy() -> None:
    maps = degraded(np.stack([F, contour(TRUTH)]), "medium")
    above, below = (threshold_otsu(one) for one in maps)
    seeds = label((maps[0] > above) & ~(maps[1] > below), connectivity=1)
    surface = gaussian(-maps[0], sigma=1, truncate=1)

    by_biapy = watershed(surface, seeds, mask=maps[0] > above / 2)

    words: dict[str, Any] = {"growth": 0.5, "seed_size": 0, "smooth_surface": 1.0}
    found = label_contours(maps, (1, 1), ContourSettings(**words)).labels
    assert found.max() == by_biapy.max()
    assert match_labels(found, by_biapy.astype(np.int32), 0.99).f1 == 1


def test_cells_whose_seeds_are_points_meet_where_they_are_narrow() -> None:
    truth = np.zeros((40, 50), np.int32)
    truth[4:26, 4:26] = 1
    truth[24:32, 26:34] = 2
    maps = np.stack([foreground(truth), points(truth)])
    words: dict[str, Any] = {"channels": "F+P"}

    found = label_contours(maps, (1, 1), ContourSettings(**words)).labels
    sharp = label_contours(maps, (1, 1), ContourSettings(smooth_surface=0.0, **words)).labels

    # on a flat surface they meet half way between the points
    assert np.count_nonzero(found != truth) < np.count_nonzero(sharp != truth) / 2


def test_a_ring_joins_no_two_cells_and_goes_to_the_deeper_side() -> None:
    labels = np.array([[0, 1, 0, 2, 0, 0]])

    ring = with_ring(labels, np.array([[0, -0.5, 0, -0.9, 0, 0]]), 1)

    assert ring.tolist() == [[1, 1, 2, 2, 2, 0]]
    assert with_ring(labels, np.zeros((1, 6)), 0).tolist() == labels.tolist()
    assert with_ring(labels, np.zeros((1, 6)), 9).min() > 0


def test_a_ring_is_regained_in_stacks() -> None:
    depth_there = probability(TRUTH)
    stack = np.stack([TRUTH * (depth_there > abs(z - 8) / 8) for z in range(17)])
    maps = np.stack([without_contour(stack), contour(stack)])

    found = label_contours(maps, (1, 1, 1), ContourSettings(ring=1)).labels

    assert np.count_nonzero(found) == pytest.approx(np.count_nonzero(stack), rel=0.03)
    assert match_labels(found, stack, 0.9).f1 >= 0.9


LOGITS = 4 * np.stack([1 - F, 0.5 * C, F - C]) - 2
"""Of background, border and nucleus, as the networks of the Human Protein Atlas give them."""


def test_what_is_told_of_logits_of_nuclei_gives_the_nuclei() -> None:
    facts = facts_of("conscientious-seashell")
    assert facts is not None
    assert facts.recipe is not None
    reason = facts.recipe.value.reason
    words = dict(word.split("=") for word in reason.split() if "=" in word)

    parameters = CONTOUR.parameters_from({}, words)
    found = CONTOUR.apply(LOGITS.astype(np.float32), (1, 1), parameters).labels

    assert "--recipe contour" in reason
    assert "logits" in reason
    assert found.max() == TRUTH.max()
    assert np.count_nonzero((found > 0) & (TRUTH == 0)) == 0


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_thresholds_of_logits_are_those_of_their_shares(activation: str) -> None:
    logits = degraded(np.stack([F, C, inner_distance(TRUTH)]), "light") * 8 - 4
    asked = CONTOUR.parameters_from({"channels": "F+C+-", "activation": activation}, {})

    at_once = CONTOUR.apply(logits, (1, 1), asked).labels
    in_parts = CONTOUR.apply(logits, (1, 1), whole_map_parameters(CONTOUR, logits, asked)).labels

    np.testing.assert_array_equal(at_once, in_parts)
    assert at_once.max() == pytest.approx(TRUTH.max(), abs=2)
