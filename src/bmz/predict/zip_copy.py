"""A copy of a zip that was written here, so that every program reads the same members in it."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bmz.zoo.archive import damage_told, opened_zip

_PIECE = 2**20  # bytes


@contextmanager
def plain_copy(path: Path, suffix: str = "") -> Iterator[Path]:
    """Write the members of a zip into a new one, stored, and remove it after.

    Parameters
    ----------
    path : of the zip
    suffix : of the name of the copy, such as ``.keras``

    Raises
    ------
    zipfile.BadZipFile
        It is none, or damaged.
    ArchiveRefused
        See ``bmz.zoo.archive.opened_zip``.
    OSError
        It cannot be read, or the copy not be written.
    """
    with tempfile.TemporaryDirectory(prefix="bmz-weights-") as folder:
        copy = Path(folder) / f"weights{suffix}"
        with damage_told(), opened_zip(path) as old, zipfile.ZipFile(copy, "w") as new:
            for member in old.infolist():
                if not member.is_dir():
                    _add(old, member, new)
        yield copy


def _add(old: zipfile.ZipFile, member: zipfile.ZipInfo, new: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo(member.filename)  # of one time for all: nothing else is kept
    entry.file_size = member.file_size  # so that large ones are written as such
    with old.open(member) as source, new.open(entry, "w") as target:
        shutil.copyfileobj(source, target, _PIECE)
