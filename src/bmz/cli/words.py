"""Words of the command line that are more than text: lengths, channels, factors, settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from bmz.base.lengths import lengths_by_axis
from bmz.base.link import GAPS, link_ious
from bmz.engine.request import SCALES

NO_CHANNEL = -1

Command = TypeVar("Command", bound=Callable[..., Any])


class PixelSize(click.ParamType[dict[str, float]]):
    """``0.5um``, or ``z=2um,y=0.5um,x=0.5um``."""

    name = "length"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> dict[str, float]:
        """Turn the word into um by axis; one length is meant for y and x."""
        try:
            return lengths_by_axis(str(value))
        except ValueError as why:
            self.fail(str(why), param, ctx)


class Channels(click.ParamType[tuple[int, ...]]):
    """``1,0``, or ``0,none``."""

    name = "numbers"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int, ...]:
        """Turn the word into channel numbers from 0; ``none`` stands for zeros."""
        numbers = []
        for part in str(value).split(","):
            word = part.strip()
            if not (word.isdecimal() or word == "none"):
                self.fail(f"'{word}' is no channel; write numbers from 0, such as 1,0", param, ctx)
            numbers.append(NO_CHANNEL if word == "none" else int(word))
        if all(number == NO_CHANNEL for number in numbers):
            self.fail("at least one channel must come from the image", param, ctx)
        return tuple(numbers)


class Scale(click.ParamType[float | Literal["auto"]]):
    """``auto``, ``off`` or a factor."""

    name = "auto|off|factor"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float | Literal["auto"]:
        """Turn the word into a factor; ``off`` is 1."""
        if value == "auto":
            return "auto"
        if value == "off":
            return 1.0
        try:
            factor = float(str(value))
        except ValueError:
            factor = 0.0
        if not SCALES[0] <= factor <= SCALES[1]:
            self.fail(f"'{value}' is no factor between 0.001 and 1000, 'auto' or 'off'", param, ctx)
        return factor


class Listed(click.ParamType[frozenset[str]]):
    """Words of a known list, separated by commas."""

    name = "words"

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> frozenset[str]:
        """Turn the word into a set."""
        words = frozenset(word.strip() for word in str(value).split(",") if word.strip())
        strange = sorted(words - set(self.known))
        if strange or not words:
            found = ", ".join(strange) or "nothing"
            self.fail(f"{found} cannot be saved; choose of {','.join(self.known)}", param, ctx)
        return words


class Sweep(click.ParamType[tuple[str, tuple[str, ...]]]):
    """``KEY=V1,V2``."""

    name = "KEY=V1,V2"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, tuple[str, ...]]:
        """Split the word into a key and its values."""
        key, equals, values = str(value).partition("=")
        found = tuple(part.strip() for part in values.split(",") if part.strip())
        if not (key.strip() and equals and found):
            self.fail(f"'{value}' is no KEY=V1,V2, such as flow_threshold=0.2,0.4,0.8", param, ctx)
        return key.strip(), found


class Setting(click.ParamType[tuple[str, str]]):
    """``key=value``."""

    name = "key=value"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, str]:
        """Part the word at its first equals sign."""
        key, equals, text = str(value).partition("=")
        if not equals or not key.strip() or not text.strip():
            self.fail(f"'{value}' is not of the form key=value", param, ctx)
        return key.strip(), text.strip()


class Overlap(click.ParamType[dict[str, float]]):
    """``0.25``, or ``z=0.25,t=0.5``."""

    name = "IOU"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> dict[str, float]:
        """Turn the word into the least overlap by axis; one number is meant for z and t."""
        try:
            return link_ious(str(value))
        except ValueError as why:
            self.fail(str(why), param, ctx)


_LINK = click.option(
    "--link",
    type=Overlap(),
    metavar="IOU",
    help="Join labels that overlap by this share (intersection over union) from plane to plane "
    "(z), then from frame to frame (t), such as 0.25; or z=0.25,t=0.5.",
)
_LINK_GAP = click.option(
    "--link-gap",
    type=click.IntRange(min(GAPS), max(GAPS)),
    metavar="N",
    help="Planes or frames that a joined object may be missing in. [default: 0]",
)


def link_options(command: Command) -> Command:
    """Add the options that join labels of planes and frames."""
    return _LINK(_LINK_GAP(command))


def link_words(words: dict[str, Any]) -> dict[str, Any]:
    """Put what `link_options` parsed into the words of a request."""
    if words["link_gap"] is not None and words["link"] is None:
        raise click.UsageError("--link-gap says how --link joins labels: give --link, too.")
    return {**words, "link": words["link"] or {}, "link_gap": words["link_gap"] or 0}


def as_path(word: str) -> Path:
    """Turn a word into a path; ``~`` is the home folder."""
    return Path(word).expanduser()
