"""Axes by their letters, boxes along them, declared steps, and how labels are joined over axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Any, TypeAlias

SPACE = "zyx"
"""Axes with a length in um per pixel, slowest first."""

IMAGE_AXES = "tczyx"
"""Every axis an image may have in bmz, in the order in which it is held and written."""

NAMES: Mapping[str, str] = {
    "b": "batch",
    "i": "index",
    "t": "time",
    "c": "channel",
    "z": "z",
    "y": "y",
    "x": "x",
}
"""The letter of an axis and its id in model descriptions (0.5 writes the id, 0.4 the letter)."""

LETTERS: Mapping[str, str] = {name: letter for letter, name in NAMES.items()}


def in_image_order(axes: Iterable[str]) -> str:
    """Give the letters of `axes` in the order t, c, z, y, x.

    Examples
    --------
    >>> in_image_order("yxc")
    'cyx'
    """
    return "".join(sorted(axes, key=IMAGE_AXES.index))


Box: TypeAlias = tuple[slice, ...]


def boxes(shape: Sequence[int], sides: Sequence[int]) -> Iterator[Box]:
    """Give the boxes that cover an array of `shape`, the last axis the fastest.

    Parameters
    ----------
    shape : of the array
    sides : of a box, one per axis, 1 or more; the last one along an axis may be shorter

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
    """One operation of a model description, in the words of format 0.5.

    Parameters
    ----------
    name : the op's ``id``, such as ``scale_range``
    kwargs : its arguments with the names of format 0.5.12; axes are letters (``("c", "y")``)
    """

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=lambda: EMPTY)

    def __str__(self) -> str:
        words = ", ".join(f"{key}={value!r}" for key, value in self.kwargs.items())
        return f"{self.name}({words})"


LINKED = "zt"
"""Axes over which labels can be joined, in the order in which it is done: stacks, then time."""

GAPS = (0, 1)
"""How many planes or frames an object may be missing between two that have it."""


@dataclass(frozen=True)
class Link:
    """Which axes labels are joined over, and how much they must overlap.

    Parameters
    ----------
    ious : axis (of `LINKED`) -> least intersection over union of what is joined, above 0 and at
        most 1; axes that are not named are not joined
    gap : planes or frames that an object may be missing in between, of `GAPS`
    """

    ious: Mapping[str, float] = field(default_factory=dict)
    gap: int = 0

    def over(self, loop: Mapping[str, int]) -> Link:
        """Give what of it there is to do where planes lie at these positions along t and z."""
        left = {a: self.ious[a] for a in LINKED if loop.get(a, 1) > 1 and a in self.ious}
        return Link(left, self.gap)


NO_LINK = Link()
"""Labels of planes and frames stay as they are."""


def link_ious(word: str) -> dict[str, float]:
    """Read ``0.25`` (of z and t), or ``z=0.25,t=0.5``.

    Raises
    ------
    ValueError
        It is neither; the message says why.

    Examples
    --------
    >>> link_ious("0.25")
    {'z': 0.25, 't': 0.25}
    >>> link_ious("t=0.5")
    {'t': 0.5}
    """
    if "=" not in word:
        return dict.fromkeys(LINKED, _iou(word))
    ious: dict[str, float] = {}
    for part in word.split(","):
        axis, _, text = (piece.strip() for piece in part.partition("="))
        if axis not in tuple(LINKED) or axis in ious:
            raise ValueError(f"'{part.strip()}': name z or t, each once, such as z=0.25,t=0.5")
        ious[axis] = _iou(text)
    return ious


def checked_ious(ious: Mapping[str, float]) -> dict[str, float]:
    """Give the overlaps back by axis, when each can be meant; see `link_ious`."""
    if not set(ious) <= set(LINKED):
        raise ValueError("labels are joined over z and t")
    return {axis: _iou(str(iou)) for axis, iou in ious.items()}


def _iou(text: str) -> float:
    try:
        iou = float(text)
    except ValueError:
        iou = math.nan
    if not 0 < iou <= 1:
        raise ValueError(f"'{text}' is no overlap above 0 and up to 1, such as 0.25")
    return iou
