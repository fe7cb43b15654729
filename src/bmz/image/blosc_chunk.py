"""Whether a chunk of Blosc is whole, which its decoder does not ask: it reads on behind the end.

Source: https://github.com/Blosc/c-blosc/blob/v1.21.6/README_CHUNK_FORMAT.rst
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_HEADER = struct.Struct("<4B3L")
_NUMBER = struct.Struct("<l")
_FORMATS = (1, 2)  # that the decoder reads
_SHUFFLED, _COPIED, _BITS_SHUFFLED, _ONE_STREAM = 1, 2, 4, 16
_CODECS = range(5)
_ITEMS = (1, 2, 4, 8, 16)  # bytes of a value, of any type that an image may have
_SHUFFLES: Mapping[object, int] = {
    0: 0, 1: _SHUFFLED, 2: _BITS_SHUFFLED,
    "noshuffle": 0, "shuffle": _SHUFFLED, "bitshuffle": _BITS_SHUFFLED,
}  # fmt: skip
"""What metadata say -> the flags; -1 lets the writer choose."""
_LARGEST = 2**31 - 1 - _HEADER.size


class ChunkDamaged(ValueError):  # noqa: N818  (the words of a decoder, told by `decoding`)
    """A chunk is cut short, or does not hold what it says."""


@dataclass(frozen=True)
class BloscHeader:
    """The first 16 bytes of a chunk.

    Parameters
    ----------
    item : size of a value when it was shuffled, bytes
    flags : how it was packed
    unpacked, block, packed : sizes of the chunk without packing, of the parts that are packed each
        by itself, and of the chunk as it lies there; bytes
    """

    item: int
    flags: int
    unpacked: int
    block: int
    packed: int


def refuse_cut_chunk(
    chunk: bytes | memoryview, wanted: int | None = None, shuffle: object = None
) -> None:
    """Look that a chunk of Blosc has the length that it says, and that its parts fill it.

    Parameters
    ----------
    chunk : as it is stored
    wanted : bytes that it must give, where that is known
    shuffle : how the metadata of the array say that it was shuffled, a number or a word

    Raises
    ------
    ChunkDamaged
        It has not, or they do not.
    """
    view = memoryview(chunk).cast("B")
    header = _header(view)
    if len(view) != header.packed:
        raise ChunkDamaged(_cut(f"{header.packed} bytes wanted, {len(view)} found"))
    if wanted is not None and header.unpacked != wanted:
        raise ChunkDamaged(f"a chunk gives {header.unpacked} bytes, not {wanted}")
    if header.flags & _COPIED:
        if header.packed != header.unpacked + _HEADER.size:
            raise ChunkDamaged("a chunk that is not packed has another size packed")
        return
    found = header.flags & (_SHUFFLED | _BITS_SHUFFLED)
    if header.item > 1 and found != _SHUFFLES.get(shuffle, found):
        raise ChunkDamaged("a chunk is shuffled otherwise than its array says")
    if header.unpacked:
        _refuse_gaps(view, header)


def _header(view: memoryview) -> BloscHeader:
    if len(view) < _HEADER.size:
        raise ChunkDamaged(_cut(f"{_HEADER.size} bytes wanted, {len(view)} found"))
    version, _, flags, item, unpacked, block, packed = _HEADER.unpack_from(view)
    sound = (
        version in _FORMATS
        and flags >> 5 in _CODECS
        and flags & (_SHUFFLED | _BITS_SHUFFLED) != _SHUFFLED | _BITS_SHUFFLED
        and item in _ITEMS
        and unpacked <= _LARGEST
        and (0 < block <= unpacked or not unpacked)
    )
    if not sound:
        raise ChunkDamaged("the first 16 bytes of a chunk are none of Blosc")
    return BloscHeader(item, flags, unpacked, block, packed)


def _refuse_gaps(view: memoryview, header: BloscHeader) -> None:
    """Walk over the streams of every part; a part starts where one ends, in any order."""
    blocks = -(-header.unpacked // header.block)
    table = _HEADER.size + blocks * _NUMBER.size
    if table > len(view):
        raise ChunkDamaged("a chunk has no room for the parts that it tells of")
    starts = [_NUMBER.unpack_from(view, _HEADER.size + i * 4)[0] for i in range(blocks)]
    ends = [_end_of(view, header, number, start) for number, start in enumerate(starts)]
    order = sorted(starts)
    if order != sorted([table, *ends])[:-1] or max(ends) != len(view):
        raise ChunkDamaged("the parts of a chunk do not lie one after the other")
    if any(one >= other for one, other in itertools.pairwise(order)):
        raise ChunkDamaged("two parts of a chunk lie in one place")


def _end_of(view: memoryview, header: BloscHeader, number: int, start: int) -> int:
    place = start
    for _ in _streams(header, number):
        if not _HEADER.size <= place <= len(view) - _NUMBER.size:
            raise ChunkDamaged(_cut("a part of a chunk lies outside of it"))
        (length,) = _NUMBER.unpack_from(view, place)
        if length <= 0:
            raise ChunkDamaged("a part of a chunk has no length")
        place += _NUMBER.size + length
    return place


def _streams(header: BloscHeader, number: int) -> Iterator[int]:
    shorter = (number + 1) * header.block > header.unpacked
    yield from range(1 if header.flags & _ONE_STREAM or shorter else header.item)


def _cut(why: str) -> str:
    return f"a chunk ended before its time: {why}"
