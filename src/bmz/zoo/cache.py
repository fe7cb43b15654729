"""Operations on the cache: list, verify and remove packages, and copy them to another computer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from bmz.base.files import move, sha256_of, whole_file, writable_folder
from bmz.base.notes import value_of
from bmz.base.values import dataclass
from bmz.zoo.address import is_description
from bmz.zoo.archive import damage_told, refuse_unsafe
from bmz.zoo.catalogue import kept_catalogue
from bmz.zoo.errors import CacheDamaged, ExportDamaged
from bmz.zoo.package import stand_in
from bmz.zoo.settings import ZooSettings, settings_from_environment
from bmz.zoo.store import (
    MANIFESTS,
    NOTES,
    ORIGIN,
    SHA256,
    CachedPackage,
    Origin,
    choose,
    distrust,
    files_in,
    folder_of,
    hash_and_stamp,
    inside,
    keeping,
    list_cached,
    note_origin,
    read_origin,
    read_stamp,
    stamp_as,
    stamp_of,
)

SCHEMA = "bmz.cache-export/1"

CONTENTS = "bmz-cache.json"
"""The member that lists all others with their sha256."""

_BESIDE = ("index", "addresses")
"""Folders of the cache that are copied unchanged, so that names can be resolved there, too."""

_PIECE = 2**20


@dataclass(frozen=True)
class CarriedPackages:
    """The result of an export or import.

    Parameters
    ----------
    packages : sha256 of each manifest
    files, bytes : number and size of the files of the packages
    """

    archive: Path
    packages: tuple[str, ...]
    files: int
    bytes: int


@dataclass(frozen=True)
class _Member:
    """A file of the cache; `path` is below its folder, with ``/``."""

    path: str
    sha256: str
    bytes: int
    mtime: float


def export_archive(
    settings: ZooSettings, archive: Path, words: Sequence[str] = ()
) -> CarriedPackages:
    """Write one archive with packages and the index, for a machine without a network.

    The manifests of all other models are included, so that search works there. Every file is
    hashed; `archive` appears only when it is complete.

    Parameters
    ----------
    words : ids or sha256 (12 letters are enough); all packages if empty

    Raises
    ------
    NotCached, CacheDamaged
        One of `words` is not cached, or a file has changed.
    FolderNotWritable
        `archive` cannot be written.
    """
    named = {package.sha256 for package in choose(settings, words)}
    packages = choose(settings, ())
    members: list[_Member] = []
    writable_folder(archive.absolute().parent)
    with whole_file(archive) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as opened:
            for package in packages:
                members += _add(opened, package, whole=package.sha256 in named)
            beside = [_member(settings.cache, path) for path in _beside(settings.cache)]
            for member in beside:
                opened.write(settings.cache / member.path, member.path)
            opened.writestr(CONTENTS, _contents(packages, members, beside))
        size = sum(member.bytes for member in members)
    return CarriedPackages(
        archive, tuple(package.sha256 for package in packages), len(members), size
    )


def _add(opened: zipfile.ZipFile, package: CachedPackage, *, whole: bool) -> list[_Member]:
    cache = package.folder.parents[1]
    members = []
    for name in files_in(package.folder):
        if not whole and name not in MANIFESTS:
            continue
        member = _member(cache, package.folder / name)
        stamp = read_stamp(package.folder, name)
        expected = member.sha256
        if stamp is not None:
            expected = stamp.sha256 if stamp.allowed else stamp.first
        if member.sha256 != expected:
            raise CacheDamaged(package.id, name, expected=expected, actual=member.sha256)
        opened.write(package.folder / name, member.path)
        members.append(member)
    return members


def _member(cache: Path, path: Path) -> _Member:
    about = path.stat()
    return _Member(
        path.relative_to(cache).as_posix(), sha256_of(path), about.st_size, about.st_mtime
    )


def _beside(cache: Path) -> list[Path]:
    return [path for top in _BESIDE for path in sorted((cache / top).rglob("*.json"))]


def _contents(
    packages: Sequence[CachedPackage], members: list[_Member], beside: list[_Member]
) -> str:
    origins = {
        package.sha256: asdict(read_origin(package.folder) or Origin(package.id, "", ""))
        for package in packages
    }
    files = [asdict(member) for member in (*members, *beside)]
    return json.dumps({"schema": SCHEMA, "packages": origins, "files": files}, indent=1)


def import_archive(settings: ZooSettings, archive: Path) -> CarriedPackages:
    """Import an exported archive into the cache; all hashes are verified before a file is moved.

    A file that exists already and is intact is not replaced.

    Raises
    ------
    ExportDamaged, ArchiveRefused
        The file is not an export, or contains a file that differs from its sha256 or would leave
        its folder.
    CacheFull, CacheUnwritable
        The packages cannot be cached.
    """
    with keeping(settings):
        settings.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".importing-", dir=settings.cache) as temporary:
            try:
                with damage_told(), zipfile.ZipFile(archive) as opened:
                    origins, members = _read_contents(archive, opened)
                    for member in members:
                        _extract(archive, opened, member, Path(temporary))
            except (zipfile.BadZipFile, KeyError, FileNotFoundError) as why:
                raise ExportDamaged(archive, f"it is not a complete export ({why})") from why
            return _take_over(settings, archive, Path(temporary), origins, members)


def _read_contents(
    archive: Path, opened: zipfile.ZipFile
) -> tuple[dict[str, Origin], list[_Member]]:
    refuse_unsafe(archive, opened.infolist())
    try:
        content: dict[str, Any] = json.loads(opened.read(CONTENTS))
        if content["schema"] != SCHEMA:
            raise ExportDamaged(archive, f"wanted {SCHEMA}, found {content['schema']}")
        origins = {sha256: value_of(Origin, entry) for sha256, entry in content["packages"].items()}
        members = [value_of(_Member, entry) for entry in content["files"]]
    except (ValueError, TypeError, AttributeError, RecursionError) as why:
        raise ExportDamaged(archive, f"its list cannot be read ({why})") from why
    for member in members:
        _must_belong(archive, member, origins)
    return origins, members


def _must_belong(archive: Path, member: _Member, origins: dict[str, Origin]) -> None:
    top, *below = inside(str(archive), member.path).parts
    match below:
        case [folder, first, *more] if top == "packages" and folder in origins:
            name = "/".join((first, *more))
            inside(str(archive), name)
            if SHA256.fullmatch(folder) and (name not in MANIFESTS or folder == member.sha256):
                return
            raise ExportDamaged(archive, f"'{member.path}' is not the manifest of its folder")
    if top not in _BESIDE or not member.path.endswith(".json"):
        raise ExportDamaged(archive, f"'{member.path}' does not belong to a cache")


def _extract(archive: Path, opened: zipfile.ZipFile, member: _Member, into: Path) -> None:
    target = into / member.path
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with opened.open(member.path) as packed, target.open("wb") as unpacked:
        while piece := packed.read(_PIECE):
            digest.update(piece)
            unpacked.write(piece)
    sha256 = digest.hexdigest()
    if sha256 != member.sha256:
        why = f"'{member.path}' has sha256 {sha256}, wanted {member.sha256}"
        raise ExportDamaged(archive, why)


def _take_over(
    settings: ZooSettings,
    archive: Path,
    unpacked: Path,
    origins: dict[str, Origin],
    members: list[_Member],
) -> CarriedPackages:
    in_packages = [member for member in members if member.path.startswith("packages/")]
    # manifests last, so that a package with a manifest has all its files
    for member in sorted(in_packages, key=lambda member: Path(member.path).name in MANIFESTS):
        _, sha256, name = member.path.split("/", 2)
        folder = folder_of(settings.cache, sha256)
        own = stamp_of(folder, name)
        if own is None or own.sha256 != own.first:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            move(unpacked / member.path, folder / name)
            stamp_as(folder, name, member.sha256)
    for sha256, origin in origins.items():
        folder = folder_of(settings.cache, sha256)
        if read_origin(folder) is None:
            note_origin(folder, origin)
    for member in members:
        if member not in in_packages:
            _newer_wins(unpacked / member.path, settings.cache / member.path, member.mtime)
    size = sum(member.bytes for member in in_packages)
    return CarriedPackages(archive, tuple(origins), len(in_packages), size)


def _newer_wins(new: Path, own: Path, mtime: float) -> None:
    if own.is_file() and own.stat().st_mtime >= mtime:
        return
    own.parent.mkdir(parents=True, exist_ok=True)
    os.utime(new, (mtime, mtime))
    move(new, own)


__all__ = [
    "CachedPackage",
    "CarriedPackages",
    "FileState",
    "RemovedPackages",
    "cache_folder",
    "export_archive",
    "import_archive",
    "list_cached",
    "remove",
    "verify_cache",
]


@dataclass(frozen=True)
class FileState:
    """The state of a cached file after hashing it again.

    Parameters
    ----------
    status : ``unknown`` if no sha256 was known before
    wanted : the expected sha256; None if none was known
    found : the actual sha256
    why : what is wrong, if it is not only the sha256
    """

    package: str
    name: str
    status: Literal["whole", "damaged", "unknown"]
    wanted: str | None
    found: str
    why: str = ""


@dataclass(frozen=True)
class RemovedPackages:
    """The packages that were removed, and their size."""

    packages: tuple[CachedPackage, ...]
    bytes: int


def cache_folder() -> Path:
    """Return the cache folder: ``BMZ_CACHE_DIR``, or the system's folder for caches."""
    return settings_from_environment().cache


