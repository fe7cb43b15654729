"""The parts of the comparison with reference tools that need none of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.process.ideal_maps import cells

from bmz.process.matching import match_labels

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def benchmarks_are_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield
    for name in [n for n in sys.modules if n.split(".")[0] == "references"]:
        del sys.modules[name]


def agreement(one: Any, other: Any) -> Any:
    from references.score import Agreement  # type: ignore[import-not-found]

    found = Agreement()
    found.add(one, other)
    return found


def test_the_matcher_of_the_comparison_agrees_with_that_of_bmz() -> None:
    truth = cells(1)
    moved = np.roll(truth, 1, 1)

    found = agreement(moved, truth)

    wanted = [match_labels(moved, truth, iou).f1 for iou in (0.5, 0.8, 0.9)]
    assert found.f1 == pytest.approx(wanted)
    assert found.f1[2] < found.f1[0]


@pytest.mark.parametrize(
    ("one", "other", "f1"),
    [
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]], 1.0),
        ([[0, 0], [0, 0]], [[0, 3], [0, 0]], 0.0),
        ([[7, 7], [7, 7]], [[2, 2], [2, 2]], 1.0),
        ([[1, 1], [2, 2]], [[5, 5], [9, 9]], 1.0),
        ([[1, 1], [2, 2]], [[0, 0], [9, 9]], 2 / 3),
    ],
)
def test_objects_count_whatever_their_numbers_and_with_or_without_background(
    one: list[list[int]], other: list[list[int]], f1: float
) -> None:
    found = agreement(np.array(one), np.array(other))

    assert found.f1 == pytest.approx((f1,) * 3)


def test_masks_are_summed_object_by_object_and_not_averaged() -> None:
    from references.score import Agreement

    found = Agreement()
    found.add(np.array([[1, 2, 3, 0]]), np.array([[1, 2, 3, 0]]))
    found.add(np.array([[0, 0]]), np.array([[1, 0]]))

    assert found.f1[0] == pytest.approx(2 * 3 / 7)


def row(ours: int, theirs: int) -> Any:
    from references.cases import CASES  # type: ignore[import-not-found]
    from references.masks import STRENGTHS  # type: ignore[import-not-found]
    from references.page import Row  # type: ignore[import-not-found]
    from references.score import Agreement

    own, reference = (Agreement(100, 100, [same] * 3) for same in (ours, theirs))
    return Row(CASES[0], STRENGTHS[0], own, own, reference, 1.0, 2.0)


@pytest.mark.parametrize(("ours", "theirs", "fails"), [(90, 91, False), (90, 92, True)])
def test_a_row_fails_where_bmz_is_worse_by_more_than_a_hundredth(
    ours: int, theirs: int, fails: bool
) -> None:
    assert row(ours, theirs).fails is fails
    assert ("**below**" in row(ours, theirs).line) is fails


def test_the_table_replaces_what_lies_between_its_marks(tmp_path: Path) -> None:
    from references.page import BEGIN, END, write_page

    page = tmp_path / "parity.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    write_page(page, [row(90, 80)])
    write_page(page, [row(90, 80)])

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| `stardist` |") == 1
    assert "None of the 1 rows" in text


def test_rows_of_other_recipes_stay_where_they_are_in_the_table(tmp_path: Path) -> None:
    from references.page import BEGIN, END, write_page

    page = tmp_path / "parity.md"
    other = "| `mesmer` | x | strong | 1 | 1 | 1 | 1 | 0.50 **below** |"
    page.write_text(f"{BEGIN}\n{other}\n| `stardist` | old |\n{END}\n")

    write_page(page, [row(90, 80)])

    lines = page.read_text().splitlines()
    assert lines[-2] == other
    assert "`stardist`" in lines[-3]
    assert "| old |" not in page.read_text()
    assert "1 of 2 rows are" in page.read_text()


def test_every_case_names_a_recipe_with_its_parameters_and_a_work() -> None:
    from references.cases import CASES
    from references.environment import WORKER  # type: ignore[import-not-found]

    from bmz.process.recipes import RECIPES

    worker = WORKER.read_text()
    for case in CASES:
        RECIPES[case.recipe].parameters_from(case.parameters, {})
        assert f"def {case.work}(" in worker
        assert not isinstance(case.draws, str) or f"def {case.draws}(" in worker


@pytest.mark.parametrize("number", range(4))
def test_maps_get_worse_with_each_strength_and_masks_stay(number: int) -> None:
    from references.masks import STRENGTHS, degraded

    ideal = (cells(2) > 0)[None].astype(np.float32)
    before = ideal.copy()

    apart = [float(np.abs(degraded(ideal, s, 0) - ideal).mean()) for s in STRENGTHS[: number + 1]]

    assert apart == sorted(apart)
    assert apart[0] < 0.001
    np.testing.assert_array_equal(ideal, before)


def test_masks_held_out_are_many_and_none_of_the_table(shared: Path) -> None:
    from references.masks import held_out, planes

    scored = [mask.tobytes() for mask in planes(shared, quick=False)]

    others = [mask.tobytes() for mask in held_out(shared)]

    assert len(others) > 30
    assert len(set(others)) == len(others)
    assert not set(others) & set(scored)
