"""``bmz mcp``."""

from __future__ import annotations

import click

EPILOG = """\b
A client starts it, and talks to it over stdin and stdout; see docs/how-to/mcp.md. Without
--folder, it tells of models only.
\b
Exit status: 0 the client hung up, 2 wrong usage, 3 could not tell (the extra mcp is missing)."""


@click.command(epilog=EPILOG)
@click.option(
    "--folder",
    "folders",
    multiple=True,
    metavar="DIR",
    help="A folder below which clients may read images and write results; given several times.",
)
def mcp(folders: tuple[str, ...]) -> None:
    """Offer search, show, check, fit, run and score to an MCP client.

    The client reads and writes only below each DIR, links followed, and beside it the cache of
    models. No code of a model is run unless it was trusted before with bmz trust add.
    """
    from bmz.cli.options import as_path
    from bmz.mcp.folders import Folders
    from bmz.mcp.server import serve

    serve(Folders.of([as_path(folder) for folder in folders]))
