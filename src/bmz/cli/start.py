"""The first two commands on a computer: ``bmz doctor`` says what works, ``bmz demo`` shows it."""

from __future__ import annotations

import click

from bmz.cli.output import print_rows
from bmz.cli.words import as_path, json_option


@click.command(epilog="Exit status: 0 at least one weights format runs here, 1 none does.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Say what works on this computer: devices, frameworks, versions, cache."""
    from bmz.app.doctor import examine  # here, so that --help never loads NumPy
    from bmz.report.computer_text import doctor_json, doctor_rows

    view = examine()
    if as_json:
        click.echo(doctor_json(view))
    else:
        print_rows(doctor_rows(view))
    ctx.exit(0 if view.runs_something else 1)


@click.command(
    epilog="Exit status: 0 done, 3 no framework to run it (the hint says what to install)."
)
@click.option(
    "-o",
    "--output",
    "folder",
    default="bmz-demo",
    show_default=True,
    metavar="DIR",
    help="Folder for the results.",
)
@click.pass_context
def demo(ctx: click.Context, folder: str) -> None:
    """Run a bundled model on a bundled image of nuclei; needs no network."""
    from bmz.app.demo import MODEL, demo_image, run_demo  # here, so that --help never loads NumPy
    from bmz.cli.output import progress_bars

    target = as_path(folder)
    click.echo(f"$ bmz run {MODEL} {demo_image()} -o {target}", err=True)
    with progress_bars() as listener:
        summary = run_demo(target, listener)
    for failure in summary.failed:
        raise failure.error
    for done in summary.done:
        click.echo(f"{done.objects} nuclei found with {MODEL} in {done.image.name}")
        click.echo(f"  label mask  {done.files['labels']}")
        click.echo(f"  objects     {done.files['table']}")
        click.echo(f"  record      {done.files['record']}")
        click.echo(f"  look at     {done.files['overlay']}")
    ctx.exit(summary.exit_status)
