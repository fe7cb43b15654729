"""Nuclei that touch are parted where the maps of place fall."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from tests.process.ideal_maps import cells, foreground, places_within

from bmz.base import ndimage as tiled
from bmz.base.arrays import FloatArray, LabelArray
from bmz.process.hover import _binomial, _slope, filled, opened, slopes_of_whole_map
from bmz.process.matching import match_labels
from bmz.process.recipe import ParameterRefused, Value
from bmz.process.recipes import RECIPES
from bmz.process.relabel import ChannelsDiffer, DimensionsNotDone

HOVER = RECIPES["hover"]


def maps_of(labels: LabelArray) -> FloatArray:
    return np.concatenate([foreground(labels)[None], places_within(labels)])


def labels_of(maps: FloatArray, **given: Value) -> LabelArray:
    return HOVER.apply(maps, (1, 1), HOVER.parameters_from(given, {})).labels


def two_halves() -> LabelArray:
    truth = np.zeros((60, 90), np.int32)
    truth[10:50, 10:45], truth[10:50, 45:80] = 1, 2
    return truth


def test_two_nuclei_are_parted_where_the_place_falls_from_right_to_left() -> None:
    truth = two_halves()

    labels = labels_of(maps_of(truth))

    assert match_labels(labels, truth, 0.95).f1 == 1


def test_places_may_come_in_any_channels() -> None:
    truth = two_halves()
    nuclei, across, down = maps_of(truth)
    places = {"foreground_channel": 2, "horizontal_channel": 1, "vertical_channel": 0}

    labels = labels_of(np.stack([down, across, nuclei]), **places)

    np.testing.assert_array_equal(labels, labels_of(maps_of(truth)))


@pytest.mark.parametrize(("keep", "count"), [(True, 2), (False, 1)])
def test_a_nucleus_of_which_edges_leave_no_marker_stays_unless_asked(
    count: int, *, keep: bool
) -> None:
    truth = np.zeros((60, 60), np.int32)
    truth[5:40, 5:40], truth[50:57, 50:57] = 1, 2
    maps = maps_of(truth)
    maps[1, 50:57, 50:53], maps[1, 50:57, 53:57] = 3, -3  # the sharpest edge lies in its middle

    labels = labels_of(maps, keep_unmarked=keep)

    assert labels.max() == count
    assert (labels[53, 53] > 0) == keep


@pytest.mark.parametrize("slopes", ["1", "1,2", "1,2;3", "a,b;c,d", "1,2;3,4;5,6"])
def test_slopes_that_are_no_four_numbers_are_refused(slopes: str) -> None:
    with pytest.raises(ParameterRefused, match="low,high;low,high"):
        labels_of(maps_of(two_halves()), slopes=slopes)


def test_slopes_of_the_whole_map_stand_for_those_that_are_not_given() -> None:
    maps = maps_of(cells(3, 150))
    found = slopes_of_whole_map(maps, HOVER.parameters_from({}, {}))

    labels = labels_of(maps, **found)

    np.testing.assert_array_equal(labels, labels_of(maps))
    assert slopes_of_whole_map(maps, HOVER.parameters_from(found, {})) == {}


def test_a_stack_or_a_map_without_places_is_refused() -> None:
    maps = maps_of(two_halves())

    with pytest.raises(DimensionsNotDone):
        labels_of(maps[:, None])
    with pytest.raises(ChannelsDiffer):
        labels_of(maps[:2])
    with pytest.raises(ChannelsDiffer):
        slopes_of_whole_map(maps[:2], HOVER.parameters_from({}, {}))


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (60, 71), (300, 301)])
@pytest.mark.parametrize("size", [3, 5, 7, 21])
def test_slopes_are_those_of_scipy_bit_by_bit(
    size: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(size).normal(size=shape)
    smooth = _binomial(size - 1)
    derivative = np.convolve(_binomial(size - 2), [-1, 1])
    monkeypatch.setattr(tiled, "SIDE_PX", 64)

    for axis in (0, 1):
        along = ndimage.correlate1d(values, derivative, axis, mode="mirror")
        expected = ndimage.correlate1d(along, smooth, 1 - axis, mode="mirror")
        np.testing.assert_array_equal(_slope(values, axis, size), expected)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (60, 71)])
@pytest.mark.parametrize("share", [0.4, 0.8, 0.95])
def test_brush_and_filled_holes_are_those_of_scipy(share: float, shape: tuple[int, int]) -> None:
    inside = np.random.default_rng(0).random(shape) < share
    ellipse = np.ones((5, 5), np.bool_)
    ellipse[::4, [0, 1, 3, 4]] = False

    np.testing.assert_array_equal(opened(inside), ndimage.binary_opening(inside, ellipse))
    np.testing.assert_array_equal(filled(inside), ndimage.binary_fill_holes(inside))
