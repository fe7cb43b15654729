"""The overlay drawn in the terminal."""

from __future__ import annotations

import io
import logging
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bmz.cli import output
from bmz.cli.main import status_of
from bmz.cli.output import draw, draw_all


def png(folder: Path) -> Path:
    picture = np.zeros((60, 60, 3), np.uint8)
    picture[20:40, 20:40] = (255, 0, 0)
    Image.fromarray(picture).save(folder / "a.png")
    return folder / "a.png"


# the library that draws still calls Pillow by an older name
@pytest.mark.filterwarnings("ignore:Image.Image.getdata:DeprecationWarning")
def test_a_picture_is_drawn_no_higher_than_the_terminal(tmp_path: Path) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=60, height=20)

    draw(png(tmp_path), console)

    lines = text.getvalue().rstrip("\n").splitlines()
    assert 5 < len(lines) <= 16


@pytest.mark.filterwarnings("ignore:Image.Image.getdata:DeprecationWarning")
@pytest.mark.parametrize(
    ("shape", "cells"), [((300, 600), (64, 16)), ((60, 60), (32, 16)), ((100, 1000), (80, 4))]
)
def test_a_picture_keeps_its_shape_and_fits_the_width(
    shape: tuple[int, int], cells: tuple[int, int], tmp_path: Path
) -> None:
    Image.fromarray(np.full((*shape, 3), 200, np.uint8)).save(tmp_path / "a.png")
    text = io.StringIO()

    draw(tmp_path / "a.png", Console(file=text, force_terminal=True, width=80, height=20))

    lines = re.sub("\x1b\\[[0-9;]*m", "", text.getvalue()).rstrip("\n").splitlines()
    assert (max(map(len, lines)), len(lines)) == cells


@pytest.mark.filterwarnings("ignore:Image.Image.getdata:DeprecationWarning")
def test_a_terminal_that_does_not_answer_gets_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(png(tmp_path), Console(file=io.StringIO(), force_terminal=True, width=60, height=20))

    logging.getLogger("textual_image._terminal").warning("no answer", exc_info=OSError())

    assert capsys.readouterr().err == ""


def test_every_picture_is_drawn_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(output, "_has_a_size", lambda: True)
    monkeypatch.setattr(output, "draw", lambda path, _: drawn.append(path))

    draw_all([tmp_path / "a.png", tmp_path / "b.png"])

    assert [path.name for path in drawn] == ["a.png", "b.png"]


def test_where_there_is_no_terminal_a_note_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_all([tmp_path / "absent.png"])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)  # and one of no size
    draw_all([tmp_path / "absent.png"])

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("--preview") == 2


def test_a_preview_without_an_overlay_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    status = status_of(
        ["run", "starter/nuclei", "a.tif", "-o", "out", "--preview", "--save", "labels"]
    )

    assert status == 2
    assert "--preview" in capsys.readouterr().err
