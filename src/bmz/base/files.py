"""Write files safely: write, then rename, so that only complete files have their final name."""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from bmz.base.errors import CouldNotTell

SCRATCH = ".scratch-"
"""Prefix of the name of a folder for intermediate files."""

LEFTOVER = r"\.(?:writing|scratch)-(\d+)-.*"
"""Name of a file or folder that is being written, with the number of the process."""


_QUERY_LIMITED_INFORMATION, _ACCESS_DENIED, _STILL_ACTIVE = 0x1000, 5, 259  # of the Windows API


def unfinished(kind: str) -> str:
    """Return the prefix of such a name; `kind` is ``writing`` or ``scratch``."""
    return f".{kind}-{os.getpid()}-"


def is_left_by_dead(path: Path) -> bool:
    """Return whether a file or folder is unfinished and its process has ended."""
    named = re.fullmatch(LEFTOVER, path.name)
    return named is not None and not _alive(int(named[1]))


def _alive(process: int) -> bool:
    if sys.platform == "win32":
        return _alive_on_windows(process)
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # the latter: no process has such a number
        return False
    except OSError:  # it exists but is not ours, or cannot be queried: its files stay
        return True
    return True


def _alive_on_windows(process: int) -> bool:
    """Query a handle of the process, since ``os.kill(process, 0)`` sends a Ctrl-C on Windows.

    Source: ``OpenProcess`` and ``GetExitCodeProcess`` of the Windows API.
    """
    import ctypes

    if process >= 2**32:  # no process has such a number
        return False
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]  # Windows has it
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, 0, ctypes.c_ulong(process))
    if not handle:
        denied: bool = ctypes.get_last_error() == _ACCESS_DENIED  # type: ignore[attr-defined]  # as above
        return denied
    status = ctypes.c_ulong()
    kernel.GetExitCodeProcess(ctypes.c_void_p(handle), ctypes.byref(status))
    kernel.CloseHandle(ctypes.c_void_p(handle))
    return status.value == _STILL_ACTIVE


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_there(path: Path) -> bool:
    """Return whether a path exists; False for a name that no file can have."""
    try:
        return path.exists()
    except OSError:
        return False


def given_text(path: Path) -> str:
    """Read a text file from a user's editor or shell: UTF-8, or UTF-16 with a byte order mark.

    Notepad on Windows may put a byte order mark before UTF-8, and ``>`` in PowerShell writes
    UTF-16.

    Raises
    ------
    OSError, ValueError
        The file cannot be read, or has another encoding.
    """
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n")


class FolderNotWritable(CouldNotTell):
    """A folder or a file in it cannot be created, or the disk is full."""

    def __init__(self, folder: Path | None, why: OSError) -> None:
        cut = _CUT_SHORT.fullmatch(str(why))
        reason = why.strerror or type(why).__name__
        if cut is not None:
            reason = f"the disk accepted only {cut['written']} of {cut['wanted']} values"
        where = "cannot write" if folder is None else f"cannot write to the folder '{folder}'"
        number = errno.ENOSPC if cut is not None else why.errno
        hint = _CURES.get(number or 0, "choose another folder, or get permission to write there")
        reason, hint = _of_windows(why) or (reason, hint)
        super().__init__(f"{where}: {reason}", hint=hint, code="output.unwritable")


_CUT_SHORT = re.compile(r"(?P<wanted>\d+) requested and (?P<written>\d+) written")
"""Message of NumPy's ``tofile``, without an error number, if only part of an array is written."""

_CURES = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT),
        "free space on that disk, or choose a folder on another disk; 'ulimit -f' also limits "
        "files",
    ),
    errno.EFBIG: "the file system or 'ulimit -f' limits the size of a file; choose another folder",
    errno.EIO: "the disk reports a fault; choose a folder on another disk",
    errno.ENAMETOOLONG: "choose a folder with a shorter path with -o, or shorten the name of the "
    "image",
}
"""Error number of a disk -> hint."""

_OF_DISKS = {*_CURES, errno.EROFS}

_LONGEST_PATH = 259
"""Maximum length of a path on Windows unless long paths are enabled (``MAX_PATH``)."""

