"""What lies in the place of a file of which nobody states the sha256, and is not that file."""

from __future__ import annotations

import ast
import re
import struct
from math import prod
from pathlib import Path, PurePosixPath

_BINARY = frozenset(
    {".npy", ".npz", ".onnx", ".pt", ".pth", ".h5", ".hdf5", ".keras", ".zip", ".tif", ".tiff",
     ".png", ".jpg", ".jpeg"}
)  # fmt: skip
"""Endings of files that never begin as a text does."""

_PAGES = frozenset({".html", ".htm", ".xml", ".svg", ".md"})
"""Endings of files that may begin as a web page does."""

_PAGE = re.compile(rb"\s*<(!doctype|html|head|body|\?xml)", re.IGNORECASE)

_NPY = b"\x93NUMPY"
_ITEM = re.compile(r"[<>|=][biufc](\d{1,2})")


def stand_in(path: Path, name: str) -> str:
    """Say what lies in the place of a file; empty where it may be the file itself.

    Parameters
    ----------
    path : where it lies
    name : what it should be, by its ending

    Raises
    ------
    OSError
        It cannot be read.
    """
    suffix = PurePosixPath(name).suffix.lower()
    with path.open("rb") as stream:
        head = stream.read(4096)
    if suffix not in _PAGES and _PAGE.match(head):
        return "a web page came in its place"
    if suffix in _BINARY and not head:
        return "it is empty"
    if suffix in _BINARY and head.lstrip()[:1] in {b"{", b"[", b"<"}:
        return "a text came in its place"
    if suffix == ".npy" and head.startswith(_NPY):
        wanted, found = _npy_size(head), path.stat().st_size
        if wanted is not None and found < wanted:
            return f"it is cut off: {found} of {wanted} bytes are there"
    return ""


def _npy_size(head: bytes) -> int | None:
    """Read off its head how large an array file is; None where the head does not say it.

    Source: ``numpy.lib.format``: magic, version, length of the header, a Python literal.
    """
    long = head[6:7] != b"\x01"
    start = 12 if long else 10
    try:
        (length,) = struct.unpack_from("<I" if long else "<H", head, 8)
        said = ast.literal_eval(head[start : start + length].decode("latin-1"))
        item = _ITEM.fullmatch(said["descr"])
        return None if item is None else start + length + int(item[1]) * prod(said["shape"])
    except (ValueError, SyntaxError, KeyError, TypeError, struct.error, RecursionError):
        return None
