"""CZI, LIF and ND2 by way of bioio and its plugins, the extra ``formats``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import SPACE, Box
from bmz.base.errors import BmzError
from bmz.image.decoding import decoding
from bmz.image.faults import (
    FormatPluginMissing,
    ImageEmpty,
    ImageTooLarge,
    ImageUnreadable,
    SeriesOutOfRange,
    TwoChannelAxes,
)
from bmz.image.info import UNKNOWN_AXIS, Header, PixelSize
from bmz.image.npy import Stored
from bmz.image.pixel_size import from_lengths

PLUGINS: Final = {"CZI": "bioio_czi", "LIF": "bioio_lif", "ND2": "bioio_nd2"}
"""The module that reads each format; the package has ``-`` for ``_``."""

_LETTERS = {"T": "t", "C": "c", "Z": "z", "Y": "y", "X": "x", "S": "c"}
_RGB = 3


class Dimensions(Protocol):
    """What bioio says of the axes: letters such as ``TCZYX``, with S for colour samples."""

    order: str
    shape: tuple[int, ...]


class Scenes(Protocol):
    """The part of ``bioio.BioImage`` that is used here; all but `scenes` is of the current scene.

    Parameters
    ----------
    physical_pixel_sizes : lengths in um along Z, Y, X; None where unknown
    dask_data : pixels, not yet read
    """

    scenes: Sequence[str]
    dims: Dimensions
    dtype: np.dtype[Any]
    physical_pixel_sizes: Sequence[float | None]
    channel_names: Sequence[str] | None
    dask_data: Any

    def set_scene(self, scene_id: int, /) -> None:
        """Make another scene the current one."""


def plugin_header(format_name: str, path: Path, series: int) -> Header:
    """Read what a CZI, LIF or ND2 file says of scene number `series`.

    Raises
    ------
    FormatPluginMissing
        The plugin of this format is not installed.
    ImageUnreadable, ImageEmpty, TwoChannelAxes, SeriesOutOfRange
        The plugin gives up, or the scene cannot be told in our letters.
    """
    with _asking(format_name, path):
        return header_of(path, _scene(path, open_scenes(format_name, path), series))


@contextmanager
def plugin_opened(format_name: str, path: Path, series: int) -> Iterator[Stored]:
    """Open scene number `series`; a region of it reads the planes that it touches."""
    with _asking(format_name, path):
        stored = _Planes(_scene(path, open_scenes(format_name, path), series))
    yield stored


def plugin_pixels(format_name: str, path: Path, series: int) -> AnyArray:
    """Read all pixels of scene number `series`.

    Raises
    ------
    FormatPluginMissing, ImageUnreadable, ImageTooLarge
        They cannot be had.
    """
    with _asking(format_name, path):
        stored = _Planes(_scene(path, open_scenes(format_name, path), series))
        try:
            return stored[tuple(slice(0, n) for n in stored.shape)]
        except MemoryError as why:
            raise ImageTooLarge(path, stored.shape) from why


def open_scenes(format_name: str, path: Path) -> Scenes:
    """Let bioio open `path` with the plugin of `format_name`.

    Raises
    ------
    FormatPluginMissing
        bioio or the plugin is not installed.
    """
    module = PLUGINS[format_name]
    try:
        bioio, plugin = import_module("bioio"), import_module(module)
    except ImportError as why:
        raise FormatPluginMissing(path, format_name, module.replace("_", "-")) from why
    opened: Scenes = bioio.BioImage(path, reader=plugin.Reader)
    return opened


def header_of(path: Path, image: Scenes) -> Header:
    """Tell the current scene of `image` in our words.

    bioio makes five axes of any image; those of t, c, z with one entry stay unnamed.

    Raises
    ------
    ImageEmpty, TwoChannelAxes
        It has no pixels, or colour samples within channels.
    """
    pairs = list(zip(image.dims.order, (int(n) for n in image.dims.shape), strict=True))
    sizes = dict(pairs)
    if not all(sizes.values()):
        raise ImageEmpty(path, [n for _, n in pairs])
    samples, channels = sizes.get("S", 1), sizes.get("C", 1)
    if min(samples, channels) > 1:
        raise TwoChannelAxes(path, channels, samples)
    axes = "".join(
        UNKNOWN_AXIS if n == 1 and a not in "YX" else _LETTERS.get(a, UNKNOWN_AXIS)
        for a, n in pairs
    )
    names = tuple(str(name) for name in image.channel_names or ())
    return Header(
        axes=axes,
        shape=tuple(n for _, n in pairs),
        dtype=np.dtype(image.dtype).newbyteorder("="),
        pixel=_pixel_size(image, axes),
        channel_names=names if len(names) == channels > 1 else (),
        colour=samples == _RGB,
        series_count=len(image.scenes),
    )


def _pixel_size(image: Scenes, axes: str) -> PixelSize:
    found = zip(SPACE, image.physical_pixel_sizes, strict=False)
    lengths = {a: float(um) for a, um in found if a in axes and um is not None}
    return from_lengths(lengths, dict.fromkeys(lengths, "um"), "bioio")


def _scene(path: Path, image: Scenes, series: int) -> Scenes:
    count = len(image.scenes)
    if not 0 <= series < count:
        raise SeriesOutOfRange(path, series, count)
    image.set_scene(series)
    return image


class _Planes:
    """Regions of the current scene, read when they are asked for."""

    def __init__(self, image: Scenes) -> None:
        self._lazy = image.dask_data
        self.shape: tuple[int, ...] = tuple(int(n) for n in self._lazy.shape)
        self.dtype: np.dtype[Any] = np.dtype(self._lazy.dtype)

    def __getitem__(self, box: Box, /) -> AnyArray:
        # one thread: the files' own libraries do not promise more
        pixels = np.asarray(self._lazy[box].compute(scheduler="synchronous"))
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


@contextmanager
def _asking(format_name: str, path: Path) -> Iterator[None]:
    try:
        with decoding(path, format_name):
            yield
    except BmzError:
        raise
    except Exception as why:
        # a plugin raises what its own libraries raise, some of it straight from Exception
        line = " ".join(str(why).split())[:120]
        raise ImageUnreadable(path, f"is a damaged {format_name} file: {line}") from why
