"""``bmz fetch``, ``cache`` and ``doctor``: manage the models on this computer, and examine it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bmz.base.computer import available_cpus, total_memory, versions
from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Progress, nobody
from bmz.base.values import dataclass
from bmz.engine.load import fetch_model
from bmz.predict.confine import means_here
from bmz.results.models import DoctorView, FetchFailure, FetchSummary, FormatView, ModelFetch
from bmz.zoo.cache import (
    CachedPackage,
    CarriedPackages,
    FileState,
    Listing,
    RemovedPackages,
    cache_folder,
    export_archive,
    import_archive,
    list_cached,
    verify_cache,
)
from bmz.zoo.cache import remove as remove_packages
from bmz.zoo.locate import STARTER, starter_names
from bmz.zoo.settings import ZooSettings, settings_from_environment

if TYPE_CHECKING:
    from bmz.predict.formats import BackendState


@dataclass(frozen=True)
class FetchRequest:
    """The options of a call of ``bmz fetch``.

    Parameters
    ----------
    models : names or addresses
    weights : a weights format, ``all`` or ``none``; None to choose as ``bmz run`` does
    allow_changed : whether to accept a file whose sha256 differs from that in the description, and
        a description whose sha256 differs from that in the index
    """

    models: tuple[str, ...]
    weights: str | None = None
    allow_changed: bool = False


def fetch(
    request: FetchRequest, settings: ZooSettings, listener: Listener = nobody
) -> FetchSummary:
    """Fetch and verify the manifest, the files of the weights and the test tensors.

    Parameters
    ----------
    listener : is notified of the sizes before a download, then of bytes and models completed
    """
    allowing = replace(settings, allow_changed=request.allow_changed)
    outcomes: list[ModelFetch | FetchFailure] = []
    for number, address in enumerate(request.models, start=1):
        try:
            outcomes.append(fetch_model(address, request.weights, allowing, listener))
        except BmzError as why:
            outcomes.append(FetchFailure(address, why))
        listener(Progress("models", number, len(request.models), address))
    return FetchSummary(tuple(outcomes))


def cache_path() -> Path:
    """Return the folder of the cache."""
    return settings_from_environment().cache


def list_cache(*, manifests: bool = False) -> tuple[CachedPackage, ...]:
    """List the packages; those with nothing but a manifest only if `manifests` is set."""
    return list_cached(settings_from_environment(), manifests=manifests)


def verify(words: Sequence[str] = ()) -> tuple[FileState, ...]:
    """Hash the files of some or all packages, and read descriptions that no index lists.

    Raises
    ------
    NotCached
        One of `words` names no package of the cache.
    """
    settings = settings_from_environment()
    packages = list_cached(settings, manifests=True)
    folders = {package.sha256: package.folder for package in packages}
    listed = Listing.of(settings).sha256s
    return tuple(
        _read(state, folders[state.found] / state.name)
        if state.status == "whole" and state.found in folders.keys() - listed
        else state
        for state in verify_cache(settings, words)
    )


def _read(state: FileState, manifest: Path) -> FileState:
    from bmz.spec.package_files import PackageUnreadable  # slow to import, rarely needed
    from bmz.spec.read import read_model

    try:
        read_model(manifest)
    except PackageUnreadable as why:
        return replace(state, status="damaged", why=why.why)
    except BmzError:
        return state  # the description is complete, but invalid
    return state


def remove(words: Sequence[str]) -> RemovedPackages:
    """Remove packages.

    Raises
    ------
    NotCached
        One of `words` names no package of the cache; nothing is removed then.
    """
    return remove_packages(settings_from_environment(), words)


def export(archive: Path, words: Sequence[str] = ()) -> CarriedPackages:
    """Write some or all packages, and the index, into an archive."""
    return export_archive(settings_from_environment(), archive, words)


def import_(archive: Path) -> CarriedPackages:
    """Import an exported archive into the cache.

    Raises
    ------
    ExportDamaged
        A file in it differs from what was exported.
    """
    return import_archive(settings_from_environment(), archive)


def examine() -> DoctorView:
    """Examine frameworks, devices, memory and cache; only installed frameworks are imported."""
    from bmz.predict.formats import available_backends, other_backends  # they import NumPy

    cache = cache_folder()
    return DoctorView(
        versions=versions(),
        system=f"{platform.system()} {platform.machine()}",
        cpus=available_cpus(),
        memory_bytes=total_memory(),
        cache=str(cache),
        cache_bytes=_size_of(cache),
        formats=tuple(map(_view, available_backends())),
        starters=tuple(STARTER + name for name in starter_names()),
        confinement=means_here(),
        others=tuple(map(_view, other_backends())),
    )


def _view(state: BackendState) -> FormatView:
    return FormatView(
        format=state.weights_format,
        framework=state.framework,
        version=state.version,
        devices=tuple(str(device) for device in state.devices),
        trouble=state.trouble,
        install=state.install,
    )


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
