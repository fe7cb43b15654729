"""The files of a large image: labels, picture, table and maps, written part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bmz.base.arrays import smallest_unsigned
from bmz.base.axes import SPACE
from bmz.base.boxes import boxes
from bmz.engine.image_made import provenance_of
from bmz.engine.plates import from_field
from bmz.engine.stream_labels import LabelStack, overview
from bmz.engine.stream_linked import Joined
from bmz.engine.stream_parts import BLOCK_PX
from bmz.engine.stream_raw import RawStack
from bmz.engine.stream_table import measured_in_blocks
from bmz.image.info import ImageInfo
from bmz.image.plates import PlateField
from bmz.image.region import OpenImage
from bmz.process.joined import columns_of_tracks, measure_tracks, with_track
from bmz.process.measure import Table
from bmz.write.ome_zarr import LabelStore
from bmz.write.overlay import write_overlay
from bmz.write.table import write_objects
from bmz.write.tiff import write_large_labels, write_large_raw


def write_labels_of(
    made: Joined,
    image: OpenImage,
    files: Mapping[str, Path],
    record: Mapping[str, Any],
    field: PlateField | None,
) -> None:
    """Write what is asked for of the labels.

    Parameters
    ----------
    made : labels of all planes or stacks, joined or not
    image : open
    files : kind -> path; kinds that are not of labels are left out
    record : of the run
    field : of a plate, if it is one
    """
    labels = made.labels
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
        _write_tables(made, image, files, field)


def _write_tables(
    made: Joined, image: OpenImage, files: Mapping[str, Path], field: PlateField | None
) -> None:
    """Write the tables that there are; of tracks only what is needed of each frame is held."""
    of_tracks: list[Table] = []

    def rows(labels: LabelStack) -> Iterator[Table]:
        for table in measured_in_blocks(labels, image):
            yield with_track(table) if "tracks" in files else table

    def noted(tables: Iterator[Table]) -> Iterator[Table]:
        for table in tables:
            if "tracks" in files:
                of_tracks.append(columns_of_tracks(table))
            yield table

    whole = noted(rows(made.labels))
    write_objects(files["table"], (from_field(table, field) for table in whole))
    if made.planes is not None:
        planes = rows(made.planes)
        write_objects(files["planes"], (from_field(table, field) for table in planes))
    if "tracks" in files:
        write_objects(files["tracks"], [from_field(measure_tracks(of_tracks), field)])


def write_raw_of(maps: RawStack, info: ImageInfo, path: Path) -> None:
    """Write the maps of all planes or stacks, with the pixel size that their grid has."""
    sizes = dict(zip(maps.axes, maps.shape, strict=True))
    lengths = {
        axis: um * info.sizes[axis] / sizes[axis]
        for axis, um in info.pixel_um.items()
        if axis in maps.axes and axis in SPACE
    }
    write_large_raw(path, maps, lengths)
