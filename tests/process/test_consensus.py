"""Masks against each other where nobody knows the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.process.consensus import (
    MOST_PARTNERS,
    MaskPairs,
    Plausibility,
    agreements,
    consensus,
    f1_between,
    plausibility,
    ranks,
    standings,
    supports,
)
from bmz.process.matching import match_labels


def squares(*columns: int) -> AnyArray:
    mask = np.zeros((12, 60), np.int32)
    for number, column in enumerate(columns, start=1):
        mask[2:10, column : column + 8] = number
    return mask


def test_objects_that_most_masks_have_are_the_consensus() -> None:
    masks = [squares(0, 10, 20), squares(0, 10), squares(0, 10, 40)]

    found = consensus(masks)

    np.testing.assert_array_equal(found, squares(0, 10))
    assert [f1_between(mask, found) for mask in masks] == pytest.approx([0.8, 1, 0.8])


def test_an_object_is_taken_once_though_its_shape_differs() -> None:
    moved = [squares(0, 20), squares(1, 21), squares(0, 21)]

    assert consensus(moved).max() == 2


def test_support_is_the_share_of_other_masks_that_have_an_object() -> None:
    found = supports([squares(0, 10, 20), squares(0, 10), squares(0)])

    assert [part.tolist() for part in found] == [[1, 0.5, 0], [1, 0.5], [1]]
    assert supports([squares(0)])[0].tolist() == []


def test_agreement_is_the_mean_with_all_others() -> None:
    same, other = squares(0, 10), squares(0, 40)

    assert agreements([same, same, other]) == pytest.approx([0.75, 0.75, 0.5])
    assert np.isnan(agreements([same])).all()


def test_odd_sizes_and_shapes_are_counted() -> None:
    table = {
        "area_px": np.array([100, 110, 90, 2000, 5]),
        "solidity": np.array([0.95, 0.5, 0.9, 0.95, 0.2]),
        "touches_border": np.array([False, False, False, False, True]),
    }

    found = plausibility(table)

    assert (found.objects, found.odd_size, found.odd_shape) == (5, 0.25, 0.25)
    assert found.share == pytest.approx(0.5625)
    nobody = {name: column[:0] for name, column in table.items()}
    assert plausibility(nobody).share == 0


def half_and_half(cut: int) -> AnyArray:
    """Give a strip of 16 px with two objects, parted at `cut`."""
    return np.repeat([1, 2], [cut, 16 - cut])[None]


@given(st.lists(st.integers(2, 14), min_size=2, max_size=4))
def test_agreements_are_means_over_all_other_masks(cuts: list[int]) -> None:
    masks = [half_and_half(cut) for cut in cuts]

    found = agreements(masks)

    wanted = [
        np.mean([match_labels(one, other, 0.5).f1 for j, other in enumerate(masks) if i != j])
        for i, one in enumerate(masks)
    ]
    assert found == pytest.approx(wanted)


def test_of_many_masks_24_spread_evenly_from_the_first_to_the_last_are_the_partners() -> None:
    # 47 masks: every second one is a partner, and only partners have the object
    one, none = np.ones((1, 2), np.int32), np.zeros((1, 2), np.int32)
    masks = [one if i % 2 == 0 else none for i in range(47)]

    found = agreements(masks)

    assert found[::2].tolist() == [1.0] * 24
    assert found[1::2].tolist() == [0.0] * 23


def test_masks_that_are_no_partners_count_for_nobody_but_themselves() -> None:
    one, none = np.ones((1, 2), np.int32), np.zeros((1, 2), np.int32)
    masks = [one] * 47
    masks[1] = none

    found = agreements(masks)

    assert found.tolist() == [1.0] + [0.0] + [1.0] * 45


def test_half_of_the_others_are_enough_and_a_third_is_not() -> None:
    masks = [squares(0, 20), squares(0), squares(40), squares(50)]

    assert consensus(masks).max() == 0
    np.testing.assert_array_equal(consensus([*masks, squares(0)]), squares(0))


def line(*spans: tuple[int, int]) -> AnyArray:
    mask = np.zeros((1, 60), np.int32)
    for number, (start, stop) in enumerate(spans, start=1):
        mask[:, start:stop] = number
    return mask


def test_an_object_that_is_half_covered_by_a_better_one_is_the_same_object() -> None:
    whole, middle, small = line((0, 16)), line((4, 12)), line((6, 10))

    # two of three agree with the middle one, which is half of the whole
    np.testing.assert_array_equal(consensus([whole, middle, small]), middle)


def test_an_object_that_is_less_than_half_covered_keeps_what_is_left_of_it() -> None:
    one, other = line((0, 10)), line((7, 17))
    noisy = line((0, 10), (10, 17), (20, 22), (24, 26), (28, 30), (32, 34), (36, 38))

    found = consensus([one, one, other, other, noisy])

    np.testing.assert_array_equal(found, line((0, 10), (10, 17)))


def test_the_shape_of_an_object_is_that_of_the_mask_that_agrees_best() -> None:
    narrow, usual, wide = (np.repeat([1, 0], [n, 16 - n])[None] for n in (6, 9, 13))

    found = consensus([narrow, wide, usual])

    # 6 of 13 px is too little for narrow and wide, so the middle one has the most support
    np.testing.assert_array_equal(found, usual)


def test_the_consensus_is_numbered_without_gaps_from_1_and_covers_no_pixel_twice() -> None:
    masks = [squares(0, 10, 20), squares(10, 20, 30), squares(0, 10, 20, 30)]

    found = consensus(masks)

    np.testing.assert_array_equal(found, squares(0, 10, 20, 30))
    assert found.dtype == np.int64


@pytest.mark.parametrize(
    ("size", "odd"), [(25, 0.0), (24, 0.25), (400, 0.0), (401, 0.25), (100, 0.0)]
)
def test_a_size_is_odd_beyond_a_factor_of_4_of_the_middle_one(size: int, odd: float) -> None:
    table = {
        "volume_px": np.array([100, 100, 100, size]),
        "touches_border": np.zeros(4, np.bool_),
    }

    assert plausibility(table) == Plausibility(4, odd, None)


@pytest.mark.parametrize(("solidity", "odd"), [(0.85, 0.0), (0.849, 0.5)])
def test_a_shape_is_odd_below_a_solidity_of_85_percent(solidity: float, odd: float) -> None:
    table = {
        "area_px": np.array([9, 9]),
        "solidity": np.array([0.95, solidity]),
        "touches_border": np.array([False, False]),
    }

    assert plausibility(table) == Plausibility(2, 0.0, odd)


def test_where_every_object_is_cut_nothing_is_odd() -> None:
    table = {"area_px": np.array([3, 300]), "touches_border": np.array([True, True])}

    found = plausibility(table)

    assert found == Plausibility(2, 0.0, None)
    assert found.share == 1


def test_pairs_of_masks_tell_what_they_share() -> None:
    pairs = MaskPairs.of([squares(0, 10, 20), squares(0, 10), squares(0, 40)])

    assert pairs.objects.tolist() == [3, 2, 2]
    assert pairs.f1[0, 1] == pytest.approx(0.8)
    assert [part.tolist() for part in pairs.shared] == [
        [[False] * 3, [True, True, False], [True, False, False]],
        [[True, True], [False, False], [True, False]],
        [[True, False], [True, False], [False, False]],
    ]


def test_some_of_the_pairs_are_those_of_some_of_the_masks() -> None:
    masks = [squares(0, 10, 20), squares(0, 10), squares(0, 40), squares()]
    some = MaskPairs.of(masks).among([3, 0, 2])

    assert some.evidence([0.1, 0.9, 0.5]) == MaskPairs.of([masks[3], masks[0], masks[2]]).evidence(
        [0.1, 0.9, 0.5]
    )


def test_a_mask_that_is_predicted_to_be_good_counts_more_for_the_others() -> None:
    pairs = MaskPairs.of([squares(0, 10), squares(0, 10), squares(30, 40)])

    by_good, by_bad = pairs.agreements([0.9, 0.9, 0.1]), pairs.agreements([0.9, 0.1, 0.9])
    assert by_good[0] == pytest.approx(1, abs=0.01)
    assert by_bad[0] == pytest.approx(0, abs=0.01)


def test_beside_masks_that_have_the_same_objects_more_is_predicted() -> None:
    alike, apart = [squares(0, 10, 20)] * 3, [squares(5, 15), squares(30), squares(0, 10, 20)]

    best = standings(alike, [0.7, 0.7, 0.7])[2]
    worst = standings(apart, [0.7, 0.7, 0.7])[2]

    assert best is not None
    assert worst is not None
    assert best.f1 > worst.f1
    assert standings([squares(0)], [0.7]) == [None]


def test_of_a_large_sweep_each_mask_is_compared_with_some() -> None:
    pairs = MaskPairs.of([squares(0)] * (MOST_PARTNERS + 3))

    known = ~np.isnan(pairs.f1)
    assert known.any(1).all()
    assert known.sum(1).min() == MOST_PARTNERS
    assert pairs.agreements([0.5] * len(known)).tolist() == [1.0] * len(known)


@pytest.mark.parametrize(
    ("predicted", "places"),
    [
        ([0.5, 0.9, 0.88, 0.1], [3, 1, 1, 4]),
        ([0.9, 0.86, 0.83, 0.81], [1, 1, 3, 3]),
        ([], []),
    ],
)
def test_predictions_that_hardly_differ_have_one_place(
    predicted: list[float], places: list[int]
) -> None:
    assert ranks(predicted) == places
