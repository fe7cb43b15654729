"""The files of a large image: labels, picture, table and maps, written part by part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bmz.app.image_made import provenance_of
from bmz.app.plates import origin_columns
from bmz.app.stream_labels import LabelStack, overview
from bmz.app.stream_parts import BLOCK_PX
from bmz.app.stream_raw import RawStack
from bmz.app.stream_table import measured_in_blocks
from bmz.base.arrays import smallest_unsigned
from bmz.base.axes import SPACE
from bmz.base.boxes import boxes
from bmz.image.info import ImageInfo
from bmz.image.plates import PlateField
from bmz.image.region import OpenImage
from bmz.write.ome_zarr import LabelStore
from bmz.write.overlay import write_overlay
from bmz.write.table import write_objects
from bmz.write.tiff import write_large_labels, write_large_raw


def write_labels_of(
    labels: LabelStack,
    image: OpenImage,
    files: Mapping[str, Path],
    record: Mapping[str, Any],
    field: PlateField | None,
) -> None:
    """Write what is asked for of the labels.

    Parameters
    ----------
    labels : of all planes or stacks
    image : open
    files : kind -> path; kinds that are not of labels are left out
    record : of the run
    field : of a plate, if it is one
    """
    lengths = {a: um for a, um in image.info.pixel_um.items() if a in labels.axes and a in SPACE}
    if "labels" in files and record["request"]["labels_format"] == "zarr":
        store = LabelStore(files["labels"], labels.axes, lengths)
        array = store.create(labels.shape, smallest_unsigned(labels.count))
        ones = (1 for _ in labels.shape[:-2])
        for box in boxes(labels.shape, (*ones, BLOCK_PX, BLOCK_PX)):
            array[box] = labels[box].astype(array.dtype)
        store.finish(labels.count, provenance_of(record))
    elif "labels" in files:
        write_large_labels(files["labels"], labels, labels.count, lengths)
    if "overlay" in files:
        shown, drawn = overview(labels, image)
        write_overlay(files["overlay"], shown, drawn)
    if "table" in files:
        tables = measured_in_blocks(labels, image)
        named = (origin_columns(field, len(table["label"])) | table for table in tables)
        write_objects(files["table"], named)


def write_raw_of(maps: RawStack, info: ImageInfo, path: Path) -> None:
    """Write the maps of all planes or stacks, with the pixel size that their grid has."""
    sizes = dict(zip(maps.axes, maps.shape, strict=True))
    lengths = {
        axis: um * info.sizes[axis] / sizes[axis]
        for axis, um in info.pixel_um.items()
        if axis in maps.axes and axis in SPACE
    }
    write_large_raw(path, maps, lengths)
