"""Checking and unpacking of zip archives."""

from __future__ import annotations

import errno
import lzma
import shutil
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from bmz.base.files import move, sha256_of
from bmz.base.values import dataclass
from bmz.zoo.errors import ArchiveRefused, NotAPackage

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 2**16 - 1
_IN_64 = 2**32 - 1  # marks a number that has 64 bits, and is stored elsewhere
_COUNT_IN_64 = 2**16 - 1
_DESCRIBED = 1 << 3  # the sizes follow the member
_SAME_FLAGS = 1 | _DESCRIBED | 1 << 11  # encrypted, sizes that follow, names in UTF-8
_DESCRIPTORS = (12, 16, 20, 24)  # bytes: with and without signature, sizes of 32 and 64 bits


@dataclass(frozen=True)
class _Directory:
    start: int
    end: int
    count: int


@dataclass(frozen=True)
class _Entry:
    """The entry of a member in the directory, and its place in the file."""

    name: bytes
    flags: int
    method: int
    sizes: tuple[int, int]
    offset: int


class _TornZipError(ValueError):
    """The parts of the zip do not fit together."""


def refuse_torn(path: Path, members: Sequence[zipfile.ZipInfo], called: Path | str = "") -> None:
    """Raise an error for a zip in which other programs may find other members than `zipfile`.

    Parameters
    ----------
    path : path of the zip
    members : the members that `zipfile` lists, in its order
    called : the name by which the user knows the file, if it is not its path

    Raises
    ------
    ArchiveRefused
        The zip has bytes before, between or after its parts, parts that overlap, two directories,
        or a member that differs from its entry in the directory.
    """
    try:
        with path.open("rb") as stream:
            directory = _directory(stream)
            entries = list(_entries(stream, directory, members))
            _refuse_gaps(stream, entries, directory)
    except (_TornZipError, struct.error) as why:
        words = (
            f"its parts do not fit together ({why}), so programs may find different members in it"
        )
        raise ArchiveRefused(called or path, words) from why


def _directory(stream: BinaryIO) -> _Directory:
    size = stream.seek(0, 2)
    start = stream.seek(max(size - _END.size - _LONGEST_COMMENT, 0))
    tail = stream.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < _END.size:
        raise _TornZipError("it has no end record")
    _, disk, first, here, count, length, offset, comment = _END.unpack_from(tail, place)
    if place + _END.size + comment != len(tail):
        raise _TornZipError("bytes follow its end record")
    if disk or first or here != count:
        raise _TornZipError("it is one of several volumes")
    record, end = (count, length, offset), start + place
    if end >= _LOCATOR_64.size and _read(stream, end - _LOCATOR_64.size, 4) == b"PK\6\7":
        record, end = _record_in_64(stream, end - _LOCATOR_64.size, record)
    if record[2] + record[1] != end:
        raise _TornZipError("its directory is not before its end")
    return _Directory(record[2], end, record[0])


def _record_in_64(
    stream: BinaryIO, locator: int, short: tuple[int, int, int]
) -> tuple[tuple[int, int, int], int]:
    _, _, offset, _ = _LOCATOR_64.unpack(_read(stream, locator, _LOCATOR_64.size))
    if offset + _END_64.size != locator:
        raise _TornZipError("its second end record is elsewhere")
    sign, length, *_, here, count, size, start = _END_64.unpack(_read(stream, offset, _END_64.size))
    if sign != b"PK\6\6" or length + 12 != _END_64.size or here != count:
        raise _TornZipError("its second end record is malformed")
    record = (count, size, start)
    for short_value, long_value, stands_for in zip(
        short, record, (_COUNT_IN_64, _IN_64, _IN_64), strict=True
    ):
        if short_value not in {long_value, stands_for}:
            raise _TornZipError("its two end records differ")
    return record, offset


def _entries(
    stream: BinaryIO, directory: _Directory, members: Sequence[zipfile.ZipInfo]
) -> Iterator[_Entry]:
    if directory.count != len(members):
        raise _TornZipError(f"{directory.count} members are stated, but {len(members)} are listed")
    content = _read(stream, directory.start, directory.end - directory.start)
    place = 0
    for member in members:
        sign, _, _, flags, method, *_, name, extra, comment, _, _, _, offset = _ENTRY.unpack_from(
            content, place
        )
        if sign != b"PK\1\2":
            raise _TornZipError("its directory is broken")
        if offset not in {member.header_offset, _IN_64}:
            raise _TornZipError(f"'{member.filename}' has two offsets")
        place += _ENTRY.size
        yield _Entry(
            content[place : place + name], flags, method,
            (member.compress_size, member.file_size), member.header_offset,
        )  # fmt: skip
        place += name + extra + comment
    if place != len(content):
        raise _TornZipError("its directory is longer than its members")


def _refuse_gaps(stream: BinaryIO, entries: list[_Entry], directory: _Directory) -> None:
    ordered = sorted(entries, key=lambda entry: entry.offset)
    starts = [entry.offset for entry in ordered]
    ends: tuple[int, ...] = (0,)
    for entry, start in zip(ordered, starts, strict=True):
        if start not in ends:
            raise _TornZipError(
                f"bytes before '{_shown(entry)}' belong to no member, or to two members"
            )
        ends = _ends(stream, entry)
    if directory.start not in ends:
        raise _TornZipError("bytes before its directory belong to no member, or to two members")


