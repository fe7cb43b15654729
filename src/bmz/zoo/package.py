"""A package: a folder with a manifest, and the stand-in of one that is not fetched."""

from __future__ import annotations

import ast
import re
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

_SERVICE = re.compile(r"(?P<base>.*/artifacts/[^/]+)/(?:files/|create-zip-file$)")


@dataclass(frozen=True)
class Remote:
    """Where the files of a package come from.

    Parameters
    ----------
    url : of the manifest, or of a zip with the whole package
    version : of the zoo, such as ``v0``; empty when none was named
    index_sha256 : of the manifest, as the index states it; None when no index was asked
    is_zip : `url` is a zip
    """

    url: str
    version: str = ""
    index_sha256: str | None = None
    is_zip: bool = False

    def file_url(self, name: str) -> str:
        """Give the address of a file beside the manifest."""
        parts = urlsplit(self.url)
        beside = urljoin(urlunsplit(parts._replace(query="", fragment="")), quote(name))
        return silent(urlunsplit(urlsplit(beside)._replace(query=parts.query)))

    def listing_url(self, folder: str = "") -> str | None:
        """Give the address that lists the files of `folder`; None when it is no service."""
        found = _SERVICE.match(urlsplit(self.url).path)
        if found is None or self.is_zip:
            return None
        path = f"{found['base']}/files/" + (f"{quote(folder)}/" if folder else "")
        return silent(urlunsplit(urlsplit(self.url)._replace(path=path)))


@dataclass(frozen=True)
class Package:
    """A model package on disk.

    Parameters
    ----------
    id : the name by which it was asked for, in short
    manifest : path of its manifest; the files lie beside it once they are fetched
    remote : where they are fetched from; None for a package that is only here
    """

    id: str
    manifest: Path
    remote: Remote | None = None


def silent(url: str) -> str:
    """Ask the service not to count this download as one of its users."""
    parts = urlsplit(url)
    if _SERVICE.match(parts.path) is None or parts.scheme == "file":
        return url
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | {"silent": "true"}
    return urlunsplit(parts._replace(query=urlencode(query)))


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
