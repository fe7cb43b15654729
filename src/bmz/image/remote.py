"""OME-Zarr of a server or a zip: a folder in the cache that is filled with what is read of it."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path
from typing import Final, Protocol

from bmz.base.files import whole_file
from bmz.image.decoding import decoding

MARK: Final = ".bmz-address"
"""The file in such a folder that holds the address which it stands for."""

_ABSENT = ".absent"
"""Ends the name of an empty file which tells that the server has none of this name."""

_METADATA = (("zarr.json",), (".zgroup", ".zattrs"), (".zarray", ".zattrs"))


_ADDRESS = re.compile(r"(https?|s3)://", re.IGNORECASE)


def is_address(word: str) -> bool:
    """Say whether a word is the address of an image on a server.

    Examples
    --------
    >>> is_address("s3://bucket/cells.zarr"), is_address("cells.tif")
    (True, False)
    """
    return _ADDRESS.match(word) is not None


_ZIPPED = re.compile(r"\.(ozx|zarr\.zip)$", re.IGNORECASE)
_IN_ZIP, _INNER = "zip:", "!/"


def is_zipped(word: str) -> bool:
    """Say whether a word is the path of a zipped OME-Zarr.

    Source: https://ngff.openmicroscopy.org/rfc/9, "zipped OME-Zarr".
    """
    return _ZIPPED.search(word) is not None and Path(word).expanduser().is_file()


def address_in_zip(path: Path) -> str:
    """Give the address of the group in a zip: at its top, or in the only folder there.

    Raises
    ------
    ImageUnreadable
        It is no zip.
    """
    with decoding(path, "zipped OME-Zarr"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    at_top = tops & {name for group in _METADATA for name in group}
    inner = "" if at_top or len(tops) != 1 else tops.pop()
    return f"{_IN_ZIP}{path.absolute()}{_INNER}{inner}".rstrip("/")


def _taken_from_zip(address: str, target: Path) -> bool:
    file, _, member = address.removeprefix(_IN_ZIP).partition(_INNER.rstrip("/"))
    with decoding(Path(file), "zipped OME-Zarr"), zipfile.ZipFile(file) as archive:
        try:
            stored = archive.open(member.lstrip("/"))
        except KeyError:
            return False
        with stored, whole_file(target) as temporary, temporary.open("wb") as copy:
            shutil.copyfileobj(stored, copy)
    return True


class Fetcher(Protocol):
    """Brings a file from a server."""

    def __call__(self, address: str, target: Path, /) -> bool:
        """Write what lies at an address to `target`; False where the server has nothing there.

        Raises
        ------
        BmzError
            The server gives no usable answer.
        """


_FETCHERS: list[Fetcher] = []
"""The one that is in use, where there is one."""


def use_fetcher(fetcher: Fetcher) -> None:
    """Let `fetcher` bring what is missing in folders that stand for a server's."""
    _FETCHERS[:] = [fetcher]


_PLACES: set[Path] = set()
"""Folders of the cache; a mark that anyone else has put into an image is not followed."""


def follow_marks_below(folder: Path) -> None:
    """Believe the marks of images below a folder that bmz alone writes to."""
    _PLACES.add(folder.absolute())


def address_of(path: Path) -> str | None:
    """Give the address that a path stands for; None where it stands for itself.

    Only marks below folders that `follow_marks_below` names count: an image from elsewhere could
    bring a mark of its own, and so have a server asked.
    """
    if not _PLACES.intersection(path.absolute().parents):
        return None
    for folder in (path, *path.parents):
        mark = folder / MARK
        if mark.is_file():
            base = mark.read_text(encoding="utf-8").strip().rstrip("/")
            within = path.relative_to(folder).as_posix()
            return base if within == "." else f"{base}/{within}"
    return None


def bring(path: Path, address: str) -> bool:
    """See to it that the file at `path` is there; False where the server has none.

    Raises
    ------
    BmzError
        The server gives no usable answer.
    RuntimeError
        Nobody has said how to ask a server.
    """
    absent = path.with_name(f".{path.name}{_ABSENT}")
    if path.is_file():
        return True
    if absent.is_file():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    if address.startswith(_IN_ZIP):
        return _taken_from_zip(address, path)
    if not _FETCHERS:
        raise RuntimeError(f"nobody brings {address}")
    if _FETCHERS[0](address, path):
        return True
    absent.touch()
    return False


def bring_metadata(folder: Path) -> None:
    """See to it that the metadata of a group or array are there, where a server has them.

    Raises
    ------
    BmzError
        The server gives no usable answer.
    """
    address = address_of(folder)
    if address is None:
        return
    for names in _METADATA:
        if bring(folder / names[0], f"{address}/{names[0]}"):
            for name in names[1:]:
                bring(folder / name, f"{address}/{name}")
            return


def forget_absent(folder: Path) -> None:
    """Forget which names a server did not have in a folder."""
    for absent in folder.glob(f".*{_ABSENT}"):
        absent.unlink(missing_ok=True)
