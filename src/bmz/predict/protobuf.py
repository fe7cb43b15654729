"""Read protocol buffers field by field, without their schema and without a library."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_LONGEST = 10  # bytes of a number of 64 bits
_LARGEST_KEY = 2**32 - 1  # others cut a larger one down to this, and find another field


class NotProtobuf(ValueError):  # noqa: N818  (its reader tells what it means)
    """The bytes are no whole message."""

    def __init__(self) -> None:
        super().__init__("it is no whole protocol buffer")


def fields(message: memoryview, *path: int) -> Iterator[memoryview]:
    r"""Yield the content of every field that lies at `path`, texts and messages alone.

    A field may stand several times, and a reader with the schema merges them: all are given.

    Source: https://protobuf.dev/programming-guides/encoding/

    Parameters
    ----------
    message : the whole message
    path : numbers of fields, each in the message of the one before it

    Raises
    ------
    NotProtobuf
        The message, or one on the way, is none.

    Examples
    --------
    >>> [bytes(part) for part in fields(memoryview(b"\x0a\x04\x12\x02hi"), 1, 2)]
    [b'hi']
    """
    for number, content in members(message):
        if number == path[0]:
            if path[1:]:
                yield from fields(content, *path[1:])
            else:
                yield content


def texts(message: memoryview, *path: int) -> Iterator[str]:
    """Yield the texts that lie at `path`; see `fields`."""
    for content in fields(message, *path):
        yield bytes(content).decode("utf-8", "backslashreplace")


def members(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of every text and message in a message, one level deep.

    Raises
    ------
    NotProtobuf
        It is no message.
    """
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        if not 8 <= key <= _LARGEST_KEY:  # noqa: PLR2004  (fields are numbered from 1)
            raise NotProtobuf
        kind = key & 7
        if kind == _VARINT:
            _, at = _number(message, at)
            continue
        if kind == _BYTES:
            size, at = _number(message, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:  # groups: no schema that is read here has them
            raise NotProtobuf
        if at + size > len(message):
            raise NotProtobuf
        if kind == _BYTES:
            yield key >> 3, message[at : at + size]
        at += size


def _number(message: memoryview, at: int) -> tuple[int, int]:
    found = 0
    for position in range(_LONGEST):
        if at + position >= len(message):
            break
        byte = message[at + position]
        found |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:  # noqa: PLR2004  (the high bit says that more follow)
            return found, at + position + 1
    raise NotProtobuf
