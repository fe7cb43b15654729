"""Objects are numbered as a reader meets them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage
from skimage.segmentation import relabel_sequential
from tests.strategies import label_masks

from bmz.base.arrays import LabelArray
from bmz.process.object_columns import scored
from bmz.process.relabel import closed_up, connected, in_raster_order, renumbered

MASKS = label_masks(
    labels=[0, 0, 1, 2, 3, 7, 60_000],
    dtypes=[np.int32, np.uint16, np.int64, np.uint64],
    most_px=7,
)


@given(MASKS)
def test_numbers_rise_by_one_with_the_first_pixels_and_objects_stay_the_same(
    mask: LabelArray,
) -> None:
    labels = in_raster_order(mask).labels

    found, first = np.unique(labels, return_index=True)
    pairs = set(zip(mask.ravel().tolist(), labels.ravel().tolist(), strict=True))
    objects = found > 0
    assert labels.dtype == np.int32
    assert found[objects].tolist() == list(range(1, len(np.unique(mask[mask > 0])) + 1))
    assert np.all(np.diff(first[objects]) > 0)
    assert np.array_equal(labels == 0, mask == 0)
    assert len(pairs) == len(np.unique(mask))


@given(MASKS)
def test_a_second_numbering_changes_nothing(mask: LabelArray) -> None:
    once = in_raster_order(mask).labels

    twice = in_raster_order(once).labels

    assert np.array_equal(once, twice)


@given(MASKS.filter(lambda mask: int(mask.max()) < 100))
def test_every_object_keeps_its_score(mask: LabelArray) -> None:
    scores = np.arange(100, dtype=np.float32) + 1  # the score of label k is k

    done = in_raster_order(mask, scored(scores))

    assert done.scores is not None
    assert len(done.scores) == done.labels.max()
    inside = mask > 0
    assert np.array_equal(done.scores[done.labels[inside] - 1], mask[inside])


def test_a_number_far_above_the_pixels_needs_no_table() -> None:
    mask = np.array([[0, 2**60], [5, 2**60]])

    labels = in_raster_order(mask).labels

    assert labels.tolist() == [[0, 1], [2, 1]]


@pytest.mark.parametrize("shape", [(0, 4), (3, 4)])
def test_a_mask_without_objects_has_no_scores(shape: tuple[int, int]) -> None:
    done = in_raster_order(np.zeros(shape, np.uint8), scored(np.zeros(0)))

    assert done.labels.shape == shape
    assert done.scores is not None
    assert done.scores.shape == (0,)


@given(MASKS)
def test_labels_close_up_as_those_of_scikit_image(labels: LabelArray) -> None:
    expected, _, numbers = relabel_sequential(labels)

    found, had = closed_up(labels)

    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(had, np.asarray(numbers)[1:])
    np.testing.assert_array_equal(closed_up(found)[0], found)


@pytest.mark.parametrize("shape", [(1, 1), (0, 3), (1, 40), (40, 1), (60, 71), (5, 20, 21)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.7, 1.0])
def test_what_is_connected_by_faces_has_the_numbers_of_scipy(
    share: float, shape: tuple[int, ...]
) -> None:
    inside = np.random.default_rng(1).random(shape) < share

    labels, count = connected(inside)

    expected, their_count = ndimage.label(inside)
    assert count == their_count
    np.testing.assert_array_equal(labels, expected)


@given(MASKS)
def test_labels_that_are_renumbered_in_place_are_in_raster_order(mask: LabelArray) -> None:
    expected = in_raster_order(mask).labels

    np.testing.assert_array_equal(renumbered(mask.astype(np.int32)), expected)
    doubled = renumbered(expected.copy(), 2 * np.arange(expected.max(initial=0) + 1))
    np.testing.assert_array_equal(doubled, 2 * expected)
