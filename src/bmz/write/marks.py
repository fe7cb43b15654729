"""Marks on a picture: the numbers of objects, the position of the plane, and a scale bar.

Letters are white with a black rim, so that they can be read on any background. Their shapes are
defined here, so that a picture has the same bytes on every computer.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray
from bmz.write.result import Overview

_ROWS = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11110 00001 00001 01110 00001 00001 11110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    "a": "00000 00000 01110 00001 01111 10001 01111",
    "f": "00110 01000 11100 01000 01000 01000 01000",
    "m": "00000 00000 11010 10101 10101 10101 10101",
    "n": "00000 00000 10110 11001 10001 10001 10001",
    "o": "00000 00000 01110 10001 10001 10001 01110",
    "t": "01000 01000 11100 01000 01000 01001 00110",
    "x": "00000 00000 10001 01010 00100 01010 10001",
    "z": "00000 00000 11111 00010 00100 01000 11111",
    "µ": "00000 00000 10010 10010 10010 11101 10000",
    "=": "00000 00000 11111 00000 11111 00000 00000",
    "-": "00000 00000 00000 11111 00000 00000 00000",
    ",": "00000 00000 00000 00000 00110 00100 01000",
    " ": "00000 00000 00000 00000 00000 00000 00000",
}
"""Letters, each as 7 rows of 5 pixels."""

_HEIGHT = 7
_LARGE_PX = 400
"""Pictures whose shorter side is at least this long have letters of twice the size."""

_MARGIN_PX = 10
_SHARE_OF_WIDTH = 4
"""A scale bar takes at most a quarter of the width."""

_BAR_PX = 3
_UNITS = ((1e3, "mm"), (1.0, "µm"), (1e-3, "nm"))
"""Units and their lengths in um, the longest first; the shortest also limits the scale bar."""

_LONGEST_UM = 1e6
_WHITE, _BLACK = 255, 0


@cache
def _letters(text: str, size: int) -> BoolArray:
    """Return the pixels of a text, (7 * size, x)."""
    letters = [np.array([list(row) for row in _ROWS[letter].split()]) == "1" for letter in text]
    gap = np.zeros((_HEIGHT, 1), np.bool_)
    columns = [column for letter in letters for column in (gap, letter)][1:]
    return np.concatenate(columns, axis=1).repeat(size, 0).repeat(size, 1)


def _size_of(picture: AnyArray) -> int:
    return 2 if min(picture.shape[:2]) >= _LARGE_PX else 1


def _stamp(picture: NDArray[np.uint8], shape: BoolArray, top: int, left: int, rim_px: int) -> None:
    """Paint a shape in white with a black rim, moved to lie inside the picture."""
    height, width = (side + 2 * rim_px for side in shape.shape)
    if height > picture.shape[0] or width > picture.shape[1]:
        return
    top = min(max(top - rim_px, 0), picture.shape[0] - height)
    left = min(max(left - rim_px, 0), picture.shape[1] - width)
    rim = np.zeros((height, width), np.bool_)
    for y, x in np.ndindex(2 * rim_px + 1, 2 * rim_px + 1):
        rim[y : y + shape.shape[0], x : x + shape.shape[1]] |= shape
    under = picture[top : top + height, left : left + width]
    under[rim] = _BLACK
    under[rim_px:-rim_px, rim_px:-rim_px][shape] = _WHITE


def write_numbers(picture: NDArray[np.uint8], labels: AnyArray, names: AnyArray) -> None:
    """Write the number of each object on it, if the object is at least half as large as the text.

    Parameters
    ----------
    picture : (y, x, 3), modified in place
    labels : (y, x) consecutive integers, 0 background, on the grid of the picture
    names : (n,) the number to write on label k, at k - 1
    """
    middles, areas = _middles(labels, len(names))
    large = _size_of(picture)
    roomy = len(areas) > 0 and float(np.median(areas)) >= 2 * _letters("88", large).size
    size = large if roomy else 1
    for name, area, (y, x) in zip(names.tolist(), areas.tolist(), middles, strict=True):
        shape = _letters(str(name), size)
        if 2 * area >= shape.size:
            _stamp(picture, shape, y - shape.shape[0] // 2, x - shape.shape[1] // 2, size)


def _middles(labels: AnyArray, count: int) -> tuple[list[tuple[int, int]], AnyArray]:
    """Return the pixel of each object that is nearest to its centre, and its area in pixels.

    For a hidden object, without pixels, the corner of the picture is returned.
    """
    y, x = np.nonzero(labels)
    own = labels[y, x]
    areas = np.bincount(own, minlength=count + 1)
    middle = [np.bincount(own, some, count + 1) / np.maximum(areas, 1) for some in (y, x)]
    away = (y - middle[0][own]) ** 2 + (x - middle[1][own]) ** 2
    order = np.lexsort((away, own))
    first = np.append(order, len(own))[np.searchsorted(own[order], np.arange(1, count + 1))]
    places = [np.append(some, 0)[first].tolist() for some in (y, x)]
    return list(zip(*places, strict=True)), areas[1:]


def mark(picture: NDArray[np.uint8], overview: Overview) -> None:
    """Write the position of the plane at the lower left, and a scale bar at the lower right.

    Planes are counted from 0, as in tables and with ``--axes``. Marks that do not fit into the
    picture are left out.

    Parameters
    ----------
    picture : (y, x, 3) picture of the whole plane, modified in place
    overview : the plane
    """
    size = _size_of(picture)
    words = ", ".join(f"{axis}={k} of 0-{n - 1}" for axis, (k, n) in overview.at.items())
    bottom, taken = picture.shape[0] - _MARGIN_PX, 0
    if words:
        letters = _letters(words, size)
        _stamp(picture, letters, bottom - len(letters), _MARGIN_PX, size)
        taken = letters.shape[1] + _MARGIN_PX
    um = overview.image.pixel_um.get("x")
    if um is not None:
        _draw_bar(picture, um * overview.image.sizes["x"] / picture.shape[1], size, taken)


def _draw_bar(picture: NDArray[np.uint8], pixel_um: float, size: int, taken: int) -> None:
    """Draw a scale bar with its label above it, unless it would overlap the `taken` width."""
    bar = scale_bar(picture.shape[1] * pixel_um / _SHARE_OF_WIDTH)
    if bar is None:
        return
    right, bottom = picture.shape[1] - _MARGIN_PX, picture.shape[0] - _MARGIN_PX
    letters = _letters(bar[1], size)
    line = np.ones((_BAR_PX * size, round(bar[0] / pixel_um)), np.bool_)
    widest = max(line.shape[1], letters.shape[1])
    top = bottom - len(line) - 3 * size - len(letters)
    if right - widest > taken and top > 0:
        _stamp(picture, line, bottom - len(line), right - line.shape[1], size)
        left = right - (line.shape[1] + letters.shape[1]) // 2
        _stamp(picture, letters, top, min(left, right - letters.shape[1]), size)


def scale_bar(longest_um: float) -> tuple[float, str] | None:
    """Return the length of a scale bar, 1, 2 or 5 times a power of ten in um, and its label.

    Return None if `longest_um` is less than a nanometre or more than a metre.

    Examples
    --------
    >>> scale_bar(70.0)
    (50.0, '50 µm')
    >>> scale_bar(2600.0)
    (2000.0, '2 mm')
    >>> scale_bar(0.3)
    (0.2, '200 nm')
    """
    if not _UNITS[-1][0] <= longest_um <= _LONGEST_UM:
        return None
    power = math.floor(math.log10(longest_um))  # may be rounded up
    lengths = [k * 10.0**p for p in (power - 1, power) for k in (1, 2, 5)]
    length_um = max(length for length in lengths if length <= longest_um)
    unit_um, unit = next(entry for entry in _UNITS if length_um >= entry[0])
    return length_um, f"{length_um / unit_um:.0f} {unit}"
