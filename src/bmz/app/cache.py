"""``bmz cache``: what lies in the cache, is it whole, remove it, carry it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bmz.zoo import cache
from bmz.zoo.cache import CachedPackage, Carried, FileState, Removed
from bmz.zoo.settings import settings_from_environment


def cache_path() -> Path:
    """Give the folder of the cache."""
    return settings_from_environment().cache


def list_cache(*, manifests: bool = False) -> tuple[CachedPackage, ...]:
    """List the packages; those with nothing but a manifest only when `manifests`."""
    return cache.list_cached(settings_from_environment(), manifests=manifests)


def verify(words: Sequence[str] = ()) -> tuple[FileState, ...]:
    """Hash the files of some packages, or of all, anew.

    Raises
    ------
    NotCached
        One of `words` names no package of the cache.
    """
    return cache.verify_cache(settings_from_environment(), words)


def remove(words: Sequence[str]) -> Removed:
    """Remove packages.

    Raises
    ------
    NotCached
        One of `words` names no package of the cache; nothing is removed then.
    """
    return cache.remove(settings_from_environment(), words)


def export(archive: Path, words: Sequence[str] = ()) -> Carried:
    """Write some packages, or all, and the index into one archive."""
    return cache.export_archive(settings_from_environment(), archive, words)


def import_(archive: Path) -> Carried:
    """Take an exported archive into the cache.

    Raises
    ------
    ExportDamaged
        A file in it is not what was exported.
    """
    return cache.import_archive(settings_from_environment(), archive)
