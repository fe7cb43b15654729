"""Of the objects that three masks of a stack have, those that two of them have are kept."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bmz.base.arrays import LabelArray
from bmz.process.matching import match_labels
from bmz.process.plane_votes import voted
from bmz.process.relabel import in_raster_order


def box(z: slice, y: slice, x: slice) -> LabelArray:
    mask = np.zeros((20, 20, 20), np.int32)
    mask[z, y, x] = 1
    return mask


A, B = slice(2, 12), slice(13, 18)


def test_voxels_of_an_object_are_those_that_two_masks_have() -> None:
    masks = [box(A, A, A), box(A, A, slice(2, 11)), box(A, A, slice(3, 13))]

    done = voted(masks)

    np.testing.assert_array_equal(done.labels, box(A, A, A))
    assert [own.tolist() for own in done.numbers] == [[0, 1]] * 3


def test_an_object_of_one_mask_alone_is_dropped() -> None:
    nothing = np.zeros((20, 20, 20), np.int32)
    both = box(A, A, A) + 2 * box(B, B, B)

    done = voted([both, box(A, A, A), nothing])

    assert done.labels.max() == 1
    assert done.numbers[0].tolist() == [0, 1, 0]


def test_an_object_that_one_mask_cut_in_two_stays_whole() -> None:
    whole = box(slice(2, 18), A, A)
    cut = whole.copy()
    cut[10:18][whole[10:18] > 0] = 2

    done = voted([whole, whole, cut])

    np.testing.assert_array_equal(done.labels, whole)
    assert done.numbers[2].tolist() == [0, 1, 1]


def test_objects_that_one_mask_joined_stay_apart() -> None:
    two = box(slice(2, 9), A, A) + 2 * box(slice(9, 18), A, A)
    joined = (two > 0).astype(np.int32)

    done = voted([two, two, joined])

    np.testing.assert_array_equal(done.labels, two)


def test_without_objects_there_are_none() -> None:
    nothing = np.zeros((3, 4, 5), np.int32)

    done = voted([nothing] * 3)

    assert done.labels.max() == 0
    assert [own.tolist() for own in done.numbers] == [[0]] * 3


def test_masks_with_mistakes_of_their_own_have_the_true_objects_together() -> None:
    truth = np.zeros((40, 60, 60), np.int32)
    rng = np.random.default_rng(0)
    for number, (z, y, x) in enumerate(np.ndindex(2, 3, 3), start=1):
        middle = np.array([10 + 20 * z, 10 + 20 * y, 10 + 20 * x]) + rng.uniform(-1, 1, 3)
        away = np.square(np.indices(truth.shape) - middle.reshape(3, 1, 1, 1)).sum(axis=0)
        truth[away < rng.uniform(6, 9) ** 2] = number
    masks = []
    for _ in range(3):
        lost, split = rng.choice(np.arange(1, 19), 2, replace=False)
        mask = np.where(truth == lost, 0, truth)
        half = (truth == split) & (np.indices(truth.shape)[0] % 40 < 10)
        mask[half] = 19
        edge = ndimage.grey_dilation(mask, 3) != ndimage.grey_erosion(mask, 3)
        mask[edge & (rng.random(mask.shape) < 0.3)] = 0
        masks.append(in_raster_order(mask).labels)

    done = voted(masks)

    assert match_labels(done.labels, truth, 0.5).f1 >= 0.95
    assert all(
        match_labels(done.labels, truth, 0.5).f1 >= match_labels(m, truth, 0.5).f1 for m in masks
    )
