"""The recipe `gasp` on maps whose borders and sizes are known by hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.gasp import GASP, GaspSettings, label_gasp, superpixels
from bmz.process.recipe import ParameterRefused
from bmz.process.relabel import ChannelsDiffer

ALL: dict[str, Any] = {"superpixel_size": 0, "min_size": 0}
"""Nothing is too small."""


def wall(strength: float, *, height: int = 20, left: int = 19, right: int = 19) -> FloatArray:
    """Give a boundary of 2 px between two rooms."""
    boundary = np.zeros((height, left + 2 + right), np.float32)
    boundary[:, left : left + 2] = strength
    return boundary


def sizes(labels: AnyArray) -> list[int]:
    found: list[int] = np.bincount(labels.ravel())[1:].tolist()
    return found


@pytest.mark.parametrize(("beta", "objects"), [(0.39, 1), (0.41, 2), (1.0, 2), (0.0, 1)])
def test_rooms_are_joined_while_the_mean_between_them_is_below_1_less_beta(
    beta: float, objects: int
) -> None:
    found = label_gasp(wall(0.6)[None], (1, 1), GaspSettings(beta=beta, **ALL))

    # both sides of every face between the rooms are 0.6
    assert found.labels.max() == objects
    assert found.scores is None


@pytest.mark.parametrize(("strength", "count"), [(0.5, 1), (0.51, 2)])
def test_a_wall_of_superpixels_lies_above_the_threshold(strength: float, count: int) -> None:
    found = superpixels(wall(strength), (1, 1), GaspSettings(superpixel_size=0))

    assert found.max() == count
    assert sizes(found) == [20 * 40] if count == 1 else [20 * 20] * 2


@pytest.mark.parametrize(("least", "count"), [(100, 2), (101, 1)])
def test_an_object_of_exactly_the_least_size_stays_and_a_smaller_one_is_flooded(
    least: int, count: int
) -> None:
    boundary = wall(0.9, left=4, right=34)  # 20 x 5 and 20 x 35 px, with half of the wall each

    joined = label_gasp(
        boundary[None], (1, 1), GaspSettings(beta=1.0, superpixel_size=0, min_size=least)
    )
    superpixel = superpixels(boundary, (1, 1), GaspSettings(superpixel_size=least))

    assert sizes(joined.labels) == ([100, 700] if count == 2 else [800])
    assert superpixel.max() == count


@pytest.mark.parametrize(("least", "count"), [(600, 2), (601, 1)])
def test_sizes_are_px_of_the_input(least: int, count: int) -> None:
    boundary = wall(0.9, left=4, right=34)

    found = label_gasp(
        boundary[None], (2, 3), GaspSettings(beta=1.0, superpixel_size=0, min_size=least)
    )

    assert found.labels.shape == (40, 120)
    assert found.labels.max() == count


def test_where_every_object_is_too_small_all_of_them_stay() -> None:
    found = label_gasp(wall(0.9)[None], (1, 1), GaspSettings(superpixel_size=0, min_size=10**6))

    assert sizes(found.labels) == [400, 400]


def test_smoothing_is_in_px_of_the_input() -> None:
    rng = np.random.default_rng(3)
    boundary = (rng.random((40, 40)) > 0.8).astype(np.float32)

    coarse = superpixels(boundary, (2, 2), GaspSettings(sigma_seeds=2, sigma_weights=4))
    fine = superpixels(
        boundary, (1, 1), GaspSettings(sigma_seeds=1, sigma_weights=2, superpixel_size=25)
    )

    # the distances of a grid of 2 are twice as long everywhere, which moves no peak
    np.testing.assert_array_equal(coarse, fine)


def test_round_rooms_with_an_open_door_are_two_superpixels() -> None:
    y, x = np.mgrid[:21, :44]
    rooms = np.minimum(np.hypot(y - 10, x - 10), np.hypot(y - 10, x - 33)) < 10
    door = (abs(y - 10) <= 1) & (abs(x - 21.5) < 5)
    boundary = np.where(rooms | door, 0, 0.9).astype(np.float32)

    found = superpixels(boundary, (1, 1), GaspSettings(superpixel_size=0))
    counts = [
        label_gasp(boundary[None], (1, 1), GaspSettings(beta=beta, **ALL)).labels.max()
        for beta in (0.2, 0.25)
    ]

    # each of the two has its own peak of the distance to the wall
    assert sizes(found) == [21 * 22, 21 * 22]
    # 18 of the 21 rows between them are wall: 0.9 * 18 / 21 = 0.77 in the mean
    assert counts == [1, 2]


def test_a_map_without_a_boundary_is_one_superpixel() -> None:
    assert sizes(superpixels(np.zeros((30, 40), np.float32), (1, 1), GaspSettings())) == [1200]


def test_the_defaults_are_those_of_plantseg_in_both_places() -> None:
    own = {name: GASP.parameters_from({}, {})[name] for name in GASP.own}

    assert own == asdict(GaspSettings())
    assert own == {
        "channel": 0, "beta": 0.5, "threshold": 0.5, "sigma_seeds": 1.0, "sigma_weights": 2.0,
        "superpixel_size": 100, "min_size": 100,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["beta", "threshold"])
def test_shares_are_from_0_to_1(name: str) -> None:
    for word in ("0", "1"):
        assert GASP.parameters_from({}, {name: word})[name] == float(word)
    for word in ("-0.01", "1.01"):
        with pytest.raises(ParameterRefused, match="is not 0 to 1"):
            GASP.parameters_from({}, {name: word})


@pytest.mark.parametrize(
    "name", ["channel", "sigma_seeds", "sigma_weights", "superpixel_size", "min_size"]
)
def test_lengths_and_sizes_are_0_or_more(name: str) -> None:
    assert GASP.parameters_from({}, {name: "0"})[name] == 0
    with pytest.raises(ParameterRefused, match="is not 0 or more"):
        GASP.parameters_from({}, {name: "-1"})


def test_what_is_no_number_counts_as_inside() -> None:
    boundary, known = wall(0.9), wall(0.9)
    boundary[3:6, 5:9] = np.nan

    found = label_gasp(boundary[None], (1, 1), GaspSettings(**ALL))

    np.testing.assert_array_equal(
        found.labels, label_gasp(known[None], (1, 1), GaspSettings(**ALL)).labels
    )


def test_the_channel_is_the_one_asked_for() -> None:
    maps = np.stack([wall(0.0), wall(0.9)])

    assert label_gasp(maps, (1, 1), GaspSettings(channel=0, **ALL)).labels.max() == 1
    assert label_gasp(maps, (1, 1), GaspSettings(channel=1, **ALL)).labels.max() == 2
    with pytest.raises(ChannelsDiffer, match="a channel 2, counted from 0, but the output has 2"):
        label_gasp(maps, (1, 1), GaspSettings(channel=2, **ALL))


def test_a_map_that_is_all_boundary_is_still_filled() -> None:
    found = label_gasp(np.ones((1, 6, 7), np.float32), (1, 1), GaspSettings(**ALL))

    assert found.labels.min() == 1
    assert found.labels.shape == (6, 7)
