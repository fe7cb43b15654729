"""``--device``: the same option for every command that runs a network."""

from __future__ import annotations

from collections.abc import Callable

import click

from bmz.cli.words import Command


def device_option(default: str) -> Callable[[Command], Command]:
    """Give the option with its default, which ``BMZ_DEVICE`` outdoes."""
    return click.option(
        "--device",
        default=default,
        show_default=True,
        envvar="BMZ_DEVICE",
        metavar="WORD",
        help="auto, cpu, cuda, cuda:N or mps.",
    )
