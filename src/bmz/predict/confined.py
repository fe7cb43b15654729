"""A network in a confined process of its own: the model's code sees nothing of this computer."""

from __future__ import annotations

import json
import os
import shutil
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

import bmz
from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.base.printable import printable
from bmz.predict import child
from bmz.predict.backend import (
    Device,
    NetworkFailed,
    OutOfMemory,
    Weights,
    checked_count,
    shapes_of,
)
from bmz.predict.confine import NEEDED, Cell, means_here
from bmz.predict.wire import Block, Broken, Message, Wire, bytes_for

_KEPT_WORDS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_", "TZ",
)  # fmt: skip
"""Words of the environment that shape speed; all others, secrets among them, stay here."""

_TAIL = 2000  # characters of what the process printed
_WORDS = 300  # of one message of it


class NotConfinable(CouldNotTell):
    """A means to shut the code of a model in is lacking on this computer."""

    def __init__(self, lacks: dict[str, str]) -> None:
        told = "; ".join(lacks[name] for name in lacks)
        super().__init__(
            f"the model's code cannot be shut in on this computer: {told}",
            hint="run it where Linux offers Landlock and seccomp, or, if you trust its authors "
            "with all that you may do here, with --trust=unconfined",
            code="trust.not-confinable",
        )


class ChildRefused(CouldNotTell):
    """The confined process says why it cannot open or run the network."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(
            _harmless(message) or "the network failed in its confined process",
            hint=_harmless(hint) or "'bmz test MODEL' tells whether it runs on its own test input",
            code=code,
        )


class ChildDied(CouldNotTell):
    """The confined process ended, or spoke nonsense."""

    def __init__(self, doing: str, printed: str) -> None:
        last = _harmless(printed.strip().rpartition("\n")[2])
        super().__init__(
            f"the confined process of the model's code ended while it was to {doing}"
            + (f"; its last words: {last}" if last else ""),
            hint="its code may need what is denied to it: the network, files, other programs, or "
            "more memory than there is",
            code="trust.child-ended",
        )


@dataclass
class Child:
    """A started process.

    Parameters
    ----------
    process : of the operating system
    wire : to it
    printed : all that it printed
    scratch : its folder; removed at the end
    """

    process: subprocess.Popen[bytes]
    wire: Wire
    printed: IO[bytes]
    scratch: Path

    def ask(self, message: Message, doing: str, block: Block | None = None) -> Message:
        """Send a message and wait for the answer.

        Raises
        ------
        ChildDied
        """
        try:
            self.wire.send(message, None if block is None else block.handle)
            return self.hear(doing)
        except Broken as why:
            raise self.died(doing) from why

    def hear(self, doing: str) -> Message:
        """Wait for a message.

        Raises
        ------
        ChildDied
        """
        try:
            answer, handle = self.wire.receive()
        except Broken as why:
            raise self.died(doing) from why
        if handle is not None:  # nothing of the sort is asked for
            os.close(handle)
        return answer

    def died(self, doing: str) -> ChildDied:
        """End it, and word its end."""
        self.process.kill()
        self.process.wait()
        self.printed.seek(0, os.SEEK_END)
        self.printed.seek(max(0, self.printed.tell() - _TAIL))
        last = self.printed.read().decode("utf-8", "replace")
        self.end()
        return ChildDied(doing, last)

    def end(self) -> None:
        """Stop the process and remove its folder; a second time does nothing."""
        self.wire.close()
        self.process.kill()
        self.process.wait()
        self.printed.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def open_confined(weights_format: str, weights: Weights, files: Iterable[Path]) -> ConfinedBackend:
    """Open weights in a confined process.

    It has no network, may read `files` and the libraries of this Python, may write into a
    scratch folder that is removed afterwards, may start no process, and sees nothing of the
    environment. It ends with this process.

    Parameters
    ----------
    weights_format : as in model descriptions
    weights : see ``bmz.predict.open.open_backend``
    files : of the package, which it may read

    Raises
    ------
    NotConfinable
        This computer lacks a means that is needed; nothing was run.
    ChildRefused, ChildDied
        The network cannot be opened.
    """
    from bmz.predict.serve import WEIGHTS

    lacks = {name: why for name, why in means_here().items() if why}
    if lacks:
        raise NotConfinable(lacks)
    started = _started(tuple(files), weights.device)
    confined = started.hear("shut itself in").get("confined", {})
    lacks = {name: str(confined.get(name)) for name in NEEDED if confined.get(name) != ""}
    if lacks:
        started.end()
        raise NotConfinable(lacks)
    asked = {
        "open": weights_format,
        "weights": WEIGHTS.dump_python(_absolute(weights), mode="json"),
    }
    answer = started.ask(asked, "load the network")
    if "name" not in answer:
        started.end()
        raise _refused(answer, weights.device, "its weights")
    name = _harmless(str(answer["name"]))
    return ConfinedBackend(started, name, weights.device, inputs=len(weights.input_ids))


class ConfinedBackend:
    """A network in another process.

    Parameters
    ----------
    child : that process, which has loaded the network
    name : the framework and its version
    device : on which it runs
    inputs : how many the network has
    """

    def __init__(self, child: Child, name: str, device: Device, *, inputs: int) -> None:
        self.name = f"{name}, confined"
        self._count = inputs
        self.device = device
        self._child = child
        self._blocks: dict[str, Block] = {}
        self._open = True
        self._at_exit = weakref.finalize(self, child.end)  # when nobody closes it, too

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
            wanted = _bytes_wanted(answer["need"])
            if wanted > memory_bytes():
                raise OutOfMemory(self.device, shapes)
            fresh = self._room("out", wanted)
            answer = self._child.ask({}, "hand over its outputs", fresh)
        if "outputs" not in answer or "out" not in self._blocks:
            raise _refused(answer, self.device, shapes)
        try:
            return [view.copy() for view in self._blocks["out"].read(answer["outputs"])]
        except (Broken, TypeError) as why:
            raise self._child.died("hand over its outputs") from why

    def close(self) -> None:
        """End the process; a second time does nothing."""
        if self._open:
            self._open = False
            self._at_exit()
            for block in self._blocks.values():
                block.close()

    def _room(self, which: str, wanted: int) -> Block | None:
        """Make a larger block where the present one is too small; None where it is not."""
        held = self._blocks.get(which)
        if held is not None and held.size >= wanted:
            return None
        if held is not None:
            held.close()
        self._blocks[which] = Block.new(wanted)
        return self._blocks[which]


def _absolute(weights: Weights) -> Weights:
    """Name files in full, for the process has another working folder."""
    built = weights.architecture
    if built is not None and built.code is not None:
        built = replace(built, code=replace(built.code, path=built.code.path.absolute()))
    manifest = weights.manifest and weights.manifest.absolute()
    return replace(weights, path=weights.path.absolute(), architecture=built, manifest=manifest)


def memory_bytes() -> int:
    """Give how much memory is free, as Linux estimates it (``MemAvailable``)."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    words = dict(line.split(":", 1) for line in lines)
    return int(words["MemAvailable"].split()[0]) * 1024


