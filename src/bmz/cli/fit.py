"""``bmz fit``."""

from __future__ import annotations

from collections.abc import Mapping

import click

from bmz.cli import completing
from bmz.cli.words import CHANNELS, PIXEL_SIZE, as_path
from bmz.image.known_formats import format_list

EPILOG = """\b
The reasons are codes; bmz check --explain CODE tells of one, bmz check MODEL IMAGE of all.
\b
Exit status: 0 a model fits or can be adapted to, 1 none does, 2 wrong usage,
3 could not tell (image not found or unreadable, no list of models)."""


@click.command(epilog=EPILOG)
@click.argument("image", shell_complete=completing.files, help=f"{format_list()} file.")
@click.option("--task", metavar="TASK", help="Rank models for it higher, such as denoising.")
@click.option("--top", type=click.IntRange(1), metavar="N", help="Only the N best; else 10.")
@click.option("--axes", metavar="AXES", help="What the axes of the file are, such as zyx or yxc.")
@click.option("--channels", type=CHANNELS, help="Image channel for each channel of a model.")
@click.option("--pixel-size", "pixel_um", type=PIXEL_SIZE, help="Pixel size, such as 0.5um.")
@click.option("--measure", is_flag=True, help="Fetch the samples of the best and compare them.")
@click.option("--refresh", is_flag=True, help="Read the list of models again.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, of all models.")
@click.pass_context
def fit(
    ctx: click.Context,
    /,
    *,
    image: str,
    task: str | None,
    top: int | None,
    axes: str | None,
    channels: tuple[int, ...] | None,
    pixel_um: Mapping[str, float] | None,
    measure: bool,
    refresh: bool,
    as_json: bool,
) -> None:
    """Rank all models of the zoo by how well they fit IMAGE; downloads no weights."""
    from bmz.app.fit import FitRequest  # here, so that --help stays quick
    from bmz.app.fit import fit as rank_models
    from bmz.cli.output import print_table, say
    from bmz.cli.progress import progress_bars
    from bmz.report.fit_text import HEADINGS, fit_json, fit_summary, fit_table
    from bmz.results.fit import SHOWN
    from bmz.zoo.settings import settings_from_environment

    request = FitRequest(
        as_path(image), task, top, axes, channels, pixel_um or {}, measure=measure, refresh=refresh
    )
    with progress_bars() as listener:
        view = rank_models(request, settings_from_environment(), listener)
    if as_json:
        click.echo(fit_json(view, request.top))
    else:
        print_table(HEADINGS, fit_table(view.ranked[: request.top or SHOWN]))
        say(fit_summary(view))
    ctx.exit(0 if view.any_fits else 1)
