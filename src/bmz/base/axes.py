"""One letter an axis: the words in which images, models and plans speak of shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SPACE = "zyx"
"""Axes with a length in um a pixel, slowest first."""

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
