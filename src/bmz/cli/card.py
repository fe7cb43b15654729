"""``bmz card``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bmz.cli import completing
from bmz.cli.device import device_option
from bmz.cli.trusting import TrustingCommand, trust_option
from bmz.cli.words import as_path

if TYPE_CHECKING:
    from bmz.engine.model_code import Permit

EPILOG = """\b
Exit status: 0 the card is written, whatever the test says; 2 wrong usage;
3 the model is not there or its description is invalid."""


@click.command(cls=TrustingCommand, epilog=EPILOG)
@click.argument(
    "model",
    shell_complete=completing.models,
    help="Name, DOI, URL or path of a model; see bmz search.",
)
@click.option("-o", "--output", metavar="FILE", help="Write the card here.  [default: print it]")
@device_option("cpu")
@trust_option
def card(model: str, output: str | None, device: str, trust: Permit) -> None:
    """Write a model card: what MODEL wants and gives, and what is measured of it here.

    Measured are the formats that reproduce the test output, how far the network sees, what tiles
    change, the speed, and the size of the objects in its own test input.
    """
    from bmz.app.card import make_card  # here, so that --help never loads NumPy
    from bmz.base.files import whole_file
    from bmz.cli.progress import progress_bars
    from bmz.report.tested_text import card_text

    with progress_bars() as listener:
        text = card_text(make_card(model, device=device, trust=trust, listener=listener))
    if output is None:
        click.echo(text, nl=False)
        return
    with whole_file(as_path(output)) as temporary:
        temporary.write_text(text, encoding="utf-8")
