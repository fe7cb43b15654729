"""Label masks and plates as OME-Zarr 0.5."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from bmz.base.arrays import smallest_unsigned
from bmz.base.axes import boxes
from bmz.base.files import whole_file
from bmz.base.values import dataclass
from bmz.image.series import PlateField
from bmz.write.result import LabelMask

if TYPE_CHECKING:
    import zarr


ZarrArray: TypeAlias = "zarr.Array[Any]"

CHUNK_PX = 512
SMALLEST_LEVEL_PX = 512
"""Largest longer side of the last level of the pyramid."""

_READ_PX = 4 * CHUNK_PX
"""Side of the parts that are read at once, a multiple of the chunk size."""

LABELS = "labels"
NAME = "objects"
MOST_COLOURS = 10_000
"""Maximum number of label colours, to limit the size of the metadata; viewers choose the others."""

GOLDEN_TURN = 0.618034
"""Turn of the hue from one label to the next, so that consecutive labels look different."""


ZarrFormat = Literal[2, 3]
"""Version of the Zarr format: 2 for OME-Zarr 0.4, 3 for OME-Zarr 0.5."""

OME_VERSIONS: Mapping[ZarrFormat, str] = {2: "0.4", 3: "0.5"}


@dataclass(frozen=True)
class LabelImage:
    """A group of labels in an OME-Zarr image that is being written.

    Parameters
    ----------
    group : folder of the group; the image is two folders above it
    axes : letters of ``tzyx`` in that order
    pixel_um : pixel size in um along z, y, x, where known
    zarr_format : version of the Zarr format of the image
    """

    group: Path
    axes: str
    pixel_um: Mapping[str, float] = field(default_factory=dict)
    zarr_format: ZarrFormat = 3

    def create(self, shape: Sequence[int], dtype: np.dtype[Any]) -> ZarrArray:
        """Create the full-resolution array, filled with 0, to be written region by region."""
        return created_array(self.group / "0", shape, dtype, self.axes, self.zarr_format)

    def finish(
        self, name: str, count: int, provenance: Mapping[str, Any]
    ) -> Sequence[tuple[int, ...]]:
        """Write the pyramid and the metadata, and return the shapes of the levels.

        Parameters
        ----------
        name : name of the labels
        count : number of objects
        provenance : model, image and program that produced the labels, as plain values
        """
        shapes, version = self._pyramid(), OME_VERSIONS[self.zarr_format]
        label = {
            "version": version,
            "source": {"image": "../../"},
            **({"colors": _colours(count)} if count else {}),
        }
        ome = {**self.multiscales(name, shapes), "image-label": label}
        write_ome_group(self.group, ome, self.zarr_format, {"bmz": dict(provenance)})
        return shapes

    def _pyramid(self) -> list[tuple[int, ...]]:
        import zarr

        shapes: list[tuple[int, ...]] = []
        level = zarr.open_array(self.group / "0", mode="r")
        while True:
            shapes.append(tuple(level.shape))
            if max(level.shape[-2:]) <= SMALLEST_LEVEL_PX:
                return shapes
            halved = (*level.shape[:-2], *(-(-n // 2) for n in level.shape[-2:]))
            path = self.group / str(len(shapes))
            smaller = created_array(path, halved, level.dtype, self.axes, self.zarr_format)
            for box in boxes(halved, (*(1 for _ in halved[:-2]), CHUNK_PX, CHUNK_PX)):
                # take every second pixel, so that labels are never mixed
                twice = (*box[:-2], *(slice(2 * s.start, 2 * s.stop, 1) for s in box[-2:]))
                smaller[box] = np.asarray(level[twice])[..., ::2, ::2]
            level = smaller

    def multiscales(
        self, name: str, shapes: Sequence[tuple[int, ...]], prefix: str = ""
    ) -> dict[str, Any]:
        """Return the metadata of the levels.

        Parameters
        ----------
        name : name of the labels
        shapes : shape of each level
        prefix : prefix of the names of their arrays
        """
        axes = [
            {"name": axis, "type": "time"}
            if axis == "t"
            else {"name": axis, "type": "space"}
            | ({"unit": "micrometer"} if axis in self.pixel_um else {})
            for axis in self.axes
        ]
        datasets = []
        for number, shape in enumerate(shapes):
            factors = [a / b for a, b in zip(shapes[0], shape, strict=True)]
            exact = [2.0**number if f > 1 else 1.0 for f in factors]
            scale = [self.pixel_um.get(a, 1.0) * f for a, f in zip(self.axes, exact, strict=True)]
            datasets.append(
                {
                    "path": f"{prefix}{number}",
                    "coordinateTransformations": [{"type": "scale", "scale": scale}],
                }
            )
        stated = {"version": OME_VERSIONS[2]} if self.zarr_format == OLDER else {}
        return {"multiscales": [{**stated, "name": name, "axes": axes, "datasets": datasets}]}

    def write(self, name: str, labels: LabelMask, provenance: Mapping[str, Any]) -> None:
        """Write labels, reading them part by part; see `finish`."""
        self.fill(labels)
        self.finish(name, labels.count, provenance)

    def fill(self, labels: LabelMask) -> None:
        """Write the full-resolution array part by part."""
        array = self.create(labels.shape, smallest_unsigned(labels.count))
        for box in boxes(labels.shape, (*(1 for _ in labels.shape[:-2]), _READ_PX, _READ_PX)):
            array[box] = labels[box].astype(array.dtype)


OLDER: ZarrFormat = 2


@dataclass(frozen=True)
class LabelStore:
    """An OME-Zarr folder that is being written, with the labels also serving as its image.

    Parameters
    ----------
    folder : folder of the store
    axes, pixel_um : as for `LabelImage`
    """

    folder: Path
    axes: str
    pixel_um: Mapping[str, float] = field(default_factory=dict)

    @property
    def image(self) -> LabelImage:
        """The labels."""
        return LabelImage(self.folder / LABELS / NAME, self.axes, self.pixel_um)

    def create(self, shape: Sequence[int], dtype: np.dtype[Any]) -> ZarrArray:
        """Create the full-resolution array, filled with 0, to be written region by region."""
        return self.image.create(shape, dtype)

    def finish(self, count: int, provenance: Mapping[str, Any]) -> None:
        """Write the pyramid and the metadata, which completes the store.

        Parameters
        ----------
        count, provenance : as for `LabelImage.finish`
        """
        shapes = self.image.finish(NAME, count, provenance)
        write_ome_group(self.folder / LABELS, {"labels": [NAME]})
        # the image refers to the arrays of the label image, so nothing is stored twice
        write_ome_group(self.folder, self.image.multiscales(NAME, shapes, f"{LABELS}/{NAME}/"))


def write_label_store(
    folder: Path, labels: LabelMask, pixel_um: Mapping[str, float], provenance: Mapping[str, Any]
) -> None:
    """Write labels as OME-Zarr 0.5, reading them part by part.

    Parameters
    ----------
    folder : folder to create
    labels : label mask to write
    pixel_um : pixel size in um along z, y and x, where known
    provenance : as for `LabelStore.finish`
    """
    store = LabelStore(folder, labels.axes, pixel_um)
    store.image.fill(labels)
    store.finish(labels.count, provenance)


def scratch_array(
    folder: Path, shape: Sequence[int], dtype: np.dtype[Any], side: int = CHUNK_PX
) -> ZarrArray:
    """Create an uncompressed array on disk for intermediate values, or open it if it exists.

    A new array is filled with 0.

    Parameters
    ----------
    folder : folder of the array
    shape : shape of the array; the last two axes are divided into chunks of `side`
    """
    import zarr

    if (folder / "zarr.json").exists():
        return zarr.open_array(folder, mode="r+")
    chunks = (*(1 for _ in shape[:-2]), *(max(min(side, n), 1) for n in shape[-2:]))
    return zarr.create_array(
        store=folder, shape=tuple(shape), chunks=chunks, dtype=dtype, compressors=None, fill_value=0
    )


def opened_array(folder: Path) -> ZarrArray:
    """Open an array on disk for reading."""
    import zarr

    return zarr.open_array(folder, mode="r")


def created_array(
    folder: Path, shape: Sequence[int], dtype: np.dtype[Any], axes: str, zarr_format: ZarrFormat = 3
) -> ZarrArray:
    """Create an array of an OME-Zarr image, filled with 0, in 2D chunks of side `CHUNK_PX`."""
    import zarr

    chunks = tuple(
        max(min(CHUNK_PX, n), 1) if axis in "yx" else 1 for axis, n in zip(axes, shape, strict=True)
    )
    names = list(axes)
    return zarr.create_array(
        store=folder,
        shape=tuple(shape),
        chunks=chunks,
        dtype=dtype,
        fill_value=0,
        zarr_format=zarr_format,
        **(_older_words() if zarr_format == OLDER else _newer_words(names)),
    )


def _newer_words(names: Sequence[str]) -> dict[str, Any]:
    from zarr.codecs import ZstdCodec

    return {"compressors": ZstdCodec(level=3), "dimension_names": names}


def _older_words() -> dict[str, Any]:
    from numcodecs import Blosc

    # OME-Zarr 0.4 stores chunks in nested folders
    separated = {"name": "v2", "separator": "/"}
    return {"compressors": Blosc("zstd", 3), "chunk_key_encoding": separated}


def write_ome_group(
    folder: Path,
    ome: Mapping[str, Any],
    zarr_format: ZarrFormat = 3,
    others: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Make a folder a Zarr group with OME-Zarr metadata and optional other attributes."""
    if zarr_format == OLDER:
        folder.mkdir(parents=True, exist_ok=True)
        for name, document in ((".zattrs", {**ome, **others}), (".zgroup", {"zarr_format": 2})):
            with whole_file(folder / name) as temporary:
                temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
        return
    write_group(folder, {"ome": {"version": OME_VERSIONS[3], **ome}, **others})