_HELD_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Pauses between attempts to rename a file, which a virus scanner may hold open for a moment."""


def _of_windows(why: OSError) -> tuple[str, str] | None:
    """Return the reason and the hint for errors specific to Windows; None for any other error."""
    if sys.platform != "win32" or why.filename is None:
        return None
    path = os.path.abspath(os.fsdecode(why.filename2 or why.filename))  # noqa: PTH100
    if why.errno in {errno.ENOENT, errno.ENAMETOOLONG} and len(path) > _LONGEST_PATH:
        return (
            f"the path '{path}' has {len(path)} characters, but Windows allows {_LONGEST_PATH}",
            "choose a folder with a shorter path with -o, or enable long paths in Windows",
        )
    if why.errno == errno.EINVAL:
        return (
            f"Windows does not allow a file named '{Path(path).name}'",
            'avoid < > : " | ? * and a dot or space at the end; con, nul, aux are reserved',
        )
    if isinstance(why, PermissionError) and why.filename2 is not None:
        return (
            f"'{Path(path).name}' is open in another program",
            "close it there, such as a table in Excel or a mask in Fiji, and run bmz again",
        )
    return None


@contextmanager
def disk_faults_told(folder: Path | None = None) -> Iterator[None]:
    """Convert disk errors in the block: the disk is full or limits files, or the folder is gone.

    Parameters
    ----------
    folder : folder into which the block writes; None if it is unknown

    Raises
    ------
    FolderNotWritable
        The block raised an ``OSError`` of that kind; any other error is not changed.
    """
    try:
        yield
    except OSError as why:
        if _is_of_disk(why) or (folder is not None and _is_lost(folder, why)):
            raise FolderNotWritable(folder, why) from why
        raise


def _is_of_disk(why: OSError) -> bool:
    cut = _CUT_SHORT.fullmatch(str(why)) is not None
    return cut or why.errno in _OF_DISKS or _of_windows(why) is not None


def _is_lost(folder: Path, why: OSError) -> bool:
    """Return whether a file in `folder` could not be written because a parent folder is gone."""
    if why.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ESTALE):
        return False
    name = why.filename2 or why.filename
    path = folder if name is None else Path(os.fsdecode(name))
    inside = path.absolute().is_relative_to(folder.absolute())
    return inside and not (path.parent.is_dir() and os.access(path.parent, os.W_OK))


def reserve(path: Path, size: int) -> None:
    """Reserve `size` bytes on the disk for a memory-mapped file.

    If the disk is full, writing to a memory-mapped file kills the process; this raises instead.
    macOS and Windows have no such call; there, the system enlarges the file.
    """
    if hasattr(os, "posix_fallocate") and size > 0:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock for writing `path` while the block runs.

    Yields
    ------
    bool
        False if another process holds the lock
    """
    from filelock import FileLock, Timeout  # here, so that --help stays quick

    # the block may end in a different thread than it began in
    lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(PermissionError):  # Windows does not remove an open file
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def writable_folder(folder: Path) -> Path:
    """Create `folder` with its parents, and verify that a file can be created in it.

    Raises
    ------
    FolderNotWritable
        The folder cannot be created, is a file, or does not accept files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as why:
        raise FolderNotWritable(folder, why) from why
    return folder


def move(source: Path, target: Path) -> None:
    """Rename a file or folder, and replace an existing target.

    Windows neither renames nor replaces a file that a program has open, so this is retried for
    one and a half seconds.

    Raises
    ------
    OSError
        Renaming failed; `disk_faults_told` converts the error.
    """
    for pause_s in _HELD_PAUSES_S if sys.platform == "win32" else ():
        with suppress(PermissionError):
            source.replace(target)
            return
        time.sleep(pause_s)
    source.replace(target)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; move it there when the block ends without an error.

    The temporary file has the suffix of `path`, since writers choose the format by it. If the block
    raises an error, the temporary file is removed.
    """
    suffix = "".join(path.suffixes[-2:])
    temporary = path.with_name(f"{unfinished('writing')}{os.urandom(8).hex()}{suffix}")
    temporary.touch(exist_ok=False)  # with the user's default permissions for new files
    try:
        yield temporary
        move(temporary, path)
    finally:
        with suppress(
            PermissionError
        ):  # Windows does not remove a file that is open; a later run removes it as left over
            temporary.unlink(missing_ok=True)


def write_whole_text(path: Path, text: str) -> None:
    """Write a text file, and create its folder if necessary.

    Raises
    ------
    FolderNotWritable
    """
    writable_folder(path.parent)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def whole_files(files: Mapping[str, Path], folder: Path) -> Iterator[dict[str, Path]]:
    """Yield a temporary path for each of `files`; move all when the block ends without an error.

    The files get their names together, once all are complete; if the block raises an error, none
    does.

    Parameters
    ----------
    files : kind -> path; folders are created
    folder : existing folder for the temporary files, on the same disk as `files`
    """
    with tempfile.TemporaryDirectory(
        prefix=unfinished("writing"), dir=folder, ignore_cleanup_errors=True
    ) as temporary:
        staged = {kind: Path(temporary) / path.name for kind, path in files.items()}
        yield staged
        for place in staged.values():
            place.stat()  # fails if a file was never written, before anything is replaced
        for path in filter(is_there, files.values()):
            move(path, path)  # fails if a program has the file open
        for kind, path in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():  # an existing store to replace
                shutil.rmtree(path)
            move(staged[kind], path)


_DIGEST_BYTES = 32


def seal(path: Path, content: bytes) -> None:
    """Write a file as the sha256 of its content, followed by the content."""
    with whole_file(path) as temporary:
        temporary.write_bytes(hashlib.sha256(content).digest() + content)


def sealed_content(path: Path) -> bytes:
    """Read a sealed file and record its use; empty if it is absent or damaged."""
    with suppress(OSError):
        text = path.read_bytes()
        digest, content = text[:_DIGEST_BYTES], text[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == digest:
            os.utime(path)
            return content
    return b""
