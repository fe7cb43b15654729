"""Pictures of all planes of a stack or time series: projection, montage, film, page with sliders.

An object keeps its colour, that of its label, in every plane, and all planes have the same display
limits, so that they can be compared.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path, PurePosixPath

import imagecodecs
import numpy as np

from bmz.base.errors import not_none
from bmz.image.pixels import Pixels
from bmz.write.overlay import Drawing, drawing_of, drawn, is_bright
from bmz.write.result import Overview, Result
from bmz.write.shown import greys_or_colours, limits_of_all, write_png

_LARGEST_PX = 2048
_PANEL_PX = 512
_GAP_PX = 4
_GAP_GREY = 96

_LEAST_PX, _MOST_PX = 96, 768
"""Limits for the longer side of a frame of a film, and of a plane of a page."""

_FILM_PIXELS, _PAGE_PIXELS = 100e6, 30e6
"""Pixels of all frames together; many frames are shown smaller, so that the file stays small."""

_FRAME_MS = 150
_QUALITY = 85


def write_projection(result: Result, path: Path) -> None:
    """Draw the maximum along z with the visible part of each object, as PNG.

    For a time series, the frame that has the plane with the most objects is drawn. A single plane
    is drawn as it is.
    """
    planes = _planes(result, _LARGEST_PX, _fullest(result, "t"))
    write_png(path, drawn(_projected(planes), drawing_of(result.record)))


def write_montage(result: Result, path: Path) -> None:
    """Draw all planes side by side, row by row, as PNG.

    For a time series of stacks, the planes of the frame that has the plane with the most objects
    are drawn; otherwise all planes or frames.
    """
    only = _fullest(result, "t") if "z" in result.overview().at else {}
    first = next(iter(_planes(result, _PANEL_PX, only)))
    count = math.prod(n for axis, (_, n) in first.at.items() if axis not in only)
    columns, side = _grid(count, first.labels.shape)
    drawing = _drawing(result, side, only)
    height, width, _ = drawn(first, drawing).shape
    rows = -(-count // columns)
    shape = (rows * (height + _GAP_PX) - _GAP_PX, columns * (width + _GAP_PX) - _GAP_PX, 3)
    montage = np.full(shape, _GAP_GREY, np.uint8)
    for k, plane in enumerate(_planes(result, side, only)):
        y, x = (k // columns) * (height + _GAP_PX), (k % columns) * (width + _GAP_PX)
        last = k == count - 1  # a scale bar in each would hide too much
        shown = plane if last else replace(plane, image=replace(plane.image, pixel_um={}))
        montage[y : y + height, x : x + width] = drawn(shown, drawing)
    write_png(path, montage)


def write_film(result: Result, path: Path) -> None:
    """Draw the frames of a time series as animated WebP, with stacks projected along z.

    For a stack without a time axis, the frames are its planes along z.
    """
    at = result.overview().at
    axis = "t" if "t" in at else "z"
    side = _side_px(at[axis][1] if at else 1, _FILM_PIXELS)
    drawing = _drawing(result, side, {})
    frames = groupby(_planes(result, side, {}), lambda plane: plane.at.get(axis))
    pictures = (drawn(_projected(planes), drawing) for _, planes in frames)
    with path.open("wb") as file:
        file.write(b"RIFF____WEBP")
        size: tuple[int, int] | None = None
        for picture in pictures:
            if size is None:
                size = picture.shape[:2]
                canvas = _three_bytes(size[1] - 1) + _three_bytes(size[0] - 1)
                file.write(_chunk(b"VP8X", b"\x02\0\0\0" + canvas))  # 2: animated
                file.write(_chunk(b"ANIM", bytes(6)))  # black background, endless loop
            data = bytes(imagecodecs.webp_encode(picture, level=_QUALITY))
            place = bytes(6) + canvas + _three_bytes(_FRAME_MS) + b"\x02"  # 2: do not blend
            file.write(_chunk(b"ANMF", place + data[len(b"RIFF____WEBP") :]))
        length = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", length))


def write_slices(result: Result, path: Path) -> None:
    """Write a self-contained HTML page with sliders for z and t.

    The outlines are a separate layer, which can be hidden.
    """
    at = result.overview().at
    side = _side_px(math.prod(n for _, n in at.values()), _PAGE_PIXELS)
    drawing = _drawing(result, side, {})
    name = PurePosixPath(str(result.provenance.get("image", ""))).name
    facts = {"axes": {axis: n for axis, (_, n) in at.items()},
             "start": {axis: k for axis, (k, _) in at.items()}}  # fmt: skip
    replaced = {
        "@TITLE@": escape(name, quote=False),
        # a name with </script> in it must not end the data
        "@FACTS@": json.dumps(facts).replace("<", "\\u003c"),
    }
    page = (files("bmz.write") / "slices.html").read_text(encoding="utf-8")
    before, _, behind = page.partition("@PLANES@")
    with path.open("w", encoding="utf-8") as file:
        # replaced in a single pass, since the name of an image may itself look like a placeholder
        file.write(re.sub("|".join(replaced), lambda found: replaced[found[0]], before))
        for k, plane in enumerate(_planes(result, side, {})):
            shown, lines = _layers(plane, drawing)
            file.write(f'{"," if k else ""}\n["{shown}","{lines}"]')
        file.write(behind)


def _layers(plane: Overview, drawing: Drawing) -> tuple[str, str]:
    """Return the picture without objects, and the pixels that objects change, as base64."""
    whole = drawn(plane, drawing)
    nothing = Pixels(np.zeros_like(plane.labels.array), plane.labels.axes)
    below = drawn(replace(plane, labels=nothing), drawing)
    lines = np.zeros((*whole.shape[:2], 4), np.uint8)
    differs = (whole != below).any(-1)
    lines[differs, :3], lines[differs, 3] = whole[differs], 255
    encoded = (
        imagecodecs.webp_encode(below, level=_QUALITY),
        imagecodecs.webp_encode(lines, lossless=True),
    )
    shown, layer = (base64.b64encode(bytes(data)).decode("ascii") for data in encoded)
    return shown, layer


def _planes(result: Result, longest_px: int, only: Mapping[str, int]) -> Iterator[Overview]:
    """Yield planes in order, with a class for each object, so that it keeps its colour."""
    own = np.arange(not_none(result.labels).count + 1)
    for plane in result.overviews(longest_px, only):
        yield plane if plane.kinds is not None else replace(plane, kinds=own)


def _fullest(result: Result, axis: str) -> dict[str, int]:
    """Return the position along an axis of the plane with the most objects; empty without it."""
    return {name: int(k) for name, (k, _) in result.overview().at.items() if name == axis}


def _drawing(result: Result, side: int, only: Mapping[str, int]) -> Drawing:
    """Return the common drawing options of all planes, with `side` px as the longer side."""
    limits = limits_of_all(plane.image for plane in _planes(result, side, only))
    bright = [
        is_bright(greys_or_colours(plane.image, limits)) for plane in _planes(result, side, only)
    ]
    return replace(
        drawing_of(result.record), limits=limits, bright=2 * sum(bright) > len(bright),
        wanted_px=side, largest_px=side,
    )  # fmt: skip


def _projected(planes: Iterable[Overview]) -> Overview:
    """Project the planes of one frame: the maximum intensity, and the first label.

    A single plane is returned unchanged.
    """
    remaining = iter(planes)
    first = next(remaining)
    pixels, labels = first.image.array, first.labels.array
    for plane in remaining:
        pixels = np.fmax(pixels, plane.image.array)
        labels = np.where(labels > 0, labels, plane.labels.array)
    if pixels is first.image.array:
        return first
    at = {axis: ("max" if axis == "z" else k, n) for axis, (k, n) in first.at.items()}
    image = replace(first.image, array=pixels)
    return replace(first, image=image, labels=replace(first.labels, array=labels), at=at)


def _grid(count: int, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of columns of a roughly square montage, and the longer side of a panel."""
    height, width = shape
    columns = min(count, max(1, round(math.sqrt(count * height / width))))
    rows = -(-count // columns)
    longest = max(shape)
    scale = min(_LARGEST_PX / (columns * width), _LARGEST_PX / (rows * height))
    return columns, max(1, min(_PANEL_PX, int(longest * scale)))


def _side_px(count: int, pixels: float) -> int:
    return int(min(max(math.sqrt(pixels / max(count, 1)), _LEAST_PX), _MOST_PX))


def _chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a RIFF file, padded to an even number of bytes."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _three_bytes(number: int) -> bytes:
    return struct.pack("<I", number)[:3]
