"""The output kind ``spatialdata``: image, labels and table in one store, with the pixel size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from bmz.base.arrays import AnyArray, smallest_unsigned
from bmz.base.axes import Box, boxes, in_image_order
from bmz.base.computer import version
from bmz.base.errors import not_none
from bmz.base.values import dataclass
from bmz.process.measure import column_names
from bmz.write.annotated import INSTANCE_KEY, annotated, joined_rows
from bmz.write.ome_zarr import (
    CHUNK_PX,
    SMALLEST_LEVEL_PX,
    ZarrArray,
    created_array,
    write_group,
)
from bmz.write.result import Result

REGION_KEY: Final = "region"
"""The column of the table with the name of the labels that contain an object."""

_STORE, _RASTER, _TABLE = ({"version": number} for number in ("0.2", "0.3", "0.2"))
_OME: Final = "0.5-dev-spatialdata"
"""Version that spatialdata writes for OME-Zarr 0.5 with its own coordinate systems."""

_READ_PX = 4 * CHUNK_PX

At: TypeAlias = Mapping[str, int]


def write_spatialdata(result: Result, path: Path) -> None:
    """Write a SpatialData store with ``image``, ``labels``, and a ``table`` of objects.

    Images and labels are OME-Zarr 0.5 with a pyramid; their scale to the coordinate system
    ``global`` is the pixel size in um, or 1 if it is not known. The table is AnnData, annotates
    the labels by the columns `REGION_KEY` and `INSTANCE_KEY`, and is left out if there are no
    objects. SpatialData has no time axis: each frame of a time series is a separate image with its
    own labels, ``image_t0``, ``labels_t0`` and so on.

    Source: spatialdata 0.7, containers of version 0.2 with rasters of 0.3 and tables of 0.2;
    anndata writes the table. The spatialdata library is not needed for writing; it would load a
    gigabyte of packages and take seconds to import.
    """
    frames = _frames(result)
    for name in ("images", "labels"):
        write_group(
            path / name,
            {"ome": {"labels": [f"{name}{end}" for end in frames]}} if name == "labels" else {},
        )
    for end, at in frames.items():
        _write_image(result, path / "images" / f"image{end}", at)
        _write_labels(result, path / "labels" / f"labels{end}", at)
    write_group(path / "tables", {})
    _write_table(result, path / "tables", frames)
    told = {"spatialdata_software_version": f"bmz {version()}"}
    write_group(path, {"spatialdata_attrs": {**_STORE, **told}, "bmz": dict(result.provenance)})


def _frames(result: Result) -> dict[str, At]:
    """Return the name suffix of each frame -> its position along t."""
    labels = not_none(result.labels)
    if "t" not in labels.axes:
        return {"": {}}
    return {f"_t{t}": {"t": t} for t in range(labels.shape[labels.axes.index("t")])}


@dataclass(frozen=True)
class _Raster:
    """An image or labels that are being written.

    Parameters
    ----------
    folder : folder of the group
    axes : letters of ``czyx``
    shape : size along each axis, px
    dtype : dtype of the pixels
    pixel_um : pixel size in um along the spatial axes, where known
    """

    folder: Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_um: Mapping[str, float]

    def level(self, number: int, shape: Sequence[int]) -> ZarrArray:
        """Create the array of a level, filled with 0."""
        return created_array(self.folder / f"s{number}", shape, self.dtype, self.axes)

    def finish(self, first: ZarrArray, others: Mapping[str, Any], *, mean: bool) -> None:
        """Write the pyramid, of means of 2 x 2 pixels or the first of them, and the metadata."""
        level, shapes = first, [self.shape]
        while max(level.shape[-2:]) > SMALLEST_LEVEL_PX:
            halved = (*level.shape[:-2], *(-(-n // 2) for n in level.shape[-2:]))
            smaller = self.level(len(shapes), halved)
            for box in boxes(halved, (*(1 for _ in halved[:-2]), CHUNK_PX, CHUNK_PX)):
                twice = (*box[:-2], *(slice(2 * s.start, 2 * s.stop) for s in box[-2:]))
                part = np.asarray(level[twice])
                smaller[box] = _means(part) if mean else part[..., ::2, ::2]
            shapes.append(halved)
            level = smaller
        ome = {"version": _OME, "multiscales": [self._multiscales(len(shapes))], **others}
        write_group(self.folder, {"ome": ome, "spatialdata_attrs": _RASTER})

    def _multiscales(self, levels: int) -> dict[str, Any]:
        axes = [self._axis(axis) for axis in self.axes]
        system = {"name": self.axes, "axes": axes}
        steps = [[2.0**n if a in "yx" else 1.0 for a in self.axes] for n in range(levels)]
        to_um = _scaled([self.pixel_um.get(axis, 1.0) for axis in self.axes])
        return {
            "name": self.folder.name,
            "axes": axes,
            "datasets": [
                {"path": f"s{n}", "coordinateTransformations": [_scaled(step)]}
                for n, step in enumerate(steps)
            ],
            "coordinateTransformations": [
                {**to_um, "input": system, "output": {**system, "name": "global"}}
            ],
        }

    def _axis(self, axis: str) -> dict[str, str]:
        unit = {"unit": "micrometer"} if axis in self.pixel_um else {}
        return {"name": axis, "type": "channel" if axis == "c" else "space", **unit}


def _scaled(scale: Sequence[float]) -> dict[str, Any]:
    return {"type": "scale", "scale": list(scale)}


def _means(pixels: AnyArray) -> AnyArray:
    """Average blocks of 2 x 2 pixels, smaller at the edges; integers are rounded.

    NaN stays NaN.
    """
    height, width = pixels.shape[-2:]
    even = np.pad(
        pixels, [*((0, 0) for _ in pixels.shape[:-2]), (0, height % 2), (0, width % 2)], "edge"
    )
    with np.errstate(over="ignore", invalid="ignore"):
        corners = [even[..., i::2, j::2].astype(np.float64) for i in (0, 1) for j in (0, 1)]
        means: AnyArray = np.mean(corners, axis=0)
    rounded = np.rint(means) if pixels.dtype.kind in "iu" else means
    return rounded.astype(pixels.dtype)


def _parts(shape: Sequence[int]) -> Iterator[Box]:
    yield from boxes(shape, (*(1 for _ in shape[:-2]), _READ_PX, _READ_PX))


def _write_image(result: Result, folder: Path, at: At) -> None:
    info = result.image.info
    sizes = {"c": 1, **{axis: n for axis, n in info.sizes.items() if axis != "t"}}
    axes = in_image_order(sizes)
    shape = tuple(sizes[axis] for axis in axes)
    dtype = np.dtype(np.uint8) if info.dtype.kind == "b" else info.dtype
    raster = _Raster(folder, axes, shape, dtype, result.pixel_um)
    array = raster.level(0, shape)
    own = [axis for axis in axes if axis in info.sizes]
    taken = {axis: slice(i, i + 1) for axis, i in at.items() if axis in info.sizes}
    for box in _parts(shape):
        place = {a: s for a, s in zip(axes, box, strict=True) if a in own}
        part = result.image.region({**taken, **place}).part(dict.fromkeys(taken, 0))
        pixels = part.transposed(own).array
        array[box] = np.asarray(pixels).reshape([s.stop - s.start for s in box]).astype(dtype)
    names = column_names(info.channel_names, sizes["c"])
    raster.finish(array, {"omero": {"channels": [{"label": n} for n in names]}}, mean=True)


def _write_labels(result: Result, folder: Path, at: At) -> None:
    labels = not_none(result.labels)
    sizes = dict(zip(labels.axes, labels.shape, strict=True))
    axes = "".join(axis for axis in labels.axes if axis not in at)
    shape = tuple(sizes[axis] for axis in axes)
    um = {axis: length for axis, length in result.pixel_um.items() if axis in axes}
    raster = _Raster(folder, axes, shape, smallest_unsigned(labels.count), um)
    array = raster.level(0, shape)
    before = tuple(slice(i, i + 1) for i in at.values())
    for box in _parts(shape):
        part = np.asarray(labels[(*before, *box)])
        array[box] = part.reshape(part.shape[len(before) :]).astype(raster.dtype)
    raster.finish(array, {"image-label": {"version": _OME}}, mean=False)


def _write_table(result: Result, folder: Path, frames: Mapping[str, At]) -> None:
    import anndata
    import zarr
    from anndata.io import write_elem

    rows = joined_rows(result, "table")
    if not len(rows[INSTANCE_KEY]):
        return
    if "t" in rows and "" not in frames:
        regions = np.array([f"labels_t{t}" for t in np.asarray(rows["t"]).tolist()])
    else:
        regions = np.full(len(rows[INSTANCE_KEY]), "labels")
    table = annotated(result, {**rows, REGION_KEY: regions})
    names = np.unique(regions).tolist()
    keys = {
        "region": names if len(names) > 1 else names[0],
        "region_key": REGION_KEY,
        "instance_key": INSTANCE_KEY,
    }
    table.uns["spatialdata_attrs"] = keys
    group = zarr.open_group(folder, mode="r+")
    with anndata.settings.override(zarr_write_format=3):
        write_elem(group, "table", table)
    told = {"spatialdata-encoding-type": "ngff:regions_table", **keys, **_TABLE}
    group["table"].attrs.update(told)
