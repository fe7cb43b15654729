"""``bmz doctor``."""

from __future__ import annotations

import click


@click.command(epilog="Exit status: 0 at least one weights format runs here, 1 none does.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Say what works on this computer: devices, frameworks, versions, cache."""
    from bmz.app.doctor import examine  # here, so that --help never loads NumPy
    from bmz.cli.output import print_rows
    from bmz.report.doctor_text import doctor_json, doctor_rows

    view = examine()
    if as_json:
        click.echo(doctor_json(view))
    else:
        print_rows(doctor_rows(view))
    ctx.exit(0 if view.runs_something else 1)
