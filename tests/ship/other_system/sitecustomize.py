"""Pretend to be another operating system, in this process and in all that it starts.

Python imports a module of this name by itself when its folder is in ``PYTHONPATH``. What only
Linux has is taken away from bmz alone, since libraries ask the true system; files behave as on
the other system for all.

``BMZ_PRETENDS``: ``win32`` or ``darwin``. ``BMZ_PRETENDS_BELOW``: the folder in which files
behave so. ``BMZ_PRETENDS_BUSY``: names of files that "another program" holds open, for so many
tries (``a.csv=3,b.tif=1000``).
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import io
import multiprocessing
import multiprocessing.context
import os
import re
import shutil
import signal
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any

SYSTEM = os.environ.get("BMZ_PRETENDS", "")
ROOT = os.environ.get("BMZ_PRETENDS_BELOW", "/nowhere")
BUSY = {
    name: int(times)
    for name, _, times in (
        word.partition("=") for word in os.environ.get("BMZ_PRETENDS_BUSY", "").split(",") if word
    )
}
LONGEST_PATH = 259
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
REFUSED = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$')

LINUX_ALONE = {
    "os": {"memfd_create", "sched_getaffinity", "posix_fallocate", "MFD_CLOEXEC"},
}
"""What macOS lacks too."""
UNIX_ALONE = {
    "os": LINUX_ALONE["os"]
    | {"fork", "getuid", "geteuid", "getgid", "getpgid", "killpg", "setsid", "sysconf"}
    | {"O_DIRECTORY", "O_NOFOLLOW", "getloadavg", "mkfifo", "statvfs", "uname"},
    "signal": {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGALRM", "setitimer", "alarm"},
    "socket": {"AF_UNIX", "send_fds", "recv_fds"},
}
MODULES = {
    "win32": {"fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "syslog"},
    "darwin": set[str](),
}


class Lacking(types.ModuleType):
    """A module without some of its names."""

    def __init__(self, true: types.ModuleType, lacks: set[str], **other: object) -> None:
        super().__init__(true.__name__)
        self.__dict__.update(_true=true, _lacks=lacks, **other)

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__["_lacks"]:
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        return getattr(self.__dict__["_true"], name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__dict__["_true"], name, value)


class Kernel32:
    """The functions of Windows that bmz calls, of a computer with 16 GB of which 6 are free."""

    def __init__(self) -> None:
        # of which the types can be set
        self.OpenProcess = partial(lambda *_: 0)
        self.GetCurrentProcess = partial(lambda: -1)

    def GlobalMemoryStatusEx(self, reference: Any) -> int:  # noqa: N802  (its name there)
        status = reference._obj
        if status.length != ctypes.sizeof(status):
            return 0
        status.total, status.free = 16 * 2**30, 6 * 2**30
        return 1

    def GetProcessAffinityMask(  # noqa: N802  (as above)
        self, _process: object, own: Any, every: Any
    ) -> int:
        own._obj.value, every._obj.value = 0b0111, 0b1111
        return 1


class Sysctl:
    """The C library of a Mac with 16 GB."""

    def sysctlbyname(self, name: bytes, value: Any, size: Any, *_: object) -> int:
        numbers = {b"hw.memsize": 16 * 2**30, b"vm.page_free_count": 2**16}
        if name not in numbers:
            return -1
        target = value._obj
        target.value = numbers[name]
        size._obj.value = ctypes.sizeof(target)
        return 0


def pretended() -> dict[str, types.ModuleType]:
    """Give the modules that bmz gets instead of the true ones."""
    lacks = UNIX_ALONE if SYSTEM == "win32" else LINUX_ALONE
    import socket

    true = {"os": os, "signal": signal, "socket": socket}
    found: dict[str, types.ModuleType] = {
        name: Lacking(true[name], names) for name, names in lacks.items()
    }
    found["sys"] = Lacking(sys, set(), platform=SYSTEM)
    if SYSTEM == "win32":
        windows = {"WinDLL": lambda *_, **__: Kernel32(), "get_last_error": lambda: 87}
        found["ctypes"] = Lacking(ctypes, set(), **windows)
    else:
        found["ctypes"] = Lacking(ctypes, set(), CDLL=lambda *_, **__: Sysctl())
    return found


def is_bmz(name: object) -> bool:
    return isinstance(name, str) and name.split(".")[0] == "bmz"


def hide_modules() -> None:
    """Let bmz, and nobody else, miss what the other system lacks."""
    instead, true_import = pretended(), builtins.__import__

    def importing(
        name: str, globals_: Any = None, locals_: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        asker = (globals_ or {}).get("__name__")
        if level == 0 and is_bmz(asker):
            if name in MODULES[SYSTEM]:
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)
            if name in instead:
                return instead[name]
        return true_import(name, globals_, locals_, fromlist, level)

    builtins.__import__ = importing  # type: ignore[assignment]  # it takes other names as well


def asked_by_bmz() -> bool:
    """Say whether the nearest code outside the standard library is that of bmz."""
    frame, library = sys._getframe(2), os.path.dirname(os.__file__)
    while frame is not None:
        file = frame.f_code.co_filename
        own = file == __file__ or file.startswith("<frozen")
        if not own and ("site-packages" in file or not file.startswith(library)):
            return is_bmz(frame.f_globals.get("__name__"))
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return False


def below(path: object) -> str | None:
    """Give a path as text when files there behave as on the other system."""
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    text = os.path.abspath(os.fsdecode(path))
    return text if text.startswith(ROOT + os.sep) else None


def folded(path: Any) -> Any:
    """Find what is there under a name that differs in letter case alone."""
    text = below(path)
    if text is None or exists(text):
        return path
    place = ROOT
    for part in text[len(ROOT) + 1 :].split(os.sep):
        if not exists(os.path.join(place, part)):
            try:
                names = TRUE["listdir"](place)
            except OSError:
                names = []
            part = next((name for name in names if name.casefold() == part.casefold()), part)  # noqa: PLW2901
        place = os.path.join(place, part)
    return os.fsencode(place) if isinstance(path, bytes) else place


def refuse_name(path: Any, too_long: int = errno.ENOENT) -> None:
    """Refuse to make what Windows gives no name."""
    text = below(path)
    if text is None or SYSTEM != "win32":
        return
    if len(text) > LONGEST_PATH:
        raise OSError(too_long, os.strerror(too_long), text)
    name = os.path.basename(text)
    if RESERVED.match(name) or REFUSED.search(name):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), text)


def refuse_open(path: Any, *, inside: bool = False, names: tuple[Any, ...] = ()) -> None:
    """Refuse to replace or remove what is open; an error names the file, or `names`."""
    text = below(folded(path))
    if text is None or SYSTEM != "win32":
        return
    name = os.path.basename(text)
    if BUSY.get(name, 0) > 0 and exists(text) and ".writing" not in text:
        BUSY[name] -= 1
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), *(names or (text,)))
    if any(held == text or (inside and held.startswith(text + os.sep)) for held in held_files()):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), *(names or (text,)))


def held_files() -> set[str]:
    held = set()
    for number in TRUE["listdir"]("/proc/self/fd"):
        try:
            held.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    with TRUE["open"]("/proc/self/maps", encoding="utf-8") as file:
        held |= {line.split(None, 5)[5].rstrip("\n") for line in file if line.count(" /")}
    return held


TRUE: dict[str, Callable[..., Any]] = {
    name: getattr(os, name)
    for name in ("stat", "lstat", "mkdir", "replace", "rename", "unlink", "remove")
    + ("rmdir", "scandir", "listdir", "utime", "symlink", "link", "readlink", "chmod", "access")
}
TRUE |= {"open": io.open, "handle": os.open}


def exists(path: str) -> bool:
    try:
        TRUE["lstat"](path)
    except OSError:
        return False
    return True


def pretend_files() -> None:
    """Let files below the folder behave as on the other system."""

    def opened(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if isinstance(file, str | os.PathLike) and asked_by_bmz():
            if os.fspath(file).startswith("/proc"):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
            if "b" not in mode and len(rest) < 2 and more.get("encoding") is None:
                raise LookupError(f"'{file}' is opened in the code page of the computer")
        file = folded(file)
        if set(mode) & set("wxa"):
            refuse_name(file)
        return TRUE["open"](file, mode, *rest, **more)

    def handle(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT:
            # filelock tries again for ever on the Linux below, where there is ENOENT
            refuse_name(path, errno.ENAMETOOLONG)
        number: int = TRUE["handle"](folded(path), flags, *rest, **more)
        return number

    def made(name: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **more: Any) -> Any:
            refuse_name(path)
            return TRUE[name](folded(path), *rest, **more)

        return call

    def looked(name: str) -> Callable[..., Any]:
        def call(path: Any = ".", *rest: Any, **more: Any) -> Any:
            return TRUE[name](folded(path), *rest, **more)

        return call

    def removed(name: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **more: Any) -> Any:
            refuse_open(path)
            return TRUE[name](folded(path), *rest, **more)

        return call

    def moved(name: str) -> Callable[..., Any]:
        def call(source: Any, target: Any, **more: Any) -> Any:
            names = (str(source), None, str(target))
            refuse_open(source, inside=True, names=names)
            refuse_open(target, names=names)
            refuse_name(target)
            if name == "rename" and SYSTEM == "win32" and exists(folded(target)):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
            return TRUE[name](folded(source), folded(target), **more)

        return call

    def linked(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))  # a right that few users have

    for name in ("stat", "lstat", "scandir", "listdir", "utime", "readlink", "chmod", "access"):
        setattr(os, name, looked(name))
    for name in ("unlink", "remove", "rmdir"):
        setattr(os, name, removed(name))
    for name in ("replace", "rename"):
        setattr(os, name, moved(name))
    os.mkdir = made("mkdir")
    os.open = handle
    builtins.open = io.open = opened
    if SYSTEM == "win32":
        os.symlink = linked
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # whole paths, as on Windows


def spawn_alone() -> None:
    """Let processes be started again alone."""
    contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]  # private
    for name in ("fork", "forkserver"):
        contexts.pop(name, None)
    multiprocessing.set_start_method("spawn", force=True)


if SYSTEM:
    hide_modules()
    pretend_files()
    spawn_alone()
