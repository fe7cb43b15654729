"""Masks against each other where nobody knows the truth."""

from __future__ import annotations

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.process.consensus import agreements, consensus, f1_between, plausibility, supports


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
