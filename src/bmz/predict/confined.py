"""Run a network in a confined process, where the model's code has no access to this computer."""

from __future__ import annotations

import json
import os
import secrets
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.base.files import SCRATCH, is_left_by_dead, unfinished
from bmz.base.progress import printable
from bmz.base.values import dataclass
from bmz.predict import child
from bmz.predict.backend import (
    Device,
    LoadRequest,
    NetworkFailed,
    OutOfMemory,
    checked_count,
    shapes_of,
)
from bmz.predict.confine import NEEDED, Cell, means_here
from bmz.predict.wire import Block, Message, Wire, WireError, bytes_for

_KEPT_WORDS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_", "TZ",
)  # fmt: skip
"""Environment variables that affect speed; others may be secrets and are not passed on."""

_LIFTED = f".lifted-{secrets.token_hex(8)}-"  # names that the model's code cannot know

_TAIL = 2000  # characters of the process's output that are kept
_WORDS = 300  # maximum length of a message, in characters


class ChildDied(CouldNotTell):
    """The confined process ended, or sent a malformed message."""

    def __init__(self, doing: str, printed: str) -> None:
        last = harmless(printed.strip().rpartition("\n")[2])
        super().__init__(
            f"the confined process that runs the model's code ended when it had to {doing}"
            + (f"; the last line that it printed is {quoted(last)}" if last else ""),
            hint="the code may need something that it must not use: the network, files, other "
            "programs, or more memory than is available",
            code="trust.child-ended",
        )


@dataclass
class Child:
    """A started process.

    Parameters
    ----------
    process : the operating system's process
    wire : connection to the process
    printed : file that holds all its output
    scratch : its scratch folder, which is removed at the end
    last_words : the end of its output, once the process has ended
    """

    process: subprocess.Popen[bytes]
    wire: Wire
    printed: IO[bytes]
    scratch: Path
    last_words: str = ""

    def ask(self, message: Message, doing: str, block: Block | None = None) -> Message:
        """Send a message and wait for the answer.

        Raises
        ------
        ChildDied
        """
        try:
            self.wire.send(message, None if block is None else block.handle)
            return self.hear(doing)
        except WireError as why:
            raise self.died(doing) from why

    def hear(self, doing: str) -> Message:
        """Wait for a message.

        Raises
        ------
        ChildDied
        """
        try:
            answer, handle = self.wire.receive()
        except WireError as why:
            raise self.died(doing) from why
        if handle is not None:  # none was requested
            os.close(handle)
        return answer

    def died(self, doing: str) -> ChildDied:
        """End the process and return an error that describes this; may be called repeatedly."""
        if not self.printed.closed:
            self.process.kill()
            self.process.wait()
            self.printed.seek(0, os.SEEK_END)
            self.printed.seek(max(0, self.printed.tell() - _TAIL))
            self.last_words = self.printed.read().decode("utf-8", "replace")
            self.end()
        return ChildDied(doing, self.last_words)

    def end(self) -> None:
        """Stop the process and remove its folder; a second call does nothing."""
        self.wire.close()
        self.process.kill()
        self.process.wait()
        self.printed.close()
        remove_tree(self.scratch)


