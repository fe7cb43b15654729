"""``bmz run``: run a model, or a chain of models, on images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Unpack

import click

from bmz.cli.completion import offered_files, offered_models, offered_recipes
from bmz.cli.options import (
    AXES_HELP,
    CHANNELS,
    PIXEL_SIZE,
    SCALE,
    SETTING,
    LabelOptions,
    TrustingCommand,
    as_path,
    backend_option,
    dataset_option,
    device_option,
    image_list,
    include_option,
    input_option,
    json_option,
    kind_option,
    link_options,
    linking,
    output_options,
    relation_options,
    series_option,
    trust_option,
    verbosity_options,
)
from bmz.cli.output import draw_all, say
from bmz.cli.watch import refuse_with_watch, run_as_they_come
from bmz.engine.request import CLIPS, PrecisionOption, RunRequest, is_chain
from bmz.write.outputs import CSV, EDGES, OUTPUT_KINDS, TABLE, names_of_results

EPILOG = """\b
For a.tif, DIR gets a.labels.tif (label mask), a.overlay.png, a.objects.csv and a.run.json; with
--link, also a.planes.csv (one row per object and plane) or a.tracks.csv (one row per track).
\b
Exit status: 0 all images done, 1 an image failed or does not fit, 2 wrong usage,
3 could not tell (not found, unreadable, untrusted, no backend)."""


class RunOptions(LabelOptions):
    """Options that become fields of a request unchanged."""

    series: str
    neighbours: str | None
    precision: PrecisionOption
    backend: str
    weights: str | None
    prompts: str | None
    batch: int | None
    save: frozenset[str]
    tables: frozenset[str]
    overlay: Literal["plain", "numbers"]
    labels_format: Literal["tiff", "zarr"]
    into_image: str | None
    memory_gb: float | None
    workers: int
    scheduler: str | None
    overwrite: bool
    resume: bool
    flag_below: float | None
    engine: Literal["bmz", "core"]


@click.command(cls=TrustingCommand, epilog=EPILOG)
@click.argument(
    "model",
    shell_complete=offered_models,
    required=False,
    metavar="MODEL",
    help="Name, DOI, URL or path of a model (see bmz search), or a chain of models: FILE.toml.",
)
@click.argument(
    "images",
    shell_complete=offered_files,
    nargs=-1,
    metavar="IMAGE...",
    help="Files, OME-Zarr, folders of images, patterns in quotes, @list.txt, or - for stdin.",
)
@include_option
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    metavar="DIR",
    help="Folder for the results; created if it does not exist.",
)
@device_option("auto")
@click.option(
    "--precision",
    type=click.Choice(("auto", "float32", "bfloat16", "float16")),
    default="auto",
    show_default=True,
    metavar="TYPE",
    help="float32, bfloat16, float16, or auto (the fastest that gives the same labels).",
)
@backend_option
@click.option(
    "--weights",
    metavar="FORMAT",
    help="Weights format, such as onnx or torchscript. [default: the first that runs here]",
)
@click.option("--axes", metavar="AXES", help=AXES_HELP)
@click.option(
    "--channels",
    type=CHANNELS,
    help="Image channel for each model channel, such as 1,0 or DAPI,GFP; none means zeros.",
)
@input_option
@click.option(
    "--pixel-size",
    "pixel_um",
    type=PIXEL_SIZE,
    help="Pixel size of the images, such as 0.5um or z=2um,y=0.5um,x=0.5um.",
)
@click.option(
    "--scale",
    type=SCALE,
    help="Resize the image by this factor before prediction; auto: by pixel or object size.",
)
@series_option
@dataset_option
@kind_option
@click.option(
    "--clip",
    type=click.FloatRange(*CLIPS),
    metavar="PERCENTILE",
    help="Cut the intensities of each channel above this percentile, such as 99.99.",
)
@click.option("--invert", is_flag=True, help="Invert the intensities of each channel.")
@click.option(
    "--recipe",
    metavar="NAME",
    shell_complete=offered_recipes,
    help="Label recipe; none keeps the raw output. [default: chosen from the model description]",
)
@click.option(
    "--set",
    "settings",
    type=SETTING,
    multiple=True,
    help="A parameter of the recipe or of a declared step; output=ID chooses an output.",
)
@relation_options
@link_options
@click.option(
    "--neighbours",
    metavar="contact|DISTANCE",
    help="Count the objects that touch each object, or are within a distance such as 20um or 40px.",
)
@click.option(
    "--tile",
    type=click.IntRange(min=16),
    metavar="PX",
    help="Largest side of a tile. [default: 768 in 2-D, 256 in 3-D]",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of tiles to run at once. [default: 1 on a CPU, up to 16 on a GPU]",
)
@output_options
@click.option(
    "--memory",
    "memory_gb",
    type=click.FloatRange(min=0),
    metavar="GB",
    help="Run an image in parts if it would need more memory than this. [default: half of what "
    "is free]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of processes on this computer that share the images, or the tiles of a large one.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Dask scheduler whose workers run the images: tcp://host:8786, or its JSON file.",
)
@click.option("--plan", "only_plan", is_flag=True, help="Print what would be done, and stop.")
@click.option(
    "--preview",
    is_flag=True,
    help="Draw the overlays in the terminal at the end.",
)
@click.option("--overwrite", is_flag=True, help="Replace results that already exist.")
@click.option(
    "--resume",
    is_flag=True,
    help="Continue an interrupted run: skip finished images.",
)
@click.option(
    "--watch",
    "watching",
    is_flag=True,
    help="Run images as they appear in a folder, until Ctrl-C; skip finished images.",
)
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="With --watch: take a file once it has not changed for this time. [default: 5]",
)
@click.option(
    "--flag-below",
    type=click.FloatRange(0, 1),
    metavar="F1",
    help="Warn of masks with a lower predicted F1, such as 0.5. [default: masks that are likely "
    "wrong]",
)
@click.option("--force", is_flag=True, help="Run despite findings of severity error.")
@click.option(
    "--from",
    "record",
    metavar="RUN.json",
    help="Repeat the run described in this record; give MODEL and IMAGE if they have moved.",
)
@click.option(
    "--engine",
    type=click.Choice(["bmz", "core"]),
    default="bmz",
    show_default=True,
    help="core: predict with bioimageio.core, in one piece and on the CPU.",
)
@trust_option
@json_option
@verbosity_options
@click.pass_context
def run(
    ctx: click.Context,
    /,
    *,
    model: str | None,
    images: tuple[str, ...],
    include: tuple[str, ...],
    dataset: str | None,
    folder: str,
    inputs: tuple[tuple[str, str], ...],
    pixel_um: Mapping[str, float] | None,
    settings: tuple[tuple[str, str], ...],
    mask: str | None,
    pair: str | None,
    parent: str | None,
    link: Mapping[str, float] | None,
    link_gap: int | None,
    record: str | None,
    only_plan: bool,
    preview: bool,
    watching: bool,
    settle_s: float | None,
    as_json: bool,
    **options: Unpack[RunOptions],
) -> None:
    """Predict with MODEL on each IMAGE and write a label mask.

    Each image is first checked against the model, then resized or tiled where necessary. The
    network's output is turned into labels by the recipe that the model's description indicates.
    """
    from bmz.image.listing import Listing

    if record is None and not (model and images):
        raise click.UsageError(f"Missing argument '{'IMAGE...' if model else 'MODEL'}'.")
    settles = settle_s is not None and not watching
    _refuse_options_without_use(options, preview=preview, settles_unwatched=settles)
    if watching:
        told = {"only_plan": only_plan, "record": record, "preview": preview, **options}
        refuse_with_watch(told, options["workers"])
    relations = {"mask": mask, "pair": pair, "parent": parent}
    listing = Listing((), ()) if watching else image_list(images, include, dataset)
    request = RunRequest(
        model=model or "",
        images=listing.images,
        roots=listing.roots,
        absent=listing.absent,
        names=listing.names,
        folder=as_path(folder),
        inputs=dict(inputs),
        settings=dict(settings),
        relations={name: of for name, of in relations.items() if of is not None},
        pixel_um=pixel_um or {},
        **linking(link, link_gap),
        **options,
    )
    if is_chain(model):
        _refuse_with_chain(request, watching=watching, repeating=record is not None)
    if record is not None:
        from bmz.engine.earlier_runs import replayed

        request = replayed(as_path(record), request)
    if watching:
        from bmz.image.listing import WatchedFolder

        watched = WatchedFolder.of(
            images, include, names_of_results(), request.folder, dataset=dataset
        )
        ctx.exit(run_as_they_come(request, watched, settle_s, as_json=as_json))
    elif is_chain(model):
        ctx.exit(_run_chain(request, only_plan=only_plan, as_json=as_json))
    elif only_plan:
        _print_plan(ctx, request, as_json=as_json)
    else:
        _run(ctx, request, as_json=as_json, with_preview=preview)


def _run_chain(request: RunRequest, *, only_plan: bool, as_json: bool) -> int:
    """Run or plan a chain, and return the exit status."""
    from bmz.app import chain as chains
    from bmz.cli.output import progress_bars
    from bmz.report import run_text as texts

    chain = chains.Chain.read(as_path(request.model))
    with progress_bars("preparing") as listener:
        if only_plan:
            planned = tuple(chains.plan_chain(chain, request, listener))
        else:
            summary = chains.run_chain(chain, request, listener)
    if only_plan:
        if as_json:
            click.echo(texts.chain_plan_json(planned))
        else:
            say(texts.chain_plan_lines(planned))
        return max(_plan_status(step.images) for step in planned)
    if as_json:
        click.echo(texts.chain_json(summary))
    say(texts.chain_lines(summary), answers=not as_json)
    return summary.exit_status


def _refuse_options_without_use(
    options: RunOptions, *, preview: bool, settles_unwatched: bool
) -> None:
    """Refuse options about outputs or actions that this call leaves out.

    Raises
    ------
    click.UsageError
        The message names the option and what it needs.
    """
    if preview and "overlay" not in options["save"]:
        raise click.UsageError("--preview draws the overlay, which --save leaves out.")
    if options["tables"] != {CSV} and not {TABLE, EDGES} & options["save"]:
        raise click.UsageError("--table sets the format of tables, which --save leaves out.")
    measured = {name for name, kind in OUTPUT_KINDS.items() if kind.measures}
    if options["neighbours"] is not None and not measured & options["save"]:
        raise click.UsageError("--neighbours adds columns to tables, which --save leaves out.")
    if EDGES in options["save"] and not {CSV, "parquet"} & options["tables"]:
        raise click.UsageError("--save edges writes a table: add --table csv or parquet.")
    if settles_unwatched:
        raise click.UsageError("--settle needs --watch: it sets when --watch takes a file.")


def _refuse_with_chain(request: RunRequest, *, watching: bool, repeating: bool) -> None:
    """Refuse options that do not apply to a chain of models.

    Raises
    ------
    click.UsageError
        The message names the option.
    """
    if watching:
        raise click.UsageError("a chain runs only the images given to it: leave out --watch.")
    if repeating:
        raise click.UsageError(
            "--from repeats one run from its record, which names the model, and a chain has one "
            "record per step: leave out --from to run the chain again, or leave out the chain."
        )
    if request.into_image is not None:
        raise click.UsageError("a chain makes several masks per image: leave out --into-image.")


def _print_plan(ctx: click.Context, request: RunRequest, *, as_json: bool) -> None:
    from bmz.app.run import plan_run
    from bmz.cli.output import progress_bars
    from bmz.report.run_text import plan_json, plan_lines

    with progress_bars("planning") as listener:
        planned = tuple(plan_run(request, listener))
    if as_json:
        click.echo(plan_json(request.model, planned))
    else:
        for image in planned:
            say(plan_lines(image))
    ctx.exit(_plan_status(planned))


def _plan_status(planned: Sequence[object]) -> int:
    from bmz.results.images import ImageFailure, RunSummary

    failed = tuple(image for image in planned if isinstance(image, ImageFailure))
    return RunSummary(failed).exit_status


def _run(ctx: click.Context, request: RunRequest, *, as_json: bool, with_preview: bool) -> None:
    from bmz.app.run import run as run_images
    from bmz.cli.output import progress_bars
    from bmz.report.run_text import run_json, run_lines

    with progress_bars("preparing") as listener:
        summary = run_images(request, listener)
    if as_json:
        click.echo(run_json(summary))
    say(run_lines(summary), answers=not as_json)
    if with_preview:
        draw_all(done.files["overlay"] for done in summary.done if "overlay" in done.files)
    ctx.exit(summary.exit_status)
