from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from bmz.base.progress import Note, Progress
from bmz.cli import output
from bmz.cli.output import _Drawing, progress_bars


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
    monkeypatch.setattr(output, "_started", lambda: made.append("bars"))

    with progress_bars() as listener:
        listener(Progress("models", 1, 2, "b"))
        listener(Note("heard"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bars() as listener:
        assert isinstance(listener, _Drawing)

    assert made == []
    assert capsys.readouterr().err == "note: heard\n"


def tasks(drawing: _Drawing) -> list[tuple[str, float, bool]]:
    assert drawing._bars is not None
    return [(task.description, task.completed, task.finished) for task in drawing._bars.tasks]


def steps(drawing: _Drawing) -> dict[str, int]:
    """Count the steps from which the time that is left is estimated."""
    assert drawing._bars is not None
    return {task.description: len(task._progress) for task in drawing._bars.tasks}


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_bar_of_tiles_begins_anew_with_every_plane(drawing: _Drawing, batch: int) -> None:
    for done in range(batch, 9, batch):
        drawing(Progress("tiles", done, 8))
    first = tasks(drawing)
    drawing(Progress("tiles", batch, 8))

    assert first == [("tiles", 8, True)]
    assert tasks(drawing) == [("tiles", batch, False)]


def test_the_bar_of_tiles_begins_anew_after_a_plane_that_was_cut_short(drawing: _Drawing) -> None:
    for done in (4, 8):
        drawing(Progress("tiles", done, 20))
    drawing(Progress("tiles", 4, 20))

    assert tasks(drawing) == [("tiles", 4, False)]
    # nothing is left of the plane before, from which the rest would be estimated
    assert steps(drawing) == {"tiles": 1}


def test_bars_of_other_stages_go_on_whatever_they_tell(drawing: _Drawing) -> None:
    drawing(Progress("files", 1, 3, "a.tif"))
    drawing(Progress("tiles", 2, 2))
    drawing(Progress("files", 2, 3, "b.tif"))
    drawing(Progress("tiles", 1, 2))
    drawing(Progress("files", 3, 3, "c.tif"))

    assert tasks(drawing) == [("files", 3, True), ("tiles", 1, False)]
    assert steps(drawing) == {"files": 3, "tiles": 1}


def test_the_bar_of_bytes_is_whole_only_until_the_next_file(drawing: _Drawing) -> None:
    drawing(Progress("bytes", 900_000, 1_049_999, "a"))
    drawing(Progress("bytes", 1_049_999, 1_049_999, "a"))
    first, words = tasks(drawing), shown(drawing)["bytes"][2]
    drawing(Progress("bytes", 100_000, 1_049_999, "b"))

    assert first == [("bytes", 1_049_999, True)]
    assert words == "1.0/1.0 MB"
    assert tasks(drawing) == [("bytes", 100_000, False)]


def test_a_note_beside_bars_is_printed_to_the_letter(
    drawing: _Drawing, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing(Progress("files", 1, 2))
    drawing(Note("'[bold]a[/bold] [red].tif' has\x1b[31m 3 channels", "warning"))
    drawing(Note("give --channels", "hint"))
    drawing.close()

    told = capsys.readouterr().err
    assert "warning: '[bold]a[/bold] [red].tif' has [31m 3 channels\n" in told
    assert "  hint: give --channels\n" in told
