"""``bmz test``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bmz.cli import completing
from bmz.cli.device import device_option
from bmz.cli.trusting import TrustingCommand, trust_option
from bmz.cli.words import as_path

if TYPE_CHECKING:
    from bmz.engine.model_code import Permit
    from bmz.results.test import CheckChange, ModelTested

EPILOG = """\b
Exit status: 0 all passed (warnings do not count), 1 one failed, 2 wrong usage, 3 of one nothing
could be told (not found, untrusted, no backend). With --baseline: 0 nothing is worse, 1 something
is."""


@click.command(cls=TrustingCommand, epilog=EPILOG)
@click.argument(
    "models", shell_complete=completing.models, nargs=-1, metavar="MODEL...", help="See bmz search."
)
@click.option(
    "--list", "listed", metavar="FILE", help="More models, one a line; # begins a comment."
)
@click.option(
    "--baseline",
    metavar="FILE",
    help="What 'bmz test --json' said before: only what is worse fails. Without MODEL, its models.",
)
@click.option("--weights", metavar="FORMAT", help="A weights format. [default: all that run here]")
@device_option("cpu")
@click.option(
    "--reference", is_flag=True, help="Run bioimageio.core beside it, and tell where they differ."
)
@click.option(
    "--strict",
    is_flag=True,
    help="A poor quality fails, too: a halo too small, tiles that change the output, no labels.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Models that are tested at once.",
)
@trust_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "junit", "zoo"]),
    default="text",
    show_default=True,
    help="Text, or a document that other programs read.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
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
    """Say whether each MODEL does here what its own test tensors say, in every weights format.

    The weights must load, and the outputs must have the shapes of the test tensors and be within
    the tolerance that the model declares. A halo that is too small, tiles that change the outputs
    and labels that cannot be made are warnings, with the figures.
    """
    from bmz.app.model_test import (  # here, so that --help never loads NumPy
        ModelTestRequest,
        check_models,
    )
    from bmz.app.model_test.baseline import changes, read_baseline, read_models
    from bmz.cli.progress import progress_bars
    from bmz.results.test import exit_status, strictly

    more = () if listed is None else read_models(as_path(listed))
    before = None if baseline is None else read_baseline(as_path(baseline), strict=strict)
    asked = tuple(dict.fromkeys((*models, *more))) or tuple(before or ())
    if not asked:
        raise click.UsageError("no MODEL: name one, or give --list or --baseline")
    request = ModelTestRequest(asked, weights, device, trust, reference, workers)
    with progress_bars() as listener:
        tested = check_models(request, listener)
    tested = strictly(tested) if strict else tested
    found = None if before is None else changes(tested, before)
    _print(tested, found, "json" if as_json else form)
    ctx.exit(exit_status(tested, found))


def _print(
    models: tuple[ModelTested, ...], found: tuple[CheckChange, ...] | None, form: str
) -> None:
    from bmz.app.model_test.baseline import with_known_failures
    from bmz.cli.output import say
    from bmz.report.tested_text import (
        change_lines,
        model_tests_json,
        tested_junit,
        tested_lines,
        zoo_reports,
    )

    if form == "json":
        click.echo(model_tests_json(models, found))
    elif form == "junit":
        click.echo(tested_junit(models if found is None else with_known_failures(models, found)))
    elif form == "zoo":
        click.echo(zoo_reports(models))
    else:
        say([*tested_lines(models), *([] if found is None else change_lines(found))])
