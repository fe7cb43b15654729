"""Print lines of a kind: answers on stdout, all else on stderr in the colour of its kind."""

from __future__ import annotations

from collections.abc import Sequence

import click

from bmz.base.printable import printable

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def say(
    lines: Sequence[tuple[str, str]], *, answers: bool = True, all_on_stdout: bool = False
) -> None:
    """Print lines.

    Parameters
    ----------
    lines : kind (``answer``, ``error``, ``warning``, ``note``, ``hint``) and text
    answers : False to leave out the answers, which then stand in a JSON document
    all_on_stdout : the lines of every kind are the answer; those that are no answer of their own
        stand indented under the one before
    """
    inward = "  " if all_on_stdout else ""
    for kind, written in lines:
        text = printable(written)
        if kind in _COLOURS:
            painted = click.style(kind, fg=_COLOURS[kind], bold=True)
            click.echo(f"{inward}{painted}: {text}", err=not all_on_stdout)
        elif kind == "hint":
            click.echo(f"{inward}  hint: {text}", err=not all_on_stdout)
        elif answers:
            click.echo(text)
