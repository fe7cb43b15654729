"""``--trust``: a word of the command line that may stand alone."""

from __future__ import annotations

import click

from bmz.cli.words import Command

_WORD = "--trust"


class TrustingCommand(click.Command):
    """A command with `trust_option`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read a bare ``--trust`` as ``--trust=confined``, so that it never takes the next word."""
        end = args.index("--") if "--" in args else len(args)
        told = [f"{_WORD}=confined" if word == _WORD else word for word in args[:end]]
        return super().parse_args(ctx, [*told, *args[end:]])


def trust_option(command: Command) -> Command:
    """Add ``--trust`` to a `TrustingCommand`; the word is ``no`` where it is not given."""
    return click.option(
        _WORD,
        type=click.Choice(["no", "confined", "unconfined"]),
        default="no",
        metavar="[=unconfined]",
        help="Let the model's own code run, shut in; =unconfined: with all that you may do.",
    )(command)
