"""Pixels join the centre that they point to."""

from __future__ import annotations

import numpy as np
import pytest
from tests.process.ideal_maps import cells, centres_and_offsets, foreground

from bmz.base.arrays import FloatArray, LabelArray
from bmz.process.recipe import Labelled
from bmz.process.recipes import RECIPES
from bmz.process.relabel import ChannelsDiffer, in_raster_order

PANOPTIC = RECIPES["panoptic"]


def maps_of(labels: LabelArray) -> FloatArray:
    return np.concatenate([foreground(labels)[None], centres_and_offsets(labels)])


def labelled(maps: FloatArray, **words: str) -> Labelled:
    grid = (1,) * (maps.ndim - 1)
    return PANOPTIC.apply(maps, grid, PANOPTIC.parameters_from({}, words))


def test_objects_of_a_stack_point_along_three_axes() -> None:
    truth = np.zeros((9, 30, 30), np.int32)
    truth[1:8, 2:15, 2:28], truth[1:8, 15:28, 2:28] = 1, 2

    result = labelled(maps_of(truth))

    np.testing.assert_array_equal(result.labels, truth)


def test_a_peak_whose_own_pixel_points_elsewhere_is_no_centre() -> None:
    truth = np.zeros((60, 60), np.int32)
    truth[5:55, 5:55] = 1
    maps = maps_of(truth)
    maps[1, 10, 10] = 0.4
    maps[2:, 8:30, 8:30] /= 2  # unsure of where the centre lies: many are nearer to the peak
    maps[2:, 10, 10] = 20

    result = labelled(maps)

    np.testing.assert_array_equal(result.labels, truth)


def test_an_object_may_be_hollow_where_its_centre_lies() -> None:
    truth = np.ones((40, 40), np.int32)
    truth[10:30, 10:30] = 0

    result = labelled(maps_of(truth))

    np.testing.assert_array_equal(result.labels, truth)


def test_pixels_of_an_object_too_small_join_the_next_one() -> None:
    truth = np.zeros((30, 40), np.int32)
    truth[5:25, 5:25], truth[10:13, 25:28] = 1, 2

    result = labelled(maps_of(truth), min_size="10")

    np.testing.assert_array_equal(result.labels, truth > 0)
    assert labelled(maps_of(truth), min_size="9").labels.max() == 2


def test_a_plateau_of_the_heat_map_is_one_centre_and_its_height_the_score() -> None:
    truth = np.zeros((30, 30), np.int32)
    truth[5:25, 5:25] = 1
    maps = maps_of(truth)
    maps[1] = np.minimum(maps[1], 0.75)

    result = labelled(maps)

    np.testing.assert_array_equal(result.labels, truth)
    assert result.scores is not None
    assert result.scores.tolist() == [0.75]


def test_without_centres_there_are_no_objects() -> None:
    maps = maps_of(in_raster_order(cells(2)).labels)
    maps[1] = 0

    assert not labelled(maps).labels.any()


def test_a_map_without_an_offset_for_each_axis_is_refused() -> None:
    with pytest.raises(ChannelsDiffer, match="2 offsets from channel 2"):
        labelled(maps_of(cells(2))[:3])
