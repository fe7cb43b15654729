"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

import click
from click.shell_completion import CompletionItem

from bmz.base.axes import GAPS, ChannelKey, channel_words, lengths_by_axis, link_ious
from bmz.cli.completion import offered_files, offered_kinds, offered_parameters
from bmz.cli.output import VERBOSITY
from bmz.image.known_formats import format_list
from bmz.predict.frameworks import AUTO, BACKEND_WORDS
from bmz.spec.made_for import StatedKind, stated_kind
from bmz.write.outputs import (
    CSV,
    TABLE_FORMATS,
    default_kinds,
    names_of_results,
    saved_kinds,
)

if TYPE_CHECKING:
    from bmz.engine.load import Permit
    from bmz.image.listing import Listing

AXES_HELP = (
    "The axes of the files, slowest first, such as zyx or yxc; z=12 takes one plane of each stack, "
    "z=max the largest values along z."
)


Command = TypeVar("Command", bound=Callable[..., Any])
Value = TypeVar("Value")


class Word(click.ParamType[Value]):
    """A word that a function reads; the text of its ValueError is shown to the user.

    Parameters
    ----------
    name : name of the type, as usage errors show it
    read : turns the word into a value
    offered : completions that the shell offers for the start of a word
    """

    def __init__(
        self,
        name: str,
        read: Callable[[str], Value],
        offered: Callable[[click.Context, str], list[CompletionItem]] | None = None,
    ) -> None:
        self.name = name
        self.read = read
        self._offered = offered

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the word."""
        if self._offered is None:
            return super().shell_complete(ctx, param, incomplete)
        return self._offered(ctx, incomplete)

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Value:
        """Read the word."""
        try:
            return self.read(str(value))
        except ValueError as why:
            self.fail(str(why), param, ctx)


def _scale(text: str) -> float | Literal["auto"]:
    from bmz.engine.request import SCALES  # here: it loads NumPy

    if text == "auto":
        return "auto"
    if text == "off":
        return 1.0
    with suppress(ValueError):
        if SCALES[0] <= float(text) <= SCALES[1]:
            return float(text)
    least, most = SCALES
    raise ValueError(f"'{text}' is not 'auto', 'off' or a factor between {least:g} and {most:g}")


def _sweep(text: str) -> tuple[str, tuple[str, ...]]:
    key, equals, values = text.partition("=")
    parts = tuple(part.strip() for part in values.split(",") if part.strip())
    if not (key.strip() and equals and parts):
        raise ValueError(
            f"'{text}' does not have the form KEY=V1,V2, such as flow_threshold=0.2,0.4,0.8"
        )
    return key.strip(), parts


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and key.strip() and value.strip()):
        raise ValueError(f"'{text}' does not have the form key=value")
    return key.strip(), value.strip()


PIXEL_SIZE = Word("length", lengths_by_axis)
"""``0.5um``, or ``z=2um,y=0.5um,x=0.5um``: um by axis; a single length is for y and x."""

CHANNELS = Word("channels", channel_words)
"""``1,0``, ``DAPI,GFP`` or ``0,none``: numbers from 0, or names; ``none`` means zeros."""

SCALE = Word("auto|off|factor", _scale)
"""``auto``, ``off``, which is 1, or a factor."""

KIND = Word("kind", stated_kind)
"""``em``, or ``em,neurites``: a modality, and after a comma a structure."""

SWEEP = Word("KEY=V1,V2", _sweep, offered_parameters)
"""``KEY=V1,V2``: a key and its values."""

SETTING = Word("key=value", _setting, offered_parameters)
"""``key=value``, split at the first equals sign."""

OVERLAP = Word("IOU", link_ious)
"""``0.25``, or ``z=0.25,t=0.5``: least overlap by axis; a single number is for z and t."""


def _input(word: str) -> tuple[str, str]:
    name, equals, pattern = word.partition("=")
    if not (equals and name.strip() and pattern.strip()):
        raise ValueError(f"'{word}' does not have the form ID=FILE, such as prob=maps/{{stem}}.tif")
    pattern = pattern.strip()
    return name.strip(), str(as_path(pattern)) if pattern.startswith("~") else pattern


INPUT = Word("ID=FILE", _input)
"""``prob=maps/{stem}_prob.tif``: an input of the model, and the file that fills it."""


def listed(known: tuple[str, ...]) -> Word[frozenset[str]]:
    """Return the type of a comma-separated list of known words."""

    def read(text: str) -> frozenset[str]:
        words = frozenset(word.strip() for word in text.split(",") if word.strip())
        unknown = sorted(words - set(known))
        if unknown or not words:
            named = ", ".join(unknown) or "nothing"
            raise ValueError(f"{named} cannot be saved; choose from {','.join(known)}")
        return words

    def offered(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        before, comma, start = incomplete.rpartition(",")
        others = [word for word in known if word not in before.split(",")]
        return [
            CompletionItem(f"{before}{comma}{word}") for word in others if word.startswith(start)
        ]

    return Word("words", read, offered)


series_option = click.option(
    "--series",
    default="all",
    show_default=True,
    metavar="NAME|N|N-M",
    help="Which images of a file with several: all, a name, a number from 0, or a range N-M.",
)

dataset_option = click.option(
    "--dataset",
    metavar="PATH",
    help="The dataset of HDF5 files to read, such as /raw; or give the file as a.h5[/raw].",
)

input_option = click.option(
    "--input",
    "inputs",
    type=INPUT,
    multiple=True,
    help="The file for a further input of a model with several, such as "
    "prob=maps/{stem}_prob.tif; FILE#1 takes channel 1.",
)

kind_option = click.option(
    "--kind",
    type=KIND,
    metavar="MODALITY[,STRUCTURE]",
    shell_complete=offered_kinds,
    help="What the images show, such as phase or em,neurites; overrides what the pixels suggest.",
)

_LINK = click.option(
    "--link",
    type=OVERLAP,
    metavar="IOU",
    help="Join labels whose intersection over union is at least this, from plane to plane (z), "
    "then from frame to frame (t), such as 0.25; or z=0.25,t=0.5.",
)
_LINK_GAP = click.option(
    "--link-gap",
    type=click.IntRange(min(GAPS), max(GAPS)),
    metavar="N",
    help="Number of planes or frames in which a joined object may be missing. [default: 0]",
)


def link_options(command: Command) -> Command:
    """Add the options that join labels of planes and frames."""
    return _LINK(_LINK_GAP(command))


_RELATIONS: Mapping[str, str] = {
    "mask": "Keep only labels within the objects of this mask, such as tissue/{stem}.labels.tif.",
    "pair": "Make one object for each object of this mask, with the same number, such as cells for "
    "nuclei/{stem}.labels.tif.",
    "parent": "Add to the table the object of this mask that contains each object, such as "
    "cells/{stem}.labels.tif.",
}

_PROMPTS = (
    "Prompts for a network that takes them: grid (a grid of points), none (the image alone, by the "
    "automatic decoder of the package where it has one), or a file with points, boxes, ROIs or "
    "objects, such as points/{stem}.csv or nuclei/{stem}.labels.tif. "
    "[default: grid]"
)


def relation_options(command: Command) -> Command:
    """Add the options that name a mask for the image: for prompts, and for labels."""
    command = click.option("--prompts", metavar="grid|none|FILE", help=_PROMPTS)(command)
    for name, text in [*_RELATIONS.items()][::-1]:
        command = click.option(f"--{name}", metavar="FILE", help=text)(command)
    return command


def try_seconds_option(text: str) -> Callable[[Command], Command]:
    """Return the option that limits the time of trials, with a help text of the command."""
    return click.option(
        "--try-seconds",
        type=click.FloatRange(1),
        default=60.0,
        show_default=True,
        metavar="S",
        help=text,
    )


def output_options(command: Command) -> Command:
    """Add the options that choose what a run writes, and in which format."""
    options = (
        click.option(
            "--save",
            type=listed(saved_kinds()),
            default=",".join(default_kinds()),
            show_default=True,
            metavar="KINDS",
            help=f"What to write: {', '.join(saved_kinds())}.",
        ),
        click.option(
            "--table",
            "tables",
            type=listed(tuple(TABLE_FORMATS)),
            default=CSV,
            show_default=True,
            metavar="FORMATS",
            help=f"Formats of the tables: {', '.join(TABLE_FORMATS)}.",
        ),
        click.option(
            "--overlay",
            type=click.Choice(["plain", "numbers"]),
            default="plain",
            show_default=True,
            help="numbers: write the label numbers on the objects in the pictures.",
        ),
        click.option(
            "--format",
            "labels_format",
            type=click.Choice(["tiff", "zarr"]),
            default="tiff",
            show_default=True,
            help="Format of the label mask: OME-TIFF, or OME-Zarr 0.5 with a pyramid.",
        ),
        click.option(
            "--into-image",
            "into_image",
            metavar="NAME",
            help="Also write the labels into each image (an OME-Zarr) as labels/NAME.",
        ),
    )
    for option in options[::-1]:
        command = option(command)
    return command


class Linking(TypedDict):
    """How a request joins labels of planes and frames."""

    link: Mapping[str, float]
    link_gap: int


def linking(link: Mapping[str, float] | None, link_gap: int | None) -> Linking:
    """Return what `link_options` parsed as fields of a request."""
    if link_gap is not None and link is None:
        raise click.UsageError("--link-gap needs --link, which joins labels: add --link.")
    return {"link": link or {}, "link_gap": link_gap or 0}


class ImageOptions(TypedDict):
    """Options of ``check``, ``compare`` and ``run`` that become fields of a request unchanged."""

    axes: str | None
    channels: tuple[ChannelKey, ...] | None
    scale: float | Literal["auto"] | None
    kind: StatedKind | None
    trust: Permit


class LabelOptions(ImageOptions):
    """Options of ``compare`` and ``run`` that become fields of a request unchanged."""

    device: str
    clip: float | None
    invert: bool
    recipe: str | None
    tile: int | None
    force: bool


include_option = click.option(
    "--include",
    multiple=True,
    metavar="PATTERN",
    help="Which files in a folder to take, such as '*_dapi.tif'. [default: all image files]",
)


def image_arguments(command: Command) -> Command:
    """Add the images, at least one, and the options that select among them."""
    images = click.argument(
        "images",
        shell_complete=offered_files,
        nargs=-1,
        required=True,
        help=f"{format_list()} files, folders of them, or patterns in quotes.",
    )
    return images(include_option(series_option(dataset_option(command))))


def image_list(words: Sequence[str], include: Sequence[str], dataset: str | None = None) -> Listing:
    """Find the images that the arguments name; see `bmz.image.listing.listed_images`.

    Label masks, pictures and tables that bmz writes are skipped.

    Parameters
    ----------
    dataset : dataset of HDF5 files; None for the only one that can be an image
    """
    from bmz.image.series import in_dataset

    listing = _listing(words, include)
    there = [image for image in listing.images if image not in listing.absent]
    named = dict(zip(there, in_dataset(there, dataset), strict=True))
    return replace(listing, images=tuple(named.get(image, image) for image in listing.images))


def _listing(words: Sequence[str], include: Sequence[str]) -> Listing:
    from bmz.image.listing import STDIN, lines_of_lists, listed_images
    from bmz.image.remote import is_address, is_zipped

    every = list(lines_of_lists(words, sys.stdin if STDIN in words else ()))
    if not any(is_address(word) or is_zipped(word) for word in every):
        return listed_images(every, include, skip=names_of_results())
    from bmz.cli.output import progress_bars
    from bmz.engine.remote_images import local_images  # here, since few images are on servers

    with progress_bars() as listener:
        local = local_images(every, listener=listener)
    listing = listed_images(local.words, include, skip=names_of_results(), absent=local.absent)
    return replace(listing, names=local.names)


def as_path(text: str) -> Path:
    """Turn a word into a path; ``~`` is the home folder."""
    return Path(text).expanduser()


_TRUST = "--trust"


class TrustingCommand(click.Command):
    """A command with `trust_option`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read a bare ``--trust`` as ``--trust=confined``, so that it never takes the next word."""
        end = args.index("--") if "--" in args else len(args)
        words = [f"{_TRUST}=confined" if word == _TRUST else word for word in args[:end]]
        return super().parse_args(ctx, [*words, *args[end:]])


def trust_option(command: Command) -> Command:
    """Add ``--trust`` to a `TrustingCommand`; its value is ``no`` if it is not given."""
    return click.option(
        _TRUST,
        type=click.Choice(["no", "confined", "unconfined"]),
        default="no",
        metavar="[=unconfined]",
        help="Run the model's own code, confined; =unconfined: with all your permissions.",
    )(command)


def device_option(default: str) -> Callable[[Command], Command]:
    """Return ``--device`` with its default, which the variable ``BMZ_DEVICE`` overrides."""
    return click.option(
        "--device",
        default=default,
        show_default=True,
        envvar="BMZ_DEVICE",
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:N or mps.",
    )


def backend_option(command: Command) -> Command:
    """Add ``--backend``; the variable ``BMZ_BACKEND`` may set what ``auto`` means."""
    return click.option(
        "--backend",
        type=click.Choice(BACKEND_WORDS),
        default=AUTO,
        show_default=True,
        metavar="BACKEND",
        help="What runs the network: native, openvino, tensorrt, or auto (the fastest here).",
    )(command)


def json_option(command: Command) -> Command:
    """Add ``--json`` as the parameter ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def _verbosity(ctx: click.Context, _param: click.Parameter, number: int | None) -> None:
    if number is None:
        return
    if ctx.meta.setdefault(VERBOSITY, number) != number:
        raise click.UsageError("--verbose and --quiet exclude each other: leave one of them out.")


def verbosity_options(command: Command) -> Command:
    """Add ``--verbose`` and ``--quiet``, which `bmz.cli.output.verbosity` reads."""
    for names, number, told in (
        (("-q", "--quiet"), -1, "Print warnings and errors only."),
        (("-v", "--verbose"), 1, "Also print notes, such as how an image is adapted."),
    ):
        command = click.option(
            *names, is_flag=True, flag_value=number, type=int, default=None,
            expose_value=False, callback=_verbosity, help=told,
        )(command)  # fmt: skip
    return command
