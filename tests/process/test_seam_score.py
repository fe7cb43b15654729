from __future__ import annotations

import numpy as np
import pytest

from bmz.base.arrays import LabelArray
from bmz.process.seam_score import seam_score

CUTS = {"y": (0, 100, 200, 300, 400), "x": (0, 100, 200, 300, 400)}


def crowd(seed: int) -> LabelArray:
    """Scatter many discs, so that no line is like another by design."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((400, 400))
    labels = np.zeros((400, 400), np.int32)
    for number in range(1, 700):
        cy, cx, radius = rng.uniform(0, 400), rng.uniform(0, 400), rng.uniform(3, 9)
        labels[(np.hypot(y - cy, x - cx) < radius) & (labels == 0)] = number
    return labels


def test_tiles_that_leave_no_trace_score_about_one() -> None:
    scores = [seam_score(crowd(seed), CUTS) for seed in range(6)]

    assert np.mean([score for score in scores if score is not None]) == pytest.approx(1, abs=0.1)


def test_objects_that_are_cut_on_tile_lines_raise_the_score() -> None:
    labels = crowd(1)
    for line in (100, 200, 300):
        labels[line:, :] += 1000 * (labels[line:, :] > 0)

    score = seam_score(labels, CUTS)

    assert score is not None
    assert score > 1.2


def test_one_tile_or_hardly_an_object_has_no_score() -> None:
    assert seam_score(crowd(2), {"y": (0, 400), "x": (0, 400)}) is None
    assert seam_score(np.zeros((400, 400), np.int32), CUTS) is None


def test_lines_of_a_stack_are_looked_at_in_every_plane() -> None:
    flat = crowd(3)

    assert seam_score(np.stack([flat, flat]), CUTS) == seam_score(flat, CUTS)
