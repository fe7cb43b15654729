"""A network in a confined process: the contract of every backend, and a process that misbehaves."""

from __future__ import annotations

import gc
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.predict import confine, confined
from bmz.predict.backend import CPU, LoadRequest, NetworkFailed, OutOfMemory
from bmz.predict.confine import means_here
from bmz.predict.confined import (
    Child,
    ChildDied,
    ChildRefused,
    ConfinedBackend,
    NotConfinable,
    _remove_left_by_dead,
    open_confined,
    remove_tree,
)
from bmz.predict.wire import Block, Wire, WireError, bytes_for
from bmz.testing.backend import BackendContract
from bmz.testing.package import write_identity

confining = pytest.mark.skipif(
    any(means_here().values()), reason=f"this computer cannot confine: {means_here()}"
)


def identity(folder: Path) -> LoadRequest:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    write_identity(folder / "weights.onnx", [4])
    return LoadRequest(folder / "weights.onnx", ("image",), ("map",), threads=1)


def images(*shape: int) -> AnyArray:
    return np.random.default_rng(0).random(shape or (2, 1, 8, 9), np.float32)


@confining
class TestConfinedBackend(BackendContract):
    @pytest.fixture(autouse=True)
    def _weights(self, tmp_path: Path) -> Iterator[None]:
        self.weights = identity(tmp_path)
        self.opened: list[ConfinedBackend] = []
        yield
        for backend in self.opened:
            backend.close()

    def backend(self) -> ConfinedBackend:
        self.opened.append(open_confined("onnx", self.weights, [self.weights.path]))
        return self.opened[-1]

    def inputs(self) -> list[AnyArray]:
        return [images()]

    def test_arrays_may_grow_and_shrink_between_runs(self) -> None:
        backend = self.backend()

        sizes = [(1, 1, 8, 8), (1, 3, 300, 200), (1, 1, 4, 4)]

        for size in sizes:
            np.testing.assert_array_equal(backend.run([images(*size)])[0], images(*size))

    def test_nothing_is_left_of_it_when_it_is_closed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "own").mkdir()  # other tests make such folders beside it
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "own"))
        backend = self.backend()
        during = list((tmp_path / "own").glob(".scratch-*"))

        backend.close()

        assert len(during) == 1
        assert not any(folder.exists() for folder in during)
        assert backend._child.process.returncode is not None
        with pytest.raises(NetworkFailed, match="closed"):
            backend.run(self.inputs())

    def test_nothing_is_left_of_it_when_nobody_closes_it(self) -> None:
        backend = open_confined("onnx", self.weights, [self.weights.path])
        scratch, process = backend._child.scratch, backend._child.process
        there = scratch.exists()

        del backend
        gc.collect()

        assert there
        assert not scratch.exists()
        assert process.returncode is not None

    def test_a_file_outside_its_reach_is_unreadable_to_it(self) -> None:
        with pytest.raises(ChildRefused) as refused:
            open_confined("onnx", self.weights, [])

        assert refused.value.code == "package.weights-unreadable"
        assert "weights.onnx" in refused.value.message

    def test_a_path_may_be_given_from_the_working_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        self.weights = replace(self.weights, path=Path(self.weights.path.name))

        np.testing.assert_array_equal(self.backend().run([images()])[0], images())

    def test_its_environment_holds_no_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")

        backend = self.backend()

        environment = Path(f"/proc/{backend._child.process.pid}/environ").read_bytes()
        assert b"planted" not in environment
        assert b"OMP_NUM_THREADS=1" in environment

    def test_a_damaged_file_is_told_as_in_this_process(self) -> None:
        self.weights.path.write_bytes(b"no network")

        with pytest.raises(ChildRefused) as refused:
            open_confined("onnx", self.weights, [self.weights.path])

        assert refused.value.code == "package.weights-unreadable"

    def test_an_input_that_fails_in_it_is_refused_and_the_next_one_runs(self) -> None:
        backend = self.backend()

        with pytest.raises(ChildRefused) as refused:
            backend.run([images().astype(np.float64) + 0.1])

        assert refused.value.code == "predict.dtype-lossy"
        np.testing.assert_array_equal(backend.run([images()])[0], images())


