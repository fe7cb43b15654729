"""Tiles that fit into the memory, from what the network takes for a pixel."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
from tests.plan.test_plan import PLAIN, planned

from bmz.plan.plan import WIDEST_PX, Estimate, Plan, fitted, widened

WIDE = replace(PLAIN, config={"bmz": {"receptive_field": {"global_context": True}}})


def pixels(plan: Plan) -> int:
    return prod(plan.tiling.tile.values()) * plan.batch


@pytest.mark.parametrize("room", [1e9, 1e8, 4e7])
def test_tiles_get_smaller_until_they_fit(room: float) -> None:
    plan = planned(PLAIN, (3000, 3000))

    found = fitted(plan, PLAIN, 500, room)

    assert pixels(found) * 500 <= room
    assert (found == plan) == (pixels(plan) * 500 <= room)
    assert found.tiling.axes[0].image == 3000


def test_the_batch_gets_smaller_before_the_tiles() -> None:
    plan = replace(planned(PLAIN, (3000, 3000)), batch=8)

    found = fitted(plan, PLAIN, 500, 2 * pixels(plan) / 8 * 500)

    assert found.batch == 2
    assert found.tiling == plan.tiling


def test_the_batch_is_halved_as_often_as_is_needed() -> None:
    plan = replace(planned(PLAIN, (3000, 3000)), batch=16)

    found = fitted(plan, PLAIN, 500, 5.5 * pixels(plan) / 16 * 500)

    assert (found.batch, found.tiling) == (4, plan.tiling)


def test_two_tiles_at_once_become_one_before_they_become_smaller() -> None:
    plan = replace(planned(PLAIN, (3000, 3000)), batch=2)

    found = fitted(plan, PLAIN, 500, pixels(plan) / 2 * 500)

    assert (found.batch, found.tiling) == (1, plan.tiling)


def test_a_run_that_just_fits_is_left_as_it_is() -> None:
    plan = replace(planned(PLAIN, (3000, 3000)), batch=3)

    assert fitted(plan, PLAIN, 500, pixels(plan) * 500) == plan


def test_the_smallest_tiles_are_run_where_nothing_fits() -> None:
    found = fitted(planned(PLAIN, (3000, 3000)), PLAIN, 500, 1)

    assert found.tiling.count > 100


def test_a_network_that_sees_the_whole_image_gets_the_largest_tile_that_fits() -> None:
    plan = planned(WIDE, (3000, 3000))

    assert widened(plan, WIDE, 100, 1e9).tiling.count == 1
    some = widened(plan, WIDE, 100, 6e8)
    assert 1 < some.tiling.count <= plan.tiling.count
    assert max(some.tiling.tile.values()) > max(plan.tiling.tile.values())
    assert widened(plan, WIDE, 100, 1e7) == plan
    assert max(widened(planned(WIDE, (9000, 50)), WIDE, 1, 1e12).tiling.tile.values()) <= WIDEST_PX


def test_wide_tiles_are_run_one_by_one_and_cover_the_image() -> None:
    plan = replace(planned(WIDE, (3000, 1600)), batch=4)  # three tiles along y, two along x

    found = widened(plan, WIDE, 100, 100 * 2000**2)

    assert plan.tiling.count == 6
    assert (found.batch, found.tiling.count) == (1, 2)
    assert [axis.image for axis in found.tiling.axes] == [3000, 1600]
    assert found.tiling.way == plan.tiling.way


def test_two_tiles_are_widened_to_one() -> None:
    plan = planned(WIDE, (1700, 60))

    assert plan.tiling.count == 2
    assert widened(plan, WIDE, 100, 1e9).tiling.count == 1


def test_there_is_nothing_to_widen_where_the_longest_side_is_all_that_fits() -> None:
    plan = replace(planned(WIDE, (3000, 60)), batch=2)  # tiles are far higher than wide
    side = plan.tiling.tile["y"]

    assert plan.tiling.tile["x"] < side
    assert widened(plan, WIDE, 1, side**2) == plan


def test_other_networks_keep_their_tiles() -> None:
    plan = planned(PLAIN, (3000, 3000))

    assert widened(plan, PLAIN, 1, 1e12) == plan


def test_labels_need_memory_when_the_network_is_done() -> None:
    found = Estimate(1.0, 4.0, 100, 300, 500, 10_000, 2)

    assert found.peak_bytes == 600
    assert replace(found, network_bytes=700).peak_bytes == 800
    assert replace(found, network_bytes=None).peak_bytes is None
