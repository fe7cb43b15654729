"""Options that several commands have: ``--device``, ``--trust`` and ``--json``."""

from __future__ import annotations

from collections.abc import Callable

import click

from bmz.cli.words import Command

_TRUST = "--trust"


class TrustingCommand(click.Command):
    """A command with `trust_option`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read a bare ``--trust`` as ``--trust=confined``, so that it never takes the next word."""
        end = args.index("--") if "--" in args else len(args)
        words = [f"{_TRUST}=confined" if word == _TRUST else word for word in args[:end]]
        return super().parse_args(ctx, [*words, *args[end:]])


def trust_option(command: Command) -> Command:
    """Add ``--trust`` to a `TrustingCommand`; its value is ``no`` where it is not given."""
    return click.option(
        _TRUST,
        type=click.Choice(["no", "confined", "unconfined"]),
        default="no",
        metavar="[=unconfined]",
        help="Let the model's own code run, confined; =unconfined: with all your rights.",
    )(command)


def device_option(default: str) -> Callable[[Command], Command]:
    """Give ``--device`` with its default, which the variable ``BMZ_DEVICE`` replaces."""
    return click.option(
        "--device",
        default=default,
        show_default=True,
        envvar="BMZ_DEVICE",
        metavar="WORD",
        help="auto, cpu, cuda, cuda:N or mps.",
    )


def json_option(command: Command) -> Command:
    """Add ``--json``, the parameter ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)
