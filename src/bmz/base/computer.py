"""Query this computer: its memory and processors, and the versions of bmz and libraries."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from bmz.base.values import dataclass

NOT_INSTALLED = "0+source"
"""Version of a source folder that was never installed."""


NOTED_LIBRARIES = (
    "bioimageio.spec",
    "numpy",
    "scipy",
    "scikit-image",
    "tifffile",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "torch",
)
"""The libraries that affect results."""

PREFIX = sys.prefix
"""The folder of the environment that bmz runs in."""

_PIP = re.compile(r"\bpip (install|uninstall)\b")


def for_this_environment(hint: str, prefix: str = "") -> str:
    """Adapt a ``pip`` command in a hint to the environment that bmz runs in.

    Programs installed by ``uv tool`` and ``pipx`` have their own environments, which a plain
    ``pip`` does not reach.

    Parameters
    ----------
    hint : text that may contain such a command
    prefix : folder of the environment; empty for that of this program

    Examples
    --------
    >>> for_this_environment("pip install 'bmz[torch]'", "/home/a/.local/pipx/venvs/bmz")
    "pipx runpip bmz install 'bmz[torch]'"
    >>> for_this_environment("pip install 'bmz[torch]'", "/home/a/.local/share/uv/tools/bmz")
    "uv pip install --python /home/a/.local/share/uv/tools/bmz 'bmz[torch]'"
    >>> for_this_environment("pip install 'bmz[torch]'", "/home/a/venv")
    "pip install 'bmz[torch]'"
    """
    prefix = prefix or PREFIX
    parts = Path(prefix).parts[-3:]
    if parts[:2] == ("pipx", "venvs"):
        return _PIP.sub(rf"pipx runpip {parts[2]} \1", hint)
    if parts[:2] == ("uv", "tools"):
        return _PIP.sub(rf"uv pip \1 --python {prefix}", hint)
    return hint


@cache
def version() -> str:
    """Return the version of the installed package, which comes from the tag of the release."""
    from importlib.metadata import PackageNotFoundError, version  # here: it takes long to import

    try:
        return version("bmz")
    except PackageNotFoundError:
        return NOT_INSTALLED


def versions() -> dict[str, str]:
    """Return the versions of bmz, Python and the libraries that affect results."""
    return dict(_versions())


@cache
def _versions() -> Mapping[str, str]:
    import platform  # here: it takes long to import

    entries = {"bmz": version(), "python": platform.python_version()}
    return entries | {name: number for name in NOTED_LIBRARIES if (number := version_of(name))}


@cache
def version_of(library: str) -> str | None:
    """Read the version in the metadata of a library; None if it is not installed.

    ``importlib.metadata.version`` parses all metadata as an e-mail, which takes several times as
    long.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        metadata = distribution(library)
    except PackageNotFoundError:
        return None
    head = "Version: "
    lines = (metadata.read_text("METADATA") or "").splitlines()
    stated = (line.removeprefix(head).strip() for line in lines if line.startswith(head))
    return next(stated, None) or metadata.version


CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
"""Files with the memory limit and use of a container, in versions 2 and 1 of control groups."""

UNKNOWN_BYTES = 4 * 2**30
"""Free memory that is assumed if the system does not report it."""


def available_cpus() -> int:
    """Count the processors that this process may use, possibly fewer than the computer has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    allowed = _allowed_on_windows() if sys.platform == "win32" else 0
    return allowed or os.cpu_count() or 1


def _allowed_on_windows() -> int:
    """Count the processors in the affinity mask of this process; 0 if Windows reports none.

    Source: ``GetProcessAffinityMask`` of the Windows API.
    """
    import ctypes

    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]  # Windows has it
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    allowed, every = ctypes.c_size_t(), ctypes.c_size_t()
    told = kernel.GetProcessAffinityMask(process, ctypes.byref(allowed), ctypes.byref(every))
    return allowed.value.bit_count() if told else 0


def total_memory() -> int | None:
    """Return the memory of the computer in bytes; None if the system does not report it."""
    if sys.platform == "win32":
        return (_memory_of_windows() or (None, 0))[0]
    if sys.platform == "darwin":
        return _memory_of_mac()
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _memory_of_windows() -> tuple[int, int] | None:
    """Return the total and the free memory of the computer in bytes; None if the call fails.

    Source: ``GlobalMemoryStatusEx`` and ``MEMORYSTATUSEX`` of the Windows API.
    """
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("free", ctypes.c_uint64),
            ("others", ctypes.c_uint64 * 5),
        )

    status = Status(length=ctypes.sizeof(Status))
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]  # Windows has it
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return status.total, status.free


def _memory_of_mac() -> int | None:
    """Return the memory in bytes that ``sysctl hw.memsize`` reports; None if the call fails."""
    import ctypes

    library = ctypes.CDLL(None)
    value = ctypes.c_uint64()
    size = ctypes.c_size_t(ctypes.sizeof(value))
    refused = library.sysctlbyname(
        b"hw.memsize", ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)
    )
    return None if refused else value.value


def free_memory() -> int:
    """Return the free memory in bytes of the computer, or of the container if that has less."""
    return min((_of_machine(), *_of_container()))


def _of_machine() -> int:
    if sys.platform == "win32":
        return (_memory_of_windows() or (0, UNKNOWN_BYTES))[1]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(free.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        pass  # not Linux: half of the total memory is the best available estimate
    total = total_memory()
    return UNKNOWN_BYTES if total is None else total // 2


def _of_container() -> list[int]:
    free = []
    for limit, used in CGROUP_LIMITS:
        try:
            free.append(max(_number_in(limit) - _number_in(used), 0))
        except (OSError, ValueError):
            continue  # no such control group, or no limit ("max")
    return free


def _number_in(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


@dataclass
class Peak:
    """The additional memory that the process used.

    Parameters
    ----------
    bytes_more : maximum within the block, beyond the memory held before; None if unknown
    """

    bytes_more: int | None = None


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the peak memory of this process within the block (on Linux only)."""
    peak = Peak()
    before = _status("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    except OSError:
        before = None
    yield peak
    after = _status("VmHWM")
    if before is not None and after is not None:
        peak.bytes_more = max(after - before, 0)


def held_memory() -> int:
    """Return the bytes of memory that this process holds; 0 if the system does not report it."""
    return _status("VmRSS") or 0


def _status(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        entry = next(line for line in lines if line.startswith(f"{name}:"))
        return int(entry.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return None  # not Linux
