"""Images of CZI, LIF and ND2 files, as opened by the libraries for these formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from xml.etree import ElementTree as ET

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box
from bmz.base.values import dataclass
from bmz.image.faults import ImageUnreadable
from bmz.image.npy import Stored

if TYPE_CHECKING:
    from dask.array import Array as DaskArray
    from liffile import LifFile, LifImage
    from nd2 import ND2File
    from pylibCZIrw.czi import CziReader

COLOURS = 3

IN_ORDER = "TCZYXS"
"""Order of the axes in every scene; other axes come first."""


@dataclass(frozen=True)
class Scene:
    """One image of a file.

    Parameters
    ----------
    axes : a letter for each axis of `stored`: T, C, Z, Y, X, S for the samples of a colour, and
        other letters for axes that bmz does not know
    stored : returns the pixels of a region
    um : pixel size in um along z, y and x; those that are not stated are left out
    channel_names : one name per channel, or empty
    """

    axes: str
    stored: Stored
    um: Mapping[str, float] = field(default_factory=dict)
    channel_names: Sequence[str] = ()


class Scenes(Protocol):
    """All images of an open file."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the images, in the order of the file."""

    def scene(self, number: int, /) -> Scene:
        """Return an image by its number; errors of the library are passed on."""


Opener = Callable[[Path], AbstractContextManager[Scenes]]
"""Opens a file and closes it after use; errors of the library are passed on."""


class Planes:
    """A stack whose planes are read one by one, as regions touch them.

    Parameters
    ----------
    leading : length of each axis before those of a plane
    plane : shape of a plane, with the samples of a colour last
    dtype : dtype of the pixels
    read : returns the plane at an index along the leading axes
    """

    def __init__(
        self,
        leading: Sequence[int],
        plane: Sequence[int],
        dtype: np.dtype[Any],
        read: Callable[[tuple[int, ...]], AnyArray],
    ) -> None:
        self.shape: tuple[int, ...] = (*leading, *plane)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._leading, self._read = len(leading), read

    def __getitem__(self, box: Box, /) -> AnyArray:
        lead, within = box[: self._leading], box[self._leading :]
        out = np.empty([s.stop - s.start for s in box], self.dtype)
        for place in np.ndindex(*out.shape[: self._leading]):
            index = tuple(i + s.start for i, s in zip(place, lead, strict=True))
            out[place] = self._read(index)[within]
        return out


def stated_um(lengths: Mapping[str, float | None], um_a_unit: float) -> dict[str, float]:
    """Convert lengths to um, leaving out those that a library uses for "unknown".

    These are None, 0 and values that are not finite.
    """
    known = {a: float(n) * um_a_unit for a, n in lengths.items() if n is not None}
    return {axis: um for axis, um in known.items() if math.isfinite(um) and um > 0}


_DTYPES = {
    "Gray8": "u1", "Gray16": "u2", "Gray32Float": "f4",
    "Bgr24": "u1", "Bgr48": "u2", "Bgr96Float": "f4",
}  # fmt: skip

_CZI_ORDER = "VHIRBTCZ"
"""Axes before those of a plane: views, phases, illuminations, rotations, blocks, time, ..."""

_UM_A_METRE = 1e6
_UNSCALED_M = 1.0
"""Pixel size that is written if none was measured."""


@contextmanager
def opened_czi(path: Path) -> Iterator[CziScenes]:
    """Open a CZI file."""
    from pylibCZIrw import czi

    with czi.open_czi(str(path)) as document:
        yield CziScenes(path, document)


class CziScenes:
    """The scenes of a CZI file; the whole file is one scene if it defines none."""

    def __init__(self, path: Path, document: CziReader) -> None:
        self._path, self._document = path, document
        self._areas = dict(document.scenes_bounding_rectangle_no_pyramid)
        self.names: Sequence[str] = _scene_names(document.metadata, list(self._areas)) or ("",)

    def scene(self, number: int, /) -> Scene:
        """Return a scene with the tiles of its mosaic stitched; gaps between them are 0."""
        document = self._document
        key = list(self._areas)[number] if self._areas else None
        area = self._areas[key] if key is not None else document.total_bounding_rectangle_no_pyramid
        extent = {a: end - begin for a, (begin, end) in document.total_bounding_box.items()}
        leading = [a for a in _CZI_ORDER if extent.get(a, 1) > 1 or a in "TCZ"]
        kinds = set(document.pixel_types.values())
        if len({_DTYPES.get(kind) for kind in kinds}) != 1 or not kinds <= set(_DTYPES):
            raise ImageUnreadable(self._path, f"has channels of several types: {sorted(kinds)}")
        (dtype,) = {_DTYPES[kind] for kind in kinds}
        coloured = kinds <= {"Bgr24", "Bgr48", "Bgr96Float"}

        def read(index: tuple[int, ...]) -> AnyArray:
            where = {a: i for a, i in zip(leading, index, strict=True) if a in extent}
            box = (area.x, area.y, area.w, area.h)
            pixels: AnyArray = document.read(roi=box, plane=where, scene=key)
            return pixels[..., ::-1] if coloured else pixels[..., 0]

        plane = (area.h, area.w, COLOURS) if coloured else (area.h, area.w)
        stored = Planes([extent.get(a, 1) for a in leading], plane, np.dtype(dtype), read)
        axes = "".join(leading) + ("YXS" if coloured else "YX")
        metadata = document.metadata
        return Scene(axes, stored, _czi_lengths(metadata), _czi_channel_names(metadata))


