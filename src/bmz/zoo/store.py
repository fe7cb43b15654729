"""The cache on the disk: files by their sha256, and stamps that spare hashing them anew."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from bmz.base.errors import BmzError
from bmz.base.files import whole_file
from bmz.base.notes import keep_text, read_json, read_note
from bmz.base.progress import Listener, Note
from bmz.zoo.address import COLLECTION
from bmz.zoo.errors import CacheFull, CacheUnwritable, FileLeavesPackage, NotCached
from bmz.zoo.settings import ZooSettings

NOTES = ".bmz"
"""Folder of our own notes in a package."""

SETTLED_S = 2.0
"""A file that changed this shortly before it was hashed may change again within one tick
of the clock of its file system (2 s on FAT), so its stamp is not trusted."""


@dataclass(frozen=True)
class Stamp:
    """A file as it was when it was hashed.

    Parameters
    ----------
    sha256 : of the file then
    first : sha256 seen first, which a file without a stated one must keep
    size, mtime_ns, ctime_ns : as the file system said just before
    checked_ns : when, in ns since 1970
    allowed : it was taken although it is not the file described
    """

    name: str
    sha256: str
    first: str
    size: int
    mtime_ns: int
    ctime_ns: int
    checked_ns: int
    allowed: bool = False

    def is_of(self, path: Path) -> bool:
        """Say whether `path` is surely as it was, without reading it."""
        size, mtime_ns, ctime_ns = _look(path)
        same = (size, mtime_ns, ctime_ns) == (self.size, self.mtime_ns, self.ctime_ns)
        return same and max(mtime_ns, ctime_ns) < self.checked_ns - int(SETTLED_S * 1e9)


def _look(path: Path) -> tuple[int, int, int]:
    # the time of the last change of the inode cannot be set back by a program; on Windows
    # st_ctime is the time of creation, so there size and time of modification alone tell
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_stamp(folder: Path, name: str) -> Stamp | None:
    """Give the stamp of file `name` of the package in `folder`; None when there is none."""
    return read_note(_place(folder, name), Stamp)  # none after a crash: hash again


def hash_and_stamp(folder: Path, name: str) -> Stamp:
    """Hash a file of a package, and note it where the cache can be written to."""
    before = read_stamp(folder, name)
    look, now = _look(folder / name), time.time_ns()
    found = sha256_of(folder / name)
    allowed = before is not None and before.allowed and before.sha256 == found
    stamp = Stamp(name, found, before.first if before else found, *look, now, allowed)
    write_stamp(folder, stamp)
    return stamp


def stamp_as(folder: Path, name: str, sha256: str, *, allowed: bool = False) -> Stamp:
    """Note a file whose sha256 is known, since it has just been verified."""
    before = read_stamp(folder, name)
    first = before.first if before else sha256
    stamp = Stamp(name, sha256, first, *_look(folder / name), time.time_ns(), allowed)
    write_stamp(folder, stamp)
    return stamp


def write_stamp(folder: Path, stamp: Stamp) -> None:
    """Note a stamp; a cache that cannot be written to is hashed each time instead."""
    keep_text(_place(folder, stamp.name), json.dumps(asdict(stamp)))


def distrust(folder: Path, stamp: Stamp) -> None:
    """Make sure that a damaged file is hashed again on its next use."""
    write_stamp(folder, replace(stamp, size=-1))


def forget(folder: Path, stamp: Stamp) -> None:
    """Take a stamp away, since its file was never the one wanted."""
    with suppress(OSError):
        _place(folder, stamp.name).unlink(missing_ok=True)


def stamp_of(folder: Path, name: str) -> Stamp | None:
    """Give the stamp of a file as it is now, hashing it only if need be; None if not there."""
    if not (folder / name).is_file():
        return None
    stamp = read_stamp(folder, name)
    if stamp is not None and stamp.is_of(folder / name):
        return stamp
    return hash_and_stamp(folder, name)


def _place(folder: Path, name: str) -> Path:
    key = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return folder / NOTES / "stamps" / f"{key}.json"


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


_LEAST_LETTERS = 12
"""Of a sha256, so that it cannot be mistaken for a name."""


@dataclass(frozen=True)
class CachedPackage:
    """A package in the cache.

    Parameters
    ----------
    id : the name by which it was fetched
    version : of the zoo; empty when none is known
    sha256 : of its manifest
    folder : where it lies
    files : how many there are besides the manifest
    bytes : of all
    read_only : it lies in a layer of ``BMZ_CACHE_PATH``
    note_damaged : the note on where it came from cannot be read
    """

    id: str
    version: str
    sha256: str
    folder: Path
    files: int
    bytes: int
    read_only: bool
    note_damaged: bool = False


def list_cached(settings: ZooSettings, *, manifests: bool = False) -> tuple[CachedPackage, ...]:
    """List packages by name; those with nothing but a manifest only when `manifests`."""
    found = [_describe(folder, read_only=False) for folder in packages_in(settings.cache)]
    own = {package.sha256 for package in found}
    for layer in settings.layers:
        folders = (folder for folder in packages_in(layer) if folder.name not in own)
        found += [_describe(folder, read_only=True) for folder in folders]
    shown = (package for package in found if manifests or package.files)
    return tuple(sorted(shown, key=lambda package: (package.id, package.sha256)))


def _describe(folder: Path, *, read_only: bool) -> CachedPackage:
    origin = read_origin(folder) or Origin(folder.name[:12], "", "")
    names = files_in(folder)
    size = sum((folder / name).stat().st_size for name in names)
    others = sum(name not in MANIFESTS for name in names)
    damaged = origin_damaged(folder)
    return CachedPackage(
        origin.id, origin.version, folder.name, folder, others, size, read_only, damaged
    )


def choose(settings: ZooSettings, words: Sequence[str]) -> tuple[CachedPackage, ...]:
    """Give the packages of our own cache that `words` name; all when there are none.

    Raises
    ------
    NotCached
        One of them is not there.
    """
    own = [one for one in list_cached(settings, manifests=True) if not one.read_only]
    if not words:
        return tuple(own)
    chosen: dict[str, CachedPackage] = {}
    for word in words:
        named = {one.sha256: one for one in own if _names(word, one)}
        if not named:
            raise NotCached(word)
        chosen |= named
    return tuple(chosen.values())


def _names(word: str, package: CachedPackage) -> bool:
    bare = word.removeprefix(COLLECTION)
    by_hash = len(word) >= _LEAST_LETTERS and package.sha256.startswith(word.lower())
    return bare in {package.id, f"{package.id}/{package.version}"} or by_hash
