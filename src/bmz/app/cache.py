"""``bmz cache``: what lies in the cache, is it whole, remove it, carry it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.zoo import cache
from bmz.zoo.cache import CachedPackage, CarriedPackages, FileState, RemovedPackages
from bmz.zoo.settings import settings_from_environment


def cache_path() -> Path:
    """Give the folder of the cache."""
    return settings_from_environment().cache


def list_cache(*, manifests: bool = False) -> tuple[CachedPackage, ...]:
    """List the packages; those with nothing but a manifest only when `manifests`."""
    return cache.list_cached(settings_from_environment(), manifests=manifests)


def verify(words: Sequence[str] = ()) -> tuple[FileState, ...]:
    """Hash the files of some packages or of all, and read descriptions that no index lists.

    Raises
    ------
    NotCached
        One of `words` names no package of the cache.
    """
    settings = settings_from_environment()
    packages = cache.list_cached(settings, manifests=True)
    folders = {package.sha256: package.folder for package in packages}
    listed = cache.Listing.of(settings).sha256s
    return tuple(
        _read(state, folders[state.found] / state.name)
        if state.status == "whole" and state.found in folders.keys() - listed
        else state
        for state in cache.verify_cache(settings, words)
    )


def _read(state: FileState, manifest: Path) -> FileState:
    from bmz.spec.package_files import PackageUnreadable  # here, since few caches need its parser
    from bmz.spec.read import read_model

    try:
        read_model(manifest)
    except PackageUnreadable as why:
        return replace(state, status="damaged", why=why.why)
    except BmzError:
        return state  # a description that came whole, and is not valid
    return state


def remove(words: Sequence[str]) -> RemovedPackages:
    """Remove packages.

    Raises
    ------
    NotCached
        One of `words` names no package of the cache; nothing is removed then.
    """
    return cache.remove(settings_from_environment(), words)


def export(archive: Path, words: Sequence[str] = ()) -> CarriedPackages:
    """Write some packages, or all, and the index into one archive."""
    return cache.export_archive(settings_from_environment(), archive, words)


def import_(archive: Path) -> CarriedPackages:
    """Take an exported archive into the cache.

    Raises
    ------
    ExportDamaged
        A file in it is not what was exported.
    """
    return cache.import_archive(settings_from_environment(), archive)
