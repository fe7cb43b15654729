"""Microscopy formats that libraries read: CZI, LIF and ND2, and those of bioio plugins."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import SPACE
from bmz.base.errors import BmzError
from bmz.base.values import dataclass
from bmz.image.decoding import decoding
from bmz.image.faults import (
    FormatPluginMissing,
    ImageEmpty,
    ImageTooLarge,
    ImageUnreadable,
    SeriesOutOfRange,
    TwoChannelAxes,
)
from bmz.image.info import UNKNOWN_AXIS, Header
from bmz.image.known_formats import BIOIO, PLUGIN_OF
from bmz.image.npy import Stored
from bmz.image.pixel_size import from_lengths
from bmz.image.scenes import (
    COLOURS,
    Lazy,
    Opener,
    Scene,
    Scenes,
    opened_czi,
    opened_lif,
    opened_nd2,
    stated_um,
)

if TYPE_CHECKING:
    from bioio import BioImage

_LETTERS = {"T": "t", "C": "c", "Z": "z", "Y": "y", "X": "x", "S": "c"}


@dataclass(frozen=True)
class Library:
    """The library that reads a format.

    Parameters
    ----------
    module : module to import
    package : package to install; part of the extra ``formats`` unless it is one of bioio
    opener : opens a file with the library
    """

    module: str
    package: str
    opener: Opener


class BioioScenes:
    """The scenes of a file that a bioio plugin reads."""

    def __init__(self, image: BioImage) -> None:
        self._image = image
        self.names = tuple(map(str, image.scenes))

    def scene(self, number: int, /) -> Scene:
        """Return a scene."""
        image = self._image
        image.set_scene(number)
        sizes = dict(zip(SPACE, image.physical_pixel_sizes, strict=False))
        names = tuple(str(name) for name in image.channel_names or ())
        return Scene(image.dims.order, Lazy(image.dask_data), stated_um(sizes, 1.0), names)


@contextmanager
def opened_bioio(path: Path) -> Iterator[BioioScenes]:
    """Open a file with the plugin that bioio finds for it."""
    bioio = import_module("bioio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of bioio and its dependencies
        try:
            image = bioio.BioImage(path)
        except import_module("bioio_base.exceptions").UnsupportedFileFormatError as why:
            raise _plugin_missing(path, BIOIO, "bioio") from why
        yield BioioScenes(image)


def _plugin_missing(path: Path, format_name: str, library: str) -> FormatPluginMissing:
    if format_name != BIOIO:
        return FormatPluginMissing(path, f"{format_name} file", library)
    plugin = PLUGIN_OF.get(path.suffix.lower(), "bioio-bioformats")
    kind = f"'{path.suffix}' file, which bioio plugins read"
    return FormatPluginMissing(path, kind, plugin, f"pip install {plugin}")


LIBRARIES: Final[Mapping[str, Library]] = {
    "CZI": Library("pylibCZIrw", "pylibCZIrw", opened_czi),
    "LIF": Library("liffile", "liffile", opened_lif),
    "ND2": Library("nd2", "nd2", opened_nd2),
    BIOIO: Library("bioio", "bioio", opened_bioio),
}
"""Name of a format -> library that reads it."""


def plugin_header(format_name: str, path: Path, series: int) -> Header:
    """Read the header of image number `series` of a microscopy file.

    Raises
    ------
    FormatPluginMissing
        The library of this format is not installed.
    ImageUnreadable, ImageEmpty, TwoChannelAxes, SeriesOutOfRange
        The library fails, or the axes of the image cannot be named by the letters of bmz.
    """
    with _opened(format_name, path, series) as (scenes, scene):
        return header_of(path, scene, LIBRARIES[format_name].package, scenes.names)


@contextmanager
def plugin_opened(format_name: str, path: Path, series: int) -> Iterator[Stored]:
    """Open image number `series`; reading a region reads the planes that it touches."""
    with _opened(format_name, path, series) as (_, scene):
        yield scene.stored


def plugin_pixels(format_name: str, path: Path, series: int) -> AnyArray:
    """Read all pixels of image number `series`.

    Raises
    ------
    FormatPluginMissing, ImageUnreadable, ImageTooLarge
        The pixels cannot be read.
    """
    with _opened(format_name, path, series) as (_, scene):
        stored = scene.stored
        try:
            pixels = np.asarray(stored[tuple(slice(0, n) for n in stored.shape)])
        except MemoryError as why:
            raise ImageTooLarge(path, stored.shape) from why
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def header_of(path: Path, scene: Scene, source: str, names: Sequence[str]) -> Header:
    """Convert a scene to a header.

    Axes of size 1 other than y and x stay unnamed, since libraries return five axes for any image.

    Parameters
    ----------
    path : path of the file, for error messages
    scene : scene to convert
    source : source of the pixel size
    names : names of all scenes of the file

    Raises
    ------
    ImageEmpty, TwoChannelAxes
        The scene has no pixels, or colour samples within channels.
    """
    shape = tuple(int(n) for n in scene.stored.shape)
    if not all(shape):
        raise ImageEmpty(path, shape)
    sizes = dict(zip(scene.axes, shape, strict=True))
    samples, channels = sizes.get("S", 1), sizes.get("C", 1)
    if min(samples, channels) > 1:
        raise TwoChannelAxes(path, channels, samples)
    axes = "".join(
        UNKNOWN_AXIS if n == 1 and a not in "YX" else _LETTERS.get(a, UNKNOWN_AXIS)
        for a, n in sizes.items()
    )
    lengths = {a: um for a, um in scene.um.items() if a in axes}
    named = len(scene.channel_names) == channels > 1
    others = [a for a, n in sizes.items() if n > 1 and a not in _LETTERS]
    return Header(
        axes=axes,
        shape=shape,
        dtype=np.dtype(scene.stored.dtype).newbyteorder("="),
        pixel=from_lengths(lengths, dict.fromkeys(lengths, "um"), source),
        channel_names=tuple(scene.channel_names) if named else (),
        colour=samples == COLOURS,
        series_count=len(names),
        series_names=tuple(names),
        remarks=tuple(f"it has an axis {a} of {sizes[a]}, which is not t, c or z" for a in others),
    )


@contextmanager
def _opened(format_name: str, path: Path, series: int) -> Iterator[tuple[Scenes, Scene]]:
    library = LIBRARIES[format_name]
    try:
        import_module(library.module)
    except ImportError as why:
        raise _plugin_missing(path, format_name, library.package) from why
    with _asking(format_name, path), library.opener(path) as scenes:
        if not 0 <= series < len(scenes.names):
            raise SeriesOutOfRange(path, series, len(scenes.names))
        yield scenes, scenes.scene(series)


@contextmanager
def _asking(format_name: str, path: Path) -> Iterator[None]:
    try:
        with decoding(path, format_name):
            yield
    except BmzError:
        raise
    except Exception as why:
        # libraries pass on errors of their own dependencies, some of which are direct subclasses
        # of Exception
        line = " ".join(str(why).split())[:120]
        raise ImageUnreadable(path, f"is a damaged {format_name} file: {line}") from why
