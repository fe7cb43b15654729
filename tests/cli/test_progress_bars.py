from __future__ import annotations

import io

import pytest

from bmz.base.progress import Note, Progress
from bmz.cli.progress import progress_bars


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_bars_count_files_and_tiles_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")

    with progress_bars() as listener:
        for tile in (1, 2, 1, 2):
            listener(Progress("tiles", tile, 2))
        listener(Progress("files", 1, 3, "a.tif"))
        listener(Note("the batch was halved"))

    drawn = stream.getvalue()
    assert "2/2" in drawn
    assert "1/3" in drawn
    assert "a.tif" in drawn
    assert "note: the batch was halved" in drawn


def test_only_notes_are_printed_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as listener:
        listener(Progress("tiles", 1, 2))
        listener(Note("the batch was halved"))

    captured = capsys.readouterr()
    assert captured.err == "note: the batch was halved\n"
    assert captured.out == ""
