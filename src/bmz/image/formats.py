"""Which format a file is of, told by its first bytes rather than by its name."""

from __future__ import annotations

from pathlib import Path

from bmz.image.faults import (
    SUFFIXES,
    FormatUnknown,
    ImageEmpty,
    ImageForbidden,
    ImageIsFolder,
    ImageNotFound,
    ImageUnreadable,
    not_a_file_of,
)

OME_ZARR = "OME-Zarr"

_MAGIC = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
    (b"\x89PNG", "PNG"),
    (b"\x93NUM", "NPY"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"ZISRAWFILE", "CZI"),
    (b"\xda\xce\xbe\x0a", "ND2"),
)

_JP2 = b"\0\0\0\x0cjP  "
_LIF_START, _LIF_MARK = b"\x70\0\0\0", b"\x2a"
"""A block of LIF starts with 0x70, and after the length of the block comes 0x2A."""

_BY_SUFFIX = {
    ".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG", ".npy": "NPY", ".jpg": "JPEG", ".jpeg": "JPEG",
}  # fmt: skip

_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""One of them lies in every folder of Zarr 3 or 2 that is a group or an array."""


def format_of(path: Path) -> str:
    """Give ``"TIFF"``, ``"PNG"``, ``"NPY"``, ``"JPEG"``, ``"CZI"``, ``"LIF"`` or ``"ND2"``.

    The first bytes of a file decide. A folder is ``"OME-Zarr"`` when it has metadata of Zarr.

    Raises
    ------
    ImageNotFound, ImageIsFolder, ImageForbidden, ImageEmpty
        There is nothing to read.
    ImageUnreadable
        The name is of a known format, the content is not.
    FormatUnknown
        Neither is.
    """
    if _is_folder(path):
        return _format_of_folder(path)
    head = _first_bytes(path)
    known = _by_content(path, head)
    claimed = _BY_SUFFIX.get(path.suffix.lower())
    # a lossy picture under the name of a format that keeps pixels is not what it is thought to be
    posing = known == "JPEG" and claimed not in (known, None)
    if known is not None and not posing:
        return known
    if claimed is None:
        raise FormatUnknown(path)
    if not head:
        raise ImageEmpty(path)
    raise not_a_file_of(path, claimed, head)


def image_suffix(path: Path) -> str:
    """Give the ending of `path` that names an image format, as written there; else nothing.

    Examples
    --------
    >>> image_suffix(Path("plate.1_s2.ome.tif")), image_suffix(Path("cells.lif"))
    ('.ome.tif', '')
    """
    name = path.name
    known = next((s for s in SUFFIXES if name.lower().endswith(s) and name.lower() != s), "")
    return name[len(name) - len(known) :]


def _by_content(path: Path, head: bytes) -> str | None:
    if head.startswith(_LIF_START) and head[8:9] == _LIF_MARK:
        return "LIF"
    if head.startswith(_JP2) and path.suffix.lower() == ".nd2":
        return "ND2"  # its older layout, in the container of JPEG 2000
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as why:
        raise ImageForbidden(path, why) from why


def _format_of_folder(path: Path) -> str:
    try:
        if any((path / name).is_file() for name in _ZARR_FILES):
            return OME_ZARR
    except OSError as why:
        raise ImageForbidden(path, why) from why
    if path.suffix.lower() == ".zarr":
        raise ImageUnreadable(path, "is not an OME-Zarr folder: no zarr.json or .zgroup is in it")
    raise ImageIsFolder(path)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(32)
    except (FileNotFoundError, NotADirectoryError, ValueError) as why:  # the last of a byte of 0
        raise ImageNotFound(path) from why
    except OSError as why:
        raise ImageForbidden(path, why) from why
