"""What label masks ask of a file: the numbers of a palette, no lossy picture, labels in a Zarr."""

from __future__ import annotations

from pathlib import Path

from bmz.base.arrays import AnyArray
from bmz.image.formats import OME_ZARR, format_of
from bmz.image.ome_zarr import zarr_labels
from bmz.image.png import png_palette_numbers
from bmz.image.tiff import tiff_is_lossy, tiff_palette_numbers


def palette_numbers(path: Path) -> AnyArray | None:
    """Read the numbers of the colours of a PNG or TIFF with a palette; None where it has none.

    Returns
    -------
    (y, x) or more axes, uint8 or uint16

    Raises
    ------
    CouldNotTell
        The file cannot be read.
    """
    form = format_of(path)
    if form == "PNG":
        return png_palette_numbers(path)
    return tiff_palette_numbers(path) if form == "TIFF" else None


def is_lossy(path: Path) -> bool:
    """Say whether the compression of a file changes its numbers, as JPEG does.

    Raises
    ------
    CouldNotTell
        The file cannot be read.
    """
    form = format_of(path)
    return form == "JPEG" or (form == "TIFF" and tiff_is_lossy(path))


def labels_beside(path: Path) -> tuple[str, ...]:
    """Give the names of the label images that lie in an OME-Zarr image; none of one that is labels.

    Raises
    ------
    CouldNotTell
        The folder cannot be read.
    """
    return zarr_labels(path) if format_of(path) == OME_ZARR else ()
