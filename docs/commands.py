"""Every command as pages for reading: what ``--help`` prints, in Markdown and as a manual page.

``python docs/commands.py docs/reference/commands.md share/man/man1/bmz.1`` writes both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from bmz.cli.main import COMMANDS, cli

WIDTH = 88
"""Of a line of help, in characters."""

ENVIRONMENT = {
    "BMZ_CACHE_DIR": "folder of downloaded models; bmz cache path prints the usual one",
    "BMZ_CACHE_PATH": "more folders of models, read-only, separated as in PATH",
    "BMZ_MODELS": "packages, or folders of several, that bmz fit ranks, too, separated as in PATH",
    "BMZ_INDEX_URL": "address or file of the list of models",
    "BMZ_OFFLINE": "1: ask no server for anything",
    "BMZ_MIRROR": "FROM=TO, separated by commas: replaces the start of an address",
    "BMZ_ANSWER_SECONDS": "longest time for a list or a description, all tries together (300)",
    "BMZ_DOWNLOAD_SECONDS": "the same for a file (86400)",
    "BMZ_DEVICE": "the default of --device",
    "NO_COLOR": "if set, no colours",
}

STATUS = {
    "0": "yes", "1": "no", "2": "wrong usage", "3": "could not tell", "70": "a bug in bmz",
    "130": "interrupted",
}  # fmt: skip

INTRODUCTION = """# Commands

What `bmz --help` and `bmz COMMAND --help` print. Answers go to stdout, all else to stderr.

This page is made from the code: `make reference`.

| exit status | means |
|---|---|
{status}
| environment | means |
|---|---|
{environment}"""


def commands_page() -> str:
    """Give the page in Markdown."""
    status, environment = (
        "".join(f"| `{name}` | {means} |\n" for name, means in table.items())
        for table in (STATUS, ENVIRONMENT)
    )
    head = INTRODUCTION.format(status=status, environment=environment)
    return head + "".join(f"\n## {n}\n\n```text\n{text}\n```\n" for n, text in _helps())


def manual_page() -> str:
    """Give the page for ``man bmz`` in roff."""
    parts = [
        '.TH BMZ 1 "" "" "User Commands"',
        ".SH NAME",
        "bmz \\- run the models of the BioImage Model Zoo, and learn whether they fit your image",
    ]
    for name, text in _helps():
        parts += [f".SH {_roff(name.upper())}", ".nf", _roff(text), ".fi"]
    for heading, table in (("EXIT STATUS", STATUS), ("ENVIRONMENT", ENVIRONMENT)):
        parts.append(f".SH {heading}")
        for name, means in table.items():
            parts += [".TP", f".B {_roff(name)}", _roff(means)]
    return "\n".join(parts) + "\n"


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    # a line that begins with a dot or a quote would be a request
    return "\n".join(
        f"\\&{line}" if line[:1] in (".", "'") else line for line in escaped.splitlines()
    )


def _helps() -> Iterator[tuple[str, str]]:
    """Yield the name of every command and of its sub-commands, with its help."""
    words = {**cli.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    root = click.Context(cli, info_name="bmz", **words)
    yield "bmz", _help(root)
    for name in COMMANDS:
        command = cli.get_command(root, name)
        if command is None:
            raise LookupError(f"the command '{name}' is listed and is not there")
        inner = click.Context(command, parent=root, info_name=name)
        yield f"bmz {name}", _help(inner)
        parts = command.commands if isinstance(command, click.Group) else {}
        for part, subcommand in parts.items():
            context = click.Context(subcommand, parent=inner, info_name=part)
            yield f"bmz {name} {part}", _help(context)


def _help(context: click.Context) -> str:
    return "\n".join(line.rstrip() for line in context.get_help().splitlines())


if __name__ == "__main__":
    for path, page in zip(sys.argv[1:], (commands_page(), manual_page()), strict=True):
        Path(path).write_text(page, encoding="utf-8")
