"""Label masks and maps as OME-TIFF, with the axes and the pixel size of the image."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import tifffile
import xarray as xr

from bmz.base.arrays import AnyArray, smallest_unsigned
from bmz.base.axes import in_image_order
from bmz.base.errors import CouldNotTell
from bmz.base.files import whole_file
from bmz.image.grid import pixel_um_of

_MOST_LABELS = 2**32 - 1
"""OME-TIFF has no wider unsigned pixel type than uint32."""

_CLASSIC_BYTES = 2**32 - 2**25
"""Classic TIFF addresses 4 GiB; the rest is left for the headers."""

_TILED_FROM_PX = 2048
_TILE_PX = 512


class LabelsRefused(CouldNotTell):
    """Labels that no pixel type of OME-TIFF holds as they are."""

    def __init__(self, path: Path, wanted: str, found: str) -> None:
        super().__init__(
            f"cannot write '{path}': labels must be {wanted}, found {found}",
            hint="this is a fault of the label recipe; please report it with the command line",
            code="output.labels",
        )


def write_labels(path: Path, labels: xr.DataArray) -> None:
    """Write labels as deflated OME-TIFF of the smallest unsigned dtype that holds them.

    Parameters
    ----------
    path : appears only when it is whole; replaced when it is there
    labels : integers from 0; dims a subset of t, z, y, x with y and x; coordinates in um where
        the pixel size is known

    Raises
    ------
    LabelsRefused
        Not integers, below 0, or above 4294967295.
    """
    if labels.dtype.kind not in "bui":
        raise LabelsRefused(path, "integers", str(labels.dtype))
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0 or high > _MOST_LABELS:
        raise LabelsRefused(path, f"0 to {_MOST_LABELS}", f"{low} to {high}")
    ordered = labels.transpose(*in_image_order(map(str, labels.dims)))
    _write(path, ordered, ordered.values.astype(smallest_unsigned(high)), compression="zlib")


def write_raw(path: Path, maps: xr.DataArray) -> None:
    """Write maps of a network as uncompressed float32 OME-TIFF, which can be mapped from disk.

    Parameters
    ----------
    path : appears only when it is whole; replaced when it is there
    maps : real numbers; dims a subset of t, c, z, y, x with y and x; coordinates of c are names
    """
    ordered = maps.transpose(*in_image_order(map(str, maps.dims)))
    _write(path, ordered, ordered.values.astype(np.float32), compression=None)


def _write(path: Path, facts: xr.DataArray, pixels: AnyArray, *, compression: str | None) -> None:
    tiled = max(facts.sizes["y"], facts.sizes["x"]) > _TILED_FROM_PX
    laid = np.ascontiguousarray(pixels)
    with whole_file(path) as temporary:
        tifffile.imwrite(
            temporary,
            laid,
            ome=True,
            bigtiff=pixels.nbytes > _CLASSIC_BYTES,
            photometric="minisblack",
            compression=compression,
            tile=(_TILE_PX, _TILE_PX) if tiled and compression else None,
            metadata={**_metadata(facts), "UUID": _uuid_of(laid)},
        )


def _uuid_of(pixels: AnyArray) -> str:
    """Give the name that OME-TIFF asks for, from the pixels: the same run gives the same bytes."""
    digest = hashlib.sha256(pixels.data.cast("B") if pixels.size else b"").digest()
    return f"urn:uuid:{UUID(bytes=digest[:16], version=5)}"


def _metadata(facts: xr.DataArray) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": "".join(map(str, facts.dims)).upper()}
    for axis, um in pixel_um_of(facts).items():
        metadata |= {
            f"PhysicalSize{axis.upper()}": um,
            f"PhysicalSize{axis.upper()}Unit": "µm",
        }
    if "c" in facts.coords:
        metadata["Channel"] = {"Name": [str(name) for name in facts.coords["c"].values]}
    return metadata
