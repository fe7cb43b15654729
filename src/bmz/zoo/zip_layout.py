"""Whether a zip can be read in one way only.

A zip tells twice where its members lie, once in the directory at its end and once before each
member, and where the directory lies, too. Where these differ, one program reads another archive
than the next one. So a zip is taken only if its parts lie one after the other without a gap from
the first byte to the last, and tell the same.

Source: APPNOTE.TXT 6.3.10 of PKWARE, sections 4.3.7, 4.3.9, 4.3.12, 4.3.14 to 4.3.16.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bmz.zoo.errors import ArchiveRefused

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 2**16 - 1
_IN_64 = 2**32 - 1  # stands where the true number is one of 64 bits, in another place
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
    """What the directory says of a member, and how much of the file it takes for itself."""

    name: bytes
    flags: int
    method: int
    sizes: tuple[int, int]
    offset: int


class _Torn(ValueError):  # noqa: N818  (its caller tells which file)
    """The parts do not fit together."""


def refuse_torn(path: Path, members: Sequence[zipfile.ZipInfo], called: Path | str = "") -> None:
    """Look that other programs find the same members in a zip that `zipfile` has found.

    Parameters
    ----------
    path : of a zip
    members : what `zipfile` lists, in its order
    called : what the user calls the file, when that is not its path

    Raises
    ------
    ArchiveRefused
        It has bytes before, between or after its parts, parts that overlap, two directories, or a
        member that its directory tells otherwise than the member itself.
    """
    try:
        with path.open("rb") as stream:
            directory = _directory(stream)
            entries = list(_entries(stream, directory, members))
            _refuse_gaps(stream, entries, directory)
    except (_Torn, struct.error) as why:
        words = f"its parts do not fit together ({why}), so programs differ in what it holds"
        raise ArchiveRefused(called or path, words) from why


def _directory(stream: BinaryIO) -> _Directory:
    size = stream.seek(0, 2)
    start = stream.seek(max(size - _END.size - _LONGEST_COMMENT, 0))
    tail = stream.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < _END.size:
        raise _Torn("it has no end")
    _, disk, first, here, count, length, offset, comment = _END.unpack_from(tail, place)
    if place + _END.size + comment != len(tail):
        raise _Torn("bytes follow its end")
    if disk or first or here != count:
        raise _Torn("it is one of several volumes")
    told, end = (count, length, offset), start + place
    if end >= _LOCATOR_64.size and _read(stream, end - _LOCATOR_64.size, 4) == b"PK\6\7":
        told, end = _told_in_64(stream, end - _LOCATOR_64.size, told)
    if told[2] + told[1] != end:
        raise _Torn("its directory does not lie before its end")
    return _Directory(told[2], end, told[0])


def _told_in_64(
    stream: BinaryIO, locator: int, short: tuple[int, int, int]
) -> tuple[tuple[int, int, int], int]:
    _, _, offset, _ = _LOCATOR_64.unpack(_read(stream, locator, _LOCATOR_64.size))
    if offset + _END_64.size != locator:
        raise _Torn("its second end lies elsewhere")
    sign, length, *_, here, count, size, start = _END_64.unpack(_read(stream, offset, _END_64.size))
    if sign != b"PK\6\6" or length + 12 != _END_64.size or here != count:
        raise _Torn("its second end is none")
    told = (count, size, start)
    for one, other, stands_for in zip(short, told, (_COUNT_IN_64, _IN_64, _IN_64), strict=True):
        if one not in {other, stands_for}:
            raise _Torn("its two ends differ")
    return told, offset


def _entries(
    stream: BinaryIO, directory: _Directory, members: Sequence[zipfile.ZipInfo]
) -> Iterator[_Entry]:
    if directory.count != len(members):
        raise _Torn(f"{directory.count} members are told and {len(members)} listed")
    content = _read(stream, directory.start, directory.end - directory.start)
    place = 0
    for member in members:
        sign, _, _, flags, method, *_, name, extra, comment, _, _, _, offset = _ENTRY.unpack_from(
            content, place
        )
        if sign != b"PK\1\2":
            raise _Torn("its directory is broken")
        if offset not in {member.header_offset, _IN_64}:
            raise _Torn(f"'{member.filename}' is looked for in two places")
        place += _ENTRY.size
        yield _Entry(
            content[place : place + name], flags, method,
            (member.compress_size, member.file_size), member.header_offset,
        )  # fmt: skip
        place += name + extra + comment
    if place != len(content):
        raise _Torn("its directory is longer than its members")


def _refuse_gaps(stream: BinaryIO, entries: list[_Entry], directory: _Directory) -> None:
    ordered = sorted(entries, key=lambda entry: entry.offset)
    starts = [entry.offset for entry in ordered]
    ends: tuple[int, ...] = (0,)
    for entry, start in zip(ordered, starts, strict=True):
        if start not in ends:
            raise _Torn(f"bytes before '{_shown(entry)}' belong to none or to two members")
        ends = _ends(stream, entry)
    if directory.start not in ends:
        raise _Torn("bytes before its directory belong to none or to two members")


def _ends(stream: BinaryIO, entry: _Entry) -> tuple[int, ...]:
    """Give where a member may end, the bytes that describe it included."""
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
        size not in {told, *unknown}
        for size, told in zip((packed, unpacked), entry.sizes, strict=True)
    ):
        raise _Torn(f"'{_shown(entry)}' is told otherwise where it lies")
    end = entry.offset + _LOCAL.size + name + extra + entry.sizes[0]
    if flags & _DESCRIBED:
        return tuple(end + length for length in _DESCRIPTORS)
    return (end,)


def _read(stream: BinaryIO, place: int, length: int) -> bytes:
    stream.seek(place)
    return stream.read(length)


def _shown(entry: _Entry) -> str:
    return entry.name.decode("utf-8", "replace")
