"""``bmz doctor``: what works here, and what to install."""

from __future__ import annotations

import platform
from pathlib import Path

from bmz.base.computer import available_cpus, total_memory, versions
from bmz.predict.confine import means_here
from bmz.predict.formats import BackendState, available_backends, other_backends
from bmz.results.models import DoctorView, FormatView
from bmz.zoo.cache import cache_folder
from bmz.zoo.locate import STARTER, starter_names


def examine() -> DoctorView:
    """Look at frameworks, devices, memory and cache; imports only frameworks that are there."""
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
