"""Objects are paired with those of another mask one to one, parted among them, or told theirs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.process.relations import (
    SEVERAL,
    most_shared,
    pair_up,
    part_among,
    shared_pixels,
    sum_shared,
)


@st.composite
def masks(draw: st.DrawFn) -> tuple[AnyArray, AnyArray]:
    """Draw two masks of blocks of some numbers, on one grid."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    cells, nuclei = (rng.integers(0, draw(st.integers(1, 9)), (4, 5)) for _ in range(2))
    return np.kron(cells, np.ones((3, 3), np.int64)), np.kron(nuclei, np.ones((2, 3), np.int64))[
        :12, :15
    ].repeat(2, axis=0)[:12]


@given(masks())
def test_counts_of_parts_add_up_to_those_of_the_whole(drawn: tuple[AnyArray, AnyArray]) -> None:
    own, other = drawn

    whole = shared_pixels(own, other)
    parts = sum_shared(
        [shared_pixels(own[rows], other[rows]) for rows in np.array_split(range(12), 3)]
    )

    for name in ("own", "other", "pixels"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    assert whole.pixels.sum() == own.size


@given(masks())
def test_every_nucleus_is_held_once_and_every_cell_keeps_a_number_of_its_own(
    drawn: tuple[AnyArray, AnyArray],
) -> None:
    cells, nuclei = drawn

    pairing = pair_up(shared_pixels(cells, nuclei), int(cells.max()))

    for seed, holder in zip(pairing.seeds, pairing.holders, strict=True):
        inside = np.bincount(cells[nuclei == seed], minlength=holder + 1)
        assert inside[holder] == inside.max()
    numbers = pairing.numbers[pairing.numbers > 0]
    assert len(set(numbers)) == len(numbers)
    alone = {s for s, h in zip(pairing.seeds, pairing.holders, strict=True) if h}
    kept = set(numbers) & set(pairing.seeds)
    assert kept <= alone
    assert all((pairing.holders == one).sum() > 1 for one in pairing.several)
    assert pairing.numbers[0] == 0
    assert SEVERAL == -1


@pytest.mark.parametrize(
    ("background", "expected"), [(True, [0, 5]), (False, [4, 5])], ids=["or none", "object first"]
)
def test_the_background_counts_only_where_it_is_asked(
    background: bool, expected: list[int]
) -> None:
    own = np.array([1, 1, 1, 2, 2, 2])
    other = np.array([0, 0, 4, 0, 5, 5])

    objects, of_each = most_shared(shared_pixels(own, other), background=background)

    assert objects.tolist() == [1, 2]
    assert of_each.tolist() == expected


def test_of_equal_shares_the_lowest_object_is_taken_and_the_background_last() -> None:
    own = np.ones(6, np.int64)

    _, first = most_shared(shared_pixels(own, np.array([7, 7, 3, 3, 0, 0])), background=True)

    assert first.tolist() == [3]


@given(st.integers(0, 2**32), st.integers(2, 4))
def test_an_object_is_parted_wholly_and_each_part_keeps_its_seed(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    inside = np.kron(rng.random((5, 6)) < 0.7, np.ones((3, 3))).astype(np.bool_)
    seeds = np.zeros(inside.shape, np.int64)
    places = np.argwhere(inside)
    if len(places) < count:
        return
    for number, place in enumerate(rng.permutation(places)[:count], start=5):
        seeds[tuple(place)] = number

    parts = part_among(inside, seeds)

    assert np.array_equal(parts > 0, inside)
    assert np.array_equal(parts[seeds > 0], seeds[seeds > 0])
    assert set(np.unique(parts[inside])) == set(np.unique(seeds[seeds > 0]))


def test_a_bent_object_is_parted_along_it_and_not_across() -> None:
    inside = np.ones((9, 9), np.bool_)
    inside[:7, 4] = False  # a U, whose arms lie beside each other
    seeds = np.zeros(inside.shape, np.int64)
    seeds[1, 3], seeds[8, 8] = 1, 2

    parts = part_among(inside, seeds)

    assert parts[1, 0] == 1
    assert parts[5, 5] == 2
