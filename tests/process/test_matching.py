"""Two masks are matched object by object."""

from __future__ import annotations

import warnings
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import label_masks

from bmz.base.arrays import LabelArray
from bmz.process.matching import (
    MOST_WORST,
    Overlap,
    ShapesDiffer,
    ThresholdOutside,
    match_labels,
    pooled,
    worst_objects,
)

MASKS = label_masks((5, 6))
IOUS = st.sampled_from([0.05, 0.1, 0.25, 1 / 3, 0.5, 0.6, 0.75, 1.0])


@given(predicted=MASKS, truth=MASKS, iou=IOUS)
def test_figures_are_those_of_stardist(
    predicted: LabelArray, truth: LabelArray, iou: float
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        stardist = pytest.importorskip("stardist.matching")

    ours = match_labels(predicted, truth, iou)

    theirs = stardist.matching(truth, predicted, thresh=iou)
    assert (ours.tp, ours.fp, ours.fn) == (theirs.tp, theirs.fp, theirs.fn)
    if ours.tp + ours.fp + ours.fn:
        assert ours.precision == pytest.approx(theirs.precision)
        assert ours.recall == pytest.approx(theirs.recall)
        assert ours.f1 == pytest.approx(theirs.f1)
        assert ours.ap == pytest.approx(theirs.accuracy)
        assert ours.pq == pytest.approx(theirs.panoptic_quality)
        assert ours.mean_matched_iou == pytest.approx(theirs.mean_matched_score)


@given(mask=MASKS, iou=IOUS, seed=st.integers(0, 9))
def test_a_mask_matches_itself_whatever_its_numbers(
    mask: LabelArray, iou: float, seed: int
) -> None:
    numbers = np.concatenate([[0], np.random.default_rng(seed).permutation(50)[:6] + 1])

    found = match_labels(numbers[mask], mask, iou)

    assert (found.fp, found.fn) == (0, 0)
    assert {found.f1, found.ap, found.pq, found.mean_matched_iou} == {1.0}


@given(predicted=MASKS, truth=MASKS, iou=IOUS)
def test_changing_the_sides_swaps_false_positives_with_misses(
    predicted: LabelArray, truth: LabelArray, iou: float
) -> None:
    one, other = match_labels(predicted, truth, iou), match_labels(truth, predicted, iou)

    assert (one.tp, one.fp, one.fn) == (other.tp, other.fn, other.fp)
    assert one.pq == pytest.approx(other.pq)


def test_below_one_half_the_most_pairs_are_matched() -> None:
    truth = np.array([[1, 1, 1, 1, 2, 2]])
    predicted = np.array([[1, 1, 2, 2, 2, 2]])  # the better pair alone would leave 1 and 2 over

    found = match_labels(predicted, truth, 0.3)

    assert (found.tp, found.fp, found.fn) == (2, 0, 0)


def test_two_empty_masks_agree_fully() -> None:
    found = match_labels(np.zeros((3, 3), int), np.zeros((3, 3), int), 0.5)

    shares = {k: v for k, v in asdict(found).items() if k not in {"tp", "fp", "fn"}}
    assert (found.tp, found.fp, found.fn) == (0, 0, 0)
    assert set(shares.values()) == {1.0}


def test_an_empty_mask_and_a_full_one_share_nothing() -> None:
    found = match_labels(np.zeros((3, 3), int), np.eye(3, dtype=int), 0.5)

    assert (found.tp, found.fp, found.fn) == (0, 0, 1)
    assert {found.precision, found.recall, found.f1, found.ap, found.pq} == {0.0}


def test_masks_of_other_shapes_are_refused() -> None:
    with pytest.raises(ShapesDiffer, match=r"\(2, 2\).*\(2, 3\)"):
        match_labels(np.zeros((2, 2), int), np.zeros((2, 3), int), 0.5)


@pytest.mark.parametrize("iou", [0.0, -0.5, 1.5, float("nan")])
def test_a_threshold_that_is_no_share_is_refused(iou: float) -> None:
    with pytest.raises(ThresholdOutside):
        match_labels(np.zeros((2, 2), int), np.zeros((2, 2), int), iou)


def test_a_refusal_says_what_differs_and_what_to_do() -> None:
    with pytest.raises(ShapesDiffer) as shapes:
        match_labels(np.zeros((2, 2), int), np.zeros((2, 3), int), 0.5)
    with pytest.raises(ThresholdOutside) as threshold:
        match_labels(np.zeros((2, 2), int), np.zeros((2, 2), int), 0.0)

    assert (shapes.value.code, shapes.value.exit_status) == ("matching.shape", 2)
    assert shapes.value.message == ("the masks differ in shape: predicted (2, 2), truth (2, 3)")
    assert shapes.value.hint == "score masks of the same image, on the same grid"
    assert (threshold.value.code, threshold.value.exit_status) == ("matching.threshold", 2)
    assert threshold.value.message == "the IoU threshold 0.0 is not above 0 and at most 1"
    assert threshold.value.hint == "0.5 is the usual threshold"


def test_pairs_are_numbered_in_raster_order_with_what_they_share() -> None:
    predicted = np.array([[7, 7, 7, 0], [3, 3, 0, 3]])
    truth = np.array([[0, 9, 9, 2], [9, 2, 2, 2]])

    found = Overlap.of(predicted, truth)

    pairs = zip(found.predicted, found.truth, found.shared, found.iou, strict=True)
    assert sorted((int(i), int(j), int(n), float(iou)) for i, j, n, iou in pairs) == [
        (0, 0, 2, 2 / 4),
        (1, 0, 1, 1 / 5),
        (1, 1, 2, 2 / 5),
    ]
    assert found.predicted_px.tolist() == [3, 3]
    assert found.truth_px.tolist() == [3, 4]


@pytest.mark.parametrize(("iou", "tp"), [(0.5, 1), (0.501, 0), (0.499, 1)])
def test_an_overlap_at_the_threshold_is_a_match(iou: float, tp: int) -> None:
    predicted, truth = np.array([[1, 1, 1, 0]]), np.array([[0, 1, 1, 1]])

    assert match_labels(predicted, truth, iou).tp == tp


def test_counts_of_no_image_agree_fully_and_an_empty_image_weighs_nothing() -> None:
    empty = np.zeros((2, 2), int)
    none = match_labels(empty, empty, 0.5)
    some = match_labels(np.array([[1, 2], [1, 0]]), np.array([[1, 0], [1, 3]]), 0.5)

    assert pooled([]) == none
    assert pooled([none, some, none]) == some
    assert pooled([some, some]).tp == 2
    assert pooled([some, some]).pq == some.pq == 0.5


def test_the_worst_objects_come_first_and_say_what_is_wrong() -> None:
    truth, predicted = np.zeros((10, 60), int), np.zeros((10, 60), int)
    truth[:, :10], predicted[:, :10] = 1, 7  # as it should be
    truth[:, 12:22], predicted[:, 12:18] = 2, 8  # less than it
    truth[:, 26:32], predicted[:, 24:34] = 3, 9  # more than it
    truth[:, 36:46] = 4  # nothing there
    predicted[:5, 50:60] = 10  # nothing true

    worst = worst_objects(predicted, truth)

    assert [(one.what, one.label, one.truth) for one in worst] == [
        ("missed", None, 4),
        ("false", 10, None),
        ("large", 9, 3),
        ("small", 8, 2),
    ]
    assert [one.iou for one in worst] == [0, 0, 0.6, 0.6]
    assert worst[0].area_px == 100
    assert worst[3].centroid == (4.5, 14.5)


def test_no_more_than_twenty_objects_are_named() -> None:
    many = np.arange(1, 31).reshape(1, 30).repeat(3, 0)

    assert len(worst_objects(many, np.zeros_like(many))) == MOST_WORST
    assert worst_objects(many, many) == ()
