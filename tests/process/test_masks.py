"""The recipe ``masks``: objects that a model gives one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.process.components import MASKS, ObjectsDiffer
from bmz.process.recipe import Labelled

SHAPE = (30, 40)


def painted(masks: AnyArray, **more: Any) -> Labelled:
    others = {name: more.pop(name) for name in ("bboxes", "scores") if name in more}
    words = {"bboxes": "boxes", "scores": "scores"}
    given = {words[name]: name for name in others} | more
    parameters = MASKS.parameters_from(given, {})
    return MASKS.apply(masks, (), parameters, shape=SHAPE, others=others)


def test_masks_of_the_image_are_painted_by_score() -> None:
    masks = np.zeros((3, *SHAPE))
    masks[0, 5:15, 5:15] = masks[1, 10:20, 10:20] = masks[2, 25:, 30:] = 1

    done = painted(masks, scores=np.array([0.7, 0.9, 0.2]))

    assert done.labels.max() == 2
    assert done.labels[12, 12] == 2
    assert done.scores is not None
    assert done.scores.tolist() == pytest.approx([0.7, 0.9])
    assert done.drawn is not None
    assert done.drawn[12, 12] == 1


def test_masks_of_boxes_fill_them_between_their_pixels() -> None:
    full = np.ones((1, 1, 28, 28), np.float32)

    done = painted(full, bboxes=np.array([[4.0, 6.0, 24.0, 16.0]]), scores=np.array([0.9]))

    y, x = np.nonzero(done.labels)
    assert (y.min(), y.max(), x.min(), x.max()) == (6, 15, 4, 23)
    assert len(y) == 200


def test_a_disc_in_a_box_becomes_an_ellipse_of_its_size() -> None:
    side = (np.arange(28) + 0.5) / 28 - 0.5
    inside = np.hypot(side[:, None], side[None]) < 0.5

    done = painted(inside[None].astype(np.float32), bboxes=np.array([[5.0, 5.0, 35.0, 25.0]]))

    assert np.count_nonzero(done.labels) == pytest.approx(np.pi * 15 * 10, rel=0.04)
    assert done.scores is None


def test_boxes_may_reach_over_the_edge_of_the_image() -> None:
    boxes = np.array([[-10.0, -10.0, 10.0, 10.0], [35.0, 20.0, 60.0, 50.0], [50.0, 0.0, 60.0, 9.0]])

    done = painted(np.ones((3, 28, 28)), bboxes=boxes)

    assert np.bincount(done.labels.ravel())[1:].tolist() == [100, 50]


def test_thresholds_are_compared_as_given() -> None:
    masks = np.full((1, *SHAPE), 0.6)

    assert painted(masks, mask_threshold=0.7).labels.max() == 0
    assert painted(masks, scores=np.array([0.6]), score_threshold=0.7).labels.max() == 0
    assert painted(masks, scores=np.array([0.6])).labels.max() == 1


def test_no_object_at_all_gives_an_empty_mask() -> None:
    done = painted(np.zeros((0, 1, 28, 28)), bboxes=np.zeros((0, 4)), scores=np.zeros(0))

    assert done.labels.shape == SHAPE
    assert done.labels.max() == 0


@pytest.mark.parametrize(
    "more",
    [
        {"scores": np.ones(3)},
        {"bboxes": np.ones((2, 3))},
        {"boxes": "nowhere"},
        {},
    ],
)
def test_outputs_that_do_not_belong_together_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ObjectsDiffer, match=r"\[recipe\.objects\]"):
        painted(np.ones((2, 28, 28)), **more)
