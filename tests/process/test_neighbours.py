"""Neighbours are those that a look at every pixel and every pair finds."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import label_masks

from bmz.base.arrays import AnyArray
from bmz.base.axes import Neighbourhood, NeighboursRefused
from bmz.process.neighbours import Neighbours, contacts_in, summed_contacts


def neighbours_of(labels: AnyArray, near: str, **um: float) -> Neighbours:
    owned = np.arange(int(labels.max(initial=0)) + 1) > 0
    contacts = contacts_in(labels, [0] * labels.ndim, owned)
    axes = "zyx"[-labels.ndim :]
    return Neighbours.of(contacts, axes, um, Neighbourhood.of(near))


def names(labels: AnyArray) -> AnyArray:
    return np.arange(int(labels.max(initial=0)) + 1)


def by_every_pixel(
    labels: AnyArray, lengths: AnyArray
) -> tuple[dict[Any, float], dict[Any, float]]:
    """Walk over all pixels: what each pair of labels shares, and the whole outline of each."""
    shared: dict[Any, float] = {}
    outline: dict[Any, float] = {}
    for place in np.ndindex(labels.shape):
        for axis, step in product(range(labels.ndim), (-1, 1)):
            beside = list(place)
            beside[axis] += step
            if not 0 <= beside[axis] < labels.shape[axis]:
                continue
            own, other = labels[place], labels[tuple(beside)]
            if own and own != other:
                size = np.prod(lengths) / lengths[axis]
                outline[own] = outline.get(own, 0) + size
                if other:
                    shared[own, other] = shared.get((own, other), 0) + size
    return shared, outline


@settings(deadline=None)
@given(label_masks(labels=range(6)), st.floats(0.3, 6), st.booleans())
def test_neighbours_are_those_of_every_pixel_and_every_pair(
    labels: AnyArray, distance: float, known: bool
) -> None:
    um = {"z": 1.5, "y": 0.5, "x": 0.5} if known else {}
    lengths = np.array([um.get(axis, 1.0) for axis in "zyx"[-labels.ndim :]])
    near = f"{distance:.3f}{'um' if known else 'px'}"
    shared, outline = by_every_pixel(labels, lengths)
    there = np.unique(labels[labels > 0])
    middles = {k: np.mean(np.argwhere(labels == k), axis=0) * lengths for k in there}
    away = {
        (a, b): float(np.linalg.norm(middles[a] - middles[b]))
        for a, b in product(there, there)
        if a != b
    }

    found = neighbours_of(labels, near, **um)
    columns = found.columns(names(labels))
    (edges,) = found.edges(names(labels))

    unit = "um" if known else "px"
    for k in there:
        row = {name: column[k - 1] for name, column in columns.items()}
        mine = [pair for pair in shared if pair[0] == k]
        assert row["neighbours_touching"] == len(mine)
        total = sum(shared[pair] for pair in mine)
        assert row["contact_share"] == pytest.approx(total / outline[k] if total else 0)
        others = [length for (a, _), length in away.items() if a == k]
        if others:
            assert row[f"nearest_neighbour_{unit}"] == pytest.approx(min(others))
            named = away[k, int(row["nearest_neighbour"])]
            assert named == pytest.approx(min(others))
        else:
            assert np.isnan(row["nearest_neighbour"])
        within = sum(length <= float(near[:-2]) for length in others)
        assert row[found.near.column] == within
    wanted = {pair for pair in shared if pair[0] < pair[1]}
    wanted |= {(a, b) for (a, b), v in away.items() if a < b and v <= float(near[:-2])}
    pairs = list(zip(edges["label"].tolist(), edges["neighbour"].tolist(), strict=True))
    assert pairs == sorted(wanted)
    assert edges[f"distance_{unit}"] == pytest.approx([away[pair] for pair in pairs])
    if known:
        amount = edges["contact_um" if labels.ndim == 2 else "contact_um2"]
        assert amount == pytest.approx([shared.get(pair, 0) for pair in pairs])


@given(label_masks(labels=range(6)), st.integers(0, 20))
def test_neighbours_found_in_parts_are_those_of_the_whole(labels: AnyArray, cut: int) -> None:
    owned = names(labels) > 0
    whole = contacts_in(labels, [0] * labels.ndim, owned)
    ones = owned & (names(labels) <= cut % 6)

    parts = summed_contacts(
        [contacts_in(labels, [0] * labels.ndim, some) for some in (ones, owned & ~ones)]
    )

    for name in ("own", "other", "sides", "outline", "sums", "sizes"):
        assert getattr(parts, name).tolist() == getattr(whole, name).tolist()


def test_two_cells_side_by_side_share_a_known_part_of_their_outlines() -> None:
    labels = np.zeros((6, 10), np.int32)
    labels[1:5, 1:5], labels[1:5, 5:7] = 1, 2

    columns = neighbours_of(labels, "contact", y=0.5, x=0.25).columns(names(labels))

    # 4 sides of 0.5 um of 8 of these and 8 or 4 of 0.25 um
    assert columns["contact_share"].tolist() == [2 / 6, 2 / 5]
    assert columns["neighbours_touching"].tolist() == [1, 1]
    assert columns["nearest_neighbour"].tolist() == [2, 1]
    assert columns["nearest_neighbour_um"].tolist() == [0.75, 0.75]
    assert "nearest_neighbour_px" not in columns  # pixels are longer along y than along x


def test_many_pairs_come_in_several_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bmz.process.neighbours._PAIRS_AT_ONCE", 50)
    labels = np.arange(1, 101).reshape(10, 10)

    tables = list(neighbours_of(labels, "2.5px").edges(names(labels)))

    assert len(tables) > 3
    pairs = [
        pair
        for t in tables
        for pair in zip(t["label"].tolist(), t["neighbour"].tolist(), strict=True)
    ]
    away = [np.hypot(*(np.subtract(divmod(a - 1, 10), divmod(b - 1, 10)))) for a, b in pairs]
    assert pairs == sorted({*pairs})
    assert max(away) <= 2.5
    steps = [(dy, dx) for dy in range(3) for dx in range(-2, 3) if dy * 5 + dx > 0]
    assert len(pairs) == sum((10 - dy) * (10 - abs(dx)) for dy, dx in steps if dy**2 + dx**2 < 6.3)


@pytest.mark.parametrize("text", ["", "near", "0um", "-3px", "nan", "5 apples"])
def test_what_is_neither_contact_nor_a_distance_is_refused(text: str) -> None:
    with pytest.raises(NeighboursRefused, match="neither contact nor a distance"):
        Neighbourhood.of(text)


def test_a_distance_in_um_needs_a_pixel_size_along_every_axis() -> None:
    labels = np.ones((2, 3, 3), np.int32)

    with pytest.raises(NeighboursRefused, match="along z is not known"):
        neighbours_of(labels, "5um", y=0.5, x=0.5)
