"""What was seen of a file when it was last hashed, so that it need not be hashed each time."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bmz.base.notes import keep_text, read_note

NOTES = ".bmz"
"""Folder of our own notes in a package."""

SETTLED_S = 2.0
"""A file that changed this shortly before it was hashed may change again within one tick
of the clock of its file system (2 s on FAT), so its stamp is not trusted."""


@dataclass(frozen=True)
class Stamp:
    """A file as it was when it was hashed.

    Parameters
    ----------
    sha256 : of the file then
    first : sha256 seen first, which a file without a stated one must keep
    size, mtime_ns, ctime_ns : as the file system said just before
    checked_ns : when, in ns since 1970
    allowed : it was taken although it is not the file described
    """

    name: str
    sha256: str
    first: str
    size: int
    mtime_ns: int
    ctime_ns: int
    checked_ns: int
    allowed: bool = False

    def is_of(self, path: Path) -> bool:
        """Say whether `path` is surely as it was, without reading it."""
        size, mtime_ns, ctime_ns = _look(path)
        same = (size, mtime_ns, ctime_ns) == (self.size, self.mtime_ns, self.ctime_ns)
        return same and max(mtime_ns, ctime_ns) < self.checked_ns - int(SETTLED_S * 1e9)


def _look(path: Path) -> tuple[int, int, int]:
    # the time of the last change of the inode cannot be set back by a program; on Windows
    # st_ctime is the time of creation, so there size and time of modification alone tell
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_stamp(folder: Path, name: str) -> Stamp | None:
    """Give the stamp of file `name` of the package in `folder`; None when there is none."""
    return read_note(_place(folder, name), Stamp)  # none after a crash: hash again


def hash_and_stamp(folder: Path, name: str) -> Stamp:
    """Hash a file of a package, and note it where the cache can be written to."""
    before = read_stamp(folder, name)
    look, now = _look(folder / name), time.time_ns()
    found = sha256_of(folder / name)
    allowed = before is not None and before.allowed and before.sha256 == found
    stamp = Stamp(name, found, before.first if before else found, *look, now, allowed)
    write_stamp(folder, stamp)
    return stamp


def stamp_as(folder: Path, name: str, sha256: str, *, allowed: bool = False) -> Stamp:
    """Note a file whose sha256 is known, since it has just been verified."""
    before = read_stamp(folder, name)
    first = before.first if before else sha256
    stamp = Stamp(name, sha256, first, *_look(folder / name), time.time_ns(), allowed)
    write_stamp(folder, stamp)
    return stamp


def write_stamp(folder: Path, stamp: Stamp) -> None:
    """Note a stamp; a cache that cannot be written to is hashed each time instead."""
    keep_text(_place(folder, stamp.name), json.dumps(asdict(stamp)))


def distrust(folder: Path, stamp: Stamp) -> None:
    """Make sure that a damaged file is hashed again on its next use."""
    write_stamp(folder, replace(stamp, size=-1))


def forget(folder: Path, stamp: Stamp) -> None:
    """Take a stamp away, since its file was never the one wanted."""
    with suppress(OSError):
        _place(folder, stamp.name).unlink(missing_ok=True)


def seen(folder: Path, name: str) -> Stamp | None:
    """Give the stamp of a file as it is now, hashing it only if need be; None if not there."""
    if not (folder / name).is_file():
        return None
    stamp = read_stamp(folder, name)
    if stamp is not None and stamp.is_of(folder / name):
        return stamp
    return hash_and_stamp(folder, name)


def _place(folder: Path, name: str) -> Path:
    key = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return folder / NOTES / "stamps" / f"{key}.json"
