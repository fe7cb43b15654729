"""``bmz search``, and ``bmz list``, which is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from bmz.cli import completing

if TYPE_CHECKING:
    from bmz.cli.words import Command

EPILOG = """\b
Every WORD must stand in the name, tags, description, task or weights of a model, or say what it
is made for: nuclei, EM, electron microscopy, H&E, phase contrast and others.
\b
Exit status: 0 found, 1 no model fits, 2 wrong usage, 3 could not tell (no list of models)."""


class Filters(TypedDict):
    """What `_filters` parses beside ``--json``."""

    words: tuple[str, ...]
    task: str | None
    weights: str | None
    dims: str | None
    tags: tuple[str, ...]
    runs_here: bool
    labels: bool
    refresh: bool
    modality: str | None
    structure: str | None


def _filters(command: Command) -> Command:
    options: tuple[Callable[[Command], Command], ...] = (
        click.argument("words", nargs=-1, metavar="[WORD]...", help="Words to look for."),
        click.option("--task", metavar="TASK", help="Such as segmentation or denoising."),
        click.option(
            "--modality",
            metavar="TERM",
            shell_complete=completing.modalities,
            help="How the images are made that it is for, such as phase or em.",
        ),
        click.option(
            "--structure",
            metavar="TERM",
            shell_complete=completing.structures,
            help="What it segments or shows, such as nuclei or mitochondria.",
        ),
        click.option("--weights", metavar="FORMAT", help="Such as onnx or torchscript."),
        click.option("--dims", type=click.Choice(("2d", "3d")), help="Of the images."),
        click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag it must have."),
        click.option("--runs-here", is_flag=True, help="Only models that can run here."),
        click.option("--labels", is_flag=True, help="Only models with a known label recipe."),
        click.option("--refresh", is_flag=True, help="Read the list of models again."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(epilog=EPILOG)
@_filters
@click.pass_context
def search(ctx: click.Context, /, *, as_json: bool, **filters: Unpack[Filters]) -> None:
    """Find models of the zoo and those that come with bmz, the most relevant first."""
    _search(ctx, as_json=as_json, **filters)


@click.command("list", epilog=EPILOG)
@_filters
@click.pass_context
def list_models(ctx: click.Context, /, *, as_json: bool, **filters: Unpack[Filters]) -> None:
    """List the models of the zoo and those that come with bmz; the same as bmz search."""
    _search(ctx, as_json=as_json, **filters)


def _search(ctx: click.Context, /, *, as_json: bool, **filters: Unpack[Filters]) -> None:
    from bmz.app.search import SearchRequest  # here, so that --help stays quick
    from bmz.app.search import search as find
    from bmz.cli.output import print_blocks
    from bmz.cli.progress import progress_bars
    from bmz.report.search_text import HEADINGS, NAME, search_json, search_summary, search_table
    from bmz.zoo.settings import settings_from_environment

    with progress_bars() as listener:
        view = find(SearchRequest(**filters), settings_from_environment(), listener)
    if as_json:
        click.echo(search_json(view))
    else:
        if view.hits:
            print_blocks(HEADINGS, search_table(view), whole=0, below=NAME)
        click.echo(search_summary(view), err=True)
    ctx.exit(0 if view.hits else 1)
