"""Serve as a confined process: open one network, and run it until the connection closes."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from pydantic import TypeAdapter

from bmz.base.errors import BmzError
from bmz.predict.backend import Backend, LoadRequest, OutOfMemory
from bmz.predict.formats import open_backend
from bmz.predict.wire import Block, Message, Wire, WireError, bytes_for

LOAD_REQUEST = TypeAdapter(LoadRequest)
"""Converts a request to JSON and back."""


def serve(handle: int, confined: Mapping[str, str]) -> None:
    """Answer the messages of the parent.

    Parameters
    ----------
    handle : file descriptor of the socket to the parent
    confined : result of ``bmz.predict.confine.confine``; it is sent first, and the parent sends
        its request only if it accepts this result
    """
    wire = Wire(socket.socket(fileno=handle))
    try:
        wire.send({"confined": dict(confined)})
        words, _ = wire.receive()
        backend = _answered(wire, words)
        if backend is not None:
            Session(wire, backend).serve()
    except WireError:
        return  # the parent has ended, so this process ends too


def _answered(wire: Wire, words: Message) -> Backend | None:
    try:
        backend = open_backend(words["open"], LOAD_REQUEST.validate_python(words["weights"]))
    except (BmzError, MemoryError) as why:
        wire.send(refusal(why))
        return None
    wire.send({"name": backend.name})
    return backend


def refusal(why: BmzError | MemoryError) -> Message:
    """Convert an error to a message."""
    if isinstance(why, BmzError):
        memory = isinstance(why, OutOfMemory)
        return {"refused": why.code, "message": why.message, "memory": memory}
    return {"refused": "", "message": "", "memory": True}


class Session:
    """One network, and the shared memory for its inputs and outputs.

    Parameters
    ----------
    wire : connection to the parent
    backend : the network
    """

    def __init__(self, wire: Wire, backend: Backend) -> None:
        self._wire, self._backend = wire, backend
        self._blocks: dict[str, Block] = {}

    def serve(self) -> None:
        """Run until the parent closes the connection.

        Raises
        ------
        WireError
        """
        while True:
            words, handle = self._wire.receive()
            self._take("in", handle)
            try:
                outputs = self._backend.run(self._blocks["in"].read(words["run"]))
            except (BmzError, MemoryError) as why:
                self._wire.send(refusal(why))
                continue
            size = bytes_for(outputs)
            if "out" not in self._blocks or self._blocks["out"].size < size:
                self._wire.send({"need": size})
                self._take("out", self._wire.receive()[1])
            self._wire.send({"outputs": self._blocks["out"].write(outputs)})

    def _take(self, which: str, handle: int | None) -> None:
        if handle is None:
            return
        if which in self._blocks:
            self._blocks[which].close()
        self._blocks[which] = Block(handle)
