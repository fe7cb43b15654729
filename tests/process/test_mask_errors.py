"""Objects without a partner are told as splits, merges, missed and false ones, with positions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import label_masks

from bmz.base.arrays import LabelArray
from bmz.process.matching import MaskError, mask_errors, match_labels, pooled

MASKS = label_masks((5, 6))


def blocks(*spans: tuple[int, int, int]) -> LabelArray:
    """Give a strip of 4 x 40 px with blocks from, to, label."""
    mask = np.zeros((4, 40), np.int32)
    for start, stop, label in spans:
        mask[:, start:stop] = label
    return mask


def test_an_object_in_two_pieces_is_one_split() -> None:
    truth, predicted = blocks((0, 10, 7)), blocks((0, 5, 3), (5, 10, 9))

    found = mask_errors(predicted, truth, 0.6)

    assert found == (MaskError("split", 7, (1.5, 4.5), 40, (3, 9)),)


def test_two_objects_in_one_are_one_merge() -> None:
    truth, predicted = blocks((0, 5, 3), (5, 10, 9)), blocks((0, 10, 7))

    found = mask_errors(predicted, truth, 0.6)

    assert found == (MaskError("merge", 7, (1.5, 4.5), 40, (3, 9)),)


def test_what_has_nothing_on_the_other_side_is_missed_or_false_the_largest_first() -> None:
    truth, predicted = blocks((0, 10, 2), (20, 24, 5)), blocks((0, 10, 1), (30, 39, 4))

    found = mask_errors(predicted, truth)

    assert [(one.kind, one.label, one.area_px) for one in found] == [
        ("false", 4, 36),
        ("missed", 5, 16),
    ]


def test_a_shifted_object_is_missed_and_false() -> None:
    found = mask_errors(blocks((6, 16, 1)), blocks((0, 10, 1)))

    assert {one.kind for one in found} == {"missed", "false"}


def test_a_stack_has_centroids_with_three_numbers() -> None:
    truth = np.zeros((3, 4, 5), np.uint8)
    truth[1:, 2:, 3:] = 1

    (found,) = mask_errors(np.zeros_like(truth), truth)

    assert found.centroid == (1.5, 2.5, 3.5)


@given(predicted=MASKS, truth=MASKS, iou=st.sampled_from([0.3, 0.5, 0.8]))
def test_every_object_without_a_partner_is_told_once(
    predicted: LabelArray, truth: LabelArray, iou: float
) -> None:
    counts = match_labels(predicted, truth, iou)

    found = mask_errors(predicted, truth, iou)

    of = {
        kind: [e for e in found if e.kind == kind] for kind in ("split", "merge", "missed", "false")
    }
    true_ones = {e.label for e in of["split"] + of["missed"]}
    true_ones |= {part for e in of["merge"] for part in e.parts}
    predicted_ones = {e.label for e in of["merge"] + of["false"]}
    predicted_ones |= {part for e in of["split"] for part in e.parts}
    assert len(true_ones) == counts.fn
    assert len(predicted_ones) == counts.fp


@given(predicted=MASKS, truth=MASKS)
def test_a_mask_has_no_errors_against_itself_and_the_sides_mirror_each_other(
    predicted: LabelArray, truth: LabelArray
) -> None:
    one, other = mask_errors(predicted, truth, 0.6), mask_errors(truth, predicted, 0.6)

    mirrored = {"split": "merge", "merge": "split", "missed": "false", "false": "missed"}
    assert mask_errors(truth, truth) == ()
    assert sorted((mirrored[e.kind], e.label) for e in one) == sorted(
        (e.kind, e.label) for e in other
    )


@given(masks=st.lists(st.tuples(MASKS, MASKS), min_size=1, max_size=4))
def test_pooled_counts_are_those_of_the_masks_side_by_side(
    masks: list[tuple[LabelArray, LabelArray]],
) -> None:
    apart = [match_labels(predicted, truth, 0.6) for predicted, truth in masks]
    shifts = [10 * i for i in range(len(masks))]

    def side_by_side(which: int) -> LabelArray:
        apart = [pair[which] for pair in masks]
        moved = [np.where(m > 0, m + s, 0) for m, s in zip(apart, shifts, strict=True)]
        return np.concatenate(moved)

    whole, parts = match_labels(side_by_side(0), side_by_side(1), 0.6), pooled(apart)
    assert (whole.tp, whole.fp, whole.fn) == (parts.tp, parts.fp, parts.fn)
    np.testing.assert_allclose(
        [whole.f1, whole.ap, whole.pq, whole.mean_matched_iou],
        [parts.f1, parts.ap, parts.pq, parts.mean_matched_iou],
    )


def test_a_piece_that_lies_in_an_object_for_exactly_half_is_none_of_its_pieces() -> None:
    truth = blocks((0, 12, 1))
    half = blocks((0, 3, 1), (4, 7, 2), (9, 15, 3))  # 3 of 6 columns of the last lie inside
    more = blocks((0, 3, 1), (4, 7, 2), (8, 14, 3))  # 4 of 6

    assert [e.parts for e in mask_errors(half, truth) if e.kind == "split"] == [(1, 2)]
    assert [e.label for e in mask_errors(half, truth) if e.kind == "false"] == [3]
    assert [e.parts for e in mask_errors(more, truth) if e.kind == "split"] == [(1, 2, 3)]


def test_parts_are_named_by_rising_label_wherever_they_lie() -> None:
    truth, predicted = blocks((0, 12, 300)), blocks((0, 4, 900), (4, 8, 20), (8, 12, 500))

    (split,) = mask_errors(predicted, truth)
    (merge,) = mask_errors(truth, predicted)

    assert (split.kind, split.label, split.parts) == ("split", 300, (20, 500, 900))
    assert (merge.kind, merge.label, merge.parts) == ("merge", 300, (20, 500, 900))


def test_errors_of_one_size_are_told_by_kind_and_then_by_label() -> None:
    truth, predicted = blocks((0, 4, 9), (8, 12, 2)), blocks((20, 24, 7), (30, 34, 3))

    found = [(error.kind, error.label) for error in mask_errors(predicted, truth)]

    assert found == [("false", 3), ("false", 7), ("missed", 2), ("missed", 9)]


def test_an_object_with_a_partner_is_no_part_of_an_error() -> None:
    # the truth has a large object with a partner and a small one within what was predicted
    truth, predicted = blocks((0, 10, 1), (10, 13, 2)), blocks((0, 13, 5))

    found = mask_errors(predicted, truth)

    assert found == (MaskError("missed", 2, (1.5, 11.0), 12),)


def test_what_is_below_0_is_background() -> None:
    truth = blocks((0, 10, -1), (20, 30, 4))

    assert mask_errors(blocks((20, 30, 1)), truth) == ()
