"""What label masks ask of a file: the numbers of a palette, no lossy picture, labels in a Zarr."""

from __future__ import annotations

from pathlib import Path

from bmz.base.arrays import AnyArray
from bmz.image.formats import format_of
from bmz.image.known_formats import FORMATS, OME_ZARR
from bmz.image.ome_zarr import zarr_labels
from bmz.image.readers import READERS
from bmz.image.series import split_series


def palette_numbers(path: Path) -> AnyArray | None:
    """Read the numbers of the colours of an image with a palette; None where it has none.

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
    """Say whether the compression of a file changes its numbers, as JPEG does.

    Raises
    ------
    CouldNotTell
        The file cannot be read.
    """
    file, _ = split_series(path)
    name = format_of(file)
    return FORMATS[name].lossy or READERS[name].is_lossy(file)


def labels_beside(path: Path) -> tuple[str, ...]:
    """Give the names of the label images that lie in an OME-Zarr image; none of one that is labels.

    Raises
    ------
    CouldNotTell
        The folder cannot be read.
    """
    file, _ = split_series(path)
    return zarr_labels(file) if format_of(file) == OME_ZARR else ()
