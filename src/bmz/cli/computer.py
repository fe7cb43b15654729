"""Commands about this computer: ``bmz fetch``, ``cache``, ``trust``, ``doctor`` and ``demo``."""

from __future__ import annotations

import click

from bmz.cli.columns import print_rows, print_table
from bmz.cli.completion import offered_models
from bmz.cli.options import as_path, json_option, verbosity_options
from bmz.cli.output import say

FETCH_STATUS = """\b
Without --weights, bmz fetches the format that bmz run would use here.
\b
Exit status: 0 all were fetched, 1 some failed, 2 wrong usage, 3 none could be fetched."""


@click.command(epilog=FETCH_STATUS)
@click.argument(
    "models",
    shell_complete=offered_models,
    nargs=-1,
    required=True,
    metavar="MODEL...",
    help="See bmz search.",
)
@click.option(
    "--weights", metavar="FORMAT", help="A weights format, or all, or none. [default: as bmz run]"
)
@click.option(
    "--allow-changed",
    is_flag=True,
    help="Accept files and descriptions whose sha256 differs from the one stated.",
)
@json_option
@verbosity_options
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

    Fetches the description of each model, the files that its weights need, and its test tensors.
    Files that are already in the cache are not downloaded again.
    """
    from bmz.app.computer import FetchRequest  # here, so that --help stays quick
    from bmz.app.computer import fetch as fetch_models
    from bmz.cli.output import progress_bars
    from bmz.report.computer_text import fetch_json, fetch_lines
    from bmz.zoo.settings import settings_from_environment

    with progress_bars("fetching") as listener:
        request = FetchRequest(models, weights, allow_changed)
        summary = fetch_models(request, settings_from_environment(), listener)
    if as_json:
        click.echo(fetch_json(summary))
    say(fetch_lines(summary), answers=not as_json)
    ctx.exit(summary.exit_status)


CACHE_STATUS = "Exit status: 0 done, 1 something is damaged, 2 wrong usage, 3 could not tell."


@click.group(epilog=CACHE_STATUS)
def cache() -> None:
    """Manage the cache, and carry it to a computer without a network."""


@cache.command("list")
@click.option(
    "--all",
    "manifests",
    is_flag=True,
    help="Also list models with only their manifest in the cache.",
)
@json_option
def list_packages(*, manifests: bool, as_json: bool) -> None:
    """List the models in the cache and the space they take."""
    from bmz.app.computer import list_cache  # here, so that --help stays quick
    from bmz.report.computer_text import (
        HEADINGS,
        cache_json,
        cache_notes,
        cache_summary,
        cache_table,
    )

    packages = list_cache(manifests=manifests)
    if as_json:
        click.echo(cache_json(packages))
        return
    if packages:
        print_table(HEADINGS, cache_table(packages))
    say(cache_notes(packages))
    click.echo(cache_summary(packages), err=True)


@cache.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...", help="Names or sha256. [default: all]")
@json_option
@click.pass_context
def verify(ctx: click.Context, /, *, models: tuple[str, ...], as_json: bool) -> None:
    """Hash every file again, and compare descriptions with the index.

    A damaged file is fetched again the next time it is needed.
    """
    from bmz.app.computer import verify as verify_files
    from bmz.report.computer_text import verify_json, verify_lines

    states = verify_files(models)
    if as_json:
        click.echo(verify_json(states))
    say(verify_lines(states), answers=not as_json)
    ctx.exit(1 if any(state.status == "damaged" for state in states) else 0)


@cache.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", help="Names or sha256.")
@json_option
def remove(*, models: tuple[str, ...], as_json: bool) -> None:
    """Remove models from the cache."""
    from bmz.app.computer import remove as remove_models
    from bmz.report.computer_text import removed_json, removed_words

    removed = remove_models(models)
    click.echo(removed_json(removed) if as_json else removed_words(removed))


@cache.command()
def path() -> None:
    """Print the folder of the cache."""
    from bmz.app.computer import cache_path

    click.echo(cache_path())


@cache.command("export")
@click.argument("archive", metavar="FILE", help="The archive to write, such as models.zip.")
@click.argument("models", nargs=-1, metavar="[MODEL]...", help="Names or sha256. [default: all]")
@json_option
def export_models(*, archive: str, models: tuple[str, ...], as_json: bool) -> None:
    """Write models and the list of models into one archive."""
    from bmz.app.computer import export
    from bmz.report.computer_text import carried_json, carried_words

    carried = export(as_path(archive), models)
    click.echo(carried_json(carried) if as_json else carried_words("exported", carried))


@cache.command("import")
@click.argument("archive", metavar="FILE", help="An archive written by bmz cache export.")
@json_option
def import_models(*, archive: str, as_json: bool) -> None:
    """Import an archive into the cache.

    All hashes are verified first.
    """
    from bmz.app.computer import import_
    from bmz.report.computer_text import carried_json, carried_words

    carried = import_(as_path(archive))
    click.echo(carried_json(carried) if as_json else carried_words("imported", carried))


TRUST_STATUS = "Exit status: 0 done, 1 no such entry, 2 wrong usage, 3 could not tell."


@click.group(epilog=TRUST_STATUS)
def trust() -> None:
    """Remember which models may run their own code.

    bmz remembers the sha256 of the code, so code that changes must be trusted again. Trusted code
    runs confined, without network access and without access to your files.
    """


@trust.command("add")
@click.argument("model", help="Name, DOI, URL or path of a model.")
def add_trust(*, model: str) -> None:
    """Allow MODEL to run its own code from now on, confined."""
    from bmz.cli.output import progress_bars
    from bmz.engine.load import add
    from bmz.report.model_text import added_words

    with progress_bars() as listener:
        entries = add(model, listener)
    say([("answer", line) for line in added_words(entries)])


@trust.command("remove")
@click.argument("name", metavar="MODEL", help="The name in the list, or its sha256.")
def remove_trust(*, name: str) -> None:
    """Stop trusting the code of MODEL."""
    from bmz.engine.load import remove
    from bmz.report.model_text import removed_words

    say([("answer", line) for line in removed_words(remove(name))])


@trust.command("list")
@json_option
def list_trusted(*, as_json: bool) -> None:
    """List the code that is trusted."""
    from bmz.engine.load import listed
    from bmz.report.model_text import HEADINGS, trust_json, trust_table

    entries = listed()
    if as_json:
        click.echo(trust_json(entries))
    elif entries:
        print_table(HEADINGS, trust_table(entries))
    else:
        click.echo("no model's code is trusted", err=True)


@click.command(epilog="Exit status: 0 at least one weights format runs here, 1 none runs here.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Report what works on this computer: devices, frameworks, versions, cache."""
    from bmz.app.computer import examine  # here, so that --help never loads NumPy
    from bmz.cli.output import progress_bars
    from bmz.report.computer_text import doctor_json, doctor_rows

    with progress_bars("examining"):
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
@verbosity_options
@click.pass_context
def demo(ctx: click.Context, folder: str) -> None:
    """Run a bundled model on a bundled image of nuclei; needs no network."""
    from bmz.app.run import MODEL, demo_image, run_demo  # here, so that --help never loads NumPy
    from bmz.cli.output import progress_bars

    target = as_path(folder)
    click.echo(f"$ bmz run {MODEL} {demo_image()} -o {target}", err=True)
    with progress_bars("preparing") as listener:
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