def write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Make a folder a Zarr group with these attributes."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    with whole_file(folder / "zarr.json") as temporary:
        temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _colours(count: int) -> list[dict[str, Any]]:
    colours = []
    for number in range(1, min(count, MOST_COLOURS) + 1):
        rgb = colorsys.hsv_to_rgb(number * GOLDEN_TURN % 1, 0.65, 0.95)
        colours.append({"label-value": number, "rgba": [*(round(255 * part) for part in rgb), 255]})
    return colours


def write_plate(folder: Path, fields: Sequence[PlateField]) -> None:
    """Write the metadata of a plate and its wells for the label images of its fields.

    Source: OME-Zarr 0.5, sections "plate" and "well".

    Parameters
    ----------
    folder : folder of the plate; its label images have the same paths as the images of the fields
    fields : fields that have labels
    """
    rows, columns = (
        list(dict.fromkeys(getattr(place, name) for place in fields)) for name in ("row", "column")
    )
    wells = dict.fromkeys((place.row, place.column) for place in fields)
    images = {
        well: [place.field for place in fields if (place.row, place.column) == well]
        for well in wells
    }
    plate = {
        "name": fields[0].plate.name,
        "rows": [{"name": name} for name in rows],
        "columns": [{"name": name} for name in columns],
        "wells": [
            {
                "path": f"{row}/{column}",
                "rowIndex": rows.index(row),
                "columnIndex": columns.index(column),
            }
            for row, column in wells
        ],
        "field_count": max(map(len, images.values())),
    }
    write_group(folder, {"ome": {"version": "0.5", "plate": plate}})
    for row in rows:
        write_group(folder / row, {})
    for (row, column), names in images.items():
        well = {"images": [{"path": name} for name in names]}
        write_group(folder / row / column, {"ome": {"version": "0.5", "well": well}})
