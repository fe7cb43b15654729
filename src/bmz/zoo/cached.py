"""Which packages the cache holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bmz.zoo.address import COLLECTION
from bmz.zoo.errors import NotCached
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import MANIFESTS, Origin, files_in, origin_damaged, packages_in, read_origin

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