def _started(files: tuple[Path, ...], device: Device) -> Child:
    ours, theirs = socket.socketpair()
    scratch = Path(tempfile.mkdtemp(prefix="bmz-"))
    printed = tempfile.TemporaryFile()  # noqa: SIM115  (it is held as long as the process)
    process = subprocess.Popen(  # noqa: S603  (this Python, and a script of ours)
        [sys.executable, "-I", "-S", "-B", child.__file__, str(theirs.fileno())],
        stdin=subprocess.PIPE,
        stdout=printed,
        stderr=subprocess.STDOUT,
        cwd=scratch,
        env=_environment(scratch),
        pass_fds=[theirs.fileno()],
        start_new_session=True,  # ctrl-C comes to us alone, and we end it
    )
    theirs.close()
    started = Child(process, Wire(ours), printed, scratch)
    words = {
        "path": [str(path) for path in (_root(), *_libraries())],
        "parent": os.getpid(),
        "cell": asdict(_cell(files, scratch, device)),
    }
    assert process.stdin is not None  # noqa: S101  (it was asked for)
    try:
        with process.stdin as stdin:
            stdin.write(json.dumps(words, default=str).encode())
    except OSError as why:
        raise started.died("start") from why
    return started


def _cell(files: tuple[Path, ...], scratch: Path, device: Device) -> Cell:
    python = (Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve())
    return Cell(
        readable=(*python, *_libraries(), _root() / "bmz", *(f.resolve() for f in files)),
        listable=(_root(),),
        scratch=scratch,
        memory_bytes=memory_bytes() if device.kind == "cpu" else None,
        gpu=device.kind == "cuda",
    )


def _environment(scratch: Path) -> dict[str, str]:
    kept = {word: os.environ[word] for word in _KEPT_WORDS if word in os.environ}
    here = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(scratch))
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **here, **kept}


def _root() -> Path:
    """Give the folder in which the package ``bmz`` lies."""
    return Path(bmz.__file__).resolve().parents[1]


def _libraries() -> tuple[Path, ...]:
    """Give the folders of installed libraries, never the working folder."""
    paths = sysconfig.get_paths()
    own = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]]
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    shared = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    return tuple(dict.fromkeys(Path(path) for path in (*own, *user, *shared)))


def _refused(answer: Message, device: Device, shapes: str) -> CouldNotTell:
    if answer.get("memory") is True:
        return OutOfMemory(device, shapes)
    code = str(answer.get("refused", ""))
    known = code.startswith(("predict.", "package.", "weights."))
    told = (str(answer.get(key, "")) for key in ("message", "hint"))
    return ChildRefused(code if known and code.isascii() else "trust.child-refused", *told)


def _bytes_wanted(found: object) -> int:
    return found if isinstance(found, int) and found > 0 else 1


def _harmless(text: str) -> str:
    """Leave out what could steer a terminal, and cut what is long."""
    return printable(text)[:_WORDS]
