"""Open a zip of others, safely, and unpack a package once into the cache."""

from __future__ import annotations

import errno
import hashlib
import lzma
import shutil
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from bmz.zoo.errors import ArchiveRefused, NotAPackage
from bmz.zoo.zip_layout import refuse_torn

MOST_FILES = 10_000
"""A package has tens of files; a SavedModel or Zarr inside has hundreds."""

MOST_BYTES = 64 * 2**30
"""Unpacked size that no model of the zoo comes near."""

MOST_RATIO = 200
"""Unpacked over packed size; weights hardly compress, and text by less than 100."""


_OF_MEMBERS = frozenset(
    {None, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
)
"""Errors that come from what a zip says, not from the disk; that of bzip2 has no number."""


def unpack(archive: Path, cache: Path, *, called: Path | str = "") -> Path:
    """Unpack `archive` into a folder of the cache named by its sha256, once.

    Parameters
    ----------
    archive : a zip file
    cache : the cache folder; made when it is not there
    called : what the user calls `archive`, when that is not its path

    Returns
    -------
    Path
        the folder with the members

    Raises
    ------
    NotAPackage
        No zip, a damaged one, or one that cannot be read.
    ArchiveRefused
        A member leaves the folder or is a link, there are too many or too large ones, or
        programs differ in what it holds.
    OSError
        It cannot be kept.
    """
    try:
        with archive.open("rb") as stream:
            identity = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as why:
        raise NotAPackage(called or archive, f"it cannot be read ({why.strerror})") from why
    folder = cache / "unpacked" / identity
    if folder.is_dir():
        return folder
    from filelock import FileLock  # here: what is unpacked needs no lock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            _unpack_whole(archive, folder, called or archive)
    return folder


def _unpack_whole(archive: Path, folder: Path, called: Path | str) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    try:
        with damage_told(), opened_zip(archive, called) as opened:
            opened.extractall(temporary)
        temporary.replace(folder)
    except zipfile.BadZipFile as why:
        raise NotAPackage(called, f"it is no zip file that can be unpacked ({why})") from why
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def opened_zip(path: Path, called: Path | str = "") -> Iterator[zipfile.ZipFile]:
    """Open a zip that can be read in one way only, and whose members may be unpacked.

    Parameters
    ----------
    path : of the zip
    called : what the user calls it, when that is not its path

    Raises
    ------
    zipfile.BadZipFile
        It is none; what else may be raised for a damaged one, see `damage_told`.
    ArchiveRefused
        See `refuse_unsafe` and ``bmz.zoo.zip_layout.refuse_torn``.
    OSError
        It cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        refuse_unsafe(called or path, archive.infolist())
        refuse_torn(path, archive.infolist(), called)
        yield archive


@contextmanager
def damage_told() -> Iterator[None]:
    """Make one error of all that zipfile raises for a zip that is damaged, locked or too new.

    Raises
    ------
    zipfile.BadZipFile
        In place of those; an ``OSError`` of the disk passes.
    """
    try:
        yield
    except (zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, struct.error) as why:
        raise zipfile.BadZipFile(str(why)) from why
    except OSError as why:
        if why.errno not in _OF_MEMBERS:
            raise
        raise zipfile.BadZipFile(str(why)) from why


def refuse_unsafe(archive: Path | str, members: list[zipfile.ZipInfo]) -> None:
    """Look at the list of members before anything is written.

    Raises
    ------
    ArchiveRefused
        See ``unpack``.
    """
    for member in members:
        if not member.filename:
            raise ArchiveRefused(archive, "a member has no name")
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if not member.filename:
            raise ArchiveRefused(archive, "a member has no name")
        if path.is_absolute() or ".." in path.parts or ":" in member.filename:
            raise ArchiveRefused(archive, f"member '{member.filename}' leaves its folder")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ArchiveRefused(archive, f"member '{member.filename}' is a link")
    _refuse_twins(archive, members)
    unpacked = sum(member.file_size for member in members)
    packed = max(sum(member.compress_size for member in members), 1)
    if len(members) > MOST_FILES:
        raise ArchiveRefused(archive, f"{len(members)} files, at most {MOST_FILES} are unpacked")
    if unpacked > MOST_BYTES or (unpacked > 2**28 and unpacked / packed > MOST_RATIO):
        raise ArchiveRefused(archive, f"{packed} bytes would become {unpacked}")


def _refuse_twins(archive: Path | str, members: list[zipfile.ZipInfo]) -> None:
    # which of two is taken differs between programs, and between file systems
    seen: set[str] = set()
    for member in members:
        if member.is_dir():
            continue
        path = str(PurePosixPath(member.filename.replace("\\", "/")))
        place = unicodedata.normalize("NFC", path).casefold()
        if place in seen:
            raise ArchiveRefused(archive, f"member '{member.filename}' is in it twice")
        seen.add(place)
