"""The images within a file, a folder or a plate, listed before any pixel is read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, CouldNotTell, WrongUsage
from bmz.base.files import sha256_of
from bmz.base.values import dataclass
from bmz.image.decoding import decoding
from bmz.image.faults import ImageUnreadable, NotWhole, SeriesOutOfRange
from bmz.image.formats import format_of, split_series
from bmz.image.known_formats import FORMATS, HDF5, OME_ZARR
from bmz.image.ome_zarr import group_attributes, is_node, labels_within, zarr_labels
from bmz.image.readers import READERS
from bmz.image.remote import address_of, metadata_files, zip_of

ALL = "all"

_SPAN = re.compile(r"(\d+)-(\d+)")


class NoDatasets(WrongUsage):
    """A dataset is named, but none of the images is a file with datasets."""

    def __init__(self, dataset: str) -> None:
        super().__init__(
            f"'{dataset}' names a dataset, but none of the images is an HDF5 file",
            hint="leave out --dataset; --series chooses among the images of other files",
            code="image.dataset",
        )


class SeriesUnknown(WrongUsage):
    """No image of the file has this name."""

    def __init__(self, path: Path, key: str, known: Sequence[str]) -> None:
        super().__init__(
            f"'{path}' has no image called '{key}'",
            hint=f"its images are {', '.join(known)}; numbers start at 0",
            code="image.series",
        )


def in_dataset(images: Sequence[Path], dataset: str | None) -> tuple[Path, ...]:
    """Append a dataset to the path of each file that holds datasets; leave other files alone.

    Parameters
    ----------
    images : paths of image files
    dataset : path of the dataset within the files, such as ``/raw``; None for none

    Raises
    ------
    NoDatasets
        No image is a file with datasets.

    Examples
    --------
    >>> in_dataset([Path("a.tif")], None)
    (PosixPath('a.tif'),)
    """
    if dataset is None:
        return tuple(images)
    key = f"/{dataset.strip('/')}"
    named = tuple(Path(f"{image}[{key}]") if _has_datasets(image) else image for image in images)
    if named == tuple(images):
        raise NoDatasets(dataset)
    return named


def _has_datasets(path: Path) -> bool:
    if split_series(path)[1]:
        return False
    try:
        return READERS[format_of(path)].inner_paths
    except BmzError:
        return path.suffix.lower() in FORMATS[HDF5].suffixes  # reading it will raise the error


def series_paths(path: Path, choice: str = ALL) -> tuple[Path, ...]:
    """Return the path of each chosen image of a file, or of the file itself if it holds only one.

    Parameters
    ----------
    path : path of a file, or of one image in it
    choice : name or number of an image, a range such as ``2-5``, or ``all``

    Raises
    ------
    SeriesOutOfRange, SeriesUnknown
        There is no such image.
    """
    file, key = split_series(path)
    if key and not _SPAN.fullmatch(key):
        return (path,)
    choice = key or choice
    try:
        keys = series_keys(file)
    except BmzError:
        return (path,)  # reading it will raise the error
    numbers = range(len(keys)) if choice == ALL else _numbers(file, choice, keys)
    if len(keys) == 1:
        return (path,)
    return tuple(file.with_name(f"{file.name}[{keys[number]}]") for number in numbers)


def series_number(path: Path, key: str) -> int:
    """Return the number of the image with the name or number `key`.

    Raises
    ------
    SeriesUnknown, SeriesOutOfRange
        There is no such image.
    CouldNotTell
        The file cannot be read.
    """
    (number,) = _numbers(path, key, series_keys(path))
    return number


def series_keys(path: Path) -> tuple[str, ...]:
    """Return the name of each image of a file, or numbers if the names are not unique.

    Raises
    ------
    CouldNotTell
        The file cannot be read.
    """
    reader = READERS[format_of(path)]
    if reader.one_image:
        return ("0",)
    header = reader.header(path, 0)
    names = [series_key(name) for name in header.series_names]
    distinct = len({name.casefold() for name in names}) == header.series_count
    if distinct and all(names) and not any(name.isdecimal() for name in names):
        return tuple(names)
    return tuple(str(number) for number in range(header.series_count))


def series_key(name: str) -> str:
    """Return the name of an image, with characters that a path cannot hold replaced.

    Examples
    --------
    >>> series_key("right/eye")
    'right_eye'
    """
    return re.sub(r"[^\w .+-]", "_", name).strip()


def _numbers(path: Path, choice: str, keys: Sequence[str]) -> Sequence[int]:
    key = series_key(choice)  # the name as the file spells it is accepted too
    if key in keys:
        return [keys.index(key)]
    span = _SPAN.fullmatch(choice)
    if span is not None:
        numbers = range(int(span[1]), int(span[2]) + 1)
    elif choice.isdecimal():
        numbers = range(int(choice), int(choice) + 1)
    else:
        raise SeriesUnknown(path, choice, keys)
    absent = next((n for n in numbers if n >= len(keys)), None)
    if absent is not None or not numbers:
        raise SeriesOutOfRange(path, absent or 0, len(keys))
    return numbers


def content_sha256(path: Path) -> str:
    """Return the sha256 of a file; for a folder, such as a Zarr, that of the list of its files.

    The list has a line ``SHA256  PATH`` for each file, sorted by path, as ``sha256sum`` prints
    it. For an OME-Zarr on a server, whose chunks are not all local, the address and the metadata
    are hashed; for one in a zip file, the zip file. Labels stored inside an image are left out.
    """
    path, _ = split_series(path)
    address = address_of(path) if path.is_dir() else None
    if address is not None:
        return _sha256_elsewhere(path, address)
    if path.is_dir():
        labels = labels_within(path)
        files = sorted(f for f in path.rglob("*") if f.is_file() and labels not in f.parents)
        lines = (f"{content_sha256(f)}  {f.relative_to(path).as_posix()}\n" for f in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    return sha256_of(path)


def _sha256_elsewhere(path: Path, address: str) -> str:
    archive = zip_of(address)
    if archive is not None:
        return sha256_of(archive)
    lines = [f"{sha256_of(file)}  {file.name}\n" for file in metadata_files(path)]
    return hashlib.sha256("".join([f"{address}\n", *lines]).encode()).hexdigest()


def palette_numbers(path: Path) -> AnyArray | None:
    """Return the palette indices of an image; None if it has no palette.

    Returns
    -------
    (y, x) or more axes, uint8 or uint16

    Raises
    ------
    CouldNotTell
        The file cannot be read.
    """
    file, key = split_series(path)
    return None if key else READERS[format_of(file)].palette_numbers(file)


def is_lossy(path: Path) -> bool:
    """Return whether the compression of a file changes pixel values, as JPEG does.

    Raises
    ------
    CouldNotTell
        The file cannot be read.
    """
    file, _ = split_series(path)
    name = format_of(file)
    return FORMATS[name].lossy or READERS[name].is_lossy(file)


def labels_beside(path: Path) -> tuple[str, ...]:
    """Return the names of the label images in an OME-Zarr image; none if it is itself labels.

    Raises
    ------
    CouldNotTell
        The folder cannot be read.
    """
    file, _ = split_series(path)
    return zarr_labels(file) if format_of(file) == OME_ZARR else ()


@dataclass(frozen=True)
class PlateField:
    """One field of view of a well.

    Parameters
    ----------
    plate : folder of the plate
    row, column : row and column of the well, as named in the plate, such as ``A`` and ``1``
    field : path of the image within its well, such as ``0``; empty if the well does not exist
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
    """A well or field that the plate lists does not exist."""

    def __init__(self, field: PlateField) -> None:
        super().__init__(
            f"'{field.within}' is listed in the plate '{field.plate}', but is missing",
            hint="copy the plate again if it should exist",
            code="image.field-missing",
        )
        self.field = field


