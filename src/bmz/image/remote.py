"""OME-Zarr of a server or a zip: a folder in the cache that is filled with what is read of it."""

from __future__ import annotations

import re
import shutil
import zipfile
from concurrent.futures import Future
from contextlib import suppress
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import Box
from bmz.base.errors import BmzError
from bmz.base.files import whole_file
from bmz.image.decoding import decoding

if TYPE_CHECKING:
    import zarr

MARK: Final = ".bmz-address"
"""The file in such a folder that holds the address which it stands for."""

_ABSENT = ".absent"
"""Ends the name of an empty file which tells that the server has none of this name."""

_METADATA = (("zarr.json",), (".zgroup", ".zattrs"), (".zarray", ".zattrs"))


_ADDRESS = re.compile(r"(https?|s3)://", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Return whether a word is the address of an image on a server.

    Examples
    --------
    >>> is_address("s3://bucket/cells.zarr"), is_address("cells.tif")
    (True, False)
    """
    return _ADDRESS.match(text) is not None


_ZIPPED = re.compile(r"\.(ozx|zarr\.zip)$", re.IGNORECASE)
_IN_ZIP, _INNER = "zip:", "!/"


def is_zipped(text: str) -> bool:
    """Return whether a word is the path of a zipped OME-Zarr.

    Source: https://ngff.openmicroscopy.org/rfc/9, "zipped OME-Zarr".
    """
    return _ZIPPED.search(text) is not None and Path(text).expanduser().is_file()


def address_in_zip(path: Path) -> str:
    """Return the address of the group in a zip: at its top, or in the only folder there.

    Raises
    ------
    ImageUnreadable
        It is not a zip.
    """
    with decoding(path, "zipped OME-Zarr"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    at_top = tops & {name for group in _METADATA for name in group}
    inner = "" if at_top or len(tops) != 1 else tops.pop()
    return f"{_IN_ZIP}{path.absolute()}{_INNER}{inner}".rstrip("/")


def zip_of(address: str) -> Path | None:
    """Return the zip that an address leads into; None for that of a server."""
    if not address.startswith(_IN_ZIP):
        return None
    return Path(address.removeprefix(_IN_ZIP).partition(_INNER.rstrip("/"))[0])


def metadata_files(folder: Path) -> list[Path]:
    """Return the metadata of a group or array that are there, in the order of their names."""
    names = {name for group in _METADATA for name in group}
    return [folder / name for name in sorted(names) if (folder / name).is_file()]


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
        """Write what lies at an address to `target`; False if the server has nothing there.

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
    """Return the address that a path stands for; None if it stands for itself.

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


_UNDER_WAY: dict[Path, Future[bool]] = {}
_UNDER_WAY_LOCK = Lock()


def bring(path: Path, address: str) -> bool:
    """See to it that the file at `path` is there; False if the server has none.

    Who asks for a file that is already on its way waits for that.

    Raises
    ------
    BmzError
        The server gives no usable answer.
    RuntimeError
        Nobody has said how to ask a server.
    """
    known = _known(path)
    if known is not None:
        return known
    with _UNDER_WAY_LOCK:
        under_way = _UNDER_WAY.get(path)
        ours = _UNDER_WAY.setdefault(path, Future())
    if under_way is not None:
        return under_way.result()
    try:
        ours.set_result(_brought(path, address))
    except BaseException as why:
        ours.set_exception(why)
        raise
    finally:
        with _UNDER_WAY_LOCK:
            del _UNDER_WAY[path]
    return ours.result()


def _known(path: Path) -> bool | None:
    """Return whether a file is there, or the server is known to have none; None for neither."""
    if path.is_file():
        return True
    return False if _absent(path).is_file() else None


def _absent(path: Path) -> Path:
    return path.with_name(f".{path.name}{_ABSENT}")


def _brought(path: Path, address: str) -> bool:
    known = _known(path)  # it may have come since
    if known is not None:
        return known
    path.parent.mkdir(parents=True, exist_ok=True)
    if address.startswith(_IN_ZIP):
        return _taken_from_zip(address, path)
    if not _FETCHERS:
        raise RuntimeError(f"nothing can fetch {address}")
    if _FETCHERS[0](address, path):
        return True
    _absent(path).touch()
    return False


_AHEAD = 8
"""Files that are brought at once before they are asked for."""

_FILES_AHEAD: SimpleQueue[tuple[Path, str]] = SimpleQueue()
_THREADS_AHEAD: list[Thread] = []


def bring_ahead(path: Path, address: str) -> None:
    """Begin to bring a file that is read soon; whoever reads it is told what goes wrong."""
    if address.startswith(_IN_ZIP) or _known(path) is not None:
        return
    with _UNDER_WAY_LOCK:
        if not _THREADS_AHEAD:
            # daemons: a server that does not answer must not keep the program from ending
            _THREADS_AHEAD.extend(
                Thread(target=_bring_files_ahead, name="ahead", daemon=True) for _ in range(_AHEAD)
            )
            for thread in _THREADS_AHEAD:
                thread.start()
    _FILES_AHEAD.put((path, address))


def _bring_files_ahead() -> None:
    while True:
        path, address = _FILES_AHEAD.get()
        with suppress(BmzError, OSError, RuntimeError):
            bring(path, address)


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


class ServerArray:
    """An array of a server, which begins to bring the chunks of a region when it is notified of it.

    Parameters
    ----------
    array : its chunks are brought when they are read
    folder, address : of the array, here and on the server
    """

    def __init__(self, array: zarr.Array[Any], folder: Path, address: str) -> None:
        self._array, self._folder, self._address = array, folder, address
        self.shape = array.shape
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, box: Box, /) -> AnyArray:
        return np.asarray(self._array[box])

    def expect(self, box: Box, /) -> None:
        """Begin to bring the chunks that a region touches."""
        sizes = self._array.shards or self._array.chunks
        within = [side.indices(n) for side, n in zip(box, self.shape, strict=True)]
        touched = [
            range(start // size, -(-stop // size))
            for (start, stop, _), size in zip(within, sizes, strict=True)
        ]
        for place in product(*touched):
            key = self._array.metadata.encode_chunk_key(place)
            bring_ahead(self._folder / key, f"{self._address}/{key}")
