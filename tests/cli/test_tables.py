"""Tables, rows and lines: what is cut, what is wrapped, and which stream hears it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.cli.output import fitted, print_blocks, print_rows, print_table, say

Capture = pytest.CaptureFixture[str]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(0, 200))
def test_columns_are_cut_no_more_than_needed_the_widest_first(widths: list[int], room: int) -> None:
    cut = fitted(widths, room)

    assert cut[0] == widths[0]
    assert all(min(before, 10) <= now <= before for before, now in zip(widths, cut, strict=True))
    if sum(widths) <= room:
        assert cut == widths
    elif any(now > 10 for now in cut[1:]):
        assert sum(cut) == room  # and not a space more
    shortened = [now for before, now in zip(widths[1:], cut[1:], strict=True) if now < before]
    # nothing that was cut is narrower by more than one than what is left whole
    assert not shortened or max(cut[1:]) - min(shortened) <= 1


LINES = [("kind-elephant", "nuclei of many kinds", "unet"), ("a", "b", "")]


def test_in_a_file_everything_is_written_in_columns(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)

    print_table(("MODEL", "WHAT", "TAGS"), LINES)

    assert capsys.readouterr().out == (
        "MODEL          WHAT                  TAGS\n"
        "kind-elephant  nuclei of many kinds  unet\n"
        "a              b\n"
    )


def test_in_a_narrow_terminal_the_wide_column_is_cut_with_a_mark(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "35")

    print_table(("MODEL", "WHAT", "TAGS"), LINES)

    assert capsys.readouterr().out == (
        "MODEL          WHAT            TAGS\n"
        "kind-elephant  nuclei of man…  unet\n"
        "a              b\n"
    )


def test_what_steers_a_terminal_is_no_cell(capsys: Capture) -> None:
    print_table(("A", "B"), [("\x1b[31mred\n", "x")])

    assert capsys.readouterr().out.splitlines()[1] == " [31mred   x"


def test_rows_are_wrapped_between_words_and_go_on_under_their_text(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "https://example.org/a-very-long/address/that-is-never-broken"

    print_rows([("what", "nuclei in fluorescence, of many kinds"), ("", long), ("none", "")])

    assert capsys.readouterr().out.splitlines() == [
        "what  nuclei in fluorescence, of many",
        "      kinds",
        f"      {long}",
        "none  ",
    ]


@pytest.mark.parametrize(("columns", "width"), [("20", 40), ("80", 80), ("500", 120)])
def test_rows_are_40_to_120_characters_wide(
    columns: str, width: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    print_rows([("a", "x " * 200)])

    first = capsys.readouterr().out.splitlines()[0]
    # words of one letter fill a line but for its last space
    assert width - 1 <= len(first) <= width


TOLD = [
    ("answer", "33 objects"), ("note", "tiled"), ("error", "too few\nchannels"),
    ("hint", "give --channels"), ("warning", "far"),
]  # fmt: skip


def test_answers_go_to_stdout_and_all_else_to_stderr(capsys: Capture) -> None:
    say(TOLD)

    told = capsys.readouterr()
    assert told.out == "33 objects\n"
    assert told.err == (
        "note: tiled\nerror: too few channels\n  hint: give --channels\nwarning: far\n"
    )


def test_answers_may_be_left_out_and_nothing_else(capsys: Capture) -> None:
    say(TOLD, answers=False)

    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 4


def test_all_of_it_may_be_the_answer_indented_under_what_it_belongs_to(capsys: Capture) -> None:
    say(TOLD, all_on_stdout=True)

    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.splitlines() == [
        "33 objects",
        "  note: tiled",
        "  error: too few channels",
        "    hint: give --channels",
        "  warning: far",
    ]


def test_on_a_narrow_terminal_words_go_on_in_their_cell_and_the_title_stands_below(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    row = ("1", "a-cat", "A cat with a long title", "nuclei in fluorescence")

    print_blocks(("#", "model", "title", "made for"), [row, row], whole=1, below=2)

    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "#  model               made for",
        "1  a-cat               nuclei in",
        "   A cat with a long…  fluorescence",
    ]
    assert len(lines) == 5
    monkeypatch.setenv("COLUMNS", "80")
    print_blocks(("#", "model", "title", "made for"), [row], whole=1, below=2)
    assert len(capsys.readouterr().out.splitlines()) == 2