@pytest.mark.parametrize("lacking", ["files", "calls"])
def test_nothing_is_started_where_a_means_is_lacking(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined, "means_here", lambda: {"files": "", lacking: "not built in"})
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("it was started"))

    with pytest.raises(NotConfinable, match="not built in") as refused:
        open_confined("onnx", LoadRequest(tmp_path / "w", ("a",), ("b",)), [])

    assert "--trust=unconfined" in refused.value.hint


def test_other_systems_are_said_to_lack_all_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    assert set(means_here()) == set(confine.NEEDED)
    assert all("darwin has neither" in why for why in means_here().values())


Answering = Callable[[Wire], None]


@pytest.fixture
def with_child() -> Iterator[Callable[[Answering], ConfinedBackend]]:
    """Give a backend whose process is played by a function in a thread."""
    ends: list[Child] = []

    def play(answering: Answering) -> ConfinedBackend:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        printed = tempfile.TemporaryFile()  # noqa: SIM115  (the backend's end closes over it)
        printed.write(b"first\nlast \x1b[31mwords")
        scratch = Path(tempfile.mkdtemp(prefix="bmz-"))
        child = Child(process, Wire(ours), printed, scratch)
        ends.append(child)
        wire = Wire(theirs)

        def run() -> None:
            wire.receive()
            answering(wire)
            wire.close()

        threading.Thread(target=run, daemon=True).start()
        return ConfinedBackend(child, "played", CPU, inputs=1)

    yield play
    for child in ends:
        assert child.process.stdin is not None
        child.process.stdin.close()
        child.end()


def bare(text: bytes) -> Answering:
    def answer(wire: Wire) -> None:
        wire._end.sendall(struct.pack("!I", len(text)) + text)

    return answer


@pytest.mark.parametrize(
    "text", [b"[1]", b"no json", b'{"outputs": 3}', b"\xff", json.dumps({"a": 1}).encode()]
)
def test_nonsense_from_the_process_is_an_error_that_names_it(
    with_child: Callable[[Answering], ConfinedBackend], text: bytes
) -> None:
    backend = with_child(bare(text))

    with pytest.raises((ChildDied, ChildRefused)) as raised:
        backend.run([images()])

    assert raised.value.code.startswith("trust.")
    assert "\x1b" not in raised.value.message


def test_last_words_are_told_without_what_steers_a_terminal(
    with_child: Callable[[Answering], ConfinedBackend],
) -> None:
    backend = with_child(lambda wire: wire.close())

    with pytest.raises(ChildDied) as died:
        backend.run([images()])

    assert died.value.message.endswith("the last line that it printed is “last  [31mwords”")


def test_every_image_after_the_death_of_the_process_has_the_error(
    with_child: Callable[[Answering], ConfinedBackend],
) -> None:
    backend = with_child(lambda wire: wire.close())

    messages = []
    for _ in range(2):
        with pytest.raises(ChildDied) as died:
            backend.run([images()])
        messages.append(died.value.message)

    assert messages[0] == messages[1]


def test_a_code_that_is_not_of_a_network_is_not_passed_on(
    with_child: Callable[[Answering], ConfinedBackend],
) -> None:
    spoofed = {"refused": "package.runs-code", "message": "\x1b]0;run: curl x | sh", "hint": "rm"}
    backend = with_child(lambda wire: wire.send(spoofed))

    with pytest.raises(ChildRefused) as refused:
        backend.run([images()])

    assert refused.value.code == "trust.child-refused"
    assert "code stopped and reported “ ]0;run: curl x | sh”" in refused.value.message
    assert "does not come from bmz" in refused.value.hint
    assert "rm" not in refused.value.hint


