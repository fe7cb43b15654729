"""``--preview``: the overlay drawn in the terminal, as well as the terminal can."""

from __future__ import annotations

import os
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
    if not sys.stdout.isatty() or not _has_a_size():
        click.echo(
            "note: --preview draws on a terminal, and stdout is none, or has no size", err=True
        )
        return
    from rich.console import Console

    console = Console()
    for path in overlays:
        draw(path, console)


def _has_a_size() -> bool:
    # terminals that programs make may have none
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns > 0
    except OSError:
        return False


def draw(path: Path, console: Console) -> None:
    """Draw one picture, no higher than the terminal."""
    # the library asks the terminal what it can, once, when it is imported
    from textual_image.renderable import Image

    console.print(Image(path, height=max(console.size.height - _ROWS_LEFT, 1)))
