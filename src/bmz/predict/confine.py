"""Confine a process permanently: no network, few files and system calls, no child processes."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bmz.base.values import dataclass

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; little endian
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2  # of prctl
_THREAD = 0x10000  # CLONE_THREAD
_X32 = 0x40000000  # numbers of the other calling convention of x86-64
_NEWEST = 456
"""The highest number of the table; the C library has substitutes for newer calls."""

_ARCHS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMN = {"x86_64": 0, "aarch64": 1}

_ALWAYS: Mapping[str, tuple[int | None, int | None]] = {
    # threads and locks; the most frequent first, since the filter is evaluated in order
    "futex": (202, 98), "read": (0, 63), "write": (1, 64), "mmap": (9, 222), "munmap": (11, 215),
    "madvise": (28, 233), "mprotect": (10, 226), "brk": (12, 214), "mremap": (25, 216),
    "futex_waitv": (449, 449), "futex_wake": (454, 454), "futex_wait": (455, 455),
    "futex_requeue": (456, 456), "set_robust_list": (273, 99), "set_tid_address": (218, 96),
    "rseq": (334, 293), "membarrier": (324, 283), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "sched_getattr": (315, 275), "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126), "sched_rr_get_interval": (148, 127), "getcpu": (309, 168),
    "exit": (60, 93), "exit_group": (231, 94), "restart_syscall": (219, 128), "wait4": (61, 260),
    "waitid": (247, 95),
    # memory of its own
    "mincore": (27, 232), "msync": (26, 227), "mlock": (149, 228), "mlock2": (325, 284),
    "munlock": (150, 229), "mbind": (237, 235), "get_mempolicy": (239, 236),
    "set_mempolicy": (238, 237), "pkey_alloc": (330, 289), "pkey_free": (331, 290),
    "pkey_mprotect": (329, 288), "map_shadow_stack": (453, 453),
    # files, which Landlock guards
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "creat": (85, None),
    "close": (3, 57), "close_range": (436, 436), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "lseek": (8, 62),
    "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66),
    "preadv": (295, 69), "pwritev": (296, 70), "preadv2": (327, 286), "pwritev2": (328, 287),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "dup": (32, 23),
    "dup2": (33, None), "dup3": (292, 24), "flock": (73, 32), "fsync": (74, 82),
    "fdatasync": (75, 83), "ftruncate": (77, 46), "fallocate": (285, 47), "fadvise64": (221, 223),
    "readahead": (187, 213), "sync_file_range": (277, 84), "copy_file_range": (326, 285),
    "sendfile": (40, 71), "getdents": (78, None), "getdents64": (217, 61), "getcwd": (79, 17),
    "chdir": (80, 49), "fchdir": (81, 50), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "link": (86, None), "linkat": (265, 37), "unlink": (87, None), "unlinkat": (263, 35),
    "symlink": (88, None), "symlinkat": (266, 36), "readlink": (89, None), "readlinkat": (267, 78),
    "statfs": (137, 43), "fstatfs": (138, 44), "umask": (95, 166),
    # pipes, events and the socket to the parent, which is the only socket
    "pipe": (22, None), "pipe2": (293, 59), "poll": (7, None), "ppoll": (271, 73),
    "select": (23, None), "pselect6": (270, 72), "epoll_create": (213, None),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None),
    "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441), "eventfd": (284, None),
    "eventfd2": (290, 19), "signalfd": (282, None), "signalfd4": (289, 74),
    "timerfd_create": (283, 85), "timerfd_settime": (286, 86), "timerfd_gettime": (287, 87),
    "sendto": (44, 206), "recvfrom": (45, 207), "sendmsg": (46, 211), "recvmsg": (47, 212),
    "shutdown": (48, 210), "getsockname": (51, 204), "getpeername": (52, 205),
    "getsockopt": (55, 209), "setsockopt": (54, 208),
    # its own signals and clocks
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132), "pause": (34, None), "alarm": (37, None), "getitimer": (36, 102),
    "setitimer": (38, 103), "timer_create": (222, 107), "timer_settime": (223, 110),
    "timer_gettime": (224, 108), "timer_getoverrun": (225, 109), "timer_delete": (226, 111),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    # information about the process and the system
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getpgid": (121, 155),
    "getpgrp": (111, None), "getsid": (124, 156), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getresuid": (118, 148), "getresgid": (120, 150),
    "getgroups": (115, 158), "getpriority": (140, 141), "getrusage": (98, 165),
    "getrlimit": (97, 163), "sysinfo": (99, 179), "uname": (63, 160), "capget": (125, 90),
    "arch_prctl": (158, None), "getrandom": (318, 278),
}  # fmt: skip
"""Calls that are allowed with any arguments: name -> number on x86-64 and on 64-bit Arm; None if
there is no such call. All calls not named here or below are refused: other programs and processes,
sockets, shared memory, permissions and times of files, users, and the system itself."""

_FCNTL = (
    0, 1030,  # F_DUPFD, F_DUPFD_CLOEXEC
    1, 2, 3, 4,  # F_GETFD, F_SETFD, F_GETFL, F_SETFL
    5, 6, 7, 36, 37, 38,  # locks
    1031, 1032, 1033, 1034,  # sizes of pipes, seals
)  # fmt: skip
"""Without F_SETOWN, F_SETSIG, F_SETLEASE and F_NOTIFY, which send signals to other processes."""

_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS (is it a terminal?), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""

_IOCTL_NEVER = (
    0x8901, 0x8902, 0x5452,  # FIOSETOWN, SIOCSPGRP, FIOASYNC: signals to other processes
    0x5412, 0x541C,  # TIOCSTI, TIOCLINUX: typing into a terminal
    0x40086602, 0x40046602, 0x401C5820,  # FS_IOC_SETFLAGS, FS_IOC32_SETFLAGS, FS_IOC_FSSETXATTR
    0x40086604, 0x40049409, 0x4020940D,  # FS_IOC_SETVERSION, FICLONE, FICLONERANGE
)  # fmt: skip
"""Requests refused if a GPU is used; all others are allowed, since its driver has its own."""

_PRCTL = (
    2, 3, 15, 16, 21, 23, 29, 30,  # PDEATHSIG (get), DUMPABLE (get), names, SECCOMP (get), slack
    38, 39, 41, 42,  # NO_NEW_PRIVS, THP_DISABLE
    51, 53, 56, 64,  # SVE, pointer authentication, tagged addresses, SME (get)
    0x53564D41,  # SET_VMA, names of memory
)  # fmt: skip
"""Without PR_SET_PDEATHSIG, with which the process could outlive bmz."""

_NUMBERS: Mapping[str, tuple[int, int]] = {
    "clone": (56, 220), "clone3": (435, 435), "kill": (62, 129), "tgkill": (234, 131),
    "sched_setaffinity": (203, 122), "prlimit64": (302, 261), "fcntl": (72, 25),
    "ioctl": (16, 29), "prctl": (157, 167),
}  # fmt: skip
"""Calls that are allowed with some arguments only."""

Steps = list[tuple[int, int, int, int]]


def seccomp_available() -> bool:
    """Return whether the kernel filters system calls and the machine's call numbers are known."""
    unsupported = -1
    libc = ctypes.CDLL(None, use_errno=True)
    mode = libc.prctl(21, 0, 0, 0, 0)  # PR_GET_SECCOMP
    return platform.machine() in _ARCHS and mode != unsupported


