"""Print lines of a kind: answers on stdout, all else on stderr in the colour of its kind."""

from __future__ import annotations

from collections.abc import Sequence

import click

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def say(lines: Sequence[tuple[str, str]], *, answers: bool = True) -> None:
    """Print lines.

    Parameters
    ----------
    lines : kind (``answer``, ``error``, ``warning``, ``note``, ``hint``) and text
    answers : False to leave out the answers, which then stand in a JSON document
    """
    for kind, text in lines:
        if kind in _COLOURS:
            painted = click.style(kind, fg=_COLOURS[kind], bold=True)
            click.echo(f"{painted}: {text}", err=True)
        elif kind == "hint":
            click.echo(f"  hint: {text}", err=True)
        elif answers:
            click.echo(text)
