"""``bmz open``: a page in the browser to try models and settings on images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Unpack

import click

from bmz.cli.completion import offered_models
from bmz.cli.options import (
    AXES_HELP,
    CHANNELS,
    PIXEL_SIZE,
    SCALE,
    SETTING,
    ImageOptions,
    TrustingCommand,
    as_path,
    device_option,
    image_arguments,
    image_list,
    kind_option,
    trust_option,
)
from bmz.engine.request import RunRequest

if TYPE_CHECKING:
    from pathlib import Path

    from bmz.app.open import OpenRequest


@click.command(
    name="open",
    cls=TrustingCommand,
    epilog="Exit status: 0 the page was closed, 2 wrong usage, 3 an image cannot be read.",
)
@image_arguments
@click.option(
    "-m",
    "--model",
    "models",
    shell_complete=offered_models,
    multiple=True,
    help="A model that the page offers first; repeatable, with options of its own if needed: "
    "MODEL:channels=0,1:scale=auto:flow_threshold=0.2.",
)
@click.option(
    "-o", "--output", default="results", show_default=True, metavar="DIR",
    help="Folder to which the page saves.",
)  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port. [default: any free]")
@click.option(
    "--browser/--no-browser",
    default=True,
    show_default=True,
    help="Open the page in the browser, or only print its address.",
)
@device_option("auto")
@click.option("--axes", metavar="AXES", help=AXES_HELP)
@click.option(
    "--channels", type=CHANNELS, help="Image channel for each model channel, such as 1 or DAPI,GFP."
)
@click.option("--pixel-size", "pixel_um", type=PIXEL_SIZE, help="Pixel size, such as 0.5um.")
@click.option("--scale", type=SCALE, help="Resize the images by this factor, or auto.")
@kind_option
@click.option("--set", "settings", type=SETTING, multiple=True, help="A parameter for all models.")
@trust_option
@click.pass_context
def open_page(
    ctx: click.Context,
    /,
    *,
    images: tuple[str, ...],
    include: tuple[str, ...],
    dataset: str | None,
    series: str,
    models: tuple[str, ...],
    output: str,
    port: int,
    browser: bool,
    device: str,
    pixel_um: Mapping[str, float] | None,
    settings: tuple[tuple[str, str], ...],
    **options: Unpack[ImageOptions],
) -> None:
    """Open a page in the browser to try models and settings on each IMAGE.

    Only this computer can reach the page: it is served on 127.0.0.1 at a secret address and loads
    nothing from elsewhere. Press Ctrl-C to stop.
    """
    from bmz.app.open import OpenRequest  # here, so that --help never loads NumPy
    from bmz.image.series import with_fields

    listing = image_list(images, include, dataset)
    for why in listing.absent.values():
        raise why
    places = tuple(with_fields(listing.images, series))
    request = RunRequest(
        "", places, as_path(output), device=device, settings=dict(settings),
        pixel_um=pixel_um or {}, names=listing.names, **options,
    )  # fmt: skip
    _serve(OpenRequest(places, tuple(dict.fromkeys(models)), request), port, browser=browser)
    ctx.exit(0)


def _serve(request: OpenRequest, port: int, *, browser: bool) -> None:
    from threading import Event

    from bmz.app.open import Workbench
    from bmz.page.calls import page_calls
    from bmz.page.server import serving

    with Workbench(request) as bench:
        bench.view(0)  # or fail before a page is opened
        with serving(page_calls(bench, _state_file(request.images)), port) as server:
            click.echo(server.address)
            if browser:
                click.launch(server.address)
            with suppress(KeyboardInterrupt):
                Event().wait()  # until the user ends it


def _state_file(images: tuple[Path, ...]) -> Path:
    """Return the file that stores what the page for these images shows."""
    from bmz.zoo.settings import settings_from_environment

    key = hashlib.sha256("\n".join(str(image.absolute()) for image in images).encode())
    return settings_from_environment().cache / "open" / f"{key.hexdigest()[:24]}.json"
