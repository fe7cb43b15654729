"""How good a result is: ``bmz compare`` and ``bmz score``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from bmz.cli.completion import offered_files, offered_models, offered_recipes
from bmz.cli.options import (
    AXES_HELP,
    CHANNELS,
    PIXEL_SIZE,
    SCALE,
    SETTING,
    SWEEP,
    LabelOptions,
    as_path,
    dataset_option,
    device_option,
    image_arguments,
    image_list,
    json_option,
    kind_option,
    link_options,
    linking,
    trust_option,
    verbosity_options,
)
from bmz.engine.request import CLIPS, RunRequest
from bmz.image.given_names import given_name

if TYPE_CHECKING:
    from bmz.results.compare import Comparison


COMPARE_EPILOG = """\b
Without --truth the order is an estimate: how well the results agree with each other, how little
they change when the image changes slightly, and how plausible their objects are in size and shape.
\b
Exit status: 0 all succeeded, 1 some failed, 2 wrong usage, 3 all failed."""


@click.command(epilog=COMPARE_EPILOG)
@image_arguments
@click.option(
    "-m",
    "--model",
    "models",
    shell_complete=offered_models,
    multiple=True,
    required=True,
    help="A model, or a chain of models (FILE.toml); repeatable, with options of its own if "
    "needed: MODEL:channels=0,1:scale=auto:flow_threshold=0.2.",
)
@click.option(
    "-o", "--output", type=str, metavar="REPORT.html", help="Write a page for the browser."
)
@click.option(
    "--sweep",
    "sweeps",
    type=SWEEP,
    multiple=True,
    help="Values to try for a label parameter, or for recipe, scale or clip, in every combination.",
)
@click.option("--truth", help="The true label mask, or a folder of masks named like the images.")
@click.option(
    "--components/--no-components",
    default=None,
    help="Number the connected pieces of a true mask that only separates objects from "
    "background, or take its values as object numbers. [default: refuse such a mask]",
)
@click.option(
    "--judgements",
    metavar="FILE.csv",
    help="What was judged right and wrong in bmz open: results that agree with it come first.",
)
@click.option("--csv", "csv_file", metavar="FILE", help="Write a table with one row per result.")
@click.option("--labels", "labels_folder", metavar="DIR", help="Write the label masks.")
@click.option(
    "--stability/--no-stability",
    default=True,
    show_default=True,
    help="Without --truth, also run the network on three changed versions of each image.",
)
@device_option("auto")
@click.option("--axes", metavar="AXES", help=AXES_HELP)
@click.option(
    "--channels",
    type=CHANNELS,
    help="Image channel for each model channel, such as 1 or DAPI,GFP.",
)
@click.option("--pixel-size", "pixel_um", type=PIXEL_SIZE, help="Pixel size, such as 0.5um.")
@click.option("--scale", type=SCALE, help="Resize the images by this factor, or auto.")
@kind_option
@click.option(
    "--clip",
    type=click.FloatRange(*CLIPS),
    metavar="PERCENTILE",
    help="Cut intensities above this percentile.",
)
@click.option("--invert", is_flag=True, help="Invert the intensities of each channel.")
@click.option(
    "--recipe",
    metavar="NAME",
    shell_complete=offered_recipes,
    help="Label recipe. [default: chosen from the model description]",
)
@click.option("--set", "settings", type=SETTING, multiple=True, help="A parameter for all results.")
@link_options
@click.option("--tile", type=click.IntRange(min=16), metavar="PX", help="Largest side of a tile.")
@click.option("--force", is_flag=True, help="Run despite findings of severity error.")
@trust_option
@json_option
@verbosity_options
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    *,
    images: tuple[str, ...],
    models: tuple[str, ...],
    output: str | None,
    sweeps: tuple[tuple[str, tuple[str, ...]], ...],
    truth: str | None,
    include: tuple[str, ...],
    dataset: str | None,
    series: str,
    components: bool | None,
    judgements: str | None,
    csv_file: str | None,
    labels_folder: str | None,
    stability: bool,
    pixel_um: Mapping[str, float] | None,
    settings: tuple[tuple[str, str], ...],
    link: Mapping[str, float] | None,
    link_gap: int | None,
    as_json: bool,
    **options: Unpack[LabelOptions],
) -> None:
    """Run several models and settings on each IMAGE, and show them side by side.

    Each network runs once per image; different label settings reuse its output.
    """
    from bmz.app.compare import CompareRequest  # here, so that --help never loads NumPy
    from bmz.app.compare import compare as compare_all
    from bmz.base.files import writable_folder, write_whole_text
    from bmz.cli.output import progress_bars, say
    from bmz.engine.label_masks import write_masks
    from bmz.image.series import with_fields
    from bmz.report.compare_text import as_csv
    from bmz.report.comparison_page import comparison_page

    listing = image_list(images, include, dataset)
    request = CompareRequest(
        tuple(with_fields(listing.images, series)),
        tuple(dict.fromkeys(models)),
        dict(sweeps),
        None if truth is None else as_path(truth),
        stability,
        RunRequest(
            "", (), Path(), settings=dict(settings), pixel_um=pixel_um or {},
            absent=listing.absent, names=listing.names, **linking(link, link_gap), **options,
        ),
        shlex.join(["bmz", *sys.argv[1:]]),
        components=components,
        judgements=None if judgements is None else as_path(judgements),
    )  # fmt: skip
    for file in (output, csv_file):
        if file:
            writable_folder(as_path(file).parent)  # or fail before anything is run
    with progress_bars("comparing") as listener:
        comparison = compare_all(request, listener)
    _print(comparison, as_json=as_json)
    if csv_file:
        write_whole_text(as_path(csv_file), as_csv(comparison))
    if labels_folder:
        write_masks(comparison, as_path(labels_folder))
    if output:
        write_whole_text(as_path(output), comparison_page(comparison))
        say([("note", f"open {output} in a browser")], answers=not as_json)
    ctx.exit(comparison.exit_status)


def _print(comparison: Comparison, *, as_json: bool) -> None:
    from bmz.cli.columns import print_table
    from bmz.cli.output import say
    from bmz.report import compare_text

    if as_json:
        click.echo(compare_text.as_json(comparison))
    for image in comparison.images:
        if not as_json and image.done:
            click.echo(click.style(given_name(image.path), bold=True))
            print_table(compare_text.headings(image), compare_text.table(image))
        say(compare_text.lines(image), answers=not as_json)
    if not as_json and sum(bool(image.done) for image in comparison.images) > 1:
        click.echo()
        print_table(*compare_text.table_over_images(comparison))


SCORE_EPILOG = """\b
Exit status: 0 every mask was scored, 1 some were not, 2 wrong usage, 3 none was."""


@click.command(epilog=SCORE_EPILOG)
@click.argument(
    "predicted",
    shell_complete=offered_files,
    help="A label mask (or x.zarr/labels/NAME), a folder of them, or a quoted pattern.",
)
@click.argument(
    "truth",
    shell_complete=offered_files,
    help="The true mask, or a folder or pattern of masks with the same names.",
)
@click.option(
    "--iou",
    "ious",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    help="Overlap at which two objects match; repeatable. [default: 0.5 to 0.95]",
)
@click.option(
    "--components/--no-components",
    default=None,
    help="Number the connected pieces of a mask that only separates objects from background, or "
    "take its values as object numbers. [default: refuse such a mask]",
)
@dataset_option
@json_option
@verbosity_options
@click.pass_context
def score(
    ctx: click.Context,
    /,
    *,
    predicted: str,
    truth: str,
    ious: tuple[float, ...],
    components: bool | None,
    dataset: str | None,
    as_json: bool,
) -> None:
    """Measure how well PREDICTED label masks agree with TRUTH, object by object.

    Reports F1, precision, recall, AP = TP / (TP + FP + FN) and panoptic quality at each overlap,
    and which objects are split, merged, missed or false.
    """
    from bmz.app.score import score as score_masks  # here, so that --help never loads NumPy
    from bmz.cli.columns import print_table
    from bmz.cli.output import progress_bars, say
    from bmz.report import compare_text
    from bmz.results.compare import IOUS

    with progress_bars("scoring") as listener:
        thresholds = ious or IOUS
        summary = score_masks(
            as_path(predicted),
            as_path(truth),
            ious=thresholds,
            components=components,
            dataset=dataset,
            listener=listener,
        )
    if as_json:
        click.echo(compare_text.score_json(summary))
    elif summary.scored:
        if len(summary.outcomes) > 1:
            print_table(compare_text.PAIR_HEADINGS, compare_text.pair_table(summary))
            click.echo()
        print_table(compare_text.HEADINGS, compare_text.score_table(summary))
        if worst := compare_text.worst_table(summary):
            click.echo()
            print_table(compare_text.WORST_HEADINGS, worst)
    say(compare_text.score_lines(summary), answers=not as_json)
    ctx.exit(summary.exit_status)
