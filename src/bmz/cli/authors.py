"""For authors of models: ``bmz adopt`` and ``bmz describe``."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose

import click

from bmz.cli.completion import offered_files, offered_models
from bmz.cli.options import AXES_HELP, PIXEL_SIZE, as_path, json_option

ADOPT_STATUS = """\b
FILE is a state dict from Cellpose 1 to 3 or Omnipose, a TorchScript file from InstanSeg, or a
StarDist folder. The package is named after the file; no code from the checkpoint is run.
\b
Exit status: 0 all were adopted and pass bmz test, 1 some failed, 2 wrong usage,
3 could not tell (file missing or damaged, unknown network, no PyTorch)."""

FAMILY_NAMES = ("cellpose", "omnipose", "instanseg", "stardist")


@click.command(epilog=ADOPT_STATUS)
@click.argument(
    "checkpoints",
    nargs=-1,
    required=True,
    metavar="FILE...",
    shell_complete=offered_files,
    help="Checkpoints; each becomes a package.",
)
@click.option(
    "-o", "--output", default=".", metavar="DIR", help="Write the packages here.  [default: .]"
)
@click.option(
    "--as", "family", type=click.Choice(FAMILY_NAMES), help="The kind of network in the files."
)
@click.option("--sample", metavar="IMAGE", help="Image at the right scale, used as test input.")
@click.option("--axes", metavar="AXES", help=AXES_HELP)
@click.option("--diameter", type=click.FloatRange(1), metavar="PX", help="Object diameter in px.")
@click.option("--pixel-size", "pixel_um", type=PIXEL_SIZE, help="Pixel size, such as 0.5um.")
@click.option("--name", metavar="NAME", help="Model name.  [default: name of the file]")
@click.option("--description", metavar="TEXT", help="One sentence on what the model finds.")
@click.option("--author", "authors", multiple=True, metavar="NAME", help="An author; repeatable.")
@click.option("--license", "license_id", metavar="SPDX", help="License, such as BSD-3-Clause.")
@click.option(
    "--cite", multiple=True, metavar="TEXT|DOI", help="A work to cite in addition to the method."
)
@json_option
@click.pass_context
def adopt(
    ctx: click.Context,
    /,
    *,
    checkpoints: tuple[str, ...],
    output: str,
    family: str | None,
    sample: str | None,
    axes: str | None,
    diameter: float | None,
    pixel_um: Mapping[str, float] | None,
    name: str | None,
    description: str | None,
    authors: tuple[str, ...],
    license_id: str | None,
    cite: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a BioImage Model Zoo package (a folder and a zip) from each FILE, and test it.

    The network is rebuilt from the weights, exported as TorchScript and, where the package onnx is
    installed, as ONNX, and run on a test input. State with options what the file does not;
    otherwise a plain placeholder remains.
    """
    from bmz.app.adopt import AdoptRequest  # here, so that --help stays quick
    from bmz.app.adopt import adopt as adopt_all
    from bmz.cli.output import progress_bars, say
    from bmz.report.author_text import adopt_json, adopt_lines
    from bmz.spec.manifest import Credits

    request = AdoptRequest(
        tuple(map(as_path, checkpoints)),
        as_path(output),
        family,
        None if sample is None else as_path(sample),
        axes,
        diameter,
        _one_size(pixel_um),
        Credits(name or "", description or "", authors, license_id or "", cite),
    )
    with progress_bars() as listener:
        summary = adopt_all(request, listener=listener)
    if as_json:
        click.echo(adopt_json(summary))
    say(list(adopt_lines(summary)), answers=not as_json)
    ctx.exit(summary.exit_status)


DESCRIBE_STATUS = """\b
Exit status: 0 a package was written, 1 the description lacks nothing that could be found,
2 wrong usage, 3 could not tell (not found, invalid)."""


@click.command(epilog=DESCRIBE_STATUS)
@click.argument("package", shell_complete=offered_models, help="Name, folder or zip of a package.")
@click.option(
    "-o", "--output", metavar="DIR", help="Write the new package here.  [default: NAME-described]"
)
@click.option("--pixel-size", "pixel_um", type=PIXEL_SIZE, help="Pixel size, such as 0.5um.")
@json_option
def describe(
    package: str, *, output: str | None, pixel_um: Mapping[str, float] | None, as_json: bool
) -> None:
    """Propose what the description of PACKAGE is missing, and write a new package with it.

    Measured on the test input: the object size, the receptive field, and the kind of image. Taken
    from known facts: pixel size, channel names, and the label recipe. The text for a pull request
    is written next to the new package; the old package is not changed.
    """
    from bmz.app.adopt import DescribeRequest  # here, so that --help stays quick
    from bmz.app.adopt import describe as describe_package
    from bmz.cli.output import progress_bars, say
    from bmz.report.author_text import describe_json, describe_lines

    folder = None if output is None else as_path(output)
    with progress_bars() as listener:
        request = DescribeRequest(package, folder, pixel_um)
        written = describe_package(request, listener=listener)
    if as_json:
        click.echo(describe_json(written))
    else:
        say(list(describe_lines(written)))


def _one_size(sizes: Mapping[str, float] | None) -> float | None:
    if not sizes:
        return None
    first = next(iter(sizes.values()))
    if not all(isclose(size, first) for size in sizes.values()):
        raise click.UsageError("--pixel-size takes a single size for all axes here")
    return first
