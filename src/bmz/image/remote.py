"""OME-Zarr on a server or in a zip, mirrored on demand into a folder of the cache."""

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
"""The file in such a folder that holds the address of the original."""

_ABSENT = ".absent"
"""Suffix of an empty file that records that the server has no file of this name."""

_METADATA = (("zarr.json",), (".zgroup", ".zattrs"), (".zarray", ".zattrs"))


_ADDRESS = re.compile(r"(https?|s3)://", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Return whether an argument is the address of an image on a server.

    Examples
    --------
    >>> is_address("s3://bucket/cells.zarr"), is_address("cells.tif")
    (True, False)
    """
    return _ADDRESS.match(text) is not None


_ZIPPED = re.compile(r"\.(ozx|zarr\.zip)$", re.IGNORECASE)
_IN_ZIP, _INNER = "zip:", "!/"


def is_zipped(text: str) -> bool:
    """Return whether an argument is the path of a zipped OME-Zarr.

    Source: https://ngff.openmicroscopy.org/rfc/9, "zipped OME-Zarr".
    """
    return _ZIPPED.search(text) is not None and Path(text).expanduser().is_file()


def address_in_zip(path: Path) -> str:
    """Return the address of the group in a zip: at its top level, or in the only folder there.

    Raises
    ------
    ImageUnreadable
        The file is not a zip.
    """
    with decoding(path, "zipped OME-Zarr"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    at_top = tops & {name for group in _METADATA for name in group}
    inner = "" if at_top or len(tops) != 1 else tops.pop()
    return f"{_IN_ZIP}{path.absolute()}{_INNER}{inner}".rstrip("/")


def zip_of(address: str) -> Path | None:
    """Return the zip that an address refers to; None for the address of a server."""
    if not address.startswith(_IN_ZIP):
        return None
    return Path(address.removeprefix(_IN_ZIP).partition(_INNER.rstrip("/"))[0])


def metadata_files(folder: Path) -> list[Path]:
    """Return the existing metadata files of a group or array, sorted by name."""
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
    """A function that fetches a file from a server."""

    def __call__(self, address: str, target: Path, /) -> bool:
        """Fetch the file at an address to `target`; return False if the server has none.

        Raises
        ------
        BmzError
            The server gives no usable answer.
        """


_FETCHERS: list[Fetcher] = []
"""The fetcher in use, if any."""


def use_fetcher(fetcher: Fetcher) -> None:
    """Use `fetcher` to fetch missing files of folders that mirror a server."""
    _FETCHERS[:] = [fetcher]


_PLACES: set[Path] = set()
"""Folders of the cache; marks in any other folder are ignored."""


def follow_marks_below(folder: Path) -> None:
    """Follow the marks of images below a folder that only bmz writes to."""
    _PLACES.add(folder.absolute())


def address_of(path: Path) -> str | None:
    """Return the address that a path mirrors; None if it mirrors none.

    Only marks below the folders passed to `follow_marks_below` count: an image from elsewhere could
    contain a mark, and thus cause requests to a server.
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
    """Fetch the file at `path` if it is missing; return False if the server has none.

    If the file is already being fetched, wait for that.

    Raises
    ------
    BmzError
        The server gives no usable answer.
    RuntimeError
        There is no fetcher.
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
    """Return whether a file exists; None if it is missing, but the server may have it."""
    if path.is_file():
        return True
    return False if _absent(path).is_file() else None


def _absent(path: Path) -> Path:
    return path.with_name(f".{path.name}{_ABSENT}")


def _brought(path: Path, address: str) -> bool:
    known = _known(path)  # it may have arrived in the meantime
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
"""Number of files that are prefetched at once."""

_FILES_AHEAD: SimpleQueue[tuple[Path, str]] = SimpleQueue()
_THREADS_AHEAD: list[Thread] = []


def bring_ahead(path: Path, address: str) -> None:
    """Begin to fetch a file that will be read soon; errors are raised when it is read."""
    if address.startswith(_IN_ZIP) or _known(path) is not None:
        return
    with _UNDER_WAY_LOCK:
        if not _THREADS_AHEAD:
            # daemon threads, so that a server that does not answer cannot keep the program running
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
    """Fetch the metadata of a group or array, if the folder mirrors a server that has them.

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
    """An array on a server, which can prefetch the chunks of a region.

    Parameters
    ----------
    array : array whose chunks are fetched when they are read
    folder, address : local folder of the array, and its address on the server
    """

    def __init__(self, array: zarr.Array[Any], folder: Path, address: str) -> None:
        self._array, self._folder, self._address = array, folder, address
        self.shape = array.shape
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, box: Box, /) -> AnyArray:
        return np.asarray(self._array[box])

    def expect(self, box: Box, /) -> None:
        """Begin to fetch the chunks that a region touches."""
        sizes = self._array.shards or self._array.chunks
        within = [side.indices(n) for side, n in zip(box, self.shape, strict=True)]
        touched = [
            range(start // size, -(-stop // size))
            for (start, stop, _), size in zip(within, sizes, strict=True)
        ]
        for place in product(*touched):
            key = self._array.metadata.encode_chunk_key(place)
            bring_ahead(self._folder / key, f"{self._address}/{key}")
