"""Tables, rows and lines: what is cut, what is wrapped, and which stream hears it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.cli.columns import print_rows, print_table, table_lines, wrapped_line
from bmz.cli.output import say

Capture = pytest.CaptureFixture[str]


WORD = st.text("abcdefghij-/0123456789", min_size=1, max_size=30)
CELL = st.lists(WORD, max_size=6).map(" ".join)
TABLES = st.integers(1, 9).flatmap(
    lambda count: st.tuples(
        st.lists(st.lists(CELL, min_size=count, max_size=count), min_size=1, max_size=4),
        st.integers(0, count - 1),
        st.none() | st.integers(0, count - 1),
    )
)


@given(TABLES, st.integers(40, 120))
def test_every_table_fits_and_no_word_is_lost_or_broken(
    table: tuple[list[list[str]], int, int | None], room: int
) -> None:
    rows, name, below = table
    headings = [f"h{i}" for i in range(len(rows[0]))]
    for row in rows:
        row[name] = row[name] or "n"
    below = None if below == name else below

    lines = [line for _, line in table_lines([headings, *rows], room, name=name, below=below)]

    assert all(len(line) <= room for line in lines)
    cells = Counter(word for row in rows for cell in row for word in cell.split())
    assert cells <= Counter(word for line in lines for word in line.split())


def test_a_word_wider_than_the_terminal_is_left_whole_on_a_line_of_its_own() -> None:
    name = "/home/somebody/" + "x" * 60

    lines = [line for _, line in table_lines([["model", "objects"], [name, "38"]], 40)]

    assert lines == ["model", "  objects", name, "  38"]


def test_where_columns_do_not_fit_side_by_side_the_name_stands_above_them() -> None:
    rows = [["#", "model", "title", "made for"], ["1", "a-cat", "A cat", "x" * 30 + " y"]]

    lines = [line for _, line in table_lines(rows, 36, name=1, below=2)]

    assert lines == ["#  model  title", "  made for", "1  a-cat  A cat", f"  {'x' * 30} y"]


def test_a_number_keeps_its_unit() -> None:
    lines = [line for _, line in table_lines([["a", "b"], ["n" * 10, "about 26.5 MB to get"]], 24)]

    assert lines[1:] == ["nnnnnnnnnn  about", "            26.5 MB to", "            get"]


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


def test_in_a_narrow_terminal_words_go_on_in_the_next_line_of_their_cell(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "35")

    print_table(("MODEL", "WHAT", "TAGS"), LINES)

    assert capsys.readouterr().out == (
        "MODEL          WHAT            TAGS\n"
        "kind-elephant  nuclei of many  unet\n"
        "               kinds\n"
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
    short = "https://example.org/a-short/address"

    print_rows(
        [("what", "nuclei in fluorescence, of many kinds"), ("at", short), ("", long), ("none", "")]
    )

    assert capsys.readouterr().out.splitlines() == [
        "what  nuclei in fluorescence, of many",
        "      kinds",
        "at",
        f"  {short}",
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


def test_a_title_stands_below_its_row_where_words_are_wrapped(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    row = ("1", "a-cat", "A cat with a long title", "nuclei in fluorescence of all kinds")

    print_table(("#", "model", "title", "made for"), [row, row], name=1, below=2)

    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "#  model  made for",
        "1  a-cat  nuclei in fluorescence of all",
        "          kinds",
        "   A cat with a long title",
    ]
    assert len(lines) == 7
    monkeypatch.setenv("COLUMNS", "90")
    print_table(("#", "model", "title", "made for"), [row], name=1, below=2)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_line_goes_on_below_its_last_column_and_a_command_is_not_broken() -> None:
    check = f"passed  labels  {'word ' * 12}"
    command = f"  hint: bmz run {'word ' * 12}"

    assert wrapped_line(check, 40).splitlines()[1].startswith(f"{' ' * 16}word")
    assert wrapped_line(command, 40, command=True) == command
    assert len(wrapped_line(command, 40).splitlines()) > 1
    assert wrapped_line(check, None) == check
