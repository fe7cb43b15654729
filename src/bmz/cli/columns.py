"""Print a table that fits the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

import click

from bmz.base.printable import printable

_GAP = 2
_LEAST = 10
"""No column is cut to less than this."""


def print_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print lines of cells in columns on stdout.

    On a terminal the widest columns but the first are cut until a line fits, with a mark where
    text is lost; into a file or another program everything is written.
    """
    lines = [[printable(cell) for cell in line] for line in lines]
    widths = [max(len(row[i]) for row in (headings, *lines)) for i in range(len(headings))]
    room = _room()
    if room is not None:
        widths = fitted(widths, room - _GAP * (len(widths) - 1))
    click.echo(click.style(_line(headings, widths), bold=True))
    for cells in lines:
        click.echo(_line(cells, widths))


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """Cut the widest columns but the first until all fit, or until none can be cut any more.

    Examples
    --------
    >>> fitted([24, 30, 50], 64)
    [24, 20, 20]
    """
    first, *cut = widths
    while first + sum(cut) > room and max(cut, default=0) > _LEAST:
        cut[max(range(len(cut)), key=lambda i: (cut[i], i))] -= 1
    return [first, *cut]


def _room() -> int | None:
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    return shutil.get_terminal_size().columns


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(cells, widths, strict=True)
    return (" " * _GAP).join(f"{_cut(cell, width):<{width}}" for cell, width in pairs).rstrip()


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 1] + "…"
