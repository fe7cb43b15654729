"""Damage bytes, the same way for the same number."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

Change: TypeAlias = Callable[[random.Random, bytes, Sequence[bytes]], bytes]
"""Takes a source of chance, content, and the other seeds; gives other content."""

_WORDS = (
    b"null", b"-1", b"0", b"1e999", b"NaN", b"[]", b"{}", b'""', b"true", b"[" * 3000, b"9" * 5000,
    b"\xff\xfe", b"\xed\xa0\x80", b"\0", b"../", b"\r\n", b"0.5", b"!!python/none", b"&a [*a]",
    b"'", b'"',
)  # fmt: skip
"""What readers of texts stumble over."""

_MOST_CHANGES = 4


def damaged(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Make one to four changes of any kind, most of them near the start, where heads are."""
    for _ in range(chance.randint(1, _MOST_CHANGES)):
        content = chance.choice(CHANGES)(chance, content, others)
    return content


def cut(chance: random.Random, content: bytes, _: Sequence[bytes] = ()) -> bytes:
    """Leave the end away."""
    return content[: _place(chance, content)]


def _place(chance: random.Random, content: bytes) -> int:
    ends = (64, 600, len(content))
    return chance.randrange(max(min(chance.choice(ends), len(content)), 1))


def _bit(chance: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    place = _place(chance, content)
    part = content[place : place + 1]
    return (
        content[:place] + bytes(b ^ 1 << chance.randrange(8) for b in part) + content[place + 1 :]
    )


def _number(chance: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    size = chance.choice((1, 2, 4, 8))
    top = 2 ** (8 * size)
    value = chance.choice((0, 1, top - 1, top // 2, top // 2 - 1, chance.randrange(top)))
    place = _place(chance, content)
    written = value.to_bytes(size, "little")
    return content[:place] + written[:: chance.choice((1, -1))] + content[place + size :]


def _without(chance: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    place = _place(chance, content)
    return content[:place] + content[place + chance.randint(1, 40) :]


def _twice(chance: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    place, length = _place(chance, content), chance.randint(1, 200)
    return content[: place + length] + content[place:]


def _word(chance: random.Random, content: bytes, _: Sequence[bytes]) -> bytes:
    place = _place(chance, content)
    left_out = chance.choice((0, 0, 1, 4, 10))
    return content[:place] + chance.choice(_WORDS) + content[place + left_out :]


def _spliced(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others) if others else content
    return content[: _place(chance, content)] + other[_place(chance, other) :]


CHANGES: tuple[Change, ...] = (_bit, _bit, _number, _number, _without, _twice, _word, _spliced, cut)
"""All kinds of damage; what stands twice is done twice as often."""