def restrict_calls(*, gpu: bool = False) -> None:
    """Permanently restrict this thread and its descendants to the calls of the tables.

    They may start threads, but no processes, and may send signals only to this process.

    Parameters
    ----------
    gpu : whether all requests to a GPU driver are allowed

    Raises
    ------
    OSError
        The kernel refuses.
    """
    steps = program(platform.machine(), os.getpid(), gpu=gpu)
    filters = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    described = struct.pack("@HP", len(steps), ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, first, second in (
        (_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), ctypes.c_ulong(0)),
        (_SET_SECCOMP, ctypes.c_ulong(_FILTER), described),
    ):
        if libc.prctl(option, first, second, ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"seccomp: {os.strerror(number)}")


def program(machine: str, pid: int, *, gpu: bool = False) -> Steps:
    """Return the filter as classic BPF steps (code, jump if true, jump if false, operand).

    Parameters
    ----------
    machine : ``x86_64`` or ``aarch64``
    pid : id of this process, the only one that signals may be sent to
    gpu : as in `restrict_calls`
    """
    column = _COLUMN[machine]
    steps = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _ARCHS[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for numbers in _ALWAYS.values():
        number = numbers[column]
        if number is not None:
            steps += _when(_EQUAL, number, [_YES])
    for name, then in _by_arguments(pid, gpu=gpu).items():
        steps += _when(_EQUAL, _NUMBERS[name][column], then)
    steps += _when(_AT_LEAST, _X32, [_NO])
    steps += _when(_AT_LEAST, _NEWEST + 1, [_UNKNOWN])
    return [*steps, _NO]


_YES = (_RETURN, 0, 0, _ALLOW)
_NO = (_RETURN, 0, 0, _REFUSE | errno.EPERM)
_UNKNOWN = (_RETURN, 0, 0, _REFUSE | errno.ENOSYS)


def _by_arguments(pid: int, *, gpu: bool) -> Mapping[str, Steps]:
    """Return the steps for each call that is allowed with some arguments only."""
    requests = _none_of(1, _IOCTL_NEVER) if gpu else _one_of(1, _IOCTL)
    return {
        # the flags of a new thread include it
        "clone": [(_LOAD, 0, 0, _ARGUMENTS), *_when(_ANY_BIT, _THREAD, [_YES]), _NO],
        # without clone3 the C library falls back to clone, whose flags the filter can inspect
        "clone3": [_UNKNOWN],
        "kill": _one_of(0, (pid,)),
        "tgkill": _one_of(0, (pid,)),
        "sched_setaffinity": _one_of(0, (0, pid)),
        # limits may be read but not set: the third argument points to the new limits
        "prlimit64": [*_unless_zero(2), *_one_of(0, (0, pid))],
        "fcntl": _one_of(1, _FCNTL),
        "ioctl": requests,
        "prctl": _one_of(0, _PRCTL),
    }


def _when(test: int, operand: int, then: Sequence[tuple[int, int, int, int]]) -> Steps:
    """Run `then`, which must end in a return, if the test holds."""
    return [(test, 0, len(then), operand), *then]


def _one_of(position: int, allowed: Sequence[int]) -> Steps:
    """Allow the call if the lower half of an argument is among `allowed`; refuse it otherwise."""
    tests: Steps = []
    for value in allowed:
        tests += _when(_EQUAL, value, [_YES])
    return [_load(position), *tests, _NO]


def _none_of(position: int, refused: Sequence[int]) -> Steps:
    """Refuse the call if the lower half of an argument is among `refused`; allow it otherwise."""
    tests: Steps = []
    for value in refused:
        tests += _when(_EQUAL, value, [_NO])
    return [_load(position), *tests, _YES]


def _unless_zero(position: int) -> Steps:
    """Refuse the call unless an argument, which is an address, is zero."""
    halves = (_load(position), _load(position, upper=True))
    return [step for half in halves for step in (half, (_EQUAL, 1, 0, 0), _NO)]


def _load(position: int, *, upper: bool = False) -> tuple[int, int, int, int]:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * position + (4 if upper else 0))


