"""Plates among the images of a run: their fields are run as images, and put together again."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.files import whole_file
from bmz.image.plates import PlateField, plate_fields
from bmz.image.series import series_paths
from bmz.results.run import ImageDone
from bmz.write.names import plate_folders
from bmz.write.outputs import OUTPUT_KINDS


def with_fields(images: Sequence[Path], series: str | None = None) -> dict[Path, PlateField | None]:
    """Put the fields of a plate in the place of the plate, and images in that of their file.

    Parameters
    ----------
    series : which images of a file that holds several, see `series_paths`; None leaves the file

    Returns
    -------
    dict
        image -> the field that it is; None where it is no part of a plate

    Raises
    ------
    ImageUnreadable
        The metadata of a plate do not follow the format.
    """
    found: dict[Path, PlateField | None] = {}
    for image in images:
        fields = plate_fields(image)
        if fields is None:
            paths = (image,) if series is None else series_paths(image, series)
            found |= dict.fromkeys(paths)
        else:
            found |= {field.path: field for field in fields}
    return found


def from_field(table: Mapping[str, AnyArray], field: PlateField | None) -> dict[str, AnyArray]:
    """Say in the first columns of a table where its objects lie: file, well and field."""
    if field is None:
        return dict(table)
    words = {"file": field.plate.name, "well": field.well, "field": field.field}
    rows = len(next(iter(table.values())))
    return {**{name: np.full(rows, word) for name, word in words.items()}, **table}


def finish_plates(
    folder: Path,
    images: Mapping[Path, PlateField | None],
    done: Iterable[ImageDone],
    *,
    zarr: bool,
) -> None:
    """Write what concerns a plate as a whole: one table of all objects, and OME-Zarr metadata.

    Parameters
    ----------
    folder : of the results
    images : see `with_fields`
    done : the images that have a result
    zarr : the labels are OME-Zarr
    """
    from bmz.write.ome_zarr import write_plate

    results = {one.image: one for one in done}
    folders = plate_folders(list(images), images, folder)
    for plate, (place, labels) in folders.items():
        fields = {
            field: results[image]
            for image, field in images.items()
            if field is not None and field.plate == plate and image in results
        }
        for kind, table in OUTPUT_KINDS.items():
            if not table.is_table:
                continue
            tables = [one.files[kind] for one in fields.values() if kind in one.files]
            if tables:
                _write_joined(place.with_name(f"{place.name}{table.ending}"), tables)
        if zarr and fields and all("labels" in one.files for one in fields.values()):
            write_plate(labels, list(fields))


def _write_joined(path: Path, tables: Sequence[Path]) -> None:
    headings = dict.fromkeys(name for table in tables for name in _heading(table))
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(headings), lineterminator="\n")
        writer.writeheader()
        for table in tables:
            writer.writerows(_rows(table))


def _heading(table: Path) -> Sequence[str]:
    with table.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), [])


def _rows(table: Path) -> Iterator[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
