"""How much memory a program may still take."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
"""Limit and use of a container, in the second and in the first version of control groups."""

UNKNOWN_BYTES = 4 * 2**30
"""Taken where the system does not say."""


def free_memory() -> int:
    """Give the bytes that are free: of the machine, or of the container if that has fewer."""
    return min((_of_machine(), *_of_container()))


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(free.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        pass  # no Linux: half of all memory is as good a word as there is
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return UNKNOWN_BYTES


def _of_container() -> list[int]:
    found = []
    for limit, used in CGROUP_LIMITS:
        try:
            found.append(max(int(limit.read_text()) - int(used.read_text()), 0))
        except (OSError, ValueError):
            continue  # no such control group, or no limit ("max")
    return found