def verify_cache(settings: ZooSettings, words: Sequence[str] = ()) -> tuple[FileState, ...]:
    """Hash all files of the user's cache again; a damaged one is fetched again on its next use.

    Parameters
    ----------
    words : ids or sha256 (12 letters are enough); all packages if empty

    Raises
    ------
    NotCached
        One of `words` is not cached.
    """
    packages, listed = choose(settings, words), Listing.of(settings)
    return tuple(state for package in packages for state in _states(package, listed))


@dataclass(frozen=True)
class Listing:
    """The manifests that the cached index lists.

    Parameters
    ----------
    sha256s : sha256 of all manifests
    models : names of their models
    """

    sha256s: frozenset[str]
    models: frozenset[str]

    @classmethod
    def of(cls, settings: ZooSettings) -> Listing:
        """Read the listing from the cache; it is empty if no index is cached."""
        catalogue = kept_catalogue(settings)
        models = () if catalogue is None else catalogue.models
        sha256s = frozenset(version.sha256 for model in models for version in model.versions)
        return cls(sha256s, frozenset(model.id for model in models))


def _states(package: CachedPackage, listed: Listing) -> Iterator[FileState]:
    for name in files_in(package.folder):
        state = _state(package, name)
        instead = "" if name in MANIFESTS else stand_in(package.folder / name, name)
        if instead and state.status != "damaged":
            state = replace(state, status="damaged", why=instead)
        if name in MANIFESTS and state.status == "whole":
            why = _foreign(package, package.folder / name, listed)
            state = replace(state, status="damaged", why=why) if why else state
        yield state
    if package.note_damaged:
        why = "the note about the origin of the package cannot be read"
        sha256 = sha256_of(package.folder / NOTES / ORIGIN)
        yield FileState(package.id, f"{NOTES}/{ORIGIN}", "damaged", None, sha256, why)


