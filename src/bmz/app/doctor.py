"""``bmz doctor``: what works here, and what to install."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from bmz.base.version import versions
from bmz.predict.confine import means_here
from bmz.predict.formats import available_backends
from bmz.results.show import DoctorView, FormatView
from bmz.zoo.cache import cache_folder
from bmz.zoo.locate import STARTER, starter_names


def examine() -> DoctorView:
    """Look at frameworks, devices, memory and cache; imports only frameworks that are there."""
    cache = cache_folder()
    return DoctorView(
        versions=versions(),
        system=f"{platform.system()} {platform.machine()}",
        cpus=usable_cpus(),
        memory_bytes=_memory_bytes(),
        cache=str(cache),
        cache_bytes=_size_of(cache),
        formats=tuple(
            FormatView(
                format=state.weights_format,
                framework=state.framework,
                version=state.version,
                devices=tuple(str(device) for device in state.devices),
                trouble=state.trouble,
                install=state.install,
            )
            for state in available_backends()
        ),
        starters=tuple(STARTER + name for name in starter_names()),
        confinement=means_here(),
    )


def usable_cpus() -> int:
    """Give the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not told on this system
        return None


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
