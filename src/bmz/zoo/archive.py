"""Unpack a zip package once, safely, into the cache."""

from __future__ import annotations

import hashlib
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from bmz.base.files import writable_folder
from bmz.zoo.errors import ArchiveRefused, NotAPackage

MOST_FILES = 10_000
"""A package has tens of files; a SavedModel or Zarr inside has hundreds."""

MOST_BYTES = 64 * 2**30
"""Unpacked size that no model of the zoo comes near."""

MOST_RATIO = 200
"""Unpacked over packed size; weights hardly compress, and text by less than 100."""


def unpack(archive: Path, cache: Path) -> Path:
    """Unpack `archive` into a folder of the cache named by its sha256, once.

    Parameters
    ----------
    archive : a zip file
    cache : the cache folder; made when it is not there

    Returns
    -------
    Path
        the folder with the members

    Raises
    ------
    NotAPackage
        No zip, or a damaged one.
    ArchiveRefused
        A member leaves the folder or is a link, or there are too many or too large ones.
    """
    with archive.open("rb") as stream:
        identity = hashlib.file_digest(stream, "sha256").hexdigest()
    folder = cache / "unpacked" / identity
    if folder.is_dir():
        return folder
    from filelock import FileLock  # here: what is unpacked needs no lock

    writable_folder(folder.parent)
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            _unpack_whole(archive, folder)
    return folder


def _unpack_whole(archive: Path, folder: Path) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    try:
        with zipfile.ZipFile(archive) as opened:
            refuse_unsafe(archive, opened.infolist())
            opened.extractall(temporary)
        temporary.replace(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as why:
        raise NotAPackage(archive, f"it is no whole zip file ({why})") from why
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_unsafe(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    """Look at the list of members before anything is written.

    Raises
    ------
    ArchiveRefused
        See ``unpack``.
    """
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in member.filename:
            raise ArchiveRefused(archive, f"member '{member.filename}' leaves its folder")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ArchiveRefused(archive, f"member '{member.filename}' is a link")
    unpacked = sum(member.file_size for member in members)
    packed = max(sum(member.compress_size for member in members), 1)
    if len(members) > MOST_FILES:
        raise ArchiveRefused(archive, f"{len(members)} files, at most {MOST_FILES} are unpacked")
    if unpacked > MOST_BYTES or (unpacked > 2**28 and unpacked / packed > MOST_RATIO):
        raise ArchiveRefused(archive, f"{packed} bytes would become {unpacked}")
