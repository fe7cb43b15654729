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
    not_a_file_of,
)

_MAGIC = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    b"\x89PNG": "PNG",
    b"\x93NUM": "NPY",
}

_BY_SUFFIX = {".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG", ".npy": "NPY"}


def format_of(path: Path) -> str:
    """Give ``"TIFF"``, ``"PNG"`` or ``"NPY"`` by the first bytes of the file.

    Raises
    ------
    ImageNotFound, ImageIsFolder, ImageForbidden, ImageEmpty
        There is nothing to read.
    ImageUnreadable
        The name is of a known format, the content is not.
    FormatUnknown
        Neither is.
    """
    head = _first_bytes(path)
    known = _MAGIC.get(head[:4])
    if known is not None:
        return known
    claimed = _BY_SUFFIX.get(path.suffix.lower())
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


def _first_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ImageIsFolder(path)
        with path.open("rb") as file:
            return file.read(32)
    except (FileNotFoundError, NotADirectoryError) as why:
        raise ImageNotFound(path) from why
    except OSError as why:
        raise ImageForbidden(path, why) from why