def _inside(metadata: Mapping[str, Any], *names: str) -> object:
    node: object = metadata.get("ImageDocument", {})
    for name in ("Metadata", *names):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _listed(entries: object) -> list[Mapping[str, Any]]:
    # an element that occurs once is not a list
    several = entries if isinstance(entries, list) else [entries]
    return [entry for entry in several if isinstance(entry, Mapping)]


def _czi_lengths(metadata: Mapping[str, Any]) -> dict[str, float]:
    entries = _listed(_inside(metadata, "Scaling", "Items", "Distance"))
    entries = entries or _listed(_inside(metadata, "Scaling", "Items", "Pixel"))
    metres = {str(e.get("@Id", "")).lower(): float(e.get("Value") or 0) for e in entries}
    measured = {a: m for a, m in metres.items() if a in ("z", "y", "x") and m != _UNSCALED_M}
    return stated_um(measured, _UM_A_METRE)


def _czi_channel_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    where = ("Information", "Image", "Dimensions", "Channels", "Channel")
    names = tuple(str(e.get("@Name") or "") for e in _listed(_inside(metadata, *where)))
    return names if all(names) else ()


def _scene_names(metadata: Mapping[str, Any], keys: Sequence[int]) -> tuple[str, ...]:
    where = ("Information", "Image", "Dimensions", "S", "Scenes", "Scene")
    entries = _listed(_inside(metadata, *where))
    named = {str(e.get("@Index")): str(e.get("@Name") or "") for e in entries}
    return tuple(named.get(str(key), "") for key in keys)


@contextmanager
def opened_lif(path: Path) -> Iterator[LifScenes]:
    """Open a LIF file."""
    import liffile

    with liffile.LifFile(path) as document:
        yield LifScenes(document)


class LifScenes:
    """The images of a LIF file."""

    def __init__(self, document: LifFile) -> None:
        self._images = cast("Sequence[LifImage]", document.images)
        self.names: Sequence[str] = [str(image.name) for image in self._images]

    def scene(self, number: int, /) -> Scene:
        """Return an image; wavelength axes keep the letters of liffile, which bmz does not know."""
        image = self._images[number]
        axes, sizes = "".join(image.dims), dict(image.sizes)
        inner = len(axes) - axes.index("Y")
        leading = "".join(sorted(axes[:-inner], key=IN_ORDER.find))

        def read(index: tuple[int, ...]) -> AnyArray:
            place: Mapping[str, Any] = dict(zip(leading, index, strict=True))
            plane: AnyArray = image.frame(**place)
            return plane

        outer = [sizes[a] for a in leading]
        stored = Planes(outer, image.shape[-inner:], np.dtype(image.dtype), read)
        lengths = {a.lower(): _step(image.coords.get(a)) for a in axes if a in "ZYX"}
        return Scene(
            leading + axes[-inner:],
            stored,
            stated_um(lengths, _UM_A_METRE),
            _lif_channel_names(image),
        )


def _step(positions: AnyArray | None) -> float | None:
    if positions is None or len(positions) <= 1:
        return None
    return abs(float(positions[-1] - positions[0])) / (len(positions) - 1)


def _lif_channel_names(image: LifImage) -> tuple[str, ...]:
    # the format has no name for every channel except that of its lookup table
    element: ET.Element = image.xml_element
    names = tuple(channel.get("LUTName", "") for channel in element.iter("ChannelDescription"))
    return names if all(names) and len(set(names)) == len(names) else ()


@contextmanager
def opened_nd2(path: Path) -> Iterator[Nd2Scenes]:
    """Open an ND2 file."""
    import nd2

    with nd2.ND2File(path) as document:
        yield Nd2Scenes(document)


class Nd2Scenes:
    """The positions of an ND2 file; the whole file is one position if it defines none."""

    def __init__(self, document: ND2File) -> None:
        self._document = document
        self._sizes: dict[str, int] = dict(document.sizes)
        self.names: Sequence[str] = _position_names(document, self._sizes.get("P", 1))

    def scene(self, number: int, /) -> Scene:
        """Return a position."""
        document, axes = self._document, "".join(self._sizes)
        lazy: Any = document.to_dask()
        if "P" in axes:
            lazy = lazy[(slice(None),) * axes.index("P") + (number,)]
            axes = axes.replace("P", "")
        order = sorted(axes, key=IN_ORDER.find)
        lazy = lazy.transpose([axes.index(a) for a in order])
        size = document.voxel_size()
        calibrated = {"z": size.z if "Z" in axes else None, "y": size.y, "x": size.x}
        volume = getattr(document.metadata, "channels", None) or ()
        measured = not volume or any(volume[0].volume.axesCalibrated[:2])
        names = tuple(str(channel.channel.name) for channel in volume)
        return Scene(
            "".join(order), Lazy(lazy), stated_um(calibrated, 1.0) if measured else {}, names
        )


class Lazy:
    """Regions of a dask array."""

    def __init__(self, lazy: DaskArray) -> None:
        self._lazy = lazy
        self.shape: tuple[int, ...] = tuple(int(n) for n in lazy.shape)
        self.dtype: np.dtype[Any] = np.dtype(lazy.dtype)

    def __getitem__(self, box: Box, /) -> AnyArray:
        # one thread: the libraries do not promise to be thread-safe
        return np.asarray(self._lazy[box].compute(scheduler="synchronous"))


def _position_names(document: ND2File, count: int) -> list[str]:
    names = [""] * count
    for loop in document.experiment:
        if loop.type == "XYPosLoop":
            names = [str(point.name or "") for point in loop.parameters.points]
    return names if len(names) == count else [""] * count
