"""Every object has the class that the network tells of it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.process.ideal_maps import classed

from bmz.base.arrays import AnyArray, FloatArray
from bmz.process.object_classes import classes_from_maps, classes_within
from bmz.process.recipe import Labelled, Value
from bmz.process.recipes import RECIPES
from bmz.process.relabel import ChannelsDiffer

NAMES = ("background", "round", "long")


def test_an_object_has_the_class_of_most_of_its_pixels_and_their_share() -> None:
    labels = np.array([[1, 1, 1, 1, 0, 2, 2, 3]])
    classes = np.array([[1, 2, 2, 2, 1, 0, 1, 0]])

    columns = classes_within(labels, classes, NAMES)

    # the background counts only where there is nothing else
    assert columns["class"].tolist() == ["long", "round", "background"]
    assert columns["class_probability"].tolist() == [0.75, 0.5, 1.0]


def test_a_first_class_that_is_no_background_is_one_of_objects() -> None:
    labels, classes = np.array([[1, 1, 1]]), np.array([[0, 0, 1]])

    assert classes_within(labels, classes, ("dead", "alive"))["class"].tolist() == ["dead"]
    assert classes_within(labels, classes, ("bg", "alive"))["class"].tolist() == ["alive"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [("background,round,long", ["long", "round"]), ("", ["2", "1"]), ("none,dead", ["2", "dead"])],
)
def test_a_class_may_be_told_by_its_number_or_by_a_map_for_each(
    names: str, expected: list[str]
) -> None:
    labels = np.array([[1, 1, 0, 2]])
    numbers = np.array([[[2, 2, 0, 1]]], np.float32)
    maps = (np.arange(3)[:, None, None] == numbers).astype(np.float32)

    by_number = classes_from_maps(labels, numbers, 0, names, "hover")

    assert by_number["class"].tolist() == expected
    if len(names.split(",")) != 2:
        by_map = classes_from_maps(labels, maps, 0, names, "hover")
        assert by_map["class"].tolist() == expected


def test_classes_lie_on_the_grid_of_the_labels() -> None:
    labels = np.repeat(np.array([[1, 2]]), 2, axis=1)

    columns = classes_from_maps(labels, np.array([[[1.0, 2.0]]]), 0, "", "hover")

    assert columns["class"].tolist() == ["1", "2"]


def test_fewer_maps_than_names_are_refused() -> None:
    with pytest.raises(ChannelsDiffer, match="3 classes from channel 1 on"):
        classes_from_maps(np.ones((2, 2), int), np.ones((3, 2, 2)), 1, ",".join(NAMES), "hover")
    with pytest.raises(ChannelsDiffer):
        classes_from_maps(np.ones((2, 2), int), np.ones((3, 2, 2)), 3, "", "hover")


def labelled(recipe: str, maps: FloatArray, parameters: dict[str, Value]) -> Labelled:
    own = RECIPES[recipe]
    return own.apply(maps, (1, 1), own.parameters_from(parameters, {}))


def told_rightly(done: Labelled, truth: AnyArray, words: AnyArray) -> float:
    """Give the share of objects of which the class is that of the object that they lie on."""
    classes = done.columns["class"]
    right = [
        classes[k - 1] == words[np.bincount(truth[done.labels == k]).argmax()]
        for k in range(1, int(done.labels.max()) + 1)
    ]
    return float(np.mean(right))


@pytest.mark.parametrize("recipe", ["stardist", "hover", "panoptic"])
def test_classes_are_told_rightly_from_maps_with_mild_noise(recipe: str) -> None:
    family, truth, words = classed(recipe, 5)
    maps = family.maps(truth)
    noise = np.random.default_rng(1).normal(0, 0.05, maps.shape).astype(np.float32)

    done = labelled(recipe, maps + noise, dict(family.parameters))

    assert done.labels.max() >= 0.95 * truth.max()
    assert told_rightly(done, truth, words) >= 0.95
    assert (
        (done.columns["class_probability"] > 0) & (done.columns["class_probability"] < 1.3)
    ).all()


def test_without_a_foreground_it_is_what_the_background_leaves() -> None:
    family, truth, words = classed("panoptic", 6)
    maps = family.maps(truth)
    parameters = {**family.parameters, "foreground_channel": -1}
    maps[0] = 0

    done = labelled("panoptic", maps, parameters)

    np.testing.assert_array_equal(done.labels > 0, truth > 0)
    assert told_rightly(done, truth, words) == 1


def test_the_overlap_label_of_stars_has_no_class() -> None:
    maps = np.zeros((1 + 96 + 2, 12, 40, 40), np.float32)
    for x in (14, 24):
        maps[0, 6, 20, x], maps[1:97, 6, 20, x], maps[98, 6, 20, x] = 0.9, 8, 0.75
    settings: dict[str, Value] = {
        "classes": "background,a", "overlap_label": 9, "nms_threshold": 1.0, "border": 0,
    }  # fmt: skip

    own = RECIPES["stardist"]
    done = own.apply(maps, (1, 1, 1), own.parameters_from(settings, {}))

    assert sorted(done.columns["class"].tolist()) == ["", "a", "a"]
    assert sorted(done.columns["class_probability"].tolist()) == [0, 0.75, 0.75]
