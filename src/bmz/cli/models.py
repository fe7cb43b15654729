"""Commands on models: ``bmz search``, ``list``, ``show``, ``fit``, ``test`` and ``card``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from bmz.base.axes import ChannelKey
from bmz.cli.completion import offered_files, offered_modalities, offered_models, offered_structures
from bmz.cli.options import (
    AXES_HELP,
    CHANNELS,
    PIXEL_SIZE,
    TrustingCommand,
    as_path,
    dataset_option,
    device_option,
    image_list,
    kind_option,
    trust_option,
    try_seconds_option,
    verbosity_options,
)
from bmz.image.known_formats import format_list

if TYPE_CHECKING:
    from bmz.cli.options import Command
    from bmz.engine.load import Permit
    from bmz.results.models import CheckChange, ModelTestResult
    from bmz.spec.made_for import StatedKind

SEARCH_EPILOG = """\b
Every WORD must occur in the name, tags, description, task or weights of a model, or name what the
model is made for: nuclei, EM, electron microscopy, H&E, phase contrast and others.
\b
Exit status: 0 found, 1 no model matches, 2 wrong usage, 3 could not tell (no list of models)."""


class Filters(TypedDict):
    """Values that `_filters` parses in addition to ``--json``."""

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
        click.option("--task", metavar="TASK", help="The task, such as segmentation or denoising."),
        click.option(
            "--modality",
            metavar="TERM",
            shell_complete=offered_modalities,
            help="The kind of microscopy that the model is made for, such as phase or em.",
        ),
        click.option(
            "--structure",
            metavar="TERM",
            shell_complete=offered_structures,
            help="What the model segments or shows, such as nuclei or mitochondria.",
        ),
        click.option(
            "--weights", metavar="FORMAT", help="A weights format, such as onnx or torchscript."
        ),
        click.option("--dims", type=click.Choice(("2d", "3d")), help="Dimensions of the images."),
        click.option(
            "--tag", "tags", multiple=True, metavar="TAG", help="A tag that the model must have."
        ),
        click.option("--runs-here", is_flag=True, help="Only models that can run here."),
        click.option("--labels", is_flag=True, help="Only models with a known label recipe."),
        click.option("--refresh", is_flag=True, help="Read the list of models again."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(epilog=SEARCH_EPILOG)
@_filters
@click.pass_context
def search(ctx: click.Context, /, *, as_json: bool, **filters: Unpack[Filters]) -> None:
    """Find models in the zoo and models that come with bmz, the most relevant first."""
    _search(ctx, as_json=as_json, **filters)


@click.command("list", epilog=SEARCH_EPILOG)
@_filters
@click.pass_context
def list_models(ctx: click.Context, /, *, as_json: bool, **filters: Unpack[Filters]) -> None:
    """List the models in the zoo and the models that come with bmz; same as bmz search."""
    _search(ctx, as_json=as_json, **filters)


def _search(ctx: click.Context, /, *, as_json: bool, **filters: Unpack[Filters]) -> None:
    from bmz.app.search import search as find  # here, so that --help stays quick
    from bmz.app.search.query import SearchRequest
    from bmz.cli.columns import print_table
    from bmz.cli.output import progress_bars
    from bmz.report.zoo_text import (
        NAME_COLUMN,
        SEARCH_HEADINGS,
        search_json,
        search_summary,
        search_table,
    )
    from bmz.zoo.settings import settings_from_environment

    with progress_bars() as listener:
        view = find(SearchRequest(**filters), settings_from_environment(), listener)
    if as_json:
        click.echo(search_json(view))
    else:
        if view.hits:
            print_table(SEARCH_HEADINGS, search_table(view), below=NAME_COLUMN)
        click.echo(search_summary(view), err=True)
    ctx.exit(0 if view.hits else 1)


@click.command(epilog="Exit status: 0 shown, 2 wrong usage, 3 could not tell (not found, invalid).")
@click.argument(
    "model",
    shell_complete=offered_models,
    help="Name, DOI, URL or path of a model; see bmz search.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(model: str, *, as_json: bool) -> None:
    """Describe MODEL: its inputs, its outputs, and what it needs to run."""
    from bmz.app.show import show_model  # here, so that --help never loads NumPy
    from bmz.cli.columns import print_rows
    from bmz.cli.output import progress_bars
    from bmz.report.model_text import model_json, model_rows

    with progress_bars() as listener:
        view = show_model(model, listener=listener)
    if as_json:
        click.echo(model_json(view))
    else:
        print_rows(model_rows(view))


FIT_EPILOG = """\b
The score is the probability that a model is made for what the image shows; bmz check MODEL IMAGE
lists everything that speaks against a model.
\b
Exit status: 0 a model is made for the images, 1 none is or an image could not be read,
2 wrong usage, 3 could not tell (no image could be read, no list of models)."""


@click.command(cls=TrustingCommand, epilog=FIT_EPILOG)
@click.argument(
    "images",
    shell_complete=offered_files,
    nargs=-1,
    required=True,
    metavar="IMAGE...",
    help=f"{format_list()} files, folders, or patterns.",
)
@click.option("--task", metavar="TASK", help="Rank models for this task first, such as denoising.")
@click.option("--top", type=click.IntRange(1), metavar="N", help="Only the N best. [default: 10]")
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=offered_models,
    help="Also rank this model, or all models in this folder; repeatable.",
)
@dataset_option
@click.option("--axes", metavar="AXES", help=AXES_HELP)
@click.option(
    "--channels",
    type=CHANNELS,
    help="Image channel for each model channel, such as 1 or DAPI,GFP.",
)
@click.option("--pixel-size", "pixel_um", type=PIXEL_SIZE, help="Pixel size, such as 0.5um.")
@kind_option
@click.option(
    "--measure", is_flag=True, help="Fetch the sample images of the best models and compare them."
)
@click.option(
    "--try",
    "tries",
    type=click.IntRange(1),
    metavar="N",
    help="Fetch the N best models that run here, try them on crops, and rank by their masks.",
)
@try_seconds_option("Start no further trial after this time.")
@trust_option
@click.option("--all", "everything", is_flag=True, help="Also rank test artefacts and the like.")
@click.option("--refresh", is_flag=True, help="Read the list of models again.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with all models.")
@verbosity_options
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
    channels: tuple[ChannelKey, ...] | None,
    pixel_um: Mapping[str, float] | None,
    kind: StatedKind | None,
    measure: bool,
    tries: int | None,
    try_seconds: float,
    trust: Permit,
    everything: bool,
    refresh: bool,
    as_json: bool,
) -> None:
    """Rank the models of the zoo by how well they fit IMAGES; only --try downloads weights."""
    from bmz.app.fit import fit as rank_models  # here, so that --help stays quick
    from bmz.cli.columns import print_table
    from bmz.cli.output import progress_bars, say
    from bmz.engine.fit_image import FitRequest
    from bmz.report.zoo_text import FIT_HEADINGS, fit_json, fit_summary, fit_table
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
        tries=tries or 0,
        try_seconds=try_seconds,
        trust=trust,
    )
    with progress_bars("ranking") as listener:
        ranking = rank_models(request, settings_from_environment(), listener)
    if as_json:
        click.echo(fit_json(ranking, request.top))
    else:
        print_table(FIT_HEADINGS, fit_table(ranking, request.top or SHOWN), name=1, below=2)
        say(fit_summary(ranking))
    ctx.exit(ranking.exit_status)


TEST_STATUS = """\b
Exit status: 0 all passed (warnings do not count), 1 a model failed, 2 wrong usage, 3 a model could
not be tested (not found, untrusted, no backend). With --baseline: 0 nothing is worse, 1 something
is worse."""


@click.command(cls=TrustingCommand, epilog=TEST_STATUS)
@click.argument(
    "models", shell_complete=offered_models, nargs=-1, metavar="MODEL...", help="See bmz search."
)
@click.option(
    "--list",
    "listed",
    metavar="FILE",
    help="A file with more models, one per line; # begins a comment.",
)
@click.option(
    "--baseline",
    metavar="FILE",
    help="An earlier output of 'bmz test --json': only what is worse now fails. Without MODEL, "
    "its models are tested.",
)
@click.option("--weights", metavar="FORMAT", help="A weights format. [default: all that run here]")
@device_option("cpu")
@click.option(
    "--reference", is_flag=True, help="Also run bioimageio.core, and report where the two differ."
)
@click.option(
    "--strict",
    is_flag=True,
    help="Also fail on poor quality: a halo too small, tiles that change the output, no labels.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="How many models are tested at the same time.",
)
@trust_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "junit", "zoo"]),
    default="text",
    show_default=True,
    help="Text, or a document for other programs.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@verbosity_options
@click.pass_context
def test(
    ctx: click.Context,
    /,
    *,
    models: tuple[str, ...],
    listed: str | None,
    baseline: str | None,
    weights: str | None,
    device: str,
    reference: bool,
    strict: bool,
    workers: int,
    trust: Permit,
    form: str,
    as_json: bool,
) -> None:
    """Test whether each MODEL reproduces its own test output here, in every weights format.

    The weights must load, and the outputs must have the shapes of the test tensors and agree with
    them within the tolerance that the model declares. A halo that is too small, tiles that change
    the outputs, and labels that cannot be made are warnings, with the measured values.
    """
    from bmz.app.model_test import (  # here, so that --help never loads NumPy
        ModelTestRequest,
        changes,
        check_models,
        read_baseline,
        read_models,
    )
    from bmz.cli.output import progress_bars
    from bmz.results.models import exit_status, strictly

    more = () if listed is None else read_models(as_path(listed))
    before = None if baseline is None else read_baseline(as_path(baseline), strict=strict)
    words = tuple(dict.fromkeys((*models, *more))) or tuple(before or ())
    if not words:
        raise click.UsageError("no MODEL is given: name one, or use --list or --baseline")
    request = ModelTestRequest(words, weights, device, trust, reference, workers)
    with progress_bars("testing") as listener:
        results = check_models(request, listener)
    results = strictly(results) if strict else results
    differences = None if before is None else changes(results, before)
    _print(results, differences, "json" if as_json else form)
    ctx.exit(exit_status(results, differences))


def _print(
    results: tuple[ModelTestResult, ...], differences: tuple[CheckChange, ...] | None, form: str
) -> None:
    from bmz.app.model_test import with_known_failures
    from bmz.cli.output import say
    from bmz.report.tested_text import (
        change_lines,
        model_tests_json,
        tested_junit,
        tested_lines,
        zoo_reports,
    )

    if form == "json":
        click.echo(model_tests_json(results, differences))
    elif form == "junit":
        known = results if differences is None else with_known_failures(results, differences)
        click.echo(tested_junit(known))
    elif form == "zoo":
        click.echo(zoo_reports(results))
    else:
        say([*tested_lines(results), *([] if differences is None else change_lines(differences))])


CARD_STATUS = """\b
Exit status: 0 the card was written, whatever the test says; 2 wrong usage;
3 the model was not found or its description is invalid."""


@click.command(cls=TrustingCommand, epilog=CARD_STATUS)
@click.argument(
    "model",
    shell_complete=offered_models,
    help="Name, DOI, URL or path of a model; see bmz search.",
)
@click.option("-o", "--output", metavar="FILE", help="Write the card here.  [default: print it]")
@device_option("cpu")
@trust_option
@verbosity_options
def card(model: str, output: str | None, device: str, trust: Permit) -> None:
    """Write a model card: the inputs and outputs of MODEL, and what is measured here.

    The card says which formats reproduce the test output, and states the receptive field, the
    effect of tiling, the speed, and the size of the objects in the test input.
    """
    from bmz.app.model_test import make_card  # here, so that --help never loads NumPy
    from bmz.base.files import write_whole_text
    from bmz.cli.output import progress_bars
    from bmz.report.tested_text import card_text

    with progress_bars("measuring") as listener:
        text = card_text(make_card(model, device=device, trust=trust, listener=listener))
    if output is None:
        click.echo(text, nl=False)
        return
    write_whole_text(as_path(output), text)
