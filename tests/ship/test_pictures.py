"""The pictures of the pages show what the code makes today, and each how-to page has one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

pytest.importorskip("onnxruntime")
pytest.importorskip("matplotlib")  # of whose fonts captions are made

from docs import first_hour, newcomer, notebook
from docs.panels import read_small, write_small
from docs.pictures import DOCS, PICTURES

ROOT = DOCS.parent

MOST_DIFFERENT = 0.02
"""Of the values; another processor may move an outline by a pixel."""

MOST_BYTES = 250_000
QUICK = ("first-look", "how-to/adopt", "how-to/describe", "how-to/fiji-and-qupath", "how-to/shell")
"""Pictures for which the model runs once, or not at all."""


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PICTURES]
)
def test_a_picture_is_that_of_the_code(name: str, tmp_path: Path) -> None:
    write_small(tmp_path / "made.png", PICTURES[name]())

    kept, made = read_small(DOCS / f"{name}.png"), read_small(tmp_path / "made.png")
    assert kept.shape == made.shape
    assert np.mean(np.abs(kept.astype(int) - made) > 16) <= MOST_DIFFERENT


@pytest.mark.parametrize(
    "page", sorted((DOCS / "how-to").glob("*.md")), ids=lambda page: str(page.stem)
)
def test_a_how_to_page_has_a_picture_that_is_there_is_small_and_is_told_in_words(
    page: Path,
) -> None:
    pictures = re.findall(r"!\[(.*?)\]\((.+?\.png)\)", page.read_text(encoding="utf-8"))

    assert pictures
    for words, name in pictures:
        assert (page.parent / name).stat().st_size <= MOST_BYTES
        assert len(words.split()) > 4


def test_the_page_of_the_first_hour_shows_the_commands_of_its_script_with_times() -> None:
    page = first_hour.PAGE.read_text(encoding="utf-8")
    steps = [step for task in first_hour.TASKS for step in task.steps]

    assert re.findall(r"(?m)^\$ (.+)$", page) == [step.command for step in steps]
    assert all(f"{step.words}\n" in page for step in steps)
    assert len(re.findall(r"(?m)^\*\d+\.\d s(, exit status 1)?\*$", page)) == len(steps)
    for task in first_hour.TASKS:
        assert (first_hour.PAGE.parent / f"first-hour-{task.name}.png").is_file()


def test_the_notebook_and_its_page_show_what_its_cells_give_today() -> None:
    cells = list(notebook.executed())

    assert notebook.PAGE.read_text(encoding="utf-8") == notebook.page(cells)
    assert notebook.NOTEBOOK.read_text(encoding="utf-8") == notebook.notebook(cells)
    (picture,) = (cell.value for cell in cells if isinstance(cell.value, np.ndarray))
    assert np.mean(np.abs(read_small(notebook.PICTURE).astype(int) - picture) > 32) <= 0.02


def test_the_page_says_how_long_what_readme_shows_took_a_newcomer() -> None:
    steps = newcomer.readme_steps((ROOT / "README.md").read_text(encoding="utf-8"))
    table = first_hour.INSTALLED.search(first_hour.PAGE.read_text(encoding="utf-8"))

    assert list(steps) == ["install", "first mask", "first fit"]
    assert table is not None
    assert all(f"`{command}`" in table[0] for command in steps.values())
    assert re.search(r"(?m)^\| Python 3\.1\d\.\d+ \|( \d+ s \(\d+ s\) \|){3}$", table[0])


def test_a_readme_that_does_not_show_a_step_is_an_error() -> None:
    with pytest.raises(ValueError, match="README does not show"):
        newcomer.readme_steps("pip install bmz")


@pytest.mark.parametrize("path", first_hour.FIT_PAGES, ids=lambda path: str(path.name))
def test_the_first_pages_open_with_the_picture_and_the_table_of_fit(path: Path) -> None:
    opening = path.read_text(encoding="utf-8").split("\n## ")[0]

    assert "first-look.png" in opening
    assert f"$ {first_hour.FIT_COMMAND}" in opening
    assert re.search(r"(?m)^1  starter/nuclei ", opening)


def test_the_images_of_the_first_hour_are_made_of_those_of_the_bowl(
    shared: Path, tmp_path: Path
) -> None:
    first_hour.write_images(shared, tmp_path)

    assert tifffile.imread(tmp_path / "cells.tif").shape == (2, 256, 256)
    assert {path.name for path in (tmp_path / "truth").iterdir()} == {"a.tif", "b.tif", "c.tif"}


@pytest.mark.slow
def test_the_first_hour_gives_the_same_answers_again(shared: Path, tmp_path: Path) -> None:
    answers, fitted = first_hour.run_all(shared, tmp_path)
    page = first_hour.PAGE.read_text(encoding="utf-8")

    lines = [
        line for task in first_hour.TASKS for told in answers[task.name] for line in told.lines
    ]
    timed = re.compile(r"\d+\.\d\d s\b")
    kept = {" ".join(timed.sub("", line).split()) for line in page.splitlines()}
    changed = [line for line in lines if " ".join(timed.sub("", line).split()) not in kept]
    assert changed == []
    readme = first_hour.FIT_PAGES[0].read_text(encoding="utf-8")
    assert first_hour.with_fit(readme, fitted) == readme
