from __future__ import annotations

import numpy as np
import pytest

from bmz.base.arrays import LabelArray
from bmz.engine.output_check import seam_score

CUTS = {"y": (0, 100, 200, 300, 400), "x": (0, 100, 200, 300, 400)}


def crowd(seed: int) -> LabelArray:
    """Scatter many discs, so that no line is like another by design."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((400, 400), np.int32)
    for number in range(1, 700):
        cy, cx, radius = rng.uniform(0, 400), rng.uniform(0, 400), rng.uniform(3, 9)
        top, left = (max(0, int(middle - radius)) for middle in (cy, cx))
        box = labels[top : int(cy + radius) + 1, left : int(cx + radius) + 1]
        y, x = np.indices(box.shape)
        box[(np.hypot(y + top - cy, x + left - cx) < radius) & (box == 0)] = number
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


def steps(**edges: int) -> LabelArray:
    """Give a mask of 8 x 200 px with so many edges between row 1 and 2, 3 and 4, 5 and 6."""
    labels = np.ones((8, 200), np.int32)
    for row, count in ((2, edges["before"]), (4, edges["on"]), (6, edges["behind"])):
        labels[row:, :count] += 1
    return labels


@pytest.mark.parametrize(
    ("on", "score"),
    [(200, 2.6667), (75, 1.0), (0, 0.0)],  # of 200 px; beside the line 150 of 400
)
def test_the_score_is_the_density_on_the_lines_over_that_half_a_tile_away(
    on: int, score: float
) -> None:
    labels = steps(before=100, on=on, behind=50)

    assert seam_score(labels, {"y": (0, 4, 8)}) == score
    assert seam_score(labels.T, {"x": (0, 4, 8)}) == score
    assert seam_score(labels, {"y": (0, 3.6, 8.2)}) == score


@pytest.mark.parametrize(("behind", "score"), [(49, None), (50, 4.0)])
def test_fewer_than_100_edges_beside_the_lines_say_nothing(
    behind: int, score: float | None
) -> None:
    labels = steps(before=50, on=200, behind=behind)

    assert seam_score(labels, {"y": (0, 4, 8)}) == score


def test_both_axes_are_counted_together() -> None:
    labels = steps(before=200, on=200, behind=200)

    # along x nothing ends: 200 of 200 + 8 px on the lines, 400 of 400 + 16 px beside them
    assert seam_score(labels, {"y": (0, 4, 8), "x": (0, 100, 200)}) == 1.0
    assert seam_score(labels, {"y": (0, 8), "x": (0, 100, 200)}) is None
