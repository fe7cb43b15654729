"""``bmz trust`` and its sub-commands."""

from __future__ import annotations

import click

from bmz.cli.output import say

EPILOG = "Exit status: 0 done, 1 there is nothing to do it to, 2 wrong usage, 3 could not tell."


@click.group(epilog=EPILOG)
def trust() -> None:
    """Remember which models may run their own code.

    What is remembered is the sha256 of the code: when it changes, it must be trusted anew. Trusted
    code runs shut in, without network and without your files.
    """


@trust.command("add")
@click.argument("model", help="Name, DOI, URL or path of a model.")
def add_model(*, model: str) -> None:
    """Let MODEL run its own code from now on, shut in."""
    from bmz.cli.progress import progress_bars
    from bmz.engine.load import add
    from bmz.report.model_text import added_words

    with progress_bars() as listener:
        entries = add(model, listener)
    say([("answer", line) for line in added_words(entries)])


@trust.command("remove")
@click.argument("word", metavar="MODEL", help="The name under which it is listed, or its sha256.")
def remove_model(*, word: str) -> None:
    """Trust the code of MODEL no longer."""
    from bmz.engine.load import remove
    from bmz.report.model_text import removed_words

    say([("answer", line) for line in removed_words(remove(word))])


@trust.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_models(*, as_json: bool) -> None:
    """List the code that is trusted."""
    from bmz.cli.output import print_table
    from bmz.engine.load import listed
    from bmz.report.model_text import HEADINGS, trust_json, trust_table

    entries = listed()
    if as_json:
        click.echo(trust_json(entries))
    elif entries:
        print_table(HEADINGS, trust_table(entries))
    else:
        click.echo("no code of any model is trusted", err=True)
