"""What blocks take from the whole map: thresholds, the longest ray, and what has no label yet."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.blocks import (
    streamed_otsu,
    threshold_of,
    whole_map_parameters,
)
from bmz.process.flows import cells_without_label
from bmz.process.recipe import Value
from bmz.process.recipes import RECIPES
from bmz.process.relabel import ChannelsDiffer
from bmz.process.stardist import longest_ray


def two_maps() -> FloatArray:
    """Give two maps of other values, wider than what is read at once."""
    rng = np.random.default_rng(4)
    maps = np.concatenate([rng.normal(1, 0.1, (2, 3, 1400)), rng.normal(3, 0.2, (2, 3, 700))], 2)
    maps[1] *= -10
    return maps.astype(np.float32)


def complete(recipe: str, **given: Value) -> dict[str, Value]:
    return RECIPES[recipe].parameters_from(given, {})


@pytest.mark.parametrize("channel", [0, 1])
def test_otsu_is_found_in_the_channel_that_the_recipe_reads(channel: int) -> None:
    maps = two_maps()
    asked = complete("distance_watershed", threshold=-1.0, channel=channel, neck=0.25)

    found = whole_map_parameters(RECIPES["distance_watershed"], maps, asked)

    assert found["threshold"] == pytest.approx(threshold_otsu(maps[channel]), rel=1e-5)
    assert found == {**asked, "threshold": found["threshold"]}
    assert asked["threshold"] == -1


def test_each_threshold_of_a_contour_that_is_not_given_is_that_of_its_own_map() -> None:
    maps = two_maps()
    asked = complete("contour", channels="C+F", contour_threshold=0.25)

    found = whole_map_parameters(RECIPES["contour"], maps, asked)

    assert found["contour_threshold"] == 0.25
    assert found["foreground_threshold"] == pytest.approx(threshold_otsu(maps[1]), rel=1e-5)
    # of maps that are not there nothing can be taken
    assert found["mask_threshold"] == -1


@pytest.mark.parametrize(
    ("recipe", "count"), [("components", 2), ("stardist", 2), ("flows", 3), ("mesmer", 2)]
)
def test_recipes_that_find_no_threshold_keep_their_parameters(recipe: str, count: int) -> None:
    asked, maps = complete(recipe), np.resize(two_maps(), (count, 3, 2100))

    assert whole_map_parameters(RECIPES[recipe], maps, asked) == asked


def test_a_channel_that_is_not_there_is_told_as_without_blocks() -> None:
    maps, recipe = two_maps(), RECIPES["distance_watershed"]
    asked = complete("distance_watershed", threshold=-1.0, channel=2)

    with pytest.raises(ChannelsDiffer) as in_blocks:
        whole_map_parameters(recipe, maps, asked)
    with pytest.raises(ChannelsDiffer) as at_once:
        recipe.apply(maps, (1, 1), {name: asked[name] for name in recipe.own})

    assert in_blocks.value.message == (
        "recipe 'distance_watershed' expects a channel 2, counted from 0, but the output has 2 "
        "channels"
    )
    assert (in_blocks.value.message, in_blocks.value.code) == (
        at_once.value.message,
        "recipe.channels",
    )


@pytest.mark.parametrize(
    "values",
    [
        [np.nan, np.nan, np.nan, np.inf],
        [0.25, np.nan, 0.25, -np.inf],
        [0, np.inf, 8, 8],
        [0, 1, 1, np.nan],
        [-3, -1, -1, -3],
    ],
    ids=str,
)
def test_otsu_of_odd_maps_is_that_without_blocks(values: list[float]) -> None:
    odd = np.array(values, np.float32)[None]

    assert streamed_otsu(odd[None], 0) == threshold_of(odd, -1)


def candidates(*told: tuple[float, float]) -> AnyArray:
    """Give a map of StarDist, 1 px high, with a probability and a ray for each candidate."""
    maps = np.full((5, 1, len(told)), 1.0, np.float32)
    maps[0, 0] = [probability for probability, _ in told]
    for place, (_, ray) in enumerate(told):
        maps[1 + place % 4, 0, place] = ray  # each time another one of its rays
    return maps


@pytest.mark.parametrize(
    ("told", "grid", "overlap"),
    [
        ([(0.9, 7.5), (0.8, 3)], (1, 1), 8),
        ([(0.9, 8)], (1, 1), 8),
        ([(0.9, 8.25)], (4, 2), 5),
        ([(0.9, 8.25)], (2, 4), 5),
        ([(0.5, 99), (0.75, 3)], (1, 1), 3),  # not above the threshold
        ([(0.9, np.nan), (0.9, np.inf), (0.9, 2)], (1, 1), 2),
        ([(0.1, 50)], (1, 1), 0),
        ([(0.9, 30)] + [(0.0, 99)] * 1100 + [(0.9, 20)], (1, 1), 30),
        ([(0.9, 20)] + [(0.0, 99)] * 1100 + [(0.9, 40)], (1, 1), 40),
    ],
)
def test_blocks_see_as_far_as_the_longest_ray_of_a_candidate(
    told: list[tuple[float, float]], grid: tuple[int, int], overlap: int
) -> None:
    asked = complete("stardist", prob_threshold=0.5)

    assert longest_ray(candidates(*told), asked, grid) == overlap


def test_blocks_of_stacks_are_cut_along_y_and_x_whatever_the_grid_along_z() -> None:
    stack = candidates((0.9, 8.0), (0.9, 9.0))[:, None].repeat(3, axis=1)

    assert longest_ray(stack, complete("stardist"), (1, 4, 4)) == 3


def test_other_recipes_need_no_least_overlap() -> None:
    maps = candidates((0.9, 50))

    needs = RECIPES["components"].in_blocks
    assert needs is not None
    assert needs.least_overlap(maps, complete("components"), (1, 1)) == 0


@pytest.mark.parametrize("threshold", [0.0, 2.0])
def test_what_flows_hold_for_a_cell_and_leave_without_a_label_is_marked(threshold: float) -> None:
    maps = np.zeros((3, 1, 4), np.float32)
    maps[:2] = 9  # the flows
    maps[2, 0] = [-1, 0, 2, 3]
    labels = np.array([[0, 0, 0, 5]])

    asked = complete("flows", cellprob_threshold=threshold)
    marked = cells_without_label(maps, labels, asked)

    assert marked.tolist() == [[False, False, threshold < 2, False]]
    assert not cells_without_label(maps, np.ones((1, 4), np.int32), asked).any()
    needs = RECIPES["components"].in_blocks
    assert needs is not None
    assert needs.unlabelled(maps, labels, asked).tolist() == [[False] * 4]
