"""Masks of single objects become labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.arrays import AnyArray
from bmz.image.prompt_files import Prompt
from bmz.process.prompts import (
    ObjectMasks,
    PromptSettings,
    asked_as,
    grid_points,
    kept_masks,
    mask_logits,
    prompts_of_labels,
    resized_prompt,
    stability,
)
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


def test_logits_are_stable_where_the_threshold_hardly_moves_their_edge() -> None:
    y, x = np.mgrid[:40, :40]
    distance = 10 - np.hypot(y - 20, x - 20)
    steep, flat = distance * 10, distance / 3

    found = stability(np.stack([steep, flat]).astype(np.float32), 0.0)
    as_shares = stability(1 / (1 + np.exp(-np.stack([steep, flat]))), 0.5)

    assert found[0] > 0.9
    assert found[1] < 0.6
    assert as_shares.tolist() == pytest.approx(found.tolist())
    assert stability(np.ones((2, 3, 3), np.uint8), 0.5).tolist() == [1, 1]


def test_an_unstable_mask_is_no_object_of_a_grid_and_one_that_was_asked_for() -> None:
    y, x = np.mgrid[:40, :40]
    flat = ((10 - np.hypot(y - 20, x - 20)) / 3).astype(np.float32)[None]
    settings = PromptSettings(mask_threshold=0.0)
    tile = (slice(0, 40), slice(0, 40))

    kept = kept_masks(flat, np.ones(1), tile, settings)
    asked = kept_masks(flat, np.ones(1), tile, settings.for_prompts([]))
    refused = kept_masks(flat, np.ones(1), tile, settings.for_prompts(["stability"]))

    assert [len(objects.masks) for objects in (kept, asked, refused)] == [0, 1, 0]


@given(seed=st.integers(0, 1000), way=st.sampled_from(["point", "box", "mask"]))
def test_each_object_of_a_mask_is_asked_for_within_its_bounds(seed: int, way: str) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((30, 40), np.uint16)
    for number in (3, 900, 7):
        y, x = rng.integers(0, 25), rng.integers(0, 35)
        labels[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = number

    numbers = [int(n) for n in np.unique(labels) if n]
    prompts = [asked_as(prompt, way, margin=2) for prompt in prompts_of_labels([labels])]

    assert len(prompts) == len(numbers)
    for number, prompt in zip(numbers, prompts, strict=True):
        there = np.argwhere(labels == number)
        low, high = there.min(axis=0), there.max(axis=0)
        if way == "point":
            assert labels[tuple(prompt.points[0].astype(int))] == number
        elif way == "box":
            assert prompt.box is not None
            assert prompt.box.tolist() == [*(low - 2), *(high + 2)]
        else:
            assert prompt.mask is not None
            assert prompt.mask.sum() == len(there)
            assert prompt.corner == tuple(low)


@given(
    y=st.integers(0, 60), x=st.integers(0, 40), height=st.integers(2, 30), width=st.integers(2, 30)
)
def test_a_mask_lies_in_the_square_where_it_lies_in_the_tile(
    y: int, x: int, height: int, width: int
) -> None:
    tile = (slice(20, 120), slice(10, 60))
    prompt = Prompt(
        np.zeros((0, 2)), mask=np.ones((height, width), np.bool_), corner=(y + 20, x + 10)
    )

    logits = mask_logits(prompt, tile, 64)

    places = np.argwhere(logits > 0)
    factor = 100 / 64
    assert len(places)
    # of a mask that goes on beyond the tile, which is 50 px wide, a part lies in it
    middle = (y + height / 2, (x + min(x + width, 50)) / 2)
    assert np.abs((places.mean(axis=0) + 0.5) * factor - middle).max() < 2
    if y + height <= 100 and x + width <= 50:
        area = len(places) * factor**2
        assert area == pytest.approx(height * width, abs=2 * (height + width + 2) * factor)


@given(factor=st.sampled_from([0.5, 1.0, 2.0, 3.0]), seed=st.integers(0, 100))
def test_a_resized_prompt_lies_where_the_resized_object_does(factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((8, 6)) > 0.4
    mask[0, 0] = mask[-1, -1] = True
    given_one = Prompt(np.array([[4.0, 2.0]]), np.array([2.0, 1, 9, 6]), mask, (2, 4))

    moved = resized_prompt(given_one, (factor, factor))

    assert moved.points.tolist() == [[4.5 * factor - 0.5, 2.5 * factor - 0.5]]
    assert moved.box is not None
    assert moved.box.tolist() == [a * factor + factor / 2 - 0.5 for a in (2, 1, 9, 6)]
    assert moved.mask is not None
    assert moved.mask.shape == (8 * factor, 6 * factor)
    if factor >= 1:
        assert moved.mask.sum() == mask.sum() * factor**2
