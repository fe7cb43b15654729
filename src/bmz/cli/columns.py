"""Columns on a terminal: tables, rows and lines, wrapped between words and never truncated.

A single word that is wider than the terminal stays whole, so that it can be copied.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

import click

from bmz.base.progress import printable
from bmz.base.values import dataclass

Cells = Sequence[str]

_GAP, _NARROW_GAP = 2, 1
"""Spaces between two columns; the second is the last resort."""

_INDENT = 2
"""Indentation of the text below a name."""

_HARD_SPACE = "\N{NO-BREAK SPACE}"

_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:B|kB|MB|GB|GiB|px|um|ms|s|%)(?!\w))")
"""The space between a number and its unit, where lines are not broken."""

_BEFORE_LAST_COLUMN = re.compile(r"\s*(?:.*\S\s{2,})?")

_LEAST_TEXT = 24
"""A line continues below its last column if at least this many characters remain there."""

_COMMAND = re.compile(r"(?:^|[\s(:])(?:bmz|pip|pipx|uv) [\w-]")

_NARROWEST, _WIDEST = 40, 120
"""Minimum and maximum width of rows with a heading and a text."""


def terminal_room(stream: TextIO | None = None) -> int | None:
    """Return the number of characters in a line of the terminal, or None without a terminal.

    Parameters
    ----------
    stream : stream to inspect; None for stdout, whose lines ``COLUMNS`` limits even in a file
    """
    if stream is None and "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


def print_table(
    headings: Cells, lines: Sequence[Cells], *, name: int = 0, below: int | None = None
) -> None:
    """Print rows of cells in columns on stdout; see `table_lines`.

    In a file or a pipe, each row is one line, however long it is.
    """
    rows = [[printable(cell) for cell in row] for row in (headings, *lines)]
    for is_heading, line in table_lines(rows, terminal_room(), name=name, below=below):
        click.echo(click.style(line, bold=True) if is_heading else line)


def table_lines(
    rows: Sequence[Cells], room: int | None, *, name: int = 0, below: int | None = None
) -> Iterator[tuple[bool, str]]:
    """Lay out a table so that its lines fit.

    On a terminal, columns without text are left out. Words that do not fit continue on the next
    line of their cell. If not even the longest words fit side by side, the name goes on its own
    line above the other columns; if those do not fit either, each cell gets its own line after its
    heading.

    Parameters
    ----------
    rows : the headings, then the cells of each line
    room : characters per line; None if unlimited
    name : column that identifies the row
    below : column whose text is printed below the others if they have to be wrapped

    Yields
    ------
    Whether the line belongs to the headings, and its text.
    """
    columns = range(len(rows[0]))
    kept = [i for i in columns if room is None or any(row[i] for row in rows[1:])]
    widths = [max(len(row[i]) for row in rows) for i in kept]
    if room is None or _total(widths, _GAP) <= room:
        for number, row in enumerate(rows):
            yield number == 0, _joined([row[i] for i in kept], widths, _GAP)
        return
    for layout in _layouts([i for i in kept if i != below], name, below):
        beside = [[row[i] for i in layout.beside] for row in rows]
        wrapped = wrapped_widths(beside, room - layout.indent, layout.gap)
        if wrapped is not None:
            for number, row in enumerate(rows):
                for line in _block(row, layout, wrapped, room, is_heading=number == 0):
                    yield number == 0, line
            return
    for row in rows[1:]:
        pairs = [(rows[0][i], row[i]) for i in kept if row[i]]
        yield from ((False, line) for line in (*_row_lines(pairs, room), ""))


@dataclass(frozen=True)
class _Layout:
    """The columns that are on their own line, side by side, and below.

    Parameters
    ----------
    above, beside : columns
    below : a column, or None
    name : index in `beside` of the column at which the text below begins
    gap : spaces between two columns
    """

    above: tuple[int, ...]
    beside: tuple[int, ...]
    below: int | None
    name: int
    gap: int

    @property
    def indent(self) -> int:
        """Number of spaces before the columns that are side by side."""
        return _INDENT if self.above else 0


def _layouts(columns: Sequence[int], name: int, below: int | None) -> Iterator[_Layout]:
    place = columns.index(name)
    yield _Layout((), tuple(columns), below, place, _GAP)
    above = (*columns[: place + 1], *([] if below is None else [below]))
    for gap in (_GAP, _NARROW_GAP):
        yield _Layout(above, tuple(columns[place + 1 :]), None, 0, gap)


def _block(
    row: Cells, layout: _Layout, widths: Sequence[int], room: int, *, is_heading: bool
) -> Iterator[str]:
    if layout.above:
        yield from _words((" " * _GAP).join(row[i] for i in layout.above if row[i]), room, _INDENT)
    cells = [_words(row[i], width) for i, width in zip(layout.beside, widths, strict=True)]
    for parts in itertools.zip_longest(*cells, fillvalue=""):
        yield " " * layout.indent + _joined(parts, widths, layout.gap)
    if layout.below is not None and row[layout.below] and not is_heading:
        start = sum(width + layout.gap for width in widths[: layout.name])
        start = max(min(start, room - _longest(row[layout.below])), 0)
        yield from (" " * start + line for line in _words(row[layout.below], room - start))


def wrapped_widths(rows: Sequence[Cells], room: int, gap: int = _GAP) -> list[int] | None:
    """Return widths at which no word is broken, or None if the longest words do not fit.

    Spare room goes to the columns with the longest text.

    Parameters
    ----------
    rows : cells of each row
    room : characters per line
    gap : spaces between two columns

    Examples
    --------
    >>> wrapped_widths([["a-cat", "nuclei in fluorescence"]], 22)
    [5, 15]
    >>> wrapped_widths([["conscientious-dromedary", "nuclei in fluorescence"]], 34) is None
    True
    """
    columns = list(zip(*rows, strict=True))
    widest = [max(map(len, column)) for column in columns]
    least = [max(map(_longest, column)) for column in columns]
    if _total(least, gap) > room:
        return None
    while _total(least, gap) < min(room, _total(widest, gap)):
        short = [i for i in range(len(least)) if least[i] < widest[i]]
        least[max(short, key=lambda i: widest[i] / max(least[i], 1))] += 1
    return least


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * max(len(widths) - 1, 0)


def _joined(cells: Cells, widths: Sequence[int], gap: int) -> str:
    return (" " * gap).join(f"{cell:<{w}}" for cell, w in zip(cells, widths, strict=False)).rstrip()


def _longest(text: str) -> int:
    return max(map(len, _hard(text).split(" ")))


def _hard(text: str) -> str:
    return _BEFORE_UNIT.sub(_HARD_SPACE, text)


def _words(text: str, width: int, hang: int = 0) -> list[str]:
    """Wrap a text between words, keeping numbers and their units together."""
    lines = textwrap.wrap(
        _hard(text),
        max(width, 1),
        subsequent_indent=" " * hang,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_HARD_SPACE, " ") for line in lines]


def wrapped_line(text: str, room: int | None, *, command: bool = False) -> str:
    """Wrap a line; continuation lines start below its last column.

    Parameters
    ----------
    room : characters per line; None if unlimited
    command : do not wrap a line that contains a command, so that it can be copied

    Examples
    --------
    >>> print(wrapped_line("passed  reproduces  as close as float32 allows, of 4096 values", 50))
    passed  reproduces  as close as float32 allows, of
                        4096 values
    """
    if room is None or len(text) <= room or (command and _COMMAND.search(text)):
        return text
    start = _BEFORE_LAST_COLUMN.match(text)
    hang = 0 if start is None else start.end()
    if not hang or room - hang < max(_LEAST_TEXT, _longest(text)):
        hang = len(text) - len(text.lstrip()) + _INDENT
    return "\n".join(_words(text, room, hang))


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print a column of headings and a column of texts on stdout.

    Parameters
    ----------
    rows : heading (empty to continue the previous one) and text
    """
    room = min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
    left = max(len(heading) for heading, _ in rows) + _GAP
    for line in _row_lines([(heading, printable(text)) for heading, text in rows], room):
        click.echo(click.style(line[:left], bold=True) + line[left:])


def _row_lines(rows: Sequence[tuple[str, str]], room: int) -> Iterator[str]:
    left = max(len(heading) for heading, _ in rows) + _GAP
    for heading, text in rows:
        if room - left < _longest(text) <= room - _INDENT:  # it fits below the heading
            yield from (line for line in [heading] if line)
            yield from (" " * _INDENT + line for line in _words(text, room - _INDENT))
        else:
            for number, line in enumerate(_words(text, room - left) or [""]):
                yield f"{'' if number else heading:<{left}}{line}"
