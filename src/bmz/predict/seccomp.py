"""A filter of system calls: no new processes, no sockets, nothing that reaches other processes.

Source: ``Documentation/userspace-api/seccomp_filter.rst`` and the system call tables of the Linux
kernel (``arch/x86/entry/syscalls/syscall_64.tbl``, ``include/uapi/asm-generic/unistd.h``).
Standard library only: it is used before anything else is imported.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCH, _FIRST = 0, 4, 16  # offsets in struct seccomp_data; little endian
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2  # of prctl
_THREAD = 0x10000  # CLONE_THREAD
_X32 = 0x40000000  # numbers of the other calling convention of x86-64

_ARCHS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMN = {"x86_64": 0, "aarch64": 1}

_NEVER: Mapping[str, tuple[int | None, int | None]] = {
    # start or become another program
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    # the network, and sockets of other programs
    "socket": (41, 198), "bind": (49, 200), "listen": (50, 201), "connect": (42, 203),
    "accept": (43, 202), "accept4": (288, 242),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "kcmp": (312, 272), "process_madvise": (440, 440), "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "sched_setscheduler": (144, 119), "setpriority": (141, 140),
    # memory shared with other processes, or outside every limit
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    # rights of files, which Landlock does not guard
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "setxattrat": (463, 463), "removexattrat": (466, 466), "truncate": (76, 45),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "mknod": (133, None), "mknodat": (259, 33),
    # the system itself
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "setns": (308, 268), "unshare": (272, 97),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60),
    "syslog": (103, 116), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "iopl": (172, None), "ioperm": (173, None), "fanotify_init": (300, 262),
}  # fmt: skip
"""Name -> number on x86-64 and on 64-bit Arm; None where there is no such call."""

_OWN_ONLY = {"kill": (62, 129), "tgkill": (234, 131)}
_OWN_OR_ZERO = {"prlimit64": (302, 261)}
_CLONE, _CLONE3 = (56, 220), (435, 435)


def seccomp_available() -> bool:
    """Say whether the kernel filters system calls on a machine whose call numbers are known."""
    unsupported = -1
    libc = ctypes.CDLL(None, use_errno=True)
    asked = libc.prctl(21, 0, 0, 0, 0)  # PR_GET_SECCOMP
    return platform.machine() in _ARCHS and asked != unsupported


def restrict_calls() -> None:
    """Refuse this thread and its descendants the calls of the table, for good.

    Threads may be started, processes not; signals reach this process alone.

    Raises
    ------
    OSError
        The kernel refuses.
    """
    steps = program(platform.machine(), os.getpid())
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


def program(machine: str, pid: int) -> list[tuple[int, int, int, int]]:
    """Give the filter as steps (code, jump if true, jump if false, operand) of classic BPF.

    Parameters
    ----------
    machine : ``x86_64`` or ``aarch64``
    pid : of this process, the only one to which signals may go
    """
    column = _COLUMN[machine]
    refuse = _REFUSE | errno.EPERM
    steps = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _ARCHS[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        *_when(_AT_LEAST, _X32, [(_RETURN, 0, 0, refuse)]),
    ]
    for numbers in _NEVER.values():
        number = numbers[column]
        if number is not None:
            steps += _when(_EQUAL, number, [(_RETURN, 0, 0, refuse)])
    # the C library falls back to clone, whose flags can be seen, where there is no clone3
    no_such_call = [(_RETURN, 0, 0, _REFUSE | errno.ENOSYS)]
    steps += _when(_EQUAL, _CLONE3[column], no_such_call)
    steps += _when(_EQUAL, _CLONE[column], _first((_ANY_BIT, _THREAD), refuse))
    for numbers in _OWN_ONLY.values():
        steps += _when(_EQUAL, numbers[column], _first((_EQUAL, pid), refuse))
    for numbers in _OWN_OR_ZERO.values():
        steps += _when(_EQUAL, numbers[column], _first_of((0, pid), refuse))
    return [*steps, (_RETURN, 0, 0, _ALLOW)]


Steps = list[tuple[int, int, int, int]]


def _when(test: int, operand: int, then: Sequence[tuple[int, int, int, int]]) -> Steps:
    """Run `then`, which must return, when the test holds."""
    return [(test, 0, len(then), operand), *then]


def _first(allowed: tuple[int, int], otherwise: int) -> Steps:
    """Allow the call when its first argument passes one test."""
    test, operand = allowed
    return [
        (_LOAD, 0, 0, _FIRST),
        (test, 0, 1, operand),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, otherwise),
    ]


def _first_of(allowed: Sequence[int], otherwise: int) -> Steps:
    """Allow the call when its first argument is one of a few."""
    tests: Steps = []
    for value in allowed:
        tests += _when(_EQUAL, value, [(_RETURN, 0, 0, _ALLOW)])
    return [(_LOAD, 0, 0, _FIRST), *tests, (_RETURN, 0, 0, otherwise)]