_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_READ_FILE, _READ_DIR, _IOCTL_DEVICE = 1 << 2, 1 << 3, 1 << 15
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_EVERYTHING = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_EVERYTHING_SINCE_5 = (1 << 16) - 1
_TCP = 0b11  # bind, connect; since version 4
_SCOPES = 0b11  # abstract sockets and signals of other processes; since version 6
_NET_SINCE, _SCOPES_SINCE = 4, 6


def landlock_version() -> int:
    """Return the Landlock version of the kernel; 0 if it has none or it is switched off."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))


def restrict_files(
    readable: Iterable[Path], listable: Iterable[Path], writable: Iterable[Path]
) -> None:
    """Deny this thread and its descendants access to all other files and folders, permanently.

    If the kernel supports it, TCP, abstract sockets and signals to other processes are denied,
    too. Nothing may be executed.

    Parameters
    ----------
    readable : files and folders whose content may be read
    listable : folders whose file names may be listed, but whose files may not be read
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
            (writable, everything & ~1),  # bit 0 is the right to execute
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
            rights &= _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEVICE
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
"""Required means of confinement: without them, nothing is run. The others are a second defence."""

FILE_BYTES = 2**30
"""Largest file that may be written into the scratch folder."""

OPEN_FILES = 1024

_SPARE_BYTES = 2**35  # address space that libraries reserve but do not use
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
    listable : folders whose file names may be listed
    scratch : the folder that it may write to
    memory_bytes : maximum amount of data; None for no limit, as a CUDA device requires
    gpu : whether the devices of an NVIDIA driver may be used
    """

    readable: tuple[Path, ...]
    listable: tuple[Path, ...]
    scratch: Path
    memory_bytes: int | None
    gpu: bool = False


def means_here() -> dict[str, str]:
    """Return, for each required means, why this computer lacks it; empty if it does not lack it.

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
        means -> why it is not available; empty if it is. The means are ``limits``, ``network``
        (a namespace without a network), ``files`` (Landlock) and ``calls`` (seccomp, which also
        refuses sockets).
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
    # inside the namespace, files keep their owner
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")


def _readable(cell: Cell) -> list[Path]:
    system = _SYSTEM + (_GPU_FILES if cell.gpu else ())
    return [*map(Path, system), *cell.readable]


def _writable(cell: Cell) -> list[Path]:
    gpu = sorted(Path("/dev").glob(_GPU_DEVICES)) if cell.gpu else []
    return [*map(Path, _DEVICES), *gpu, cell.scratch]
