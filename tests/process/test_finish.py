"""What is done to labels whatever the recipe."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from bmz.base.arrays import AnyArray
from bmz.process.object_columns import scored
from bmz.process.recipe import FINISH, Finish, Labelled
from bmz.process.recipes import RECIPES
from bmz.process.relabel import at_border, finish_labels, smoothed, without_holes

SEEDS = st.integers(0, 2**32 - 1)


def finished(labels: AnyArray, scores: list[float] | None = None, **wanted: Any) -> Labelled:
    return finish_labels(
        Labelled(labels, scored(None if scores is None else np.array(scores))), Finish(**wanted)
    )


def blobs(seed: int, shape: tuple[int, ...] = (40, 50)) -> AnyArray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)
    found: AnyArray = ndimage.label(noise > np.quantile(noise, 0.6))[0]
    return found.astype(np.int32)


def test_the_parameters_are_those_of_the_settings() -> None:
    assert {p.name: p.default for p in FINISH} == {f.name: f.default for f in fields(Finish)}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_them(name: str) -> None:
    given_values = RECIPES[name].parameters_from({}, {"remove_border": "yes", "max_size": "9"})

    assert Finish.of(given_values, RECIPES[name].own).remove_border
    assert Finish.of(given_values, RECIPES[name].own).max_size == 9


def test_sizes_are_inclusive_and_scores_go_with_their_objects() -> None:
    labels = np.array([[1, 0, 2, 2, 0, 3, 3, 3, 0, 4, 4, 4, 4]])

    done = finished(labels, [0.1, 0.2, 0.3, 0.4], min_size=2, max_size=3)

    assert done.labels.tolist() == [[0, 0, 1, 1, 0, 2, 2, 2, 0, 0, 0, 0, 0]]
    assert done.scores is not None
    assert done.scores.tolist() == pytest.approx([0.2, 0.3])


def test_objects_at_the_edge_along_y_and_x_go_and_those_at_the_top_of_a_stack_stay() -> None:
    labels = np.zeros((3, 5, 5), np.int32)
    labels[0, 2, 2], labels[1, 0, 2], labels[1, 2, 4], labels[2, 4, 0] = 1, 2, 3, 4

    done = finished(labels, remove_border=True)

    assert at_border(labels).tolist() == [True, False, True, True, True]
    assert np.argwhere(done.labels).tolist() == [[0, 2, 2]]


def test_holes_are_filled_but_another_object_in_one_stays() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[1:8, 1:8] = 1
    labels[2:7, 2:7] = 0
    labels[4, 4] = 2

    done = without_holes(labels)

    assert np.count_nonzero(done == 1) == 48
    assert done[4, 4] == 2
    # through a corner there is no way out
    labels[1, 1] = 0
    assert np.count_nonzero(without_holes(labels) == 1) == 47


@given(SEEDS, st.floats(0.5, 3))
def test_smoothing_keeps_every_object_and_no_two_share_a_pixel(seed: int, sigma: float) -> None:
    labels = blobs(seed)

    done = smoothed(labels, sigma)

    assert np.unique(done).tolist() == np.unique(labels).tolist()


def test_smoothing_takes_a_spike_away() -> None:
    labels = np.zeros((30, 30), np.int32)
    labels[8:20, 8:20] = 1
    labels[13, 20:26] = 1

    done = smoothed(labels, 2)

    assert done[13, 23] == 0
    assert np.count_nonzero(done) == pytest.approx(144, rel=0.1)


@given(SEEDS)
def test_without_any_wish_labels_are_only_numbered(seed: int) -> None:
    labels = blobs(seed)
    shuffled = np.where(labels > 0, labels.max() * 2 - labels, 0)

    done = finished(shuffled).labels

    assert np.array_equal(done > 0, labels > 0)
    assert np.array_equal(done, finished(labels).labels)


def test_classes_keep_their_numbers() -> None:
    classes = Labelled(np.array([[0, 3, 3, 5]]), classes=True)

    assert finish_labels(classes, Finish(min_size=9)).labels.tolist() == [[0, 3, 3, 5]]


def test_an_image_without_pixels_or_objects_passes() -> None:
    wanted: dict[str, Any] = {
        "min_size": 3,
        "smooth": 1.0,
        "fill_holes": True,
        "remove_border": True,
    }

    assert finished(np.zeros((0, 4), np.int32), **wanted).labels.shape == (0, 4)
    assert finished(np.zeros((6, 4), np.int32), **wanted).labels.max() == 0
