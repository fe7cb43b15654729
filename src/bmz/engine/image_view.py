"""Provide an image to a page: its properties, and parts of a channel at any magnification."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray, ToldAhead
from bmz.base.values import dataclass
from bmz.engine.image_header import with_pixel_size
from bmz.engine.request import RunRequest
from bmz.image.info import ImageInfo
from bmz.image.inspect import inspect_image
from bmz.image.pyramids import open_coarser
from bmz.image.region import FileSource, ImageSource, OpenImage, open_image, read_sample
from bmz.write.shown import FEW_BYTES, PERCENTS

WHOLE_PX = 2**24
"""Planes of up to this many pixels are kept in memory, with their reduced copies."""

SAMPLE_PX = 2**20
"""Number of pixels from which the black and the white point are computed."""

MOST_PLANES = 12
"""Number of planes that are kept."""

_COLOURS = ("#ff33e6", "#33e633", "#1973ff", "#ffd92e", "#33e6e6", "#ff4d4d")
_GREY = "#ffffff"
_RGB = ("#ff0000", "#00ff00", "#0000ff")

_MOST_ON = 3
"""Number of channels that are shown at first."""


@dataclass(frozen=True)
class Window:
    """The part of a plane that is requested.

    Parameters
    ----------
    top, left, bottom, right : px of the image; the last two are exclusive
    step : side of the square of image px that each returned pixel covers, a power of 2
    """

    top: int
    left: int
    bottom: int
    right: int
    step: int = 1

    def within(self, height: int, width: int) -> Window:
        """Return the window, clipped to the image and starting at a multiple of the step."""
        step = 1 << max(self.step.bit_length() - 1, 0)
        top, left = (max(n, 0) // step * step for n in (self.top, self.left))
        return Window(top, left, min(self.bottom, height), min(self.right, width), step)

    def cut(self, whole: AnyArray, step: int) -> AnyArray:
        """Return the window of a plane whose pixels each cover `step` x `step` px of the image."""
        rows, columns = (
            slice(start // step, -(-stop // step))
            for start, stop in ((self.top, self.bottom), (self.left, self.right))
        )
        return whole[rows, columns]


@dataclass(frozen=True)
class Plane:
    """One channel of one plane of an image, by its position along each axis."""

    channel: int = 0
    t: int = 0
    z: int = 0

    def box(self, info: ImageInfo) -> dict[str, slice]:
        """Return the plane as a region of an image, without axes that the image does not have."""
        at = {"c": self.channel, "t": self.t, "z": self.z}
        return {axis: slice(n, n + 1) for axis, n in at.items() if axis in info.axes}


class ImageView:
    """An image that stays open while a page shows it, for use by several threads.

    Parameters
    ----------
    place : path of the image
    request : request whose axes and pixel size, if stated, replace those of the file
    stack : exit stack that closes the files
    """

    def __init__(self, place: Path, request: RunRequest, stack: ExitStack) -> None:
        info = inspect_image(place, axes=request.axes)
        self.place = place
        self.info = with_pixel_size(info, request.pixel_um)
        self.source: FileSource = stack.enter_context(open_image(self.info))
        self._coarser: list[OpenImage] = []
        if isinstance(self.source, OpenImage) and prod(self.sides) > WHOLE_PX:
            self._coarser = stack.enter_context(open_coarser(self.source))
        # chunks from a server can be read by several threads, but a file has only one position
        self._at_once = isinstance(self.source, OpenImage) and isinstance(
            self.source.stored, ToldAhead
        )
        self._planes: OrderedDict[Plane, list[AnyArray]] = OrderedDict()
        self._lock = Lock()

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.info.sizes["y"], self.info.sizes["x"]

    def facts(self) -> dict[str, Any]:
        """Return the properties that a page needs before it requests pixels.

        Returns
        -------
        dict
            ``name``, ``height``, ``width`` (px), ``planes`` (axis -> number), ``pixel_um``
            (None if it is unknown), and ``channels``: name, colour, whether it is shown, and
            ``low`` and ``high``, the values that are shown as black and as white
        """
        height, width = self.sides
        um = self.info.pixel_um
        return {
            "name": self.info.given_name,
            "height": height,
            "width": width,
            "planes": {axis: n for axis, n in self.info.sizes.items() if axis in "tz"},
            "pixel_um": um["x"] if {"x", "y"} <= set(um) else None,
            "channels": self._channels(),
        }

    def _channels(self) -> list[dict[str, Any]]:
        sample = read_sample(self.info, SAMPLE_PX).with_channel_axis()
        values = _sendable(np.moveaxis(np.asarray(sample), sample.axes.index("c"), 0))
        photograph = self.info.colour and len(values) == len(_RGB)
        names: Sequence[str] = self.info.channel_names
        if photograph:
            names, limits = ("red", "green", "blue"), [_limits(values, whole=True)] * 3
        else:
            limits = [_limits(channel) for channel in values]
        colours = _RGB if photograph else _COLOURS if len(values) > 1 else (_GREY,)
        return [
            {
                "name": names[i] if names else f"channel {i}" if len(values) > 1 else "intensity",
                "colour": colours[i % len(colours)],
                "on": i < _MOST_ON,
                **limits[i],
            }
            for i in range(len(values))
        ]

    def part(self, plane: Plane, window: Window) -> tuple[AnyArray, Window]:
        """Return a part of a plane, and its position.

        Returns
        -------
        ndarray, Window
            (y, x) uint8, uint16, int16, float32 or float64; the mean where a value covers several
            px
        """
        window = window.within(*self.sides)
        with self._lock:
            if self.sides[0] * self.sides[1] <= WHOLE_PX:
                levels = self._levels(plane)
                level = min(window.step.bit_length() - 1, len(levels) - 1)
                return window.cut(levels[level], 1 << level), window
        with nullcontext() if self._at_once else self._lock:
            return self._of_source(plane, window), window

    def _levels(self, plane: Plane) -> list[AnyArray]:
        """Return a whole plane and its copies reduced to a half, a quarter and so on."""
        if plane in self._planes:
            self._planes.move_to_end(plane)
            return self._planes[plane]
        levels = [_sendable(_flat(self.source, plane.box(self.info)))]
        while max(levels[-1].shape) > 1:
            levels.append(halved(levels[-1]))
        self._planes[plane] = levels
        if len(self._planes) > MOST_PLANES:
            self._planes.popitem(last=False)
        return levels

    def _of_source(self, plane: Plane, window: Window) -> AnyArray:
        """Read a part from the coarsest array whose resolution suffices."""
        source, step = self.source, 1
        for coarser in self._coarser:
            factor = round(self.sides[1] / coarser.info.sizes["x"])
            if factor <= window.step and factor & (factor - 1) == 0:
                source, step = coarser, factor
        return self._reduced(source, step, plane, window)

    def _reduced(self, source: ImageSource, step: int, plane: Plane, window: Window) -> AnyArray:
        sizes = source.info.sizes
        height, width = (
            -(-(stop - start) // window.step)
            for start, stop in ((window.top, window.bottom), (window.left, window.right))
        )
        # read bands of rows, so that an image without coarser arrays does not fill the memory
        rows = max(WHOLE_PX // max(sizes["x"], 1) * step // window.step, 1) * window.step
        bands = []
        for top in range(window.top, window.bottom, rows):
            bottom = min(top + rows, window.bottom)
            box = plane.box(source.info) | {
                "y": _side(top, bottom, step, sizes["y"]),
                "x": _side(window.left, window.right, step, sizes["x"]),
            }
            band = _sendable(_flat(source, box))
            for _ in range((window.step // step).bit_length() - 1):
                band = halved(band)
            bands.append(band)
        part = np.concatenate(bands)
        # a coarser copy may be smaller, because its sides may be rounded down
        down, across = (n - has for n, has in zip((height, width), part.shape, strict=True))
        return np.pad(part, [(0, max(down, 0)), (0, max(across, 0))], mode="edge")


def _side(start: int, stop: int, step: int, size: int) -> slice:
    """Return the range of a coarser copy that covers a range of the image; never empty."""
    first = min(start // step, size - 1)
    return slice(first, max(min(-(-stop // step), size), first + 1))


def _flat(source: ImageSource, box: dict[str, slice]) -> AnyArray:
    if isinstance(source, OpenImage):
        source.expect(box)  # chunks from a server are then fetched in parallel
    pixels = source.region(box)
    return pixels.part({axis: 0 for axis in pixels.axes if axis not in "yx"}).transposed("yx").array


_SENT = ("uint8", "uint16", "int16", "float32", "float64")
"""Dtypes that are sent unchanged; a browser has no arrays of long integers."""


def _sendable(pixels: AnyArray) -> AnyArray:
    if pixels.dtype.name in _SENT:
        return np.asarray(pixels)
    if pixels.dtype.kind == "b" or pixels.dtype.name == "int8":
        return pixels.astype(np.uint8 if pixels.dtype.kind == "b" else np.int16)
    return pixels.astype(np.float32 if pixels.dtype.name == "float16" else np.float64)


def halved(plane: AnyArray) -> AnyArray:
    """Return the mean of every 2 x 2 pixels; an odd last row or column is repeated.

    Parameters
    ----------
    plane : (y, x)

    Returns
    -------
    ndarray
        (y, x) with half the sides, rounded up, and the same dtype
    """
    padded = np.pad(plane, [(0, n % 2) for n in plane.shape], mode="edge")
    total = sum(
        padded[i::2, j::2].astype(np.float32 if plane.itemsize <= FEW_BYTES else np.float64)
        for i in (0, 1)
        for j in (0, 1)
    )
    mean = np.asarray(total) / 4
    return (np.rint(mean) if plane.dtype.kind in "iu" else mean).astype(plane.dtype)


def _limits(values: AnyArray, *, whole: bool = False) -> dict[str, float]:
    """Return the black and the white point; 0 and 255 for a `whole` uint8 image."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    least, most = (float(end(finite)) if finite.size else 0.0 for end in (np.min, np.max))
    low, high = (least, most) if finite.size == 0 else np.percentile(finite, PERCENTS)
    if whole and values.dtype == np.uint8:
        low, high = 0.0, 255.0
    if not high > low:
        low, high = least, max(most, least + 1)
    return {"low": float(low), "high": float(high), "least": least, "most": max(most, float(high))}
