from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from rich.progress import Task

from bmz.base.progress import Note, Progress, Stage
from bmz.cli import output
from bmz.cli.output import _Drawing, _Telling, progress_bars


@pytest.fixture
def drawing() -> Iterator[_Drawing]:
    made = _Drawing()
    yield made
    made.close()


def shown(drawing: _Drawing) -> dict[str, tuple[float, float | None, str]]:
    return {
        task.description: (task.completed, task.total, task.fields["count"])
        for task in counted(drawing)
    }


def counted(drawing: _Drawing) -> list[Task]:
    """Give the bars but that of work whose end nobody can tell."""
    assert drawing._bars is not None
    return [task for task in drawing._bars.tasks if task.total is not None]


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


QUIET = """
from bmz.base.progress import Progress
from bmz.cli.output import _Drawing
from bmz.predict.frameworks import quiet

drawing = _Drawing()
drawing(Progress("tiles", 1, 4, "a"))
with quiet():
    drawing(Progress("tiles", 3, 4, "a"))
    drawing._bars.refresh()
    drawing(Progress("tiles", 4, 4, "a"))
drawing.close()
"""


def test_bars_go_on_while_a_framework_is_kept_quiet() -> None:
    variables = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm"}

    done = subprocess.run(
        [sys.executable, "-c", QUIET], check=True, capture_output=True, text=True, env=variables
    )

    assert "3/4" in done.stderr


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
    return [(task.description, task.completed, task.finished) for task in counted(drawing)]


def steps(drawing: _Drawing) -> dict[str, int]:
    """Count the steps from which the time that is left is estimated."""
    return {task.description: len(task._progress) for task in counted(drawing)}


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


def work(drawing: _Drawing) -> list[str]:
    assert drawing._bars is not None
    return [task.description for task in drawing._bars.tasks if task.total is None]


def test_a_stage_whose_length_nobody_knows_has_a_line_of_its_own(drawing: _Drawing) -> None:
    drawing(Progress("tiles", 1, 2))
    first = work(drawing)
    drawing(Stage("labels"))

    assert (first, work(drawing)) == (["reading"], ["labels"])


def test_after_a_while_without_a_word_the_terminal_shows_what_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output, "_PATIENCE_S", 0.0)
    quiet = _Drawing(begins="measuring")
    try:
        quiet._patience.join()
        assert work(quiet) == ["measuring"]
    finally:
        quiet.close()


def test_what_is_done_in_no_time_draws_nothing(drawing: _Drawing) -> None:
    drawing(Stage("labels"))
    drawing.close()
    drawing._patience.join()

    assert drawing._bars is None


WARNED = [Note("dark", "warning", name, "range.dark") for name in "abcdefg"]


def test_a_warning_of_many_images_is_told_once_and_the_others_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bars() as listener:
        for note in WARNED:
            listener(note)
            listener(Note("light it", "hint", note.image, note.code))
        listener(Note("large", "warning", "b", "size.large"))

    assert capsys.readouterr().err.splitlines() == [
        "warning: a: dark",
        "  hint: light it",
        "warning: b: large",
        "warning: the same applies to 6 other images: b, c, d, e and 2 more [range.dark]",
    ]


def test_two_warnings_of_one_image_with_one_code_are_both_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bars() as listener:
        listener(Note("y is odd", "warning", "a", "size.odd"))
        listener(Note("x is odd", "warning", "a", "size.odd"))

    assert capsys.readouterr().err == "warning: a: y is odd\nwarning: a: x is odd\n"


@pytest.mark.parametrize(
    ("verbosity", "told"),
    [
        (1, ["note: a: cast", "note: begun", *(f"warning: {name}: dark" for name in "abcdefg")]),
        (0, ["note: begun", "warning: a: dark"]),
        (-1, ["warning: a: dark"]),
    ],
)
def test_who_asks_for_more_is_told_more(verbosity: int, told: list[str]) -> None:
    telling = _Telling(verbosity)
    notes = [Note("cast", "detail", "a", "dtype.cast"), Note("begun"), *WARNED]

    lines = [f"{kind}: {text}" for note in notes for kind, text in telling.lines(note)]

    assert lines == told
