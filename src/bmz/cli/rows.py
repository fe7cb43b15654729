"""Print rows of a heading and a text, wrapped to the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

import click

from bmz.base.printable import printable


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print a column of headings and a column of texts on stdout.

    Parameters
    ----------
    rows : heading (empty to go on under the last one) and text
    """
    left = max(len(heading) for heading, _ in rows) + 2
    width = min(max(shutil.get_terminal_size().columns, 40), 120) - left
    for heading, text in rows:
        words = printable(text)
        wrapped = textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
        for number, line in enumerate(wrapped or [""]):
            shown = heading if number == 0 else ""
            click.echo(click.style(f"{shown:<{left}}", bold=True) + line)
