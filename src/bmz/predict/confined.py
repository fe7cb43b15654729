"""A network in a confined process of its own: the model's code has no access to this computer."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.predict.backend import (
    Device,
    LoadRequest,
    NetworkFailed,
    OutOfMemory,
    checked_count,
    shapes_of,
)
from bmz.predict.confine import NEEDED, means_here
from bmz.predict.confined_process import (
    Child,
    ChildDied,
    harmless,
    memory_bytes,
    quoted,
    start_child,
)
from bmz.predict.wire import Block, Message, WireError, bytes_for

__all__ = ["ChildDied", "ChildRefused", "ConfinedBackend", "NotConfinable", "open_confined"]


class NotConfinable(CouldNotTell):
    """A means to confine the code of a model is missing on this computer."""

    def __init__(self, lacks: dict[str, str]) -> None:
        reasons = "; ".join(lacks[name] for name in lacks)
        super().__init__(
            f"the model's code cannot be confined on this computer: {reasons}",
            hint="run it where Linux offers Landlock and seccomp, or, if you trust its authors "
            "with all that you may do here, with --trust=unconfined",
            code="trust.not-confinable",
        )


class ChildRefused(CouldNotTell):
    """The confined process reported why it cannot open or run the network.

    The report may come from the model's code, which uses the same channel: it is quoted, and
    never becomes a hint.
    """

    def __init__(self, code: str, message: str) -> None:
        words = harmless(message)
        super().__init__(
            "the confined process of the model's code stopped"
            + (f" and reported {quoted(words)}" if words else ""),
            hint="this text does not come from bmz; 'bmz test MODEL' shows whether the model runs "
            "on its own test input",
            code=code,
        )


def open_confined(
    weights_format: str, request: LoadRequest, files: Iterable[Path]
) -> ConfinedBackend:
    """Open weights in a confined process.

    It has no network and no environment variables. It may read `files` and the libraries of this
    Python, may write into a scratch folder that is removed afterwards, and may not start other
    processes. It ends with this process.

    Parameters
    ----------
    weights_format : as in model descriptions
    request : see ``bmz.predict.formats.open_backend``
    files : files of the package, which it may read

    Raises
    ------
    NotConfinable
        This computer lacks a required means; nothing was run.
    ChildRefused, ChildDied
        The network cannot be opened.
    """
    from bmz.predict.serve import LOAD_REQUEST

    lacks = {name: why for name, why in means_here().items() if why}
    if lacks:
        raise NotConfinable(lacks)
    started = start_child(tuple(files), request.device)
    confined = started.hear("shut itself in").get("confined", {})
    lacks = {name: str(confined.get(name)) for name in NEEDED if confined.get(name) != ""}
    if lacks:
        started.end()
        raise NotConfinable(lacks)
    order = {
        "open": weights_format,
        "weights": LOAD_REQUEST.dump_python(_absolute(request), mode="json"),
    }
    answer = started.ask(order, "load the network")
    if "name" not in answer:
        started.end()
        raise _refused(answer, request.device, "its weights")
    name = harmless(str(answer["name"]))
    return ConfinedBackend(started, name, request.device, inputs=len(request.input_ids))


class ConfinedBackend:
    """A network in another process.

    Parameters
    ----------
    child : the process that has loaded the network
    name : the framework and its version
    device : where the network runs
    inputs : number of inputs of the network
    """

    def __init__(self, child: Child, name: str, device: Device, *, inputs: int) -> None:
        self.name = f"{name}, confined"
        self._count = inputs
        self.device = device
        self._child = child
        self._blocks: dict[str, Block] = {}
        self._open = True
        self._at_exit = weakref.finalize(self, child.end)  # also when nobody closes it

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once; see ``bmz.predict.backend.Backend``."""
        shapes = shapes_of(inputs)
        if not self._open:
            raise NetworkFailed(self.name, shapes, "the backend is closed")
        checked_count("inputs", wanted=self._count, found=len(inputs))
        fresh = self._room("in", bytes_for(inputs))
        words = self._blocks["in"].write(inputs)
        answer = self._child.ask({"run": words}, "run the network", fresh)
        if "need" in answer:
            size = _bytes_wanted(answer["need"])
            if size > memory_bytes():
                raise OutOfMemory(self.device, shapes)
            fresh = self._room("out", size)
            answer = self._child.ask({}, "hand over its outputs", fresh)
        if "outputs" not in answer or "out" not in self._blocks:
            raise _refused(answer, self.device, shapes)
        try:
            return [view.copy() for view in self._blocks["out"].read(answer["outputs"])]
        except (WireError, TypeError) as why:
            raise self._child.died("hand over its outputs") from why

    def close(self) -> None:
        """End the process; a second call does nothing."""
        if self._open:
            self._open = False
            self._at_exit()
            for block in self._blocks.values():
                block.close()

    def _room(self, which: str, size: int) -> Block | None:
        """Make a larger block if the present one is too small; else return None."""
        held = self._blocks.get(which)
        if held is not None and held.size >= size:
            return None
        if held is not None:
            held.close()
        self._blocks[which] = Block.new(size)
        return self._blocks[which]


def _absolute(request: LoadRequest) -> LoadRequest:
    """Make paths absolute, since the process has another working folder."""
    built = request.architecture
    if built is not None and built.code is not None:
        built = replace(built, code=replace(built.code, path=built.code.path.absolute()))
    manifest = request.manifest and request.manifest.absolute()
    return replace(request, path=request.path.absolute(), architecture=built, manifest=manifest)


def _refused(answer: Message, device: Device, shapes: str) -> CouldNotTell:
    if answer.get("memory") is True:
        return OutOfMemory(device, shapes)
    code = str(answer.get("refused", ""))
    return ChildRefused(
        code if code in _CODES else "trust.child-refused", str(answer.get("message", ""))
    )


_CODES = frozenset(
    {
        "package.weights-unreadable", "precision.unsupported", "predict.dtype-lossy",
        "predict.input-shape",
        "predict.network-failed", "predict.output-shape", "predict.outputs-unclear",
        "predict.tensor-count", "weights.architecture", "weights.no-backend",
        "weights.state-differs",
    }
)  # fmt: skip
"""Codes with which opening or running a network may fail; the model's code can send only these."""


def _bytes_wanted(stated: object) -> int:
    return stated if isinstance(stated, int) and stated > 0 else 1
