"""The formats of image files: their endings, their first bytes, and what all files of one share.

A new format is a module of its own that reads it, one line in `FORMATS`, and one in
`bmz.image.readers.READERS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from bmz.base.values import dataclass

OME_ZARR = "OME-Zarr"

HDF5 = "HDF5"

BIOIO = "bioio"
"""The format of whatever a plugin of bioio reads."""

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
"""The plugin of bioio that reads the files of an ending; Bio-Formats is the last resort.

Source: the packages ``bioio-*`` on PyPI and Bio-Formats 8's list of formats, 2026-11.
"""

PREVIEWS: Mapping[str, str] = {".mrxs": "{}", ".vsi": "_{}_"}
"""Endings of files that look like a picture, and the folder beside them that holds the pixels."""


@dataclass(frozen=True)
class FileFormat:
    """How a format is told.

    Parameters
    ----------
    suffixes : endings of its files, a longer one before the one that it ends in
    starts : first bytes of its files; empty if it takes more to tell, see `format_of`
    lossy : its compression alters the intensities of every image
    by_plugin : a plugin reads it
    container : others write formats of their own into it: a file of an ending in `PLUGIN_OF` is one
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
"""By name; the names, in this order, are what the help of commands lists."""


def suffixes(*, by_plugin: bool = False, lossy: bool | None = None) -> tuple[str, ...]:
    """Return the endings of the formats that are read here, or by plugins.

    Parameters
    ----------
    by_plugin : of those that plugins read
    lossy : only of formats that are lossy, or that are not; None for both
    """
    return tuple(
        suffix
        for file_format in FORMATS.values()
        if file_format.by_plugin == by_plugin and lossy in {None, file_format.lossy}
        for suffix in file_format.suffixes
    )


def format_list() -> str:
    """List the formats that are read without plugins, such as ``TIFF, PNG or NPY``."""
    *names, last = (name for name, file_format in FORMATS.items() if not file_format.by_plugin)
    return f"{', '.join(names)} or {last}"