def _foreign(package: CachedPackage, manifest: Path, listed: Listing) -> str:
    """Return why an unchanged manifest should not have been accepted."""
    if package.sha256 in listed.sha256s:
        return ""
    origin = read_origin(package.folder)
    if not is_description(manifest.read_bytes()):
        return "it is not a description of a model"
    known = origin is not None and not origin.is_zip and bool(origin.version)
    if origin is None or not known or origin.vouched or origin.id not in listed.models:
        return ""
    return f"it is not the description that the index lists for {origin.id} {origin.version}"


def _state(package: CachedPackage, name: str) -> FileState:
    stamp = read_stamp(package.folder, name)
    if name in MANIFESTS and stamp is None:
        sha256, expected = sha256_of(package.folder / name), package.sha256
    elif stamp is None:
        sha256 = hash_and_stamp(package.folder, name).sha256
        return FileState(package.id, name, "unknown", None, sha256)
    else:
        sha256 = sha256_of(package.folder / name)
        expected = stamp.sha256 if stamp.allowed else stamp.first
        if sha256 != expected:
            distrust(package.folder, stamp)
    return FileState(
        package.id, name, "whole" if sha256 == expected else "damaged", expected, sha256
    )


def remove(settings: ZooSettings, words: Sequence[str]) -> RemovedPackages:
    """Remove packages by id or sha256 (12 letters are enough); without words, none.

    Raises
    ------
    NotCached
        One of them is not cached; nothing is removed then.
    CacheUnwritable
        A folder cannot be removed.
    """
    packages = choose(settings, words) if words else ()
    with keeping(settings):
        for package in packages:
            # moved away first, so that nobody finds half a package
            doomed = package.folder.with_name(f".removed-{os.getpid()}-{package.sha256}")
            move(package.folder, doomed)
            shutil.rmtree(doomed)
    return RemovedPackages(packages, sum(package.bytes for package in packages))
