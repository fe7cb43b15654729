"""``bmz show``."""

from __future__ import annotations

import click

from bmz.cli import completing


@click.command(epilog="Exit status: 0 shown, 2 wrong usage, 3 could not tell (not found, invalid).")
@click.argument(
    "model",
    shell_complete=completing.models,
    help="Name, DOI, URL or path of a model; see bmz search.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(model: str, *, as_json: bool) -> None:
    """Tell what MODEL is, what goes in and what comes out, and what it needs."""
    from bmz.app.show import show_model  # here, so that --help never loads NumPy
    from bmz.cli.output import print_rows
    from bmz.cli.progress import progress_bars
    from bmz.report.model_text import model_json, model_rows

    with progress_bars() as listener:
        view = show_model(model, listener=listener)
    if as_json:
        click.echo(model_json(view))
    else:
        print_rows(model_rows(view))
