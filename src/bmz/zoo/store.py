"""The folders of the cache: a package lies in one that is named by its manifest's sha256."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from bmz.base.errors import BmzError
from bmz.base.files import whole_file
from bmz.base.notes import read_json, read_note
from bmz.base.progress import Listener, Note
from bmz.zoo.errors import CacheFull, CacheUnwritable, FileLeavesPackage
from bmz.zoo.settings import ZooSettings
from bmz.zoo.stamps import NOTES

MANIFESTS = ("bioimageio.yaml", "rdf.yaml", "model.yaml")
"""Names of a manifest, the newest first."""

BY_INDEX, BY_USER = "index", "user"
"""The index listed its sha256 when it was fetched; the user took it although it did not."""

ORIGIN = "origin.json"
"""Name of the note on where a package came from."""

SHA256 = re.compile(r"[0-9a-f]{64}")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True)
class Origin:
    """Where a package came from, noted beside it.

    Parameters
    ----------
    id, version : as in ``Package`` and ``Remote``
    url : of the manifest or zip
    fetched_at : seconds since 1970
    vouched : who says that the manifest is the one wanted: `BY_INDEX`, `BY_USER`, or nobody
    """

    id: str
    version: str
    url: str
    is_zip: bool = False
    fetched_at: float = 0.0
    vouched: str = ""


@contextmanager
def keeping(settings: ZooSettings) -> Iterator[None]:
    """Say of a failure to write what it means for the cache.

    Raises
    ------
    CacheFull, CacheUnwritable
        In place of any ``OSError``.
    """
    try:
        yield
    except BmzError:
        raise
    except OSError as why:
        if why.errno in _FULL:
            raise CacheFull(settings.cache) from why
        raise CacheUnwritable(settings.cache, str(why)) from why


@contextmanager
def alone(lock: Path, listener: Listener, what: str) -> Iterator[None]:
    """Hold a lock that no other process of this cache holds at the same time."""
    from filelock import FileLock, Timeout  # here: what is cached needs no lock

    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        listener(Note(f"another process is loading {what}; waiting for it"))
        held.acquire()
    try:
        yield
    finally:
        held.release()


def folder_of(cache: Path, sha256: str) -> Path:
    """Give the folder of the package whose manifest has this sha256."""
    return cache / "packages" / sha256


def key_of(text: str) -> str:
    """Give a file name for any text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def inside(model: str, name: str) -> PurePosixPath:
    """Give the path of a file within its package.

    Raises
    ------
    FileLeavesPackage
        It is absolute, has ``..``, or lies among our own notes.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    parts = path.parts
    if not parts or path.is_absolute() or ".." in parts or ":" in name or parts[0] == NOTES:
        raise FileLeavesPackage(model, name)
    return path


def manifest_in(folder: Path, sha256: str) -> Path | None:
    """Give the manifest of a package folder; None when it is not there or damaged."""
    for name in MANIFESTS:
        with suppress(OSError):
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256:
                return folder / name
    return None


def kept_manifest(settings: ZooSettings, sha256: str) -> Path | None:
    """Give a manifest of our own cache, taken over from a layer if need be; None: nowhere.

    Raises
    ------
    CacheFull, CacheUnwritable
        A layer has it, but our own cache cannot take it.
    """
    if SHA256.fullmatch(sha256) is None:
        return None
    own = manifest_in(folder_of(settings.cache, sha256), sha256)
    if own is not None:
        return own
    for layer in settings.layers:
        found = manifest_in(folder_of(layer, sha256), sha256)
        if found is not None:
            origin = read_origin(found.parent) or Origin(sha256[:12], "", "")
            return keep_manifest(settings, found.read_bytes(), found.name, origin)
    return None


def keep_manifest(settings: ZooSettings, raw: bytes, name: str, origin: Origin) -> Path:
    """Write a manifest into its package folder; give its path.

    Raises
    ------
    CacheFull, CacheUnwritable
        It cannot be kept.
    """
    folder = folder_of(settings.cache, hashlib.sha256(raw).hexdigest())
    with keeping(settings):
        (folder / NOTES).mkdir(parents=True, exist_ok=True)
        note_origin(folder, origin)
        with whole_file(folder / name) as temporary:
            temporary.write_bytes(raw)
    return folder / name


def note_origin(folder: Path, origin: Origin) -> None:
    """Note where a package came from."""
    noted = asdict(origin) | {"fetched_at": origin.fetched_at or time.time()}
    with whole_file(folder / NOTES / ORIGIN) as temporary:
        temporary.write_text(json.dumps(noted), encoding="utf-8")


def renew_origin(folder: Path, origin: Origin) -> None:
    """Note again where a package came from where that note is gone or damaged.

    A folder that cannot be written to is left as it is.
    """
    if read_origin(folder) is None:
        with suppress(OSError):
            note_origin(folder, origin)


def read_origin(folder: Path) -> Origin | None:
    """Give where a package came from; None when nobody noted it, or the note is damaged."""
    return read_note(folder / NOTES / ORIGIN, Origin)


def origin_damaged(folder: Path) -> bool:
    """Say whether there is a note on where a package came from that cannot be read."""
    return (folder / NOTES / ORIGIN).exists() and read_origin(folder) is None


def note_address(settings: ZooSettings, url: str, sha256: str) -> None:
    """Note which manifest lay at an address without a stated sha256."""
    place = settings.cache / "addresses" / f"{key_of(url)}.json"
    with keeping(settings):
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as temporary:
            temporary.write_text(json.dumps({"url": url, "sha256": sha256}), encoding="utf-8")


def noted_address(settings: ZooSettings, url: str) -> str | None:
    """Give the sha256 of the manifest that lay at an address when it was last asked."""
    for cache in (settings.cache, *settings.layers):
        place = cache / "addresses" / f"{key_of(url)}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            return str(read_json(place)["sha256"])
    return None


def packages_in(cache: Path) -> tuple[Path, ...]:
    """List the package folders of a cache."""
    folder = cache / "packages"
    if not folder.is_dir():
        return ()
    found = (path for path in folder.iterdir() if SHA256.fullmatch(path.name))
    return tuple(sorted(path for path in found if path.is_dir()))


def files_in(folder: Path) -> tuple[str, ...]:
    """List the files of a package, without our notes and what a crash left, with ``/``."""
    whole = (path for path in folder.rglob("*") if not path.name.startswith(".writing-"))
    found = (path for path in whole if path.is_file())
    names = (path.relative_to(folder) for path in found)
    return tuple(sorted(name.as_posix() for name in names if name.parts[0] != NOTES))
