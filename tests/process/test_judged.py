"""A mask against what a user judged right and wrong: the same pixels, and what they count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from tests.strategies import label_masks

from bmz.base.arrays import AnyArray
from bmz.process.judged import (
    Judged,
    ObjectGone,
    Place,
    agreement_in,
    object_of,
    read_object,
    written,
)

PLANE = np.zeros((20, 30), np.int32)
PLANE[2:8, 3:9], PLANE[10:16, 20:26] = 1, 2


def shifted(plane: AnyArray, by: int) -> AnyArray:
    moved: AnyArray = np.roll(plane, by, axis=1)
    return moved


@given(label_masks((5, 6)))
def test_an_object_is_read_as_it_was_written(labels: AnyArray) -> None:
    for label in np.unique(labels[labels > 0]):
        place = object_of(labels, int(label), (5, 7))

        again = read_object(written(place))

        assert (again.top, again.left) == (place.top, place.left)
        assert np.array_equal(again.labels, place.labels)
        rows, columns = np.nonzero(labels == label)
        assert (place.top, place.left) == (rows.min() + 5, columns.min() + 7)
        assert place.labels.sum() == len(rows)


@pytest.mark.parametrize("text", ["", "1 2 3", "0 0 2 2: 1 2", "0 0 2 2: a", "-1 0 1 1: 0 1"])
def test_text_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="object"):
        read_object(text)


def test_an_object_that_is_not_there_cannot_be_judged() -> None:
    with pytest.raises(ObjectGone):
        object_of(PLANE, 3)


@pytest.mark.parametrize(("shift", "there"), [(0, True), (2, True), (3, False), (-9, False)])
def test_an_object_is_found_from_an_overlap_of_a_half(shift: int, there: bool) -> None:
    # of 36 px each, moved by 2 px: 24 / 48 = 0.5; by 3 px: 18 / 54
    objects = [(object_of(PLANE, 1), True), (object_of(PLANE, 2), False)]

    told = agreement_in(shifted(PLANE, shift), objects, [])

    assert told == Judged(1, float(there), 1, float(there))


def test_a_large_object_over_a_judged_one_is_another() -> None:
    everything = np.ones_like(PLANE)

    told = agreement_in(everything, [(object_of(PLANE, 1), True)], [])

    assert told.found == 0


def test_the_mask_that_was_judged_is_found_or_repeated_as_a_whole() -> None:
    whole = Place(0, 0, PLANE)
    half = np.where(PLANE == 1, PLANE, 0)

    assert agreement_in(PLANE, [], [(whole, True)]) == Judged(1, 1.0, 0, 0.0)
    assert agreement_in(half, [], [(whole, True)]).found == pytest.approx(2 / 3)
    assert agreement_in(PLANE, [], [(whole, False)]) == Judged(0, 0.0, 1, 1.0)
    assert agreement_in(half, [], [(whole, False)]) == Judged(0, 0.0, 1, 0.0)


def test_a_mask_without_objects_agrees_with_nothing_that_is_right() -> None:
    objects = [(object_of(PLANE, 1), True), (object_of(PLANE, 2), False)]
    empty, both = (agreement_in(plane, objects, []) for plane in (np.zeros_like(PLANE), PLANE))
    one = agreement_in(np.where(PLANE == 1, PLANE, 0), objects, [])

    assert (empty.f1, one.f1) == (0.0, 1.0)
    assert both.f1 == pytest.approx(2 / 3)
    assert agreement_in(PLANE, objects[1:], []).f1 is None
    assert empty + both == Judged(2, 1.0, 2, 1.0)