def plate_fields(path: Path) -> tuple[PlateField, ...] | None:
    """Return the fields of all wells of a plate; None if the path is not a plate.

    Source: OME-Zarr 0.5, sections "plate" and "well" (the same in 0.4).

    Parameters
    ----------
    path : any image file or folder; anything that cannot be read as Zarr is not a plate

    Raises
    ------
    ImageUnreadable
        The metadata of the plate or of a well do not follow the format.
    """
    try:
        if not path.is_dir() or not is_node(path):
            return None
    except OSError:  # such as a name that is too long; reading it will raise the error
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
                raise ImageUnreadable(path, f"has a well '{name}', which is not a ROW/COLUMN")
        folder = path / name
        if not is_node(folder):
            yield PlateField(path, row, column, "")
            continue
        well = _ome(path, folder).get("well")
        if not isinstance(well, Mapping):
            raise ImageUnreadable(path, f"has a well '{name}' without the metadata of a well")
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
    """Replace each plate by its fields, and each file by its chosen images.

    A file without an image of this name or number is kept with that name or number, so that only
    reading this one fails.

    Parameters
    ----------
    images : paths of images and plates
    series : images to choose from a file with several, see `series_paths`; None keeps the file

    Returns
    -------
    dict
        image -> its field; None if it is not part of a plate

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
        except CouldNotTell:  # only reading this one fails
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
