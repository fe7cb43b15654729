"""Landlock: permanent limits to the files that a process may reach (Linux 5.13 and newer).

Source: ``Documentation/userspace-api/landlock.rst`` of the Linux kernel. Standard library only:
it is used before anything else is imported.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

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
