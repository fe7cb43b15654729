"""Detection of the format of a file from its first bytes rather than its name."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from bmz.base.files import is_there
from bmz.image.faults import (
    FormatUnknown,
    ImageEmpty,
    ImageForbidden,
    ImageIsFolder,
    ImageNotFound,
    ImageUnreadable,
    PartsMissing,
    not_a_file_of,
)
from bmz.image.known_formats import BIOIO, FORMATS, OME_ZARR, PLUGIN_OF, PREVIEWS, suffixes

_JP2 = b"\0\0\0\x0cjP  "
_ZIP = b"PK\x03\x04"
_LIF_START, _LIF_MARK = b"\x70\0\0\0", b"\x2a"
"""A LIF block starts with 0x70, followed by the length of the block and 0x2A."""

_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""Every Zarr 2 or 3 group or array folder contains one of these files."""


_KEY = re.compile(r"\[([^\[\]/]+)\]$")
_INNER = re.compile(r"\[(/.*)\]$")


def split_series(path: Path) -> tuple[Path, str]:
    """Split a path into the file and the name or number of an image in it; empty if none.

    In a file with inner folders, such as HDF5, the name is a path that begins with ``/``.

    Examples
    --------
    >>> split_series(Path("cells.czi[2]"))
    (PosixPath('cells.czi'), '2')
    >>> split_series(Path("cells.h5[/raw/t0]"))
    (PosixPath('cells.h5'), '/raw/t0')
    """
    text = path.as_posix()
    match = _KEY.search(text) or _INNER.search(text)
    file = "" if match is None else text[: match.start()]
    if match is None or not file or file.endswith("/") or is_there(path):
        return path, ""
    return Path(file), match[1]


def name_of(path: Path) -> str:
    """Return the display name of an image: the file name, and any image name in brackets."""
    file, key = split_series(path)
    return f"{file.name}[{key}]" if key else path.name


def format_of(path: Path) -> str:
    """Return the name of the format of a file, as in `bmz.image.known_formats.FORMATS`.

    The first bytes of the file decide, also for one image in it (``cells.h5[/raw]``). A folder
    with Zarr metadata is ``"OME-Zarr"``.

    Raises
    ------
    ImageNotFound, ImageIsFolder, ImageForbidden, ImageEmpty
        There is nothing to read.
    PartsMissing
        The file is a preview, and the folder that holds the pixels is missing.
    ImageUnreadable
        The name indicates a known format, but the content does not match it.
    FormatUnknown
        Neither the name nor the content indicates a known format.
    """
    path, _ = split_series(path)
    if _is_folder(path):
        return _format_of_folder(path)
    head = _first_bytes(path)
    _refuse_preview(path)
    known = None if path.suffix.lower() in PREVIEWS else _by_content(path, head)
    claimed = _claimed(path)
    # a lossy image whose name claims another format, such as a JPEG named .tif, is unexpected
    posing = known is not None and FORMATS[known].lossy and claimed not in (known, None)
    others = known is not None and FORMATS[known].container and path.suffix.lower() in PLUGIN_OF
    if known is not None and not posing and not others:
        return known
    if not head:
        raise ImageEmpty(path)
    if claimed is None and (path.suffix.lower() in PLUGIN_OF or _has_plugin(path)):
        return BIOIO
    if claimed is None:
        raise FormatUnknown(path)
    raise not_a_file_of(path, claimed, head)


def _refuse_preview(path: Path) -> None:
    folder = PREVIEWS.get(path.suffix.lower())
    if folder is not None and not (path.parent / folder.format(path.stem)).is_dir():
        raise PartsMissing(path, [folder.format(path.stem)])


def _has_plugin(path: Path) -> bool:
    """Return whether an installed bioio plugin reads files with this suffix."""
    try:
        plugins = import_module("bioio.plugins")
    except ImportError:
        return False
    others = set(plugins.get_plugins(use_cache=True)) - set(suffixes(by_plugin=True))
    return path.suffix.lower() in others


def image_suffix(path: Path) -> str:
    """Return the image format suffix of `path`, as written there; empty if it has none.

    Examples
    --------
    >>> image_suffix(Path("plate.1_s2.ome.tif")), image_suffix(Path("cells.lif"))
    ('.ome.tif', '')
    """
    name = path.name
    known = next((s for s in suffixes() if name.lower().endswith(s) and name.lower() != s), "")
    return name[len(name) - len(known) :]


def _by_content(path: Path, head: bytes) -> str | None:
    if head.startswith(_LIF_START) and head[8:9] == _LIF_MARK:
        return "LIF"
    if head.startswith(_JP2) and path.suffix.lower() == ".nd2":
        return "ND2"  # the older layout, in a JPEG 2000 container
    if head.startswith(_ZIP) and path.suffix.lower() == ".npz":
        return "NPZ"
    names = (
        name
        for name, file_format in FORMATS.items()
        if file_format.starts and head.startswith(file_format.starts)
    )
    return next(names, None)


def _claimed(path: Path) -> str | None:
    """Return the format that the file name claims; plugins check their own formats."""
    ending = path.suffix.lower()
    named = (
        n
        for n, file_format in FORMATS.items()
        if ending in file_format.suffixes and not file_format.by_plugin
    )
    return next((name for name in named if name != OME_ZARR), None)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as why:
        raise ImageForbidden(path, why) from why


def is_zarr(folder: Path) -> bool:
    """Return whether a folder is a Zarr folder, judging by its metadata or its name.

    Raises
    ------
    ImageForbidden
    """
    try:
        known = any((folder / name).is_file() for name in _ZARR_FILES)
    except OSError as why:
        raise ImageForbidden(folder, why) from why
    return known or folder.suffix.lower() == ".zarr"


def _format_of_folder(path: Path) -> str:
    try:
        if any((path / name).is_file() for name in _ZARR_FILES):
            return OME_ZARR
    except OSError as why:
        raise ImageForbidden(path, why) from why
    if path.suffix.lower() == ".zarr":
        raise ImageUnreadable(
            path, "is not an OME-Zarr folder: it contains no zarr.json or .zgroup"
        )
    raise ImageIsFolder(path)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(32)
    except (FileNotFoundError, NotADirectoryError, ValueError) as why:  # ValueError: null byte
        raise ImageNotFound(path) from why
    except OSError as why:
        raise ImageForbidden(path, why) from why
