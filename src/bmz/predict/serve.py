"""What a confined process does: open one network, run it on what it is sent, until told to end."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from pydantic import TypeAdapter

from bmz.base.errors import BmzError
from bmz.predict.backend import Backend, LoadRequest, OutOfMemory
from bmz.predict.formats import open_backend
from bmz.predict.wire import Block, Message, Wire, WireError, bytes_for

LOAD_REQUEST = TypeAdapter(LoadRequest)
"""Turns what a backend is opened with into JSON and back."""


def serve(handle: int, confined: Mapping[str, str]) -> None:
    """Answer the messages of the parent.

    Parameters
    ----------
    handle : of the socket to the parent
    confined : what ``bmz.predict.confine.confine`` told; the parent hears it first, and sends
        what to open only when it is content
    """
    wire = Wire(socket.socket(fileno=handle))
    try:
        wire.send({"confined": dict(confined)})
        words, _ = wire.receive()
        backend = _answered(wire, words)
        if backend is not None:
            Session(wire, backend).serve()
    except WireError:
        return  # the parent is gone, and so is the reason to be


def _answered(wire: Wire, words: Message) -> Backend | None:
    try:
        backend = open_backend(words["open"], LOAD_REQUEST.validate_python(words["weights"]))
    except (BmzError, MemoryError) as why:
        wire.send(refusal(why))
        return None
    wire.send({"name": backend.name})
    return backend


def refusal(why: BmzError | MemoryError) -> Message:
    """Word an error for the other side."""
    if isinstance(why, BmzError):
        memory = isinstance(why, OutOfMemory)
        return {"refused": why.code, "message": why.message, "memory": memory}
    return {"refused": "", "message": "", "memory": True}


class Session:
    """One network, and the memory through which arrays go in and out.

    Parameters
    ----------
    wire : to the parent
    backend : the network
    """

    def __init__(self, wire: Wire, backend: Backend) -> None:
        self._wire, self._backend = wire, backend
        self._blocks: dict[str, Block] = {}

    def serve(self) -> None:
        """Run until the parent hangs up.

        Raises
        ------
        WireError
        """
        while True:
            words, handle = self._wire.receive()
            self._take("in", handle)
            try:
                found = self._backend.run(self._blocks["in"].read(words["run"]))
            except (BmzError, MemoryError) as why:
                self._wire.send(refusal(why))
                continue
            wanted = bytes_for(found)
            if "out" not in self._blocks or self._blocks["out"].size < wanted:
                self._wire.send({"need": wanted})
                self._take("out", self._wire.receive()[1])
            self._wire.send({"outputs": self._blocks["out"].write(found)})

    def _take(self, which: str, handle: int | None) -> None:
        if handle is None:
            return
        if which in self._blocks:
            self._blocks[which].close()
        self._blocks[which] = Block(handle)
