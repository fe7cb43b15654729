"""Look after the cache: is it whole, remove; with what lists it and carries it elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bmz.zoo.cached import CachedPackage, choose, list_cached
from bmz.zoo.carry import Carried, export_archive, import_archive
from bmz.zoo.settings import ZooSettings, settings_from_environment
from bmz.zoo.stamps import distrust, hash_and_stamp, read_stamp, sha256_of
from bmz.zoo.store import MANIFESTS, files_in, keeping

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
    """

    package: str
    name: str
    status: Literal["whole", "damaged", "unknown"]
    wanted: str | None
    found: str


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
    packages = choose(settings, words)
    return tuple(_state(one, name) for one in packages for name in files_in(one.folder))


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
