"""Messages and arrays between two processes, of which one may send anything."""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.predict.wire import Block, Wire, WireError, bytes_for

PAGE = mmap.PAGESIZE

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    """Give a wire and the bare socket of the other side."""
    ours, theirs = socket.socketpair()
    with closing(theirs), closing(Wire(ours)) as wire:
        yield wire, theirs


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_a_message_arrives_as_it_was_sent(message: dict[str, Any]) -> None:
    ours, theirs = map(Wire, socket.socketpair())

    with closing(ours), closing(theirs):
        ours.send(message)
        ours.send({"next": 1})

        assert theirs.receive() == (message, None)
        assert theirs.receive() == ({"next": 1}, None)


def test_a_handle_comes_with_its_message_and_is_of_the_same_file() -> None:
    ours, theirs = map(Wire, socket.socketpair())
    read, write = os.pipe()

    with closing(ours), closing(theirs):
        ours.send({"a": 1}, write)
        ours.send({"b": 2})
        (message, handle), (after, nothing) = theirs.receive(), theirs.receive()

    assert (message, after, nothing) == ({"a": 1}, {"b": 2}, None)
    assert handle is not None
    assert handle != write
    os.write(handle, b"through")
    assert os.read(read, 7) == b"through"
    for one in (handle, read, write):
        os.close(one)


def test_a_message_may_arrive_in_pieces(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    body = json.dumps({"words": "x" * 5000}).encode()
    whole = struct.pack("!I", len(body)) + body

    def dribble() -> None:
        for start, stop in pairwise((0, 1, 3, 4, 5, 2000, len(whole))):
            other.sendall(whole[start:stop])

    thread = threading.Thread(target=dribble)
    thread.start()
    found = wire.receive()
    thread.join()

    assert found == ({"words": "x" * 5000}, None)


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\5", b"\0\0\0\5[1]"])
def test_a_side_that_hangs_up_within_a_message_is_gone(
    ends: tuple[Wire, socket.socket], sent: bytes
) -> None:
    wire, other = ends
    other.sendall(sent)
    other.close()

    with pytest.raises(WireError, match="it hung up"):
        wire.receive()


@pytest.mark.parametrize(
    "body",
    [b"[]", b"3", b"null", b'"text"', b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000],
    ids=lambda body: repr(body[:6]),
)
def test_what_is_no_object_of_json_is_broken(ends: tuple[Wire, socket.socket], body: bytes) -> None:
    wire, other = ends
    thread = threading.Thread(
        target=other.sendall, args=(struct.pack("!I", len(body)) + body,), daemon=True
    )
    thread.start()

    with pytest.raises(WireError):
        wire.receive()
    thread.join()


def test_nobody_hears_what_is_sent_to_a_closed_end(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    other.close()

    with pytest.raises(WireError):
        wire.send({"a": 1})


@pytest.mark.parametrize(
    "word",
    [
        {"dtype": "float32", "shape": [0, 10**30], "offset": 0},
        {"dtype": "uint8", "shape": [0] + [4096] * 6, "offset": 0},
        {"dtype": "uint8", "shape": [1] * 100, "offset": 0},
        {"dtype": "uint8", "shape": [float("inf")], "offset": 0},
        {"dtype": "uint8", "shape": [1], "offset": float("inf")},
        {"dtype": "uint8", "shape": [1], "offset": float("nan")},
        {"dtype": "f4,,", "shape": [1], "offset": 0},
        {"dtype": "uint8", "shape": ["many"], "offset": 0},
        {"dtype": "datetime64[s]", "shape": [1], "offset": 0},
        {"dtype": "uint8", "shape": [PAGE + 1], "offset": 0},
        {"dtype": "uint8", "shape": [1], "offset": PAGE},
        {"dtype": "uint16", "shape": [PAGE // 2], "offset": 1},
        {"dtype": "uint8", "shape": [0], "offset": PAGE + 1},
        3,
        None,
        [],
    ],
    ids=str,
)
def test_words_that_name_no_array_of_the_block_are_broken(word: Any) -> None:
    with closing(Block.new(PAGE)) as block, pytest.raises(WireError):
        block.read([word])


def test_an_array_may_fill_the_block_to_its_last_byte() -> None:
    with closing(Block.new(PAGE)) as block:
        block.write([np.arange(PAGE // 2, dtype=np.uint16)])

        (last,) = block.read([{"dtype": "uint16", "shape": [1], "offset": PAGE - 2}])
        (none,) = block.read([{"dtype": "uint16", "shape": [0, 3], "offset": PAGE}])

        assert (last.tolist(), none.shape) == ([PAGE // 2 - 1], (0, 3))
        del last, none


def test_each_array_begins_at_a_multiple_of_64_bytes() -> None:
    sizes = [1, 64, 65, 0, 3]
    arrays = [np.full(size, size, np.uint8) for size in sizes]

    with closing(Block.new(bytes_for(arrays))) as block:
        words = block.write(arrays)

        assert [word["offset"] for word in words] == [0, 64, 128, 256, 256]
        assert [bytes_for(arrays[:n]) for n in range(6)] == [0, 64, 128, 256, 256, 320]
        assert [view.tolist() for view in block.read(words)] == [a.tolist() for a in arrays]


@pytest.mark.parametrize(("asked", "size"), [(0, PAGE), (PAGE, PAGE), (PAGE + 1, PAGE + 1)])
def test_a_block_has_a_page_at_least_and_what_is_asked(asked: int, size: int) -> None:
    with closing(Block.new(asked)) as block:
        assert block.size == size
