"""Zips in which two programs find two archives, each made of a harmless one and another one.

Each maker takes the bytes of two zips with members of the same names, as `zipfile` writes them.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_OFFSET_AT, _ENTRY_LENGTH = 42, 46


def written(members: Mapping[str, bytes], *, pad: int = 0) -> bytes:
    """Write a zip, stored; `pad` bytes more go into its first member's extra field."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            archive.writestr(entry, content)
    return _padded(buffer.getvalue(), pad)


@dataclass(frozen=True)
class Parts:
    """A zip in three: its members, its directory, and how many there are."""

    members: bytes
    directory: bytes
    count: int

    @classmethod
    def of(cls, content: bytes) -> Parts:
        _, _, _, _, count, length, offset, _ = _END.unpack(content[-_END.size :])
        return cls(content[:offset], content[offset : offset + length], count)

    def moved(self, by: int) -> Parts:
        """Let the directory say that every member lies so much further on."""
        directory, place = bytearray(self.directory), 0
        while place < len(directory):
            (offset,) = struct.unpack_from("<L", directory, place + _OFFSET_AT)
            struct.pack_into("<L", directory, place + _OFFSET_AT, offset + by)
            place += _ENTRY_LENGTH + sum(struct.unpack_from("<3H", directory, place + 28))
        return Parts(self.members, bytes(directory), self.count)


def end(count: int, length: int, offset: int, comment: bytes = b"") -> bytes:
    return _END.pack(b"PK\5\6", 0, 0, count, count, length, offset, len(comment)) + comment


def end_points_elsewhere(good: bytes, evil: bytes) -> bytes:
    """The end points at one directory, and another one lies directly before it."""
    other = Parts.of(evil)
    mine = Parts.of(good)
    start = len(other.members) + len(other.directory)
    # who takes the directory before the end believes that everything lies that much further on
    further = len(other.directory) + len(mine.members)
    directory = mine.moved(start - further).directory
    tail = end(other.count, len(other.directory), len(other.members))
    return other.members + other.directory + mine.members + directory + tail


def locator_points_elsewhere(good: bytes, evil: bytes) -> bytes:
    """The locator of ZIP64 points at one end, and another one lies directly before it."""
    other, mine = Parts.of(evil), Parts.of(good)
    first = other.members + other.directory
    first_end = _end_64(other.count, len(other.directory), len(other.members))
    body = first + first_end + mine.members
    directory = mine.moved(len(first) + len(first_end)).directory
    second_end = _end_64(mine.count, len(directory), len(body))
    locator = _LOCATOR_64.pack(b"PK\6\7", 0, len(first), 1)
    tail = _END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return body + directory + second_end + locator + tail


def local_name_differs(good: bytes, evil: bytes) -> bytes:  # noqa: ARG001  (as the others)
    """The first member says that it has another name than the directory says."""
    return good[:30] + b"#" + good[31:]


def local_size_differs(good: bytes, evil: bytes) -> bytes:  # noqa: ARG001
    """The first member says that it is longer than the directory says."""
    (size,) = struct.unpack_from("<L", good, 22)
    return good[:22] + struct.pack("<L", size + 1) + good[26:]


def preceded(good: bytes, evil: bytes) -> bytes:
    """A whole zip lies before this one, which knows nothing of it."""
    return evil + good


def followed(good: bytes, evil: bytes) -> bytes:
    """A whole zip lies in the comment, cut off so that it ends the file."""
    mine = Parts.of(good)
    head = mine.members + mine.directory
    return head + end(mine.count, len(mine.directory), len(mine.members), evil[:-4])[:-2]


def with_gap(good: bytes, evil: bytes) -> bytes:
    """Members of another zip lie between the members and the directory."""
    mine, other = Parts.of(good), Parts.of(evil)
    body = mine.members + other.members
    return body + mine.directory + end(mine.count, len(mine.directory), len(body))


def overlapping(good: bytes, evil: bytes) -> bytes:  # noqa: ARG001
    """Two members of the directory are one and the same bytes."""
    mine = Parts.of(good)
    length = _ENTRY_LENGTH + sum(struct.unpack_from("<3H", mine.directory, 28))
    directory = mine.directory + mine.directory[:length].replace(b"a", b"b", 1)
    return mine.members + directory + end(mine.count + 1, len(directory), len(mine.members))


VARIANTS: Mapping[str, Callable[[bytes, bytes], bytes]] = {
    function.__name__.replace("_", " "): function
    for function in (
        end_points_elsewhere, locator_points_elsewhere, local_name_differs, local_size_differs,
        preceded, followed, with_gap, overlapping,
    )
}  # fmt: skip
"""What is wrong with a zip -> what makes it of a harmless zip and another one."""


def _end_64(count: int, length: int, offset: int) -> bytes:
    size = _END_64.size - 12
    return _END_64.pack(b"PK\6\6", size, 45, 45, 0, 0, count, count, length, offset)


def _padded(content: bytes, pad: int) -> bytes:
    if not pad:
        return content
    parts = Parts.of(content)
    name, extra = struct.unpack_from("<2H", content, 26)
    place = 30 + name + extra
    head = bytearray(content[:place] + struct.pack("<2H", 0xFFFF, pad - 4) + bytes(pad - 4))
    struct.pack_into("<H", head, 28, extra + pad)
    members = bytes(head) + parts.members[place:]
    moved = bytearray(parts.moved(pad).directory)
    struct.pack_into("<L", moved, _OFFSET_AT, 0)  # the first one stays where it is
    return members + bytes(moved) + end(parts.count, len(moved), len(members))
