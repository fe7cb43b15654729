"""Masks of single objects become labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.process.prompts import ObjectMasks, PromptSettings, grid_points, kept_masks
from bmz.process.recipe import Labelled
from bmz.process.recipes import RECIPES

PROMPTS = RECIPES["prompts"]
WHOLE = (slice(0, 40), slice(0, 50))


def disc(y: int, x: int, radius: int, shape: tuple[int, int] = (40, 50)) -> AnyArray:
    rows, columns = np.indices(shape)
    inside: AnyArray = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return inside


def found(masks: list[AnyArray], scores: list[float], **settings: Any) -> ObjectMasks:
    return kept_masks(np.stack(masks), np.array(scores), WHOLE, PromptSettings(**settings))


def labelled(objects: ObjectMasks, shape: tuple[int, int] = (40, 50)) -> Labelled:
    masks, beside = objects.as_outputs()
    others = {"scores": objects.scores, **beside}
    parameters = PROMPTS.parameters_from({}, {})
    return PROMPTS.apply(masks, (), parameters, shape=shape, others=others)


@pytest.mark.parametrize("shape", [(64, 96), (70, 33), (5, 5)])
def test_every_pixel_lies_within_half_a_spacing_of_a_point(shape: tuple[int, int]) -> None:
    points = grid_points(shape, 32)

    everywhere = np.indices(shape).reshape(2, -1).T[:, None]
    away = abs(everywhere - points).max(axis=2).min(axis=1)
    assert away.max() <= 16
    assert (points < shape).all()
    assert len(points) == np.prod([-(-size // 32) for size in shape])


def test_masks_with_a_low_score_or_too_small_or_too_large_are_no_objects() -> None:
    masks = [disc(20, 20, 6), disc(20, 20, 6), disc(20, 20, 1), np.ones((40, 50), np.bool_)]

    objects = found(masks, [0.9, 0.8, 0.95, 0.95])

    assert len(objects.masks) == 1
    assert objects.corners.tolist() == [[14, 14, 27, 27]]
    assert objects.scores.tolist() == pytest.approx([0.9])
    np.testing.assert_array_equal(objects.masks[0], disc(20, 20, 6)[14:27, 14:27])


def test_several_answers_for_an_object_are_one_object() -> None:
    masks = [disc(20, 20, 8), disc(20, 21, 8), disc(20, 20, 4), disc(10, 40, 5)]

    labels = labelled(found(masks, [0.9, 0.99, 0.95, 0.9])).labels

    assert labels.max() == 2
    np.testing.assert_array_equal(labels == 2, disc(20, 21, 8))
    np.testing.assert_array_equal(labels == 1, disc(10, 40, 5))


def test_two_objects_that_overlap_a_little_are_two_and_the_better_has_the_pixels() -> None:
    result = labelled(found([disc(20, 15, 8), disc(20, 28, 8)], [0.9, 0.95]))

    assert result.labels.max() == 2
    np.testing.assert_array_equal(result.labels == result.labels[20, 28], disc(20, 28, 8))
    assert result.scores is not None
    assert sorted(result.scores.tolist()) == pytest.approx([0.9, 0.95])
    assert result.drawn is not None
    assert result.drawn[20, 28] == pytest.approx(0.95)


def halves(other: AnyArray) -> ObjectMasks:
    """Give what two tiles that overlap between x 20 and 30 see of a disc, and of `other`."""
    whole = disc(20, 25, 10)
    parts = []
    for mask, first, end, score in ((whole, 0, 30, 0.9), (other, 20, 50, 0.95)):
        tile = (slice(0, 40), slice(first, end))
        settings = PromptSettings()
        parts.append(kept_masks(mask[tile][None], np.array([score]), tile, settings))
    return ObjectMasks.joined(parts)


def test_an_object_that_two_tiles_see_in_part_is_joined() -> None:
    labels = labelled(halves(disc(20, 25, 10))).labels

    np.testing.assert_array_equal(labels, disc(20, 25, 10))


def test_objects_of_two_tiles_that_differ_where_these_overlap_are_two() -> None:
    labels = labelled(halves(disc(20, 40, 12))).labels

    assert labels.max() == 2


def test_no_object_gives_an_empty_mask() -> None:
    result = labelled(ObjectMasks.joined([]))

    assert result.labels.shape == (40, 50)
    assert not result.labels.any()
    assert result.scores is not None
    assert len(result.scores) == 0


def test_masks_of_a_whole_image_are_taken_as_the_network_gives_them() -> None:
    masks = np.stack([disc(20, 20, 8), disc(10, 40, 5)])[None, :, None].astype(np.uint8)
    others = {"scores": np.array([[[0.9], [0.95]]], np.float32)}

    result = PROMPTS.apply(
        masks, (), PROMPTS.parameters_from({}, {}), shape=(40, 50), others=others
    )

    np.testing.assert_array_equal(result.labels > 0, disc(20, 20, 8) | disc(10, 40, 5))
    assert result.labels.max() == 2
