"""Look after the cache: is it whole, remove; with what lists it and carries it elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bmz.zoo.cached import CachedPackage, choose, list_cached
from bmz.zoo.carry import Carried, export_archive, import_archive
from bmz.zoo.catalogue import kept_catalogue
from bmz.zoo.names import is_description
from bmz.zoo.settings import ZooSettings, settings_from_environment
from bmz.zoo.stamps import NOTES, distrust, hash_and_stamp, read_stamp, sha256_of
from bmz.zoo.stand_ins import stand_in
from bmz.zoo.store import MANIFESTS, ORIGIN, files_in, keeping, read_origin

__all__ = [
    "CachedPackage",
    "Carried",
    "FileState",
    "Removed",
    "cache_folder",
    "export_archive",
    "import_archive",
    "list_cached",
    "remove",
    "verify_cache",
]


@dataclass(frozen=True)
class FileState:
    """What hashing a cached file anew has shown.

    Parameters
    ----------
    status : ``unknown``: no sha256 was known, now it is
    wanted : sha256; None where none was known
    found : sha256
    why : what is wrong, where it is not the sha256 alone
    """

    package: str
    name: str
    status: Literal["whole", "damaged", "unknown"]
    wanted: str | None
    found: str
    why: str = ""


@dataclass(frozen=True)
class Removed:
    """What was removed, and the room it took."""

    packages: tuple[CachedPackage, ...]
    bytes: int


def cache_folder() -> Path:
    """Give the cache folder: ``BMZ_CACHE_DIR``, or the place the system keeps for caches."""
    return settings_from_environment().cache


def verify_cache(settings: ZooSettings, words: Sequence[str] = ()) -> tuple[FileState, ...]:
    """Hash every file of our own cache anew; a damaged one is fetched again on its next use.

    Parameters
    ----------
    words : ids or sha256 (12 letters do); all packages when empty

    Raises
    ------
    NotCached
        One of `words` is not there.
    """
    packages, listed = choose(settings, words), Listing.of(settings)
    return tuple(state for package in packages for state in _states(package, listed))


@dataclass(frozen=True)
class Listing:
    """What the index that is kept says of manifests.

    Parameters
    ----------
    sha256s : of all that it lists
    models : names of these models
    """

    sha256s: frozenset[str]
    models: frozenset[str]

    @classmethod
    def of(cls, settings: ZooSettings) -> Listing:
        """Read it off the cache; it is empty where no index is kept."""
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
        why = "the note on where the package came from cannot be read"
        found = sha256_of(package.folder / NOTES / ORIGIN)
        yield FileState(package.id, f"{NOTES}/{ORIGIN}", "damaged", None, found, why)


def _foreign(package: CachedPackage, manifest: Path, listed: Listing) -> str:
    """Say why a manifest, which is as it came, should not have been believed."""
    if package.sha256 in listed.sha256s:
        return ""
    origin = read_origin(package.folder)
    if not is_description(manifest.read_bytes()):
        return "it is no description of a model"
    known = origin is not None and not origin.is_zip and bool(origin.version)
    if origin is None or not known or origin.vouched or origin.id not in listed.models:
        return ""
    return f"it is not the description that the index lists for {origin.id} {origin.version}"


def _state(package: CachedPackage, name: str) -> FileState:
    stamp = read_stamp(package.folder, name)
    if name in MANIFESTS and stamp is None:
        found, wanted = sha256_of(package.folder / name), package.sha256
    elif stamp is None:
        found = hash_and_stamp(package.folder, name).sha256
        return FileState(package.id, name, "unknown", None, found)
    else:
        found = sha256_of(package.folder / name)
        wanted = stamp.sha256 if stamp.allowed else stamp.first
        if found != wanted:
            distrust(package.folder, stamp)
    return FileState(package.id, name, "whole" if found == wanted else "damaged", wanted, found)


def remove(settings: ZooSettings, words: Sequence[str]) -> Removed:
    """Remove packages by id or sha256 (12 letters do); with no words, none.

    Raises
    ------
    NotCached
        One of them is not there; nothing is removed then.
    CacheUnwritable
        A folder cannot be removed.
    """
    packages = choose(settings, words) if words else ()
    with keeping(settings):
        for package in packages:
            # first out of sight, so that nobody meets half a package
            doomed = package.folder.with_name(f".removed-{os.getpid()}-{package.sha256}")
            package.folder.replace(doomed)
            shutil.rmtree(doomed)
    return Removed(packages, sum(package.bytes for package in packages))
