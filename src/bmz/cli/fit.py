"""``bmz fit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from bmz.base.channels import ChannelWord
from bmz.cli import completing
from bmz.cli.words import CHANNELS, PIXEL_SIZE, dataset_option, image_list, kind_option
from bmz.image.known_formats import format_list

if TYPE_CHECKING:
    from bmz.spec.made_for import StatedKind

EPILOG = """\b
The score is how probable it is that a model is made for what the image shows; bmz check MODEL
IMAGE tells in full what speaks against a model.
\b
Exit status: 0 a model is made for the images, 1 none is or an image could not be read,
2 wrong usage, 3 could not tell (no image could be read, no list of models)."""


@click.command(epilog=EPILOG)
@click.argument(
    "images",
    shell_complete=completing.files,
    nargs=-1,
    required=True,
    metavar="IMAGE...",
    help=f"{format_list()} files, folders, or patterns.",
)
@click.option("--task", metavar="TASK", help="Rank models for it first, such as denoising.")
@click.option("--top", type=click.IntRange(1), metavar="N", help="Only the N best; else 10.")
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=completing.models,
    help="Rank this model, too, such as a folder; may be given several times.",
)
@dataset_option
@click.option("--axes", metavar="AXES", help="What the axes of the files are, such as zyx or yxc.")
@click.option(
    "--channels",
    type=CHANNELS,
    help="Image channel for each of a model, such as 1 or DAPI,GFP.",
)
@click.option("--pixel-size", "pixel_um", type=PIXEL_SIZE, help="Pixel size, such as 0.5um.")
@kind_option
@click.option("--measure", is_flag=True, help="Fetch the samples of the best and compare them.")
@click.option("--all", "everything", is_flag=True, help="Rank test artefacts and the like, too.")
@click.option("--refresh", is_flag=True, help="Read the list of models again.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, of all models.")
@click.pass_context
def fit(
    ctx: click.Context,
    /,
    *,
    images: tuple[str, ...],
    task: str | None,
    top: int | None,
    models: tuple[str, ...],
    dataset: str | None,
    axes: str | None,
    channels: tuple[ChannelWord, ...] | None,
    pixel_um: Mapping[str, float] | None,
    kind: StatedKind | None,
    measure: bool,
    everything: bool,
    refresh: bool,
    as_json: bool,
) -> None:
    """Rank the models of the zoo by how well they fit IMAGES; downloads no weights."""
    from bmz.app.fit import fit as rank_models  # here, so that --help stays quick
    from bmz.app.fit.image import FitRequest
    from bmz.cli.output import print_blocks, say
    from bmz.cli.progress import progress_bars
    from bmz.report.fit_text import HEADINGS, fit_json, fit_summary, fit_table
    from bmz.results.fit import SHOWN
    from bmz.zoo.settings import settings_from_environment

    listing = image_list(images, (), dataset)
    request = FitRequest(
        listing.images,
        absent=listing.absent,
        task=task,
        top=top,
        models=models,
        axes=axes,
        channels=channels,
        pixel_um=pixel_um or {},
        kind=kind,
        measure=measure,
        everything=everything,
        refresh=refresh,
    )
    with progress_bars() as listener:
        ranking = rank_models(request, settings_from_environment(), listener)
    if as_json:
        click.echo(fit_json(ranking, request.top))
    else:
        print_blocks(HEADINGS, fit_table(ranking, request.top or SHOWN), whole=1, below=2)
        say(fit_summary(ranking))
    ctx.exit(ranking.exit_status)
