"""``bmz cache`` and its sub-commands."""

from __future__ import annotations

import click

from bmz.cli.words import Command, as_path

EPILOG = "Exit status: 0 done, 1 something is damaged, 2 wrong usage, 3 could not tell."


@click.group(epilog=EPILOG)
def cache() -> None:
    """Look after the cache, and carry it to a machine without a network."""


def _json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


@cache.command("list")
@click.option(
    "--all", "manifests", is_flag=True, help="Also models of which only the manifest is there."
)
@_json_option
def list_packages(*, manifests: bool, as_json: bool) -> None:
    """List the models in the cache and the room they take."""
    from bmz.app.cache import list_cache  # here, so that --help stays quick
    from bmz.cli.output import print_table, say
    from bmz.report.fetch_text import (
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
@click.argument("models", nargs=-1, metavar="[MODEL]...", help="Names or sha256; all without one.")
@_json_option
@click.pass_context
def verify(ctx: click.Context, /, *, models: tuple[str, ...], as_json: bool) -> None:
    """Hash every file anew, and compare descriptions with the index.

    A damaged one is fetched again when it is next needed.
    """
    from bmz.app.cache import verify as verify_files
    from bmz.cli.output import say
    from bmz.report.fetch_text import verify_json, verify_lines

    states = verify_files(models)
    if as_json:
        click.echo(verify_json(states))
    say(verify_lines(states), answers=not as_json)
    ctx.exit(1 if any(state.status == "damaged" for state in states) else 0)


@cache.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", help="Names or sha256.")
@_json_option
def remove(*, models: tuple[str, ...], as_json: bool) -> None:
    """Remove models from the cache."""
    from bmz.app.cache import remove as remove_models
    from bmz.report.fetch_text import removed_json, removed_words

    removed = remove_models(models)
    click.echo(removed_json(removed) if as_json else removed_words(removed))


@cache.command()
def path() -> None:
    """Print the folder of the cache."""
    from bmz.app.cache import cache_path

    click.echo(cache_path())


@cache.command("export")
@click.argument("archive", metavar="FILE", help="The archive to write, such as models.zip.")
@click.argument("models", nargs=-1, metavar="[MODEL]...", help="Names or sha256; all without one.")
@_json_option
def export_models(*, archive: str, models: tuple[str, ...], as_json: bool) -> None:
    """Write models and the list of models into one archive."""
    from bmz.app.cache import export
    from bmz.report.fetch_text import carried_json, carried_words

    carried = export(as_path(archive), models)
    click.echo(carried_json(carried) if as_json else carried_words("exported", carried))


@cache.command("import")
@click.argument("archive", metavar="FILE", help="Written by bmz cache export.")
@_json_option
def import_models(*, archive: str, as_json: bool) -> None:
    """Take an archive into the cache.

    Every hash is verified first.
    """
    from bmz.app.cache import import_
    from bmz.report.fetch_text import carried_json, carried_words

    carried = import_(as_path(archive))
    click.echo(carried_json(carried) if as_json else carried_words("imported", carried))
