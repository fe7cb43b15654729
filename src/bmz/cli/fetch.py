"""``bmz fetch``."""

from __future__ import annotations

import click

from bmz.cli import completing

EPILOG = """\b
Without --weights the format is taken that bmz run would take here.
\b
Exit status: 0 all are there, 1 some failed, 2 wrong usage, 3 none could be had."""


@click.command(epilog=EPILOG)
@click.argument(
    "models",
    shell_complete=completing.models,
    nargs=-1,
    required=True,
    metavar="MODEL...",
    help="See bmz search.",
)
@click.option("--weights", metavar="FORMAT", help="A weights format, all or none.")
@click.option(
    "--allow-changed",
    is_flag=True,
    help="Take files that are not the ones described, and descriptions that are not the ones "
    "listed (their sha256 differs).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def fetch(
    ctx: click.Context,
    /,
    *,
    models: tuple[str, ...],
    weights: str | None,
    allow_changed: bool,
    as_json: bool,
) -> None:
    """Download models into the cache and verify them.

    A model is fetched with its description, the files that its weights need, and its test
    tensors. What is in the cache already is not downloaded again.
    """
    from bmz.app.fetch import FetchRequest  # here, so that --help stays quick
    from bmz.app.fetch import fetch as fetch_models
    from bmz.cli.output import say
    from bmz.cli.progress import progress_bars
    from bmz.report.fetch_text import fetch_json, fetch_lines
    from bmz.zoo.settings import settings_from_environment

    with progress_bars() as listener:
        request = FetchRequest(models, weights, allow_changed)
        summary = fetch_models(request, settings_from_environment(), listener)
    if as_json:
        click.echo(fetch_json(summary))
    say(fetch_lines(summary), answers=not as_json)
    ctx.exit(summary.exit_status)
