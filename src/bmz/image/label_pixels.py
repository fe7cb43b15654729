"""What label masks ask of a file: the numbers of a palette, no lossy picture, labels in a Zarr."""

from __future__ import annotations

from pathlib import Path

from bmz.base.arrays import AnyArray
from bmz.image.formats import format_of
from bmz.image.known_formats import FORMATS, OME_ZARR
from bmz.image.ome_zarr import zarr_labels
from bmz.image.readers import READERS


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
    return READERS[format_of(path)].palette_numbers(path)


def is_lossy(path: Path) -> bool:
    """Say whether the compression of a file changes its numbers, as JPEG does.

    Raises
    ------
    CouldNotTell
        The file cannot be read.
    """
    name = format_of(path)
    return FORMATS[name].lossy or READERS[name].is_lossy(path)


def labels_beside(path: Path) -> tuple[str, ...]:
    """Give the names of the label images that lie in an OME-Zarr image; none of one that is labels.

    Raises
    ------
    CouldNotTell
        The folder cannot be read.
    """
    return zarr_labels(path) if format_of(path) == OME_ZARR else ()
