"""``bmz test`` and ``bmz card``: what a model does here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bmz.cli.options import TrustingCommand, as_path, device_option, offered_models, trust_option

if TYPE_CHECKING:
    from bmz.engine.load import Permit
    from bmz.results.models import CheckChange, ModelTestResult

TEST_STATUS = """\b
Exit status: 0 all passed (warnings do not count), 1 one failed, 2 wrong usage, 3 one could not be
tested (not found, untrusted, no backend). With --baseline: 0 nothing is worse, 1 something is."""


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
    help="An earlier answer of 'bmz test --json': only what is worse now fails. Without MODEL, its "
    "models are tested.",
)
@click.option("--weights", metavar="FORMAT", help="A weights format. [default: all that run here]")
@device_option("cpu")
@click.option(
    "--reference", is_flag=True, help="Run bioimageio.core beside it, and tell where they differ."
)
@click.option(
    "--strict",
    is_flag=True,
    help="Poor quality fails, too: a halo too small, tiles that change the output, no labels.",
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
    """Say whether each MODEL reproduces its own test tensors here, in every weights format.

    The weights must load, and the outputs must have the shapes of the test tensors and be within
    the tolerance that the model declares. A halo that is too small, tiles that change the outputs
    and labels that cannot be made are warnings, with the figures.
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
        raise click.UsageError("no MODEL: name one, or give --list or --baseline")
    request = ModelTestRequest(words, weights, device, trust, reference, workers)
    with progress_bars() as listener:
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
Exit status: 0 the card is written, whatever the test says; 2 wrong usage;
3 the model is not there or its description is invalid."""


@click.command(cls=TrustingCommand, epilog=CARD_STATUS)
@click.argument(
    "model",
    shell_complete=offered_models,
    help="Name, DOI, URL or path of a model; see bmz search.",
)
@click.option("-o", "--output", metavar="FILE", help="Write the card here.  [default: print it]")
@device_option("cpu")
@trust_option
def card(model: str, output: str | None, device: str, trust: Permit) -> None:
    """Write a model card: what goes into MODEL and comes out, and what is measured of it here.

    This measures which formats reproduce the test output, how far the network sees, what tiles
    change, the speed, and the size of the objects in the test input.
    """
    from bmz.app.model_test import make_card  # here, so that --help never loads NumPy
    from bmz.base.files import write_whole_text
    from bmz.cli.output import progress_bars
    from bmz.report.tested_text import card_text

    with progress_bars() as listener:
        text = card_text(make_card(model, device=device, trust=trust, listener=listener))
    if output is None:
        click.echo(text, nl=False)
        return
    write_whole_text(as_path(output), text)
