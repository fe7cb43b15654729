"""Exchange messages (JSON) and arrays (shared memory) between two processes, without pickle."""

from __future__ import annotations

import json
import math
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray

Message = dict[str, Any]
ArrayWords = list[dict[str, Any]]
"""The dtype, the shape, and the offset in the block in bytes of each array."""

_HEAD = struct.Struct("!I")
_MOST_BYTES = 2**24  # maximum size of a message
_ALIGNED = 64
_KINDS = "biufc"  # kinds of dtypes: only numbers, never objects


class WireError(Exception):
    """The other side has closed the connection, or sent a malformed message."""


class Wire:
    """One end of a pair of connected sockets.

    Parameters
    ----------
    end : a stream socket; closed by `close`
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: Message, handle: int | None = None) -> None:
        """Send a message and, if given, the handle of a block.

        Raises
        ------
        WireError
        """
        body = json.dumps(message).encode()
        try:
            if handle is None:
                self._end.sendall(_HEAD.pack(len(body)))
            else:
                socket.send_fds(self._end, [_HEAD.pack(len(body))], [handle])
            self._end.sendall(body)
        except OSError as why:
            raise WireError(str(why)) from why

    def receive(self) -> tuple[Message, int | None]:
        """Wait for a message; return it and the handle sent with it, which the caller must close.

        Raises
        ------
        WireError
        """
        try:
            head, handles, _, _ = socket.recv_fds(self._end, _HEAD.size, 1)
            head += self._exactly(_HEAD.size - len(head))
            size = _HEAD.unpack(head)[0]
            if size > _MOST_BYTES:
                raise WireError(f"a message of {size} bytes")
            message = json.loads(self._exactly(size))
        except (OSError, ValueError, RecursionError) as why:
            raise WireError(str(why)) from why
        if not isinstance(message, dict):
            raise WireError("a message that is not an object")
        return message, next(iter(handles), None)

    def close(self) -> None:
        """Close the connection."""
        self._end.close()

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._end.recv(size - len(parts))
            if not part:
                raise WireError("it hung up")
            parts += part
        return bytes(parts)


class Block:
    """Memory shared by two processes; neither can change its size.

    Parameters
    ----------
    handle : file descriptor of the memory; closed by `close`
    """

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.size = os.fstat(handle).st_size
        self._map = mmap.mmap(handle, self.size)

    @classmethod
    def new(cls, size: int) -> Block:
        """Create a block of at least `size` bytes; only Linux has such memory."""
        import fcntl  # imported here, since it is absent on Windows, where no code is confined

        handle = os.memfd_create("bmz", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(handle, max(size, mmap.PAGESIZE))
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)
        return cls(handle)

    def write(self, arrays: Sequence[AnyArray]) -> ArrayWords:
        """Copy arrays into the block, one after another, and return their positions."""
        words: ArrayWords = []
        offset = 0
        for array in arrays:
            dtype = array.dtype.newbyteorder("=")
            place = np.frombuffer(self._map, dtype, array.size, offset).reshape(array.shape)
            np.copyto(place, array)
            words.append({"dtype": dtype.name, "shape": list(array.shape), "offset": offset})
            offset += _aligned(array.nbytes)
        return words

    def read(self, words: ArrayWords) -> list[AnyArray]:
        """Return views of the arrays in the block; `words` need not be trustworthy.

        Raises
        ------
        WireError
            `words` do not describe arrays of numbers that lie entirely within the block.
        """
        return [self._one(word) for word in words]

    def close(self) -> None:
        """Free the memory, unless views of it still exist."""
        os.close(self.handle)
        try:
            self._map.close()
        except BufferError:  # a view still exists; the map is freed with it
            return

    def _one(self, word: dict[str, Any]) -> AnyArray:
        try:
            dtype = np.dtype(str(word["dtype"]))
            shape = tuple(int(n) for n in word["shape"])
            offset = int(word["offset"])
        except (TypeError, ValueError, KeyError, OverflowError, SyntaxError) as why:
            raise WireError(f"not an array: {word!r:.80}") from why
        size = math.prod(shape)
        inside = min((offset, *shape), default=0) >= 0
        inside = inside and offset + size * dtype.itemsize <= self.size
        if dtype.kind not in _KINDS or not inside:
            raise WireError(f"an array outside the block: {word!r:.80}")
        try:
            return np.frombuffer(self._map, dtype, size, offset).reshape(shape)
        except ValueError as why:  # too many axes, or no entries but a huge axis
            raise WireError(f"not an array: {word!r:.80}") from why


def bytes_for(arrays: Sequence[AnyArray]) -> int:
    """Return the size of a block that holds these arrays."""
    return sum(_aligned(array.nbytes) for array in arrays)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
