"""Plates of wells in OME-Zarr: which images they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bmz.base.errors import CouldNotTell, WrongUsage
from bmz.image.decoding import decoding
from bmz.image.faults import ImageUnreadable, NotWhole
from bmz.image.formats import split_series
from bmz.image.ome_zarr import group_attributes, is_node
from bmz.image.series import series_key, series_paths


@dataclass(frozen=True)
class PlateField:
    """One field of view of a well.

    Parameters
    ----------
    plate : folder of the plate
    row, column : of the well, as the plate calls them, such as ``A`` and ``1``
    field : path of the image within its well, such as ``0``; empty where the well is not there
    """

    plate: Path
    row: str
    column: str
    field: str

    @property
    def within(self) -> PurePosixPath:
        """The path of the image within the plate."""
        return PurePosixPath(self.row, self.column, self.field)

    @property
    def path(self) -> Path:
        """The folder of the image."""
        return self.plate / self.within

    @property
    def well(self) -> str:
        """The name of the well, such as ``A1``."""
        return f"{self.row}{self.column}"


class FieldMissing(NotWhole):
    """A well or field that the plate lists is not there."""

    def __init__(self, field: PlateField) -> None:
        super().__init__(
            f"'{field.within}' is listed in the plate '{field.plate}', but is not there",
            hint="copy the plate again, if it should be there",
            code="image.field-missing",
        )
        self.field = field


def plate_fields(path: Path) -> tuple[PlateField, ...] | None:
    """List the fields of all wells of a plate; give None for what is none.

    Source: OME-Zarr 0.5, sections "plate" and "well" (0.4 alike).

    Parameters
    ----------
    path : of any image file or folder; what cannot be read as Zarr is no plate

    Raises
    ------
    ImageUnreadable
        The metadata of the plate or of a well do not follow the format.
    """
    try:
        if not path.is_dir() or not is_node(path):
            return None
    except OSError:  # such as of a name that is too long, which reading it will tell
        return None
    plate = _ome(path, path).get("plate")
    if not isinstance(plate, Mapping):
        return None
    return tuple(_fields(path, plate))


def _fields(path: Path, plate: Mapping[str, Any]) -> Iterator[PlateField]:
    for name in _paths(path, plate, "wells"):
        match PurePosixPath(name).parts:
            case (row, column) if ".." not in (row, column):
                pass
            case _:
                raise ImageUnreadable(path, f"has a well '{name}', which is no ROW/COLUMN")
        folder = path / name
        if not is_node(folder):
            yield PlateField(path, row, column, "")
            continue
        well = _ome(path, folder).get("well")
        if not isinstance(well, Mapping):
            raise ImageUnreadable(path, f"has a well '{name}' without the metadata of one")
        for field in _paths(path, well, "images"):
            if len(PurePosixPath(field).parts) != 1 or field == "..":
                raise ImageUnreadable(path, f"names a field '{field}' in its well '{name}'")
            yield PlateField(path, row, column, field)


def _ome(path: Path, folder: Path) -> Mapping[str, Any]:
    with decoding(path, "OME-Zarr"):
        attributes = group_attributes(folder) or {}
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, Mapping) else {}


def _paths(path: Path, holder: Mapping[str, Any], key: str) -> list[str]:
    listed = holder.get(key)
    if not isinstance(listed, list):
        raise ImageUnreadable(path, f"is a plate without a list of {key}")
    if not all(isinstance(entry, Mapping) and "path" in entry for entry in listed):
        raise ImageUnreadable(path, f"is a plate whose {key} lack a path")
    return [str(entry["path"]).strip("/") for entry in listed]


def with_fields(images: Sequence[Path], series: str | None = None) -> dict[Path, PlateField | None]:
    """Put the fields of a plate in the place of the plate, and images in that of their file.

    Parameters
    ----------
    series : which images of a file that holds several, see `series_paths`; None leaves the file

    Returns
    -------
    dict
        image -> the field that it is; None where it is no part of a plate

    A file that has no image of this number or name fails alone: it stands for such an image, and
    reading that will tell.

    Raises
    ------
    SeriesOutOfRange, SeriesUnknown
        No file has an image of this number or name.
    """
    fields_of: dict[Path, PlateField | None] = {}
    refused: list[WrongUsage] = []
    for image in images:
        try:
            fields = plate_fields(image)
        except CouldNotTell:  # it fails alone: reading it will tell
            fields_of[image] = None
            continue
        if fields is None:
            try:
                paths = (image,) if series is None else series_paths(image, series)
            except WrongUsage as why:
                refused.append(why)
                file, key = split_series(image)
                paths = (Path(f"{file}[{key or series_key(str(series))}]"),)
            fields_of |= dict.fromkeys(paths)
        else:
            fields_of |= {field.path: field for field in fields}
    if refused and len(refused) == len(images):
        raise refused[0]
    return fields_of
