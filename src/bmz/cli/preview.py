"""``--preview``: the overlay drawn in the terminal, as well as the terminal can."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

_ROWS_LEFT = 4
"""Of the terminal, for the words above and below the picture."""


def preview(overlays: Iterable[Path]) -> None:
    """Draw pictures on the terminal: by sixel or Kitty's protocol if it has them, else in blocks.

    Where stdout is no terminal, only a note is printed.

    Parameters
    ----------
    overlays : PNG files
    """
    if not sys.stdout.isatty():
        click.echo("note: --preview draws on a terminal, and stdout is none", err=True)
        return
    from rich.console import Console

    console = Console()
    for path in overlays:
        draw(path, console)


def draw(path: Path, console: Console) -> None:
    """Draw one picture, no higher than the terminal."""
    # the library asks the terminal what it can, once, when it is imported
    from textual_image.renderable import Image

    console.print(Image(path, height=max(console.size.height - _ROWS_LEFT, 1)))
