"""The formats of image files: their suffixes, first bytes and common properties.

To add a format, write a module that reads it, and add one line to `FORMATS` and one to
`bmz.image.readers.READERS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from bmz.base.values import dataclass

OME_ZARR = "OME-Zarr"

HDF5 = "HDF5"

BIOIO = "bioio"
"""Name of the format of all files that a bioio plugin reads."""

PLUGIN_OF: Mapping[str, str] = {
    ".dv": "bioio-dv",
    ".r3d": "bioio-dv",
    ".sldy": "bioio-sldy",
    **dict.fromkeys((".gif", ".bmp", ".jp2", ".mp4", ".avi"), "bioio-imageio"),
    **dict.fromkeys(
        (
            ".oib", ".oif", ".oir", ".vsi", ".ims", ".dcm", ".dicom", ".nrrd", ".nhdr", ".nii",
            ".mrc", ".ics", ".ids", ".mrxs", ".lof", ".lei", ".flex", ".xdce", ".mvd2", ".ipw",
            ".zvi", ".sld", ".pic", ".dm3", ".dm4", ".ser", ".spe", ".am", ".afi", ".ndpis",
        ),
        "bioio-bioformats",
    ),
}  # fmt: skip
"""Suffix -> bioio plugin that reads such files; Bio-Formats is the last resort.

Source: the ``bioio-*`` packages on PyPI and the list of formats of Bio-Formats 8, 2026-11.
"""

PREVIEWS: Mapping[str, str] = {".mrxs": "{}", ".vsi": "_{}_"}
"""Suffix of files that look like a picture -> sibling folder that holds the pixels."""


@dataclass(frozen=True)
class FileFormat:
    """How a format is recognized.

    Parameters
    ----------
    suffixes : suffixes of its files, with ``.ome.tif`` before ``.tif``
    starts : first bytes of its files; empty if these do not suffice, see `format_of`
    lossy : whether its compression always alters intensities
    by_plugin : whether a plugin reads it
    container : whether other formats are built on it; a file with a suffix in `PLUGIN_OF` is then
        read by that plugin
    """

    suffixes: tuple[str, ...]
    starts: tuple[bytes, ...] = ()
    lossy: bool = False
    by_plugin: bool = False
    container: bool = False


FORMATS: Mapping[str, FileFormat] = {
    "TIFF": FileFormat(
        (".ome.tif", ".ome.tiff", ".tif", ".tiff"),
        (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # the last two: BigTIFF
    ),
    OME_ZARR: FileFormat((".ome.zarr", ".zarr")),
    "PNG": FileFormat((".png",), (b"\x89PNG",)),
    "JPEG": FileFormat((".jpg", ".jpeg"), (b"\xff\xd8\xff",), lossy=True),
    "NPY": FileFormat((".npy",), (b"\x93NUM",)),
    "NPZ": FileFormat((".npz",)),
    HDF5: FileFormat((".h5", ".hdf5"), (b"\x89HDF\r\n\x1a\n",), container=True),
    "CZI": FileFormat((".czi",), (b"ZISRAWFILE",), by_plugin=True),
    "LIF": FileFormat((".lif",), by_plugin=True),
    "ND2": FileFormat((".nd2",), (b"\xda\xce\xbe\x0a",), by_plugin=True),
    BIOIO: FileFormat(tuple(PLUGIN_OF), by_plugin=True),
}
"""Name -> format, in the order in which the help of commands lists the names."""


def suffixes(*, by_plugin: bool = False, lossy: bool | None = None) -> tuple[str, ...]:
    """Return the suffixes of the formats that bmz reads itself, or that plugins read.

    Parameters
    ----------
    by_plugin : return the suffixes that plugins read, instead of those that bmz reads
    lossy : return only suffixes of lossy, or of lossless, formats; None for both
    """
    return tuple(
        suffix
        for file_format in FORMATS.values()
        if file_format.by_plugin == by_plugin and lossy in {None, file_format.lossy}
        for suffix in file_format.suffixes
    )


def format_list() -> str:
    """Return the formats that are read without plugins as text, such as ``TIFF, PNG or NPY``."""
    *names, last = (name for name, file_format in FORMATS.items() if not file_format.by_plugin)
    return f"{', '.join(names)} or {last}"