def memory_bytes() -> int:
    """Return the available memory in bytes, as estimated by Linux (``MemAvailable``)."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    words = dict(line.split(":", 1) for line in lines)
    return int(words["MemAvailable"].split()[0]) * 1024


def start_child(files: tuple[Path, ...], device: Device) -> Child:
    """Start a process that confines itself; its first message says which means failed, and why.

    Parameters
    ----------
    files : files of the package that it may read
    device : where its network will run

    Raises
    ------
    ChildDied
    """
    _remove_left_by_dead()
    ours, theirs = socket.socketpair()
    scratch = Path(tempfile.mkdtemp(prefix=unfinished("scratch")))
    printed = tempfile.TemporaryFile()  # noqa: SIM115  (it is held as long as the process)
    reader, writer = os.pipe()
    process = subprocess.Popen(  # noqa: S603  (this Python, and a script of ours)
        [sys.executable, "-I", "-S", "-B", child.__file__, str(theirs.fileno())],
        stdin=reader,
        stdout=printed,
        stderr=subprocess.STDOUT,
        cwd=scratch,
        env=_environment(scratch),
        pass_fds=[theirs.fileno()],
        start_new_session=True,  # Ctrl-C reaches only this process, which then ends the child
    )
    theirs.close()
    os.close(reader)
    started = Child(process, Wire(ours), printed, scratch)
    words = {
        "path": [str(path) for path in (_root(), *_libraries())],
        "parent": os.getpid(),
        "cell": asdict(_cell(files, scratch, device)),
    }
    try:
        with os.fdopen(writer, "wb") as stdin:
            stdin.write(json.dumps(words, default=str).encode())
    except OSError as why:
        raise started.died("start") from why
    return started


def _remove_left_by_dead() -> None:
    """Remove the scratch folders left behind by killed processes of this user."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with suppress(OSError):  # another process may remove it at the same time
            if is_left_by_dead(folder) and folder.lstat().st_uid == os.getuid():
                remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder, however deeply nested and whatever permissions the model's code changed.

    Folders are moved to the top before they are listed, since paths longer than the system
    allows cannot be used.
    """
    if not folder.exists():
        return
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        number = 0
        while entries := list(os.scandir(top)):
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=top)
                    continue
                number = _lift(top, entry.name, number)
                os.rmdir(entry.name, dir_fd=top)
    finally:
        os.close(top)
    folder.rmdir()


def _lift(top: int, name: str, number: int) -> int:
    """Move the content of a folder in `top` to `top`, numbered; return the next free number."""
    os.chmod(name, 0o700, dir_fd=top)
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    try:
        for held in list(os.scandir(inner)):
            os.rename(held.name, f"{_LIFTED}{number}", src_dir_fd=inner, dst_dir_fd=top)
            number += 1
    finally:
        os.close(inner)
    return number


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
    settings = {word: os.environ[word] for word in _KEPT_WORDS if word in os.environ}
    folders = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(scratch))
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **folders, **settings}


def _root() -> Path:
    """Return the folder that contains the package ``bmz``."""
    return Path(__file__).resolve().parents[2]


def _libraries() -> tuple[Path, ...]:
    """Return the folders of the installed libraries, never the working folder."""
    paths = sysconfig.get_paths()
    own = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]]
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    shared = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    return tuple(dict.fromkeys(Path(path) for path in (*own, *user, *shared)))


def quoted(text: str) -> str:
    """Quote text that comes from the model's code, so that nobody attributes it to bmz."""
    return "\N{LEFT DOUBLE QUOTATION MARK}" + text + "\N{RIGHT DOUBLE QUOTATION MARK}"


def harmless(text: str) -> str:
    """Remove characters that could control a terminal, and shorten long text."""
    return printable(text)[:_WORDS]


__all__ = ["ChildDied", "ChildRefused", "ConfinedBackend", "NotConfinable", "open_confined"]


class NotConfinable(CouldNotTell):
    """A means to confine the code of a model is missing on this computer."""

    def __init__(self, lacks: dict[str, str]) -> None:
        reasons = "; ".join(lacks[name] for name in lacks)
        super().__init__(
            f"the model's code cannot be confined on this computer: {reasons}",
            hint="run it on a Linux with Landlock and seccomp, or, if you trust its authors with "
            "all your permissions, with --trust=unconfined",
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
            "the confined process that runs the model's code stopped"
            + (f" and reported {quoted(words)}" if words else ""),
            hint="this text does not come from bmz; 'bmz test MODEL' shows whether the model runs "
            "on its own test input",
            code=code,
        )


def open_confined(
    weights_format: str, request: LoadRequest, files: Iterable[Path]
) -> ConfinedBackend:
    """Open weights in a confined process.

    The process has no network, and inherits only environment variables that affect speed. It may
    read `files` and the libraries of this Python, and may write to a scratch folder that is
    removed afterwards. It cannot start other processes, and ends with this process.

    Parameters
    ----------
    weights_format : as in model descriptions
    request : as in ``bmz.predict.formats.open_backend``
    files : files of the package that it may read

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
    confined = started.hear("confine itself").get("confined", {})
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
    name : name and version of the framework
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
        checked_count("inputs", expected=self._count, actual=len(inputs))
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
        """Return a new, larger block if the current one is too small, else None."""
        held = self._blocks.get(which)
        if held is not None and held.size >= size:
            return None
        if held is not None:
            held.close()
        self._blocks[which] = Block.new(size)
        return self._blocks[which]


def _absolute(request: LoadRequest) -> LoadRequest:
    """Make paths absolute, since the confined process has another working folder."""
    built = request.architecture
    if built is not None and built.code is not None:
        built = replace(built, code=replace(built.code, path=built.code.path.absolute()))
    manifest = request.manifest and request.manifest.absolute()
    # it can neither read nor write files cached for other processes
    return replace(
        request, path=request.path.absolute(), architecture=built, manifest=manifest, kept=None
    )


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
"""Error codes of opening or running a network; the model's code can report no others."""


def _bytes_wanted(stated: object) -> int:
    return stated if isinstance(stated, int) and stated > 0 else 1