def _ends(stream: BinaryIO, entry: _Entry) -> tuple[int, ...]:
    """Return the possible ends of a member, including its data descriptor."""
    header = _LOCAL.unpack(_read(stream, entry.offset, _LOCAL.size))
    sign, _, flags, method, _, _, _, packed, unpacked, name, extra = header
    same = (
        sign == b"PK\3\4"
        and method == entry.method
        and (flags ^ entry.flags) & _SAME_FLAGS == 0
        and _read(stream, entry.offset + _LOCAL.size, name) == entry.name
        and b"\0" not in entry.name
    )
    unknown = {0, _IN_64} if flags & _DESCRIBED else {_IN_64}
    if not same or any(
        size not in {stated, *unknown}
        for size, stated in zip((packed, unpacked), entry.sizes, strict=True)
    ):
        raise _TornZipError(f"'{_shown(entry)}' differs from its entry in the directory")
    end = entry.offset + _LOCAL.size + name + extra + entry.sizes[0]
    if flags & _DESCRIBED:
        return tuple(end + length for length in _DESCRIPTORS)
    return (end,)


def _read(stream: BinaryIO, place: int, length: int) -> bytes:
    stream.seek(place)
    return stream.read(length)


def _shown(entry: _Entry) -> str:
    return entry.name.decode("utf-8", "replace")


MOST_FILES = 10_000
"""A package has tens of files; a SavedModel or Zarr inside has hundreds."""

MOST_BYTES = 64 * 2**30
"""Largest unpacked size, far above that of any model of the zoo."""

MOST_RATIO = 200
"""Largest ratio of unpacked to packed size; weights hardly compress, and text by less than 100."""


_OF_MEMBERS = frozenset(
    {None, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
)
"""Error numbers that come from the content of a zip, not from the disk; None for bzip2."""


def unpack(archive: Path, cache: Path, *, called: Path | str = "") -> Path:
    """Unpack `archive` into a folder of the cache named by its sha256, once.

    Parameters
    ----------
    archive : a zip file
    cache : the cache folder; created if it does not exist
    called : the name by which the user knows `archive`, if it is not its path

    Returns
    -------
    Path
        the folder with the members

    Raises
    ------
    NotAPackage
        The file is not a zip, is damaged, or cannot be read.
    ArchiveRefused
        A member leaves the folder or is a link, there are too many or too large ones, or
        programs may find different members in it.
    OSError
        The members cannot be stored.
    """
    try:
        identity = sha256_of(archive)
    except OSError as why:
        raise NotAPackage(called or archive, f"it cannot be read ({why.strerror})") from why
    folder = cache / "unpacked" / identity
    if folder.is_dir():
        return folder
    from filelock import FileLock  # imported here, since no lock is needed if it is unpacked

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
        move(temporary, folder)
    except zipfile.BadZipFile as why:
        raise NotAPackage(called, f"it is not a zip file that can be unpacked ({why})") from why
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def opened_zip(path: Path, called: Path | str = "") -> Iterator[zipfile.ZipFile]:
    """Open a zip that is unambiguous, and whose members are safe to unpack.

    Parameters
    ----------
    path : path of the zip
    called : the name by which the user knows it, if it is not its path

    Raises
    ------
    zipfile.BadZipFile
        The file is not a zip; for other errors of a damaged one, see `damage_told`.
    ArchiveRefused
        See `refuse_unsafe` and ``bmz.zoo.archive.refuse_torn``.
    OSError
        It cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        refuse_unsafe(called or path, archive.infolist())
        refuse_torn(path, archive.infolist(), called)
        yield archive


@contextmanager
def damage_told() -> Iterator[None]:
    """Convert all errors of zipfile for a damaged, encrypted or unsupported zip to one error.

    Raises
    ------
    zipfile.BadZipFile
        Instead of those errors; an ``OSError`` of the disk is passed on.
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
    """Check the list of members before anything is written.

    Raises
    ------
    ArchiveRefused
        See ``unpack``.
    """
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if not path.parts:
            raise ArchiveRefused(archive, "a member has no name")
        if path.is_absolute() or ".." in path.parts or ":" in member.filename:
            raise ArchiveRefused(archive, f"member '{member.filename}' leaves its folder")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ArchiveRefused(archive, f"member '{member.filename}' is a link")
    _refuse_twins(archive, members)
    unpacked = sum(member.file_size for member in members)
    packed = max(sum(member.compress_size for member in members), 1)
    if len(members) > MOST_FILES:
        raise ArchiveRefused(
            archive, f"it has {len(members)} files, more than the {MOST_FILES} allowed"
        )
    if unpacked > MOST_BYTES or (unpacked > 2**28 and unpacked / packed > MOST_RATIO):
        raise ArchiveRefused(archive, f"{packed} bytes would unpack to {unpacked}")


def _refuse_twins(archive: Path | str, members: list[zipfile.ZipInfo]) -> None:
    # programs and file systems differ in which of two members with one name they use
    places: set[str] = set()
    for member in members:
        if member.is_dir():
            continue
        path = str(PurePosixPath(member.filename.replace("\\", "/")))
        place = unicodedata.normalize("NFC", path).casefold()
        if place in places:
            raise ArchiveRefused(archive, f"member '{member.filename}' occurs twice")
        places.add(place)