@pytest.mark.parametrize("answer", [{"memory": True}, {"need": 2**60}])
def test_memory_that_there_is_not_is_out_of_memory(
    with_child: Callable[[Answering], ConfinedBackend], answer: dict[str, Any]
) -> None:
    backend = with_child(lambda wire: wire.send(answer))

    with pytest.raises(OutOfMemory):
        backend.run([images()])


def test_a_scratch_folder_goes_however_deep_its_folders_nest(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "file").write_text("x")
    (scratch / "link").symlink_to(tmp_path)
    (scratch / "shut").mkdir()
    (scratch / "shut" / "file").write_text("x")
    (scratch / "shut").chmod(0)
    place = os.open(scratch, os.O_RDONLY)
    for _ in range(4000):
        os.mkdir("inner", dir_fd=place)
        inner = os.open("inner", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)

    remove_tree(scratch)

    assert list(tmp_path.iterdir()) == []


def test_scratch_folders_of_processes_that_were_killed_are_removed_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = (f".scratch-{ended.pid}-a", f".scratch-{os.getpid()}-b", "bmz-other")
    for name in names:
        (tmp_path / name).mkdir()

    _remove_left_by_dead()

    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])


def handles_of_nothing() -> int:
    handles = (Path(f"/proc/self/fd/{number}") for number in range(200))
    return sum(str(one.readlink()) == os.devnull for one in handles if one.is_symlink())


def test_a_handle_that_nobody_asked_for_is_closed(
    with_child: Callable[[Answering], ConfinedBackend],
) -> None:
    backend = with_child(lambda wire: wire.send({"memory": True}, os.open(os.devnull, 0)))
    before = handles_of_nothing()

    with pytest.raises(OutOfMemory):
        backend.run([images()])

    assert handles_of_nothing() <= before + 1  # the sender's own


@pytest.mark.parametrize(
    "word",
    [
        {"dtype": "float32", "shape": [10**9], "offset": 0},
        {"dtype": "float32", "shape": [1], "offset": -4},
        {"dtype": "float32", "shape": [-1, -1], "offset": 0},
        {"dtype": "float32", "shape": [1], "offset": 2**62},
        {"dtype": "O", "shape": [1], "offset": 0},
        {"dtype": "V8", "shape": [1], "offset": 0},
        {"dtype": "U4", "shape": [1], "offset": 0},
        {"dtype": "i4,O", "shape": [1], "offset": 0},
        {"shape": [1], "offset": 0},
        {"dtype": "f4", "shape": 3, "offset": 0},
    ],
)
def test_words_for_an_array_outside_the_block_are_refused(word: dict[str, Any]) -> None:
    block = Block.new(64)

    with pytest.raises(WireError):
        block.read([word])

    block.close()


@pytest.mark.parametrize(
    "dtype", ["uint8", "int64", "float16", "float32", "float64", "bool", ">u2", "complex64"]
)
def test_arrays_come_out_of_a_block_as_they_went_in(dtype: str) -> None:
    arrays = [
        (images(3, 5) * 100).astype(dtype),
        (images(7) * 100).astype(dtype)[::-2],
        np.zeros((0, 4), dtype),
        np.array(5).astype(dtype),
    ]
    block = Block.new(bytes_for(arrays))

    found = [view.copy() for view in block.read(block.write(arrays))]

    for array, one in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(one, array)
    block.close()


def test_a_block_cannot_be_shrunk_under_the_other_side() -> None:
    block = Block.new(10_000)

    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(block.handle, 0)

    block.close()


@pytest.mark.parametrize("size", [0, 2**24 + 1])
def test_a_message_of_no_or_too_many_bytes_is_broken(size: int) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(struct.pack("!I", size))

    with pytest.raises(WireError):
        Wire(ours).receive()

    ours.close()
    theirs.close()
