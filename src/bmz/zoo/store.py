"""The cache on disk: files by sha256, with stamps that make hashing them again unnecessary."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath

from bmz.base.errors import BmzError
from bmz.base.files import sha256_of, whole_file
from bmz.base.notes import keep_text, read_json, read_note
from bmz.base.progress import Listener, Note
from bmz.base.values import dataclass
from bmz.zoo.address import COLLECTION
from bmz.zoo.errors import CacheFull, CacheUnwritable, FileLeavesPackage, NotCached
from bmz.zoo.settings import ZooSettings

NOTES = ".bmz"
"""Folder of the notes of bmz in a package."""

SETTLED_S = 2.0
"""A file that changed this recently before it was hashed may change again within one tick of the
clock of its file system (2 s on FAT), so its stamp is not trusted."""


@dataclass(frozen=True)
class Stamp:
    """A file as it was when it was hashed.

    Parameters
    ----------
    sha256 : sha256 of the file at that time
    first : the first sha256, which a file without a stated one must keep
    size, mtime_ns, ctime_ns : values of the file system just before hashing
    checked_ns : time of hashing, ns since 1970
    allowed : whether it was accepted although it is not the file described
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
        """Return whether `path` is certainly unchanged, without reading it."""
        size, mtime_ns, ctime_ns = _look(path)
        same = (size, mtime_ns, ctime_ns) == (self.size, self.mtime_ns, self.ctime_ns)
        return same and max(mtime_ns, ctime_ns) < self.checked_ns - int(SETTLED_S * 1e9)


def _look(path: Path) -> tuple[int, int, int]:
    # programs cannot set back the time of the last inode change; on Windows st_ctime is the time
    # of creation, so only size and modification time count there
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_stamp(folder: Path, name: str) -> Stamp | None:
    """Return the stamp of file `name` of the package in `folder`; None if there is none."""
    return read_note(
        _place(folder, name), Stamp
    )  # None after a crash, so that the file is hashed again


def hash_and_stamp(folder: Path, name: str) -> Stamp:
    """Hash a file of a package, and store its stamp if the cache is writable."""
    before = read_stamp(folder, name)
    look, now = _look(folder / name), time.time_ns()
    sha256 = sha256_of(folder / name)
    allowed = before is not None and before.allowed and before.sha256 == sha256
    stamp = Stamp(name, sha256, before.first if before else sha256, *look, now, allowed)
    write_stamp(folder, stamp)
    return stamp


def stamp_as(folder: Path, name: str, sha256: str, *, allowed: bool = False) -> Stamp:
    """Store the stamp of a file whose sha256 has just been verified."""
    before = read_stamp(folder, name)
    first = before.first if before else sha256
    stamp = Stamp(name, sha256, first, *_look(folder / name), time.time_ns(), allowed)
    write_stamp(folder, stamp)
    return stamp


def write_stamp(folder: Path, stamp: Stamp) -> None:
    """Store a stamp; in a read-only cache, files are hashed each time instead."""
    keep_text(_place(folder, stamp.name), json.dumps(asdict(stamp)))


def distrust(folder: Path, stamp: Stamp) -> None:
    """Make sure that a damaged file is hashed again on its next use."""
    write_stamp(folder, replace(stamp, size=-1))


def forget(folder: Path, stamp: Stamp) -> None:
    """Remove a stamp, since its file was never the right one."""
    with suppress(OSError):
        _place(folder, stamp.name).unlink(missing_ok=True)


def stamp_of(folder: Path, name: str) -> Stamp | None:
    """Return the stamp of a file as it is now, hashed only if necessary; None without a file."""
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
"""Values of `Origin.vouched`: the index listed the sha256, or the user accepted another one."""

ORIGIN = "origin.json"
"""Name of the note on where a package came from."""

