"""Axes by their letters, boxes along them, and declared steps."""

from __future__ import annotations

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
