from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from bmz.base.progress import Note, Progress
from bmz.cli import progress
from bmz.cli.progress import _Drawing, progress_bars


@pytest.fixture
def drawing() -> Iterator[_Drawing]:
    made = _Drawing()
    yield made
    made.close()


def shown(drawing: _Drawing) -> dict[str, tuple[float, float | None, str]]:
    assert drawing._bars is not None
    return {
        task.description: (task.completed, task.total, task.fields["count"])
        for task in drawing._bars.tasks
    }


def test_each_stage_has_a_bar(drawing: _Drawing) -> None:
    drawing(Progress("manifests", 3, 137, "a"))
    drawing(Progress("models", 1, 2, "b"))

    assert shown(drawing) == {"manifests": (3, 137, "3/137"), "models": (1, 2, "1/2")}


def test_bytes_are_told_in_megabytes_and_begin_anew_with_a_file(drawing: _Drawing) -> None:
    drawing(Progress("bytes", 40_000_000, 55_200_000, "weights.pt"))
    first = shown(drawing)
    drawing(Progress("bytes", 100_000, 2_000_000, "test.npy"))

    assert first["bytes"] == (40_000_000, 55_200_000, "40.0/55.2 MB")
    assert shown(drawing)["bytes"] == (100_000, 2_000_000, "0.1/2.0 MB")


def test_notes_are_printed_with_and_without_bars(
    drawing: _Drawing, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing(Note("before"))
    drawing(Progress("models", 1, 2, "b"))
    drawing(Note("after"))
    drawing.close()

    told = capsys.readouterr().err
    assert "note: before\n" in told
    assert "note: after" in told


def test_a_terminal_gets_bars_and_a_file_only_notes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []
    monkeypatch.setattr(progress, "_started", lambda: made.append("bars"))

    with progress_bars() as listener:
        listener(Progress("models", 1, 2, "b"))
        listener(Note("heard"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bars() as listener:
        assert isinstance(listener, _Drawing)

    assert made == []
    assert capsys.readouterr().err == "note: heard\n"
