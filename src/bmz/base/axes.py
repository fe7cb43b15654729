"""Axes, boxes, lengths, channels, declared steps, and how labels are joined over axes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from itertools import product
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass

SPACE = "zyx"
"""Axes with a length in um per pixel, slowest first."""

IMAGE_AXES = "tczyx"
"""All axes that an image may have in bmz, in the order in memory and in files."""

NAMES: Mapping[str, str] = {
    "b": "batch",
    "i": "index",
    "t": "time",
    "c": "channel",
    "z": "z",
    "y": "y",
    "x": "x",
}
"""Letter of an axis -> its id in model descriptions (0.5 uses the id, 0.4 the letter)."""

PLACES: Mapping[str, str] = {"t": "frames", "z": "planes"}
"""Axis that a 2-D image does not have -> what the positions along it are called."""

LETTERS: Mapping[str, str] = {name: letter for letter, name in NAMES.items()}


def in_image_order(axes: Iterable[str]) -> str:
    """Return the letters of `axes` in the order t, c, z, y, x.

    Examples
    --------
    >>> in_image_order("yxc")
    'cyx'
    """
    return "".join(sorted(axes, key=IMAGE_AXES.index))


Box: TypeAlias = tuple[slice, ...]


def boxes(shape: Sequence[int], sides: Sequence[int]) -> Iterator[Box]:
    """Yield the boxes that cover an array of `shape`; the last axis varies fastest.

    Parameters
    ----------
    shape : shape of the array
    sides : sides of a box, one per axis, at least 1; the last box along an axis may be shorter

    Examples
    --------
    >>> [[(s.start, s.stop) for s in box] for box in boxes((1, 3), (1, 2))]
    [[(0, 1), (0, 2)], [(0, 1), (2, 3)]]
    """
    ends = [
        [slice(at, min(at + side, n)) for at in range(0, n, side)]
        for n, side in zip(shape, sides, strict=True)
    ]
    yield from product(*ends)


EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Step:
    """One operation of a model description, in the terms of format 0.5.

    Parameters
    ----------
    name : ``id`` of the operation, such as ``scale_range``
    kwargs : arguments with the names of format 0.5.12; axes are letters (``("c", "y")``)
    """

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=lambda: EMPTY)

    def __str__(self) -> str:
        words = ", ".join(f"{key}={value!r}" for key, value in self.kwargs.items())
        return f"{self.name}({words})"


LINKED = "zt"
"""Axes over which labels can be joined, in the order in which they are joined."""

GAPS = (0, 1)
"""Allowed values for the number of consecutive planes or frames that may lack an object."""


@dataclass(frozen=True)
class Link:
    """Which axes labels are joined over, and how much they must overlap.

    Parameters
    ----------
    ious : axis (of `LINKED`) -> minimum intersection over union of objects to join, above 0 and at
        most 1; labels are not joined over other axes
    gap : number of consecutive planes or frames that may lack the object, one of `GAPS`
    """

    ious: Mapping[str, float] = field(default_factory=dict)
    gap: int = 0

    def over(self, loop: Mapping[str, int]) -> Link:
        """Return the link for only those axes that have more than one position in `loop`."""
        left = {a: self.ious[a] for a in LINKED if loop.get(a, 1) > 1 and a in self.ious}
        return Link(left, self.gap)


NO_LINK = Link()
"""Labels are not joined."""


def link_ious(text: str) -> dict[str, float]:
    """Parse ``0.25`` (for z and t) or ``z=0.25,t=0.5``.

    Raises
    ------
    ValueError
        The text has neither form; the message says why.

    Examples
    --------
    >>> link_ious("0.25")
    {'z': 0.25, 't': 0.25}
    >>> link_ious("t=0.5")
    {'t': 0.5}
    """
    if "=" not in text:
        return dict.fromkeys(LINKED, _iou(text))
    ious: dict[str, float] = {}
    for part in text.split(","):
        axis, _, text = (piece.strip() for piece in part.partition("="))
        if axis not in tuple(LINKED) or axis in ious:
            raise ValueError(
                f"'{part.strip()}': give z and t at most once each, such as z=0.25,t=0.5"
            )
        ious[axis] = _iou(text)
    return ious


def checked_ious(ious: Mapping[str, float]) -> dict[str, float]:
    """Return the overlaps by axis if all are valid; raise ValueError otherwise."""
    if not set(ious) <= set(LINKED):
        raise ValueError("labels are joined over z and t")
    return {axis: _iou(str(iou)) for axis, iou in ious.items()}


def _iou(text: str) -> float:
    try:
        iou = float(text)
    except ValueError:
        iou = math.nan
    if not 0 < iou <= 1:
        raise ValueError(f"'{text}' is not an overlap above 0 and up to 1, such as 0.25")
    return iou


UM_PER_UNIT: dict[str, float] = {
    "pm": 1e-6,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "um": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": 25400.0,
}

_SPELLINGS: dict[str, str] = {
    "picometer": "pm", "picometre": "pm",
    "å": "angstrom", "a": "angstrom", "ångström": "angstrom",
    "nanometer": "nm", "nanometre": "nm", "nanometers": "nm", "nanometres": "nm",
    "µm": "um", "μm": "um", "\\u00b5m": "um", "micron": "um", "microns": "um",
    "micrometer": "um", "micrometre": "um", "micrometers": "um", "micrometres": "um",
    "millimeter": "mm", "millimetre": "mm",
    "centimeter": "cm", "centimetre": "cm",
    "meter": "m", "metre": "m",
    "in": "inch", "inches": "inch",
}  # fmt: skip

_NUMBER_AND_UNIT = re.compile(r"\s*([0-9]*[.,]?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(\D*?)\s*$")


def um_per(unit: str) -> float | None:
    r"""Return the length of one `unit` in um; None for what is not a length (``px``).

    Both signs for micro (U+00B5, U+03BC) and ImageJ's escaped ``\\u00B5m`` count as um.

    Examples
    --------
    >>> um_per("micron"), um_per("nm"), um_per("px")
    (1.0, 0.001, None)
    """
    word = unit.strip().lower()
    return UM_PER_UNIT.get(_SPELLINGS.get(word, word))


def parse_length_um(text: str) -> float | None:
    """Parse ``0.5um``, ``650 nm`` or a bare ``0.5`` (um) as um; None if it is not above 0.

    Examples
    --------
    >>> parse_length_um("650 nm"), parse_length_um("0.5"), parse_length_um("two")
    (0.65, 0.5, None)
    """
    match = _NUMBER_AND_UNIT.match(text)
    if match is None:
        return None
    number = float(match[1].replace(",", "."))
    factor = um_per(match[2]) if match[2] else 1.0
    um = number * factor if factor is not None else 0.0
    return um if um > 0 and math.isfinite(um) else None


def lengths_by_axis(text: str) -> dict[str, float]:
    """Parse ``0.5um`` (for y and x) or ``z=2um,y=0.5um,x=0.5um`` as um by axis.

    Raises
    ------
    ValueError
        A part is not a length, or names another axis; the message says which. Or there are more
        lengths than axes: in ``1,5um``, the comma may be a decimal one.

    Examples
    --------
    >>> lengths_by_axis("z=2um,y=500nm,x=500nm")
    {'z': 2.0, 'y': 0.5, 'x': 0.5}
    """
    lengths: dict[str, float] = {}
    for part in text.split(","):
        axes, equals, length = part.rpartition("=")
        um = parse_length_um(length)
        if um is None or (equals and axes.strip() not in {"z", "y", "x"}):
            raise ValueError(f"'{part}' is not a length; write 0.5um or z=2um,y=0.5um,x=0.5um")
        if axes.strip() in lengths or ("," in text and not equals):
            raise ValueError(
                f"'{text}' has more lengths than axes; write 1.5um or z=2um,y=1.5um,x=1.5um"
            )
        lengths |= dict.fromkeys(axes.strip() or "yx", um)
    return lengths


EMPTY_CHANNEL = -1
"""Channel number that means zeros."""

EMPTY_WORD = "none"
"""The word for `EMPTY_CHANNEL`."""

ChannelKey = int | str
"""A number from 0, `EMPTY_CHANNEL`, or a name."""


class ChannelUnknown(LookupError):
    """No channel, or more than one, has this name.

    Parameters
    ----------
    name : requested name
    names : names of the channels
    """

    def __init__(self, name: str, names: Sequence[str]) -> None:
        super().__init__(name)
        self.name, self.names = name, tuple(names)


def channel_words(text: str) -> tuple[ChannelKey, ...]:
    """Parse ``1,0``, ``DAPI,GFP`` or ``0,none`` into numbers and names.

    Raises
    ------
    ValueError
        An entry is missing, or no entry is a channel of the image; the message says why.

    Examples
    --------
    >>> channel_words("1,none,Alexa 488")
    (1, -1, 'Alexa 488')
    """
    return checked_channels([word.strip() for word in text.split(",")])


def checked_channels(words: Sequence[ChannelKey]) -> tuple[ChannelKey, ...]:
    """Return the channels if they are valid as for `channel_words`; else raise ValueError."""
    channels = tuple(map(_channel, words))
    if set(channels) == {EMPTY_CHANNEL}:
        raise ValueError("at least one channel must come from the image")
    return channels


def _channel(channel: ChannelKey) -> ChannelKey:
    if not isinstance(channel, str):
        return int(channel)
    if not channel.strip():
        raise ValueError("a channel is missing; write numbers from 0 or names, such as 1,0 or DAPI")
    if channel.startswith("-"):
        raise ValueError(
            f"'{channel}' is not a channel; write numbers from 0 or names, such as 1,0"
        )
    if channel == EMPTY_WORD:
        return EMPTY_CHANNEL
    return int(channel) if channel.isdecimal() else channel


def channel_text(channels: Sequence[ChannelKey]) -> str:
    """Return the value for ``--channels`` that `channel_words` parses into these channels.

    Examples
    --------
    >>> channel_text((1, -1, "GFP"))
    '1,none,GFP'
    """
    return ",".join(EMPTY_WORD if word == EMPTY_CHANNEL else str(word) for word in channels)


def channel_numbers(words: Sequence[ChannelKey], names: Sequence[str]) -> tuple[int, ...]:
    """Return the number of each channel; case does not matter in names.

    Parameters
    ----------
    words : numbers, which are returned unchanged, and names
    names : names of the channels of an image

    Raises
    ------
    ChannelUnknown
        No channel, or more than one, has a name.
    """
    return tuple(word if isinstance(word, int) else _number(word, names) for word in words)


def _number(name: str, names: Sequence[str]) -> int:
    known = [each.strip().casefold() for each in names]
    wanted = name.strip().casefold()
    if known.count(wanted) != 1:
        raise ChannelUnknown(name, names)
    return known.index(wanted)


CONTACT: Final = "contact"
"""The word that makes only touching objects neighbours."""

_PIXELS = re.compile(r"([0-9]*\.?[0-9]+) ?px")


class NeighboursRefused(WrongUsage):
    """The definition of a neighbour cannot be parsed, or needs a pixel size."""

    def __init__(self, text: str, why: str, hint: str) -> None:
        super().__init__(f"--neighbours {text}: {why}", hint=hint, code="neighbours.refused")


@dataclass(frozen=True)
class Neighbourhood:
    """The definition of a neighbour.

    Parameters
    ----------
    text : definition as the user writes it
    distance : maximum distance between centroids; None if only contact counts
    unit : unit of the distance, ``um`` or ``px``
    """

    text: str
    distance: float | None = None
    unit: str = "um"

    @classmethod
    def of(cls, text: str) -> Neighbourhood:
        """Parse ``contact``, ``20um`` or ``40px``; a bare number is in um.

        Examples
        --------
        >>> Neighbourhood.of("40 px").column, Neighbourhood.of("0.02 mm").column
        ('neighbours_within_40px', 'neighbours_within_20um')

        Raises
        ------
        NeighboursRefused
        """
        word = text.strip().lower()
        if word == CONTACT:
            return cls(CONTACT)
        pixels = _PIXELS.fullmatch(word)
        distance = float(pixels[1]) if pixels else parse_length_um(word)
        if not distance:
            hint = "give contact, or a distance from centroid to centroid such as 20um or 40px"
            raise NeighboursRefused(text, "it is neither contact nor a distance above 0", hint)
        return cls(word, distance, "px" if pixels else "um")

    @property
    def column(self) -> str:
        """The heading of the column with the number of neighbours within the distance."""
        return f"neighbours_within_{self.distance:g}{self.unit}"

    def refuse_unknown_size(self, axes: str, pixel_um: Mapping[str, float]) -> None:
        """Raise an error if a distance is in um and a spatial axis has no pixel size.

        Raises
        ------
        NeighboursRefused
        """
        unknown = [axis for axis in axes if axis not in pixel_um]
        if self.distance is not None and self.unit == "um" and unknown:
            why = f"the pixel size along {', '.join(unknown)} is not known"
            hint = "state it with --pixel-size, or give the distance in px"
            raise NeighboursRefused(self.text, why, hint)
