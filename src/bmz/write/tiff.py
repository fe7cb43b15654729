"""Label masks and raw network outputs as OME-TIFF, with the axes and pixel size of the image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import tifffile

from bmz.base.arrays import AnyArray, smallest_unsigned
from bmz.base.axes import boxes, in_image_order
from bmz.base.errors import CouldNotTell
from bmz.base.files import reserve, whole_file
from bmz.base.values import dataclass
from bmz.image.pixels import Pixels
from bmz.write.result import LazyArray

_MOST_LABELS = 2**32 - 1
"""OME-TIFF has no wider unsigned pixel type than uint32."""

_CLASSIC_BYTES = 2**32 - 2**25
"""Classic TIFF can address 4 GiB; 32 MiB are left for the headers."""

_TILED_FROM_PX = 2048
_TILE_PX = 512
_PIECE_PX = 2048
"""Side of the part that is read at once for a sub-resolution."""


@dataclass(frozen=True)
class _InMemory:
    axes: str
    array: AnyArray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __getitem__(self, box: tuple[slice, ...], /) -> AnyArray:
        part: AnyArray = self.array[box]
        return part


class LabelsRefused(CouldNotTell):
    """The labels cannot be stored exactly in any pixel type of the format."""

    def __init__(self, path: Path, expected: str, actual: str) -> None:
        super().__init__(
            f"cannot write '{path}': labels must be {expected}, found {actual}",
            hint="this is a bug in the label recipe; please report it with the command line",
            code="output.labels",
        )


def write_labels(path: Path, labels: Pixels) -> None:
    """Write labels as deflate-compressed OME-TIFF in the smallest unsigned dtype that holds them.

    Large planes are written by `write_large_labels`.

    Parameters
    ----------
    path : written atomically; an existing file is replaced
    labels : non-negative integers; axes a subset of t, z, y, x with y and x

    Raises
    ------
    LabelsRefused
        The labels are not integers, are negative, or exceed 4294967295.
    """
    high = highest_label(path, labels, _MOST_LABELS)
    ordered = labels.transposed(in_image_order(labels.axes))
    planes = _InMemory("".join(ordered.axes), ordered.array)
    write_label_planes(path, planes, high, ordered.pixel_um)


def write_label_planes(
    path: Path, labels: LazyArray, most: int, pixel_um: Mapping[str, float]
) -> None:
    """Write labels as OME-TIFF, reading them plane by plane, or tile by tile if planes are large.

    Parameters
    ----------
    path : written atomically; an existing file is replaced
    labels : (..., y, x) integers from 0 to `most`; parts are read by one slice per axis
    most : the highest label
    pixel_um : pixel size in um along z, y and x, where known
    """
    if max(labels.shape[-2:]) > _TILED_FROM_PX:
        write_large_labels(path, labels, most, pixel_um)
        return
    dtype = smallest_unsigned(most)
    digest = hashlib.sha256()
    for plane in _planes(labels, dtype):
        digest.update(plane.data.cast("B") if plane.size else b"")
    with whole_file(path) as temporary:
        tifffile.imwrite(
            temporary,
            _planes(labels, dtype),
            shape=labels.shape,
            dtype=dtype,
            ome=True,
            bigtiff=prod(labels.shape) * dtype.itemsize > _CLASSIC_BYTES,
            photometric="minisblack",
            compression="zlib",
            metadata={
                "axes": labels.axes.upper(),
                **_lengths(pixel_um),
                "UUID": _urn(digest.digest()),
            },
        )


def _planes(labels: LazyArray, dtype: np.dtype[Any]) -> Iterator[AnyArray]:
    sides = labels.shape[-2:]
    for box in boxes(labels.shape, (*(1 for _ in labels.shape[:-2]), *sides)):
        plane = np.asarray(labels[box]).reshape(sides)
        yield np.ascontiguousarray(plane, dtype)


def highest_label(path: Path, labels: Pixels, most: int) -> int:
    """Return the highest of the labels that are to be written to `path`; 0 if there is none.

    Raises
    ------
    LabelsRefused
        The labels are not integers, are negative, or exceed `most`.
    """
    array = labels.array
    if array.dtype.kind not in "bui":
        raise LabelsRefused(path, "integers", str(array.dtype))
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < 0 or high > most:
        raise LabelsRefused(path, f"0 to {most}", f"{low} to {high}")
    return high


def write_raw(path: Path, maps: LazyArray, pixel_um: Mapping[str, float]) -> None:
    """Write raw network outputs as uncompressed float32 OME-TIFF, which can be memory-mapped.

    Parameters
    ----------
    path : written atomically; an existing file is replaced
    maps : (..., y, x) real numbers; parts are read by one slice per axis
    pixel_um : pixel size in um along z, y and x, where known
    """
    rows = max(_PIECE_PX**2 // max(maps.shape[-1], 1), 1)
    parts = list(boxes(maps.shape, (*(1 for _ in maps.shape[:-2]), rows, maps.shape[-1])))
    digest = hashlib.sha256()
    for box in parts:
        digest.update(np.ascontiguousarray(maps[box], np.float32).data.cast("B"))
    facts = {"axes": maps.axes.upper(), **_lengths(pixel_um), "UUID": _urn(digest.digest())}
    with whole_file(path) as temporary:
        array = tifffile.memmap(
            temporary,
            shape=maps.shape,
            dtype=np.float32,
            ome=True,
            bigtiff=4 * prod(maps.shape) > _CLASSIC_BYTES,
            photometric="minisblack",
            metadata=facts,
        )
        reserve(temporary, temporary.stat().st_size)
        for box in parts:
            array[box] = maps[box]
        array.flush()


def write_large_labels(
    path: Path, labels: LazyArray, most: int, pixel_um: Mapping[str, float]
) -> None:
    """Write labels as tiled OME-TIFF with sub-resolutions, reading them part by part.

    Large files are BigTIFF. Each sub-resolution holds every second pixel of the previous one, down
    to 512 px; viewers show them when zoomed out.

    Parameters
    ----------
    path : written atomically; an existing file is replaced
    labels : (..., y, x) integers from 0 to `most`; parts are read by one slice per axis
    most : the highest label
    pixel_um : pixel size in um along z, y and x, where known
    """
    dtype = smallest_unsigned(most)
    levels = _level_count(labels.shape[-2:])
    facts = {"axes": labels.axes.upper(), **_lengths(pixel_um)}
    whole: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", "dtype": dtype}
    whole["tile"] = (_TILE_PX, _TILE_PX)
    big = prod(labels.shape) * dtype.itemsize > _CLASSIC_BYTES
    with (
        whole_file(path) as temporary,
        tifffile.TiffWriter(temporary, ome=True, bigtiff=big) as writer,
    ):
        writer.write(
            _tiles(labels, 1, dtype),
            shape=labels.shape,
            subifds=levels - 1,
            metadata={**facts, "UUID": _uuid_of_tiles(labels, dtype)},
            **whole,
        )
        for level in range(1, levels):
            step = 2**level
            shape = (*labels.shape[:-2], *(-(-n // step) for n in labels.shape[-2:]))
            writer.write(_tiles(labels, step, dtype), shape=shape, subfiletype=1, **whole)


def _level_count(shape: Sequence[int]) -> int:
    levels = 1
    while max(shape) > _TILE_PX * 2 ** (levels - 1):
        levels += 1
    return levels


def _tiles(labels: LazyArray, step: int, dtype: np.dtype[Any]) -> Iterator[AnyArray]:
    """Yield the tiles of every `step`-th pixel of each plane, padded with 0 at the edges."""
    side = _TILE_PX * step
    # one tile of a low resolution may span the whole image, so it is read in pieces
    piece = max(_PIECE_PX // step, 1) * step
    for *plane, down, across in boxes(labels.shape, (*(1 for _ in labels.shape[:-2]), side, side)):
        tile = np.zeros((_TILE_PX, _TILE_PX), dtype)
        sizes = [side.stop - side.start for side in (down, across)]
        for y, x in boxes(sizes, (piece, piece)):
            there = np.asarray(labels[*plane, _moved(y, down.start), _moved(x, across.start)])
            part = there.reshape(there.shape[-2:])[::step, ::step]
            top, left = y.start // step, x.start // step
            tile[top : top + part.shape[0], left : left + part.shape[1]] = part
        yield tile


def _moved(side: slice, by: int) -> slice:
    return slice(side.start + by, side.stop + by)


def _uuid_of_tiles(labels: LazyArray, dtype: np.dtype[Any]) -> str:
    digest = hashlib.sha256()
    for tile in _tiles(labels, 1, dtype):
        digest.update(tile.data.cast("B"))
    return _urn(digest.digest())


def _urn(digest: bytes) -> str:
    return f"urn:uuid:{UUID(bytes=digest[:16], version=5)}"


def _lengths(pixel_um: Mapping[str, float]) -> dict[str, Any]:
    words: dict[str, Any] = {}
    for axis, um in pixel_um.items():
        words |= {f"PhysicalSize{axis.upper()}": um, f"PhysicalSize{axis.upper()}Unit": "µm"}
    return words
