"""A package: a folder with a manifest, and checks for substitutes of the real files."""

from __future__ import annotations

import ast
import re
import struct
from math import prod
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from bmz.base.values import dataclass

_SERVICE = re.compile(r"(?P<base>.*/artifacts/[^/]+)/(?:files/|create-zip-file$)")


@dataclass(frozen=True)
class Remote:
    """Where the files of a package come from.

    Parameters
    ----------
    url : URL of the manifest, or of a zip with the whole package
    version : version in the zoo, such as ``v0``; empty if none was named
    index_sha256 : sha256 of the manifest in the index; None if no index was used
    is_zip : whether `url` is a zip
    """

    url: str
    version: str = ""
    index_sha256: str | None = None
    is_zip: bool = False

    def file_url(self, name: str) -> str:
        """Return the address of a file in the folder of the manifest."""
        parts = urlsplit(self.url)
        beside = urljoin(urlunsplit(parts._replace(query="", fragment="")), quote(name))
        return silent(urlunsplit(urlsplit(beside)._replace(query=parts.query)))

    def listing_url(self, folder: str = "") -> str | None:
        """Return the address that lists the files of `folder`; None if it is not a service."""
        match = _SERVICE.match(urlsplit(self.url).path)
        if match is None or self.is_zip:
            return None
        path = f"{match['base']}/files/" + (f"{quote(folder)}/" if folder else "")
        return silent(urlunsplit(urlsplit(self.url)._replace(path=path)))


@dataclass(frozen=True)
class Package:
    """A model package on disk.

    Parameters
    ----------
    id : short form of the name by which it was requested
    manifest : path of its manifest; fetched files are stored next to it
    remote : where they are fetched from; None for a package that is only on this computer
    """

    id: str
    manifest: Path
    remote: Remote | None = None


def silent(url: str) -> str:
    """Return the address with a flag that stops the service from counting the download."""
    parts = urlsplit(url)
    if _SERVICE.match(parts.path) is None or parts.scheme == "file":
        return url
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | {"silent": "true"}
    return urlunsplit(parts._replace(query=urlencode(query)))


_BINARY = frozenset(
    {".npy", ".npz", ".onnx", ".pt", ".pth", ".h5", ".hdf5", ".keras", ".zip", ".tif", ".tiff",
     ".png", ".jpg", ".jpeg"}
)  # fmt: skip
"""Suffixes of files that never begin like text."""

_PAGES = frozenset({".html", ".htm", ".xml", ".svg", ".md"})
"""Suffixes of files that may begin like a web page."""

_PAGE = re.compile(rb"\s*<(!doctype|html|head|body|\?xml)", re.IGNORECASE)

_NPY = b"\x93NUMPY"
_ITEM = re.compile(r"[<>|=][biufc](\d{1,2})")


def stand_in(path: Path, name: str) -> str:
    """Describe what was returned instead of a file; empty if it may be the file itself.

    Parameters
    ----------
    path : path of the file
    name : its name in the package, whose suffix states its format

    Raises
    ------
    OSError
        It cannot be read.
    """
    suffix = PurePosixPath(name).suffix.lower()
    with path.open("rb") as stream:
        head = stream.read(4096)
    if suffix not in _PAGES and _PAGE.match(head):
        return "a web page was returned instead"
    if suffix in _BINARY and not head:
        return "it is empty"
    if suffix in _BINARY and head.lstrip()[:1] in {b"{", b"[", b"<"}:
        return "a text was returned instead"
    if suffix == ".npy" and head.startswith(_NPY):
        expected, actual = _npy_size(head), path.stat().st_size
        if expected is not None and actual < expected:
            return f"it is incomplete: {actual} of {expected} bytes"
    return ""


def _npy_size(head: bytes) -> int | None:
    """Return the size of an array file according to its header; None if the header is unclear.

    Source: ``numpy.lib.format``: magic, version, length of the header, a Python literal.
    """
    long = head[6:7] != b"\x01"
    start = 12 if long else 10
    try:
        (length,) = struct.unpack_from("<I" if long else "<H", head, 8)
        header = ast.literal_eval(head[start : start + length].decode("latin-1"))
        item = _ITEM.fullmatch(header["descr"])
        return None if item is None else start + length + int(item[1]) * prod(header["shape"])
    except (ValueError, SyntaxError, KeyError, TypeError, struct.error, RecursionError):
        return None
