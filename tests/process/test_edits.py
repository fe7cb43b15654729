"""Corrections of a label mask: each changes the objects that it names, and no other."""

from __future__ import annotations

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.process.edits import EDITS, Edit, EditRefused, Point, edited


def two_squares() -> AnyArray:
    labels = np.zeros((20, 30), np.uint16)
    labels[4:14, 2:12] = 1
    labels[4:14, 12:22] = 2
    return labels


def changed(labels: AnyArray, kind: str, *points: Point) -> AnyArray:
    return edited(labels, [(Edit(kind, points, {}), ())])


def test_an_object_is_deleted_and_the_other_stays() -> None:
    labels = two_squares()

    out = changed(labels, "delete", (5.5, 3.2))

    assert np.array_equal(out, np.where(labels == 2, 2, 0))
    assert labels.max() == 2
    assert (labels == 1).any()  # the mask that was given is as it was


def test_objects_are_merged_into_the_first() -> None:
    out = changed(two_squares(), "merge", (5, 15), (5, 3))

    assert set(np.unique(out)) == {0, 2}
    assert (out == 2).sum() == 200


@pytest.mark.parametrize(
    "line", [[(0.0, 5.0), (19.0, 5.0)], [(2.0, 0.0), (16.0, 13.0)], [(3, 4), (9, 8), (15, 4)]]
)
def test_an_object_is_split_by_a_line_without_losing_a_pixel(line: list[Point]) -> None:
    labels = two_squares()

    out = changed(labels, "split", *line)

    assert np.array_equal(out > 0, labels > 0)
    assert np.array_equal(out == 2, labels == 2)
    assert set(np.unique(out)) == {0, 1, 2, 3}
    assert (out == 1).sum() >= (out == 3).sum() > 0


def test_an_object_is_drawn_beside_others() -> None:
    labels = two_squares()

    out = changed(labels, "draw", (2, 20), (2, 28), (10, 28), (10, 20))

    assert out.max() == 3
    assert np.array_equal(out[labels > 0], labels[labels > 0])
    assert (out == 3).sum() > 30


def test_corrections_follow_each_other() -> None:
    first, second = Edit("merge", ((5, 3), (5, 15)), {}), Edit("delete", ((5, 20),), {})

    out = edited(two_squares(), [(first, ()), (second, ())])

    assert not out.any()


def test_an_object_of_a_stack_is_deleted_in_all_planes_and_split_in_one() -> None:
    labels = np.stack([two_squares(), two_squares()])
    split = Edit("split", ((0, 5), (19, 5)), {"z": 1})

    gone = edited(labels, [(Edit("delete", ((5, 3),), {"z": 0}), (0,))])
    parts = edited(labels, [(split, (1,))])

    assert not (gone == 1).any()
    assert np.array_equal(parts[0], labels[0])
    assert set(np.unique(parts[1])) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("delete", [(0, 0)]),
        ("delete", [(99, -3)]),
        ("merge", [(5, 3), (6, 4)]),
        ("split", [(0, 0), (0, 29)]),
        ("split", [(8, 0), (8, 5)]),
        ("draw", [(5, 3), (5, 8), (9, 8)]),
        ("draw", [(0, 0)]),
        ("paint", [(0, 0)]),
    ],
)
def test_a_correction_that_does_nothing_is_refused(kind: str, points: list[Point]) -> None:
    with pytest.raises(EditRefused, match=kind) as refused:
        changed(two_squares(), kind, *points)

    assert refused.value.hint


def test_an_edit_moves_with_the_part_of_the_image() -> None:
    assert Edit("delete", ((10, 20),), {}).moved(4, 5).points == ((6, 15),)
    assert set(EDITS) == {"delete", "merge", "split", "draw"}
