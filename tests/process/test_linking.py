"""Labels of planes and frames that overlap get one number, and never two objects of a plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bmz.base.arrays import AnyArray
from bmz.base.axes import Link, checked_ious, link_ious
from bmz.process import linking
from bmz.process.linking import link_labels, linked_chain, measured_together
from bmz.process.object_columns import joined_columns, scored

CELL = 24
"""Side of the field in which one object of a made stack lies, px."""


@st.composite
def true_stacks(draw: st.DrawFn) -> AnyArray:
    """Draw a stack of up to four tubes whose discs change by a pixel from plane to plane."""
    planes = draw(st.integers(2, 7))
    stack = np.zeros((planes, 2 * CELL, 2 * CELL), np.int64)
    y, x = np.indices((CELL, CELL))
    for number in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, planes - 1))
        stop = draw(st.integers(start + 1, planes))
        cy, cx, radius = 12, 12, draw(st.integers(5, 8))
        for z in range(start, stop):
            cy, cx = (int(np.clip(c + draw(st.integers(-1, 1)), 10, 13)) for c in (cy, cx))
            radius = int(np.clip(radius + draw(st.integers(-1, 1)), 5, 8))
            field = stack[z, CELL * (number // 2) :, CELL * (number % 2) :][:CELL, :CELL]
            field[np.hypot(y - cy, x - cx) < radius] = number + 1
    return stack


def renamed(plane: AnyArray, seed: int) -> AnyArray:
    """Give the objects of a plane other numbers, with gaps."""
    names = np.random.default_rng(seed).permutation(12)[: int(plane.max(initial=0)) + 1] + 1
    return np.where(plane > 0, names[plane], 0)


def stacked(numbers: list[Any], planes: AnyArray) -> AnyArray:
    return np.stack([own[plane] for own, plane in zip(numbers, planes, strict=True)])


def same_objects(one: AnyArray, other: AnyArray) -> bool:
    """Say whether two masks have the same objects, whatever their numbers."""
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) and all(
        (a == 0) == (b == 0) for a, b in pairs
    )


@settings(max_examples=40, deadline=None)
@given(true_stacks(), st.integers(0, 99))
def test_the_planes_of_objects_that_change_slowly_give_the_stack_back(
    stack: AnyArray, seed: int
) -> None:
    planes = np.stack([renamed(plane, seed + z) for z, plane in enumerate(stack)])

    found = stacked(link_labels(list(planes), {"z": len(planes)}, Link({"z": 0.25})), planes)

    assert same_objects(found, stack)
    assert sorted(np.unique(found)) == list(range(len(np.unique(stack))))


def masks(*, planes: int = 4, side: int = 6, most: int = 3) -> st.SearchStrategy[AnyArray]:
    return st.integers(0, 2**20).map(
        lambda seed: np.random.default_rng(seed).integers(0, most + 1, (planes, side, side))
    )


@settings(max_examples=80, deadline=None)
@given(masks(), st.sampled_from([0.05, 0.2, 0.5]), st.integers(0, 1))
def test_no_number_joins_two_objects_of_a_plane(planes: AnyArray, iou: float, gap: int) -> None:
    chain = linked_chain(list(planes), iou, gap)

    for own, plane in zip(chain, planes, strict=True):
        there = np.unique(plane[plane > 0])
        assert len(set(own[there].tolist())) == len(there)
        assert own[there].all()


@settings(max_examples=80, deadline=None)
@given(masks(), st.sampled_from([0.05, 0.2, 0.5]), st.integers(0, 1), st.integers(0, 99))
def test_it_does_not_matter_how_the_objects_of_a_plane_are_numbered(
    planes: AnyArray, iou: float, gap: int, seed: int
) -> None:
    others = np.stack([renamed(plane, seed + z) for z, plane in enumerate(planes)])

    found = stacked(linked_chain(list(planes), iou, gap), planes)
    again = stacked(linked_chain(list(others), iou, gap), others)

    assert same_objects(found, again)


@settings(max_examples=40, deadline=None)
@given(masks(most=2), st.sampled_from([0.51, 0.7]))
def test_above_one_half_objects_are_joined_by_all_pairs_that_overlap(
    planes: AnyArray, iou: float
) -> None:
    """There an object has one partner at most, so that no order of pairing matters."""
    keys = np.arange(len(planes))[:, None, None] * 3 + planes
    pairs = [
        (3 * z + a, 3 * (z + 1) + b)
        for z in range(len(planes) - 1)
        for a in (1, 2)
        for b in (1, 2)
        if np.sum((planes[z] == a) & (planes[z + 1] == b))
        >= iou * max(np.sum((planes[z] == a) | (planes[z + 1] == b)), 1)
    ]
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(3 * len(planes),) * 2)
    _, part = connected_components(graph, directed=False)
    wanted = np.where(planes > 0, part[keys] + 1, 0)

    assert same_objects(stacked(linked_chain(list(planes), iou), planes), wanted)


@settings(max_examples=40, deadline=None)
@given(masks(planes=6), st.sampled_from([{"z": 6}, {"t": 6}, {"t": 2, "z": 3}]), st.integers(0, 1))
def test_what_is_compared_box_by_box_is_what_is_compared_at_once(
    planes: AnyArray, loop: dict[str, int], gap: int
) -> None:
    whole = link_labels(list(planes), loop, Link({"z": 0.1, "t": 0.1}, gap))
    with pytest.MonkeyPatch.context() as small:
        small.setattr(linking, "BOX_PX", 4)
        parts = link_labels(list(planes), loop, Link({"z": 0.1, "t": 0.1}, gap))

    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def rows(*planes: list[int]) -> AnyArray:
    return np.array(planes)[:, None]


def test_an_object_that_is_missing_in_a_plane_is_joined_where_gaps_are_allowed() -> None:
    planes = rows([1, 1, 0, 2], [0, 0, 0, 1], [2, 2, 0, 1])

    without = stacked(linked_chain(list(planes), 0.5), planes)
    across = stacked(linked_chain(list(planes), 0.5, gap=1), planes)

    assert without[:, 0].tolist() == [[1, 1, 0, 2], [0, 0, 0, 2], [3, 3, 0, 2]]
    assert across[:, 0].tolist() == [[1, 1, 0, 2], [0, 0, 0, 2], [1, 1, 0, 2]]


def test_one_that_is_missing_in_two_planes_is_another_object() -> None:
    planes = rows([1], [0], [0], [1])

    assert stacked(linked_chain(list(planes), 0.5, gap=1), planes).ravel().tolist() == [1, 0, 0, 2]


def test_of_two_objects_the_one_that_overlaps_more_goes_on() -> None:
    planes = rows([1, 1, 1, 1, 1], [1, 1, 1, 2, 2])

    found = stacked(linked_chain(list(planes), 0.25), planes)

    assert found[1, 0].tolist() == [1, 1, 1, 2, 2]


@pytest.mark.parametrize(("iou", "count"), [(0.6, 1), (0.61, 2)])
def test_the_least_overlap_is_enough(iou: float, count: int) -> None:
    planes = rows([1, 1, 1, 1, 0], [0, 1, 1, 1, 1])

    assert stacked(linked_chain(list(planes), iou), planes).max() == count


def test_stacks_are_joined_before_frames_whose_objects_are_those_of_the_stacks() -> None:
    # two frames of two planes: one object moves on so far that only its volume overlaps
    frames = np.array([[[1, 1, 1, 0], [1, 1, 0, 0]], [[0, 1, 1, 0], [1, 1, 1, 0]]])
    planes = frames.reshape(4, 1, 4)
    loop = {"t": 2, "z": 2}

    both = stacked(link_labels(list(planes), loop, Link({"z": 0.5, "t": 0.6})), planes)
    stacks = stacked(link_labels(list(planes), loop, Link({"z": 0.5})), planes)
    apart = stacked(link_labels(list(planes), loop, Link({"t": 0.6})), planes)

    assert [np.unique(plane[plane > 0]).tolist() for plane in both] == [[1]] * 4
    assert [np.unique(plane[plane > 0]).tolist() for plane in stacks] == [[1], [1], [2], [2]]
    assert [np.unique(plane[plane > 0]).tolist() for plane in apart] == [[1], [2], [1], [2]]


def test_numbers_go_by_the_plane_in_which_an_object_begins() -> None:
    planes = rows([0, 0, 1], [1, 0, 2], [2, 1, 3])

    found = stacked(link_labels(list(planes), {"z": 3}, Link({"z": 0.5})), planes)

    assert found[:, 0].tolist() == [[0, 0, 1], [2, 0, 1], [2, 3, 1]]


def test_without_an_axis_to_join_over_there_is_nothing_to_do() -> None:
    with pytest.raises(ValueError, match="no axis"):
        link_labels([np.ones((2, 2), int)], {"z": 1}, Link({"z": 0.5}))


def test_an_object_has_the_mean_score_of_its_planes() -> None:
    numbers = [np.array([0, 1, 2]), np.array([0, 2, 3])]
    planes = [scored(np.array([0.5, 0.25])), scored(np.array([0.75, 1.0]))]

    joined = joined_columns(planes, numbers, measured_together({"z": 2}, "t"))
    frames_joined = joined_columns(planes, numbers, measured_together({"t": 2}, "t"))

    (whole,), frames = ([one["score"] for one in some] for some in (joined, frames_joined))

    assert whole.tolist() == [0.5, 0.5, 1.0]
    assert frames[0].tolist() == [0.5, 0.25]
    np.testing.assert_array_equal(frames[1], np.array([np.nan, 0.75, 1.0], np.float32))


def test_an_object_has_the_class_of_most_of_its_planes_and_of_equals_the_first() -> None:
    numbers = [np.array([0, 1, 2]), np.array([0, 2, 1]), np.array([0, 2])]
    planes = [{"class": np.array(words)} for words in (["b", "a"], ["c", "a"], ["c"])]

    (whole,) = joined_columns(planes, numbers, measured_together({"z": 3}, "t"))
    frames = joined_columns(planes, numbers, measured_together({"t": 3}, "t"))

    assert whole["class"].tolist() == ["b", "c"]
    assert [one["class"].tolist() for one in frames] == [["b", "a"], ["a", "c"], ["", "c"]]


def test_what_one_plane_does_not_know_no_object_has() -> None:
    planes = [scored(np.ones(1)), {"class": np.array(["a"])}]

    (whole,) = joined_columns(planes, [np.array([0, 1])] * 2, measured_together({"z": 2}, "t"))

    assert whole == {}


@pytest.mark.parametrize(
    "word", ["", "0", "-0.5", "1.01", "nan", "half", "y=0.5", "z=0.5,z=0.6", "z=", "=0.5", "z=0.5,"]
)
def test_what_is_no_overlap_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"not an overlap|give z and t"):
        link_ious(word)


def test_overlaps_by_axis_are_read_and_the_axes_are_taken_in_their_order() -> None:
    assert link_ious("t=1, z=0.25") == {"t": 1.0, "z": 0.25}
    assert list(Link(link_ious("t=1,z=0.25")).over({"t": 2, "z": 3}).ious) == ["z", "t"]
    assert Link(link_ious("0.5")).over({"t": 1, "z": 3}).ious == {"z": 0.5}
    with pytest.raises(ValueError, match="over z and t"):
        checked_ious({"y": 0.5})
