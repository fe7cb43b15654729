"""``bmz mcp``."""

from __future__ import annotations

import click

EPILOG = """\b
A client starts the server and talks to it over stdin and stdout; see docs/how-to/mcp.md. Without
--folder, the server gives information about models only.
\b
Exit status: 0 the client disconnected, 2 wrong usage, 3 could not tell (no extra mcp)."""


@click.command(epilog=EPILOG)
@click.option(
    "--folder",
    "folders",
    multiple=True,
    metavar="DIR",
    help="A folder in which clients may read images and write results; repeatable.",
)
def mcp(folders: tuple[str, ...]) -> None:
    """Offer search, show, check, fit, run and score to an MCP client.

    The client reads and writes only in each DIR, with links resolved, and in the cache of models. A
    model's code runs only if you have trusted it with bmz trust add.
    """
    from bmz.cli.options import as_path
    from bmz.mcp.folders import Folders
    from bmz.mcp.server import serve

    serve(Folders.of([as_path(folder) for folder in folders]))
