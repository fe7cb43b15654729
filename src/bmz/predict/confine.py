"""Confine a new process for good: no network, few files, no child processes, and limits.

Standard library only: it runs before the libraries that the model's code will use are imported,
while there is only one thread: some of the means bind only the calling thread and its
descendants.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bmz.predict.seccomp import restrict_calls, seccomp_available

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38  # of prctl

_READ_FILE, _READ_DIR, _IOCTL = 1 << 2, 1 << 3, 1 << 15
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_EVERYTHING = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_EVERYTHING_SINCE_5 = (1 << 16) - 1
_TCP = 0b11  # bind, connect; since version 4
_SCOPES = 0b11  # abstract sockets and signals of other processes; since version 6
_NET_SINCE, _SCOPES_SINCE = 4, 6


def landlock_version() -> int:
    """Return the version that the kernel offers; 0 if there is none, or it is switched off."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))


def restrict_files(
    readable: Iterable[Path], listable: Iterable[Path], writable: Iterable[Path]
) -> None:
    """Deny this thread and its descendants all of the file system except what is named.

    Where the kernel supports it, TCP, abstract sockets and signals to other processes are denied
    as well. Nothing may be executed. This cannot be undone.

    Parameters
    ----------
    readable : files and folders whose content may be read
    listable : folders whose names may be listed, but whose files may not be read
    writable : files, devices and folders that may be used in any way except execution

    Raises
    ------
    OSError
        The kernel refuses.
    """
    version = landlock_version()
    everything = _EVERYTHING.get(version, _EVERYTHING_SINCE_5)
    ruleset = _ruleset(version, everything)
    try:
        for paths, rights in (
            (readable, _READ_FILE | _READ_DIR),
            (listable, _READ_DIR),
            (writable, everything & ~1),  # bit 0 is to execute
        ):
            for path in paths:
                _allow(ruleset, path, rights & everything)
        _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        _call("syscall", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _ruleset(version: int, everything: int) -> int:
    fields = [everything]
    if version >= _NET_SINCE:
        fields.append(_TCP)
    if version >= _SCOPES_SINCE:
        fields.append(_SCOPES)
    attribute = struct.pack(f"={len(fields)}Q", *fields)
    return _call("syscall", _CREATE_RULESET, attribute, len(attribute), 0)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # what does not exist need not be allowed
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL
        rule = struct.pack("=Qi", rights, handle)
        _call("syscall", _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(handle)


def _call(function: str, *arguments: int | bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = int(getattr(libc, function)(*words))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result


NEEDED = ("files", "calls")
"""Means without which nothing is run; the others are a second line of defence."""

FILE_BYTES = 2**30
"""Largest file that may be written into the scratch folder."""

OPEN_FILES = 1024

_SPARE_BYTES = 2**35  # addresses that libraries reserve and do not use
_DIE_WITH_PARENT = 1  # of prctl
_NEW_USER, _NEW_NET, _NEW_IPC, _NEW_UTS = 0x10000000, 0x40000000, 0x08000000, 0x04000000

_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/ld.so.conf",
    "/etc/ld.so.conf.d", "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf",
    "/etc/alternatives", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/proc/filesystems", "/proc/sys/vm", "/sys/devices/system", "/sys/fs/cgroup",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_GPU_FILES = ("/proc/driver/nvidia", "/proc/devices", "/sys/module/nvidia", "/sys/bus/pci",
              "/sys/devices", "/etc/vulkan")  # fmt: skip
_GPU_DEVICES = "nvidia*"


@dataclass(frozen=True)
class Cell:
    """What a confined process may reach.

    Parameters
    ----------
    readable : files and folders whose content may be read
    listable : folders whose names may be listed
    scratch : the folder in which it may write
    memory_bytes : largest amount of data; None for no limit, which a CUDA device needs
    gpu : whether the devices of an NVIDIA driver may be used
    """

    readable: tuple[Path, ...]
    listable: tuple[Path, ...]
    scratch: Path
    memory_bytes: int | None
    gpu: bool = False


def means_here() -> dict[str, str]:
    """Return for each required means an empty text, or why this computer lacks it.

    Examples
    --------
    >>> sorted(means_here())
    ['calls', 'files']
    """
    if not sys.platform.startswith("linux"):
        lack = f"{sys.platform} has neither Landlock nor seccomp"
        return dict.fromkeys(NEEDED, lack)
    return {
        "files": "" if landlock_version() else "the kernel has no Landlock, or it is off",
        "calls": "" if seccomp_available() else "the kernel has no seccomp for this processor",
    }


def confine(cell: Cell, parent: int) -> dict[str, str]:
    """Confine the calling process.

    Parameters
    ----------
    cell : what the process may still reach
    parent : id of the parent process; this process ends with it

    Returns
    -------
    dict
        means -> empty text, or why it is not available. The means are ``limits``, ``network`` (a
        namespace without any), ``files`` (Landlock) and ``calls`` (seccomp, which refuses
        sockets too).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the parent is gone")
    steps: dict[str, Callable[[], None]] = {
        "limits": lambda: _limit(cell.memory_bytes),
        "network": _leave_network,
        "files": lambda: restrict_files(_readable(cell), cell.listable, _writable(cell)),
        "calls": lambda: restrict_calls(gpu=cell.gpu),
    }
    return {name: _failure(step) for name, step in steps.items()}


def _failure(step: Callable[[], None]) -> str:
    try:
        step()
    except (OSError, ValueError, AttributeError, KeyError) as why:
        return str(why) or type(why).__name__
    return ""


def _limit(memory_bytes: int | None) -> None:
    import resource

    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_MEMLOCK: 2**20,
    }
    if memory_bytes is not None:
        limits[resource.RLIMIT_DATA] = memory_bytes
        limits[resource.RLIMIT_AS] = memory_bytes + _SPARE_BYTES
    for which, most in limits.items():
        hard = resource.getrlimit(which)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (least, least))


def _leave_network() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_USER | _NEW_NET | _NEW_IPC | _NEW_UTS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"user namespaces: {os.strerror(number)}")
    # files keep their owner inside
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")


def _readable(cell: Cell) -> list[Path]:
    system = _SYSTEM + (_GPU_FILES if cell.gpu else ())
    return [*map(Path, system), *cell.readable]


def _writable(cell: Cell) -> list[Path]:
    gpu = sorted(Path("/dev").glob(_GPU_DEVICES)) if cell.gpu else []
    return [*map(Path, _DEVICES), *gpu, cell.scratch]
