"""CZI, by pylibCZIrw of its maker: scenes, mosaics put together, colours as red, green, blue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.image.faults import ImageUnreadable
from bmz.image.scenes import COLOURS, Planes, Scene, stated_um

_DTYPES = {
    "Gray8": "u1", "Gray16": "u2", "Gray32Float": "f4",
    "Bgr24": "u1", "Bgr48": "u2", "Bgr96Float": "f4",
}  # fmt: skip

_IN_ORDER = "VHIRBTCZ"
"""Axes before those of a plane: views, phases, illuminations, rotations, blocks, time, ..."""

_UM_A_METRE = 1e6
_UNSCALED_M = 1.0
"""What is written as the length of a pixel where nobody has measured it."""


@contextmanager
def opened_czi(path: Path) -> Iterator[CziScenes]:
    """Open a CZI file."""
    from pylibCZIrw import czi

    with czi.open_czi(str(path)) as document:
        yield CziScenes(path, document)


class CziScenes:
    """The scenes of a CZI file; all of it where it has none."""

    def __init__(self, path: Path, document: Any) -> None:  # noqa: ANN401  (without types)
        self._path, self._document = path, document
        self._areas = dict(document.scenes_bounding_rectangle_no_pyramid)
        self.names: Sequence[str] = _scene_names(document.metadata, list(self._areas)) or ("",)

    def scene(self, number: int, /) -> Scene:
        """Give a scene; the tiles of its mosaic are put together, and 0 is between them."""
        document = self._document
        key = list(self._areas)[number] if self._areas else None
        area = self._areas[key] if key is not None else document.total_bounding_rectangle_no_pyramid
        extent = {a: end - begin for a, (begin, end) in document.total_bounding_box.items()}
        leading = [a for a in _IN_ORDER if extent.get(a, 1) > 1 or a in "TCZ"]
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
        return Scene(axes, stored, _lengths(metadata), _channel_names(metadata))


def _inside(metadata: Mapping[str, Any], *names: str) -> Any:  # noqa: ANN401  (XML of any kind)
    found: Any = metadata.get("ImageDocument", {})
    for name in ("Metadata", *names):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _listed(entries: object) -> list[Mapping[str, Any]]:
    # an element that comes once is no list
    several = entries if isinstance(entries, list) else [entries]
    return [entry for entry in several if isinstance(entry, Mapping)]


def _lengths(metadata: Mapping[str, Any]) -> dict[str, float]:
    entries = _listed(_inside(metadata, "Scaling", "Items", "Distance"))
    entries = entries or _listed(_inside(metadata, "Scaling", "Items", "Pixel"))
    metres = {str(e.get("@Id", "")).lower(): float(e.get("Value") or 0) for e in entries}
    measured = {a: m for a, m in metres.items() if a in ("z", "y", "x") and m != _UNSCALED_M}
    return stated_um(measured, _UM_A_METRE)


def _channel_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    where = ("Information", "Image", "Dimensions", "Channels", "Channel")
    names = tuple(str(e.get("@Name") or "") for e in _listed(_inside(metadata, *where)))
    return names if all(names) else ()


def _scene_names(metadata: Mapping[str, Any], keys: Sequence[int]) -> tuple[str, ...]:
    where = ("Information", "Image", "Dimensions", "S", "Scenes", "Scene")
    entries = _listed(_inside(metadata, *where))
    named = {str(e.get("@Index")): str(e.get("@Name") or "") for e in entries}
    return tuple(named.get(str(key), "") for key in keys)