SHA256 = re.compile(r"[0-9a-f]{64}")

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True)
class Origin:
    """The origin of a package, stored next to it.

    Parameters
    ----------
    id, version : values of ``Package`` and ``Remote``
    url : address of the manifest or zip
    fetched_at : seconds since 1970
    vouched : who confirmed the manifest: `BY_INDEX`, `BY_USER`, or empty for nobody
    """

    id: str
    version: str
    url: str
    is_zip: bool = False
    fetched_at: float = 0.0
    vouched: str = ""


@contextmanager
def keeping(settings: ZooSettings) -> Iterator[None]:
    """Convert a failure to write to an error about the cache.

    Raises
    ------
    CacheFull, CacheUnwritable
        Instead of any ``OSError``.
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
    from filelock import FileLock, Timeout  # imported here, since cached files need no lock

    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        listener(Note(f"another process is downloading {what}; waiting for it"))
        held.acquire()
    try:
        yield
    finally:
        held.release()


def folder_of(cache: Path, sha256: str) -> Path:
    """Return the folder of the package whose manifest has this sha256."""
    return cache / "packages" / sha256


def key_of(text: str) -> str:
    """Return a file name for any text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def inside(model: str, name: str) -> PurePosixPath:
    """Return the path of a file within its package.

    Raises
    ------
    FileLeavesPackage
        The path is absolute, contains ``..``, or is in the folder of the notes of bmz.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    parts = path.parts
    if not parts or path.is_absolute() or ".." in parts or ":" in name or parts[0] == NOTES:
        raise FileLeavesPackage(model, name)
    return path


def manifest_in(folder: Path, sha256: str) -> Path | None:
    """Return the manifest of a package folder; None if it is absent or damaged."""
    for name in MANIFESTS:
        with suppress(OSError):
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256:
                return folder / name
    return None


def kept_manifest(settings: ZooSettings, sha256: str) -> Path | None:
    """Return a cached manifest, copied from a layer if necessary; None if there is none.

    Raises
    ------
    CacheFull, CacheUnwritable
        A layer has it, but it cannot be copied into the user's cache.
    """
    if SHA256.fullmatch(sha256) is None:
        return None
    own = manifest_in(folder_of(settings.cache, sha256), sha256)
    if own is not None:
        return own
    for layer in settings.layers:
        manifest = manifest_in(folder_of(layer, sha256), sha256)
        if manifest is not None:
            origin = read_origin(manifest.parent) or Origin(sha256[:12], "", "")
            return keep_manifest(settings, manifest.read_bytes(), manifest.name, origin)
    return None


def keep_manifest(settings: ZooSettings, raw: bytes, name: str, origin: Origin) -> Path:
    """Write a manifest into its package folder, and return its path.

    Raises
    ------
    CacheFull, CacheUnwritable
        It cannot be cached.
    """
    folder = folder_of(settings.cache, hashlib.sha256(raw).hexdigest())
    with keeping(settings):
        (folder / NOTES).mkdir(parents=True, exist_ok=True)
        note_origin(folder, origin)
        with whole_file(folder / name) as temporary:
            temporary.write_bytes(raw)
    return folder / name


def note_origin(folder: Path, origin: Origin) -> None:
    """Write the note on the origin of a package."""
    noted = asdict(origin) | {"fetched_at": origin.fetched_at or time.time()}
    with whole_file(folder / NOTES / ORIGIN) as temporary:
        temporary.write_text(json.dumps(noted), encoding="utf-8")


def renew_origin(folder: Path, origin: Origin) -> None:
    """Write the note on the origin of a package again if it is absent or damaged.

    A read-only folder is not changed.
    """
    if read_origin(folder) is None:
        with suppress(OSError):
            note_origin(folder, origin)


def read_origin(folder: Path) -> Origin | None:
    """Return the origin of a package; None if there is no note, or it is damaged."""
    return read_note(folder / NOTES / ORIGIN, Origin)


def origin_damaged(folder: Path) -> bool:
    """Return whether the note on the origin of a package exists but cannot be read."""
    return (folder / NOTES / ORIGIN).exists() and read_origin(folder) is None


def note_address(settings: ZooSettings, url: str, sha256: str) -> None:
    """Write a note of the manifest that an address without a stated sha256 returned."""
    place = settings.cache / "addresses" / f"{key_of(url)}.json"
    with keeping(settings):
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as temporary:
            temporary.write_text(json.dumps({"url": url, "sha256": sha256}), encoding="utf-8")


def noted_address(settings: ZooSettings, url: str) -> str | None:
    """Return the sha256 of the manifest that an address returned at the last request."""
    for cache in (settings.cache, *settings.layers):
        place = cache / "addresses" / f"{key_of(url)}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            return str(read_json(place)["sha256"])
    return None


def packages_in(cache: Path) -> tuple[Path, ...]:
    """Return the package folders of a cache, sorted."""
    folder = cache / "packages"
    if not folder.is_dir():
        return ()
    folders = (path for path in folder.iterdir() if SHA256.fullmatch(path.name))
    return tuple(sorted(path for path in folders if path.is_dir()))


def files_in(folder: Path) -> tuple[str, ...]:
    """Return the files of a package with ``/``, without notes of bmz and leftovers of a crash."""
    whole = (path for path in folder.rglob("*") if not path.name.startswith(".writing-"))
    files = (path for path in whole if path.is_file())
    names = (path.relative_to(folder) for path in files)
    return tuple(sorted(name.as_posix() for name in names if name.parts[0] != NOTES))


_LEAST_LETTERS = 12
"""Minimum length of an abbreviated sha256, so that it cannot be mistaken for a name."""


@dataclass(frozen=True)
class CachedPackage:
    """A package in the cache.

    Parameters
    ----------
    id : the name by which it was fetched
    version : version in the zoo; empty if it is not known
    sha256 : sha256 of its manifest
    folder : its folder
    files : number of files besides the manifest
    bytes : size of all files
    read_only : whether it is in a layer of ``BMZ_CACHE_PATH``
    note_damaged : whether the note on its origin cannot be read
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
    """Return the cached packages, sorted by name; those with only a manifest if `manifests`."""
    packages = [_describe(folder, read_only=False) for folder in packages_in(settings.cache)]
    own = {package.sha256 for package in packages}
    for layer in settings.layers:
        folders = (folder for folder in packages_in(layer) if folder.name not in own)
        packages += [_describe(folder, read_only=True) for folder in folders]
    shown = (package for package in packages if manifests or package.files)
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
    """Return the packages of the user's cache that `words` name; all if `words` is empty.

    Raises
    ------
    NotCached
        One of them is not cached.
    """
    own = [package for package in list_cached(settings, manifests=True) if not package.read_only]
    if not words:
        return tuple(own)
    chosen: dict[str, CachedPackage] = {}
    for word in words:
        named = {package.sha256: package for package in own if _names(word, package)}
        if not named:
            raise NotCached(word)
        chosen |= named
    return tuple(chosen.values())


def _names(name: str, package: CachedPackage) -> bool:
    bare = name.removeprefix(COLLECTION)
    by_hash = len(name) >= _LEAST_LETTERS and package.sha256.startswith(name.lower())
    return bare in {package.id, f"{package.id}/{package.version}"} or by_hash


def notes_folders(manifest: Path, sha256: str, settings: ZooSettings) -> tuple[Path, ...]:
    """Return the folders of the notes about a package; all are read, the last is written to.

    Notes are stored next to a manifest only in the cache and in shared layers. Nothing is written
    into a folder or zip of the user, and notes found there are not trusted.

    Parameters
    ----------
    manifest : path of the manifest
    sha256 : sha256 of the manifest
    settings : settings with the cache and its layers
    """
    own = settings.cache / "descriptions" / sha256
    beside = manifest.parent / NOTES
    here = manifest.parent.absolute()
    if here == folder_of(settings.cache, sha256).absolute():
        return (beside,)
    shared = any(here == folder_of(layer, sha256).absolute() for layer in settings.layers)
    return (beside, own) if shared else (own,)
