from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from bmz.base.files import (
    FolderNotWritable,
    disk_faults_told,
    given_text,
    is_left_by_dead,
    unfinished,
    whole_file,
    whole_files,
    writable_folder,
)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"

    with whole_file(target) as temporary:
        temporary.write_text("whole")
        seen_before = target.exists()

    assert not seen_before
    assert target.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def half() -> None:
        with whole_file(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_files_of_one_result_appear_together_or_not_at_all(tmp_path: Path) -> None:
    files = {"a": tmp_path / "a.txt", "b": tmp_path / "b.txt"}

    def half() -> None:
        with whole_files(files, tmp_path) as staged:
            staged["a"].write_text("written")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()

    assert list(tmp_path.iterdir()) == []


def test_whole_files_move_to_their_names(tmp_path: Path) -> None:
    files = {"a": tmp_path / "a.txt", "b": tmp_path / "b.txt"}

    with whole_files(files, tmp_path) as staged:
        for kind, path in staged.items():
            path.write_text(kind)

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.txt": "a",
        "b.txt": "b",
    }


def test_a_new_file_has_the_rights_that_the_mask_grants(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    old = os.umask(0o027)
    try:
        with whole_file(target) as temporary:
            temporary.write_text("x")
    finally:
        os.umask(old)

    assert target.stat().st_mode & 0o777 == 0o640


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(FolderNotWritable) as caught:
        writable_folder(tmp_path / "taken" / "inside")

    assert caught.value.exit_status == 3
    assert "taken" in caught.value.message


def test_a_file_that_was_never_written_keeps_all_old_ones(tmp_path: Path) -> None:
    (tmp_path / "b.zarr").mkdir()
    for name in ("a.txt", "b.zarr/old"):
        (tmp_path / name).write_text("old")
    files = {"a": tmp_path / "a.txt", "b": tmp_path / "b.zarr", "c": tmp_path / "new" / "c.txt"}

    def without_the_last() -> None:
        with whole_files(files, tmp_path) as staged:
            staged["a"].write_text("new")
            staged["b"].mkdir()

    with pytest.raises(FileNotFoundError, match=r"c\.txt"):
        without_the_last()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.zarr"]
    assert [(tmp_path / name).read_text() for name in ("a.txt", "b.zarr/old")] == ["old", "old"]


def test_a_store_is_replaced_as_a_whole_and_folders_are_made(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "old").touch()
    files = {"a": tmp_path / "a.zarr", "b": tmp_path / "deep" / "er" / "b.txt"}

    with whole_files(files, tmp_path) as staged:
        (staged["a"] / "new").mkdir(parents=True)
        staged["b"].write_text("b")

    assert [path.name for path in (tmp_path / "a.zarr").iterdir()] == ["new"]
    assert (tmp_path / "deep" / "er" / "b.txt").read_text() == "b"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "deep"]


@pytest.mark.parametrize(
    ("name", "ending"),
    [("a.ome.tif", ".ome.tif"), ("a", ""), ("week.1.labels.tif", ".labels.tif"), ("a.csv", ".csv")],
)
def test_an_unfinished_file_has_the_ending_of_the_whole_one(
    name: str, ending: str, tmp_path: Path
) -> None:
    with whole_file(tmp_path / name) as temporary:
        temporary.touch()

    assert temporary.parent == tmp_path
    started, _, found = temporary.name[1:].partition(".")
    assert started.startswith(f"writing-{os.getpid()}-")
    assert found == ending[1:]


def test_a_file_in_place_of_which_a_folder_stands_leaves_both_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()

    def onto_a_folder() -> None:
        with whole_file(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")

    with pytest.raises(OSError, match="directory"):
        onto_a_folder()

    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]
    assert list((tmp_path / "a.txt").iterdir()) == []


def test_the_mask_of_the_process_is_as_it_was(tmp_path: Path) -> None:
    old = os.umask(0o024)
    try:
        with whole_file(tmp_path / "a.txt") as temporary:
            temporary.touch()
    finally:
        left = os.umask(old)

    assert left == 0o024
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o642


def test_only_what_a_dead_process_left_unfinished_is_left_by_the_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    names = {
        f".writing-{ended.pid}-abc.tif": True,
        f".scratch-{ended.pid}-": True,
        f".reading-{ended.pid}-abc": False,
        f"writing-{ended.pid}-abc": False,
        f".writing-{ended.pid}": False,
        ".writing--1-abc": False,
        f"{unfinished('writing')}abc": False,
        f"{unfinished('scratch')}abc": False,
        f".writing-{10**30}-abc": True,
        "cells.tif": False,
    }

    assert {name: is_left_by_dead(Path("out", name)) for name in names} == names


def test_a_process_of_somebody_else_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_process: int, signal: int) -> None:
        raise {0: PermissionError}[signal]

    monkeypatch.setattr(os, "kill", forbidden)

    assert not is_left_by_dead(Path(".writing-1-abc"))


def test_the_files_of_a_process_that_cannot_be_asked_about_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_such_signal(_process: int, _signal: int) -> None:
        raise OSError(87, "The parameter is incorrect")

    monkeypatch.setattr(os, "kill", no_such_signal)

    assert not is_left_by_dead(Path(".writing-1-abc"))


@pytest.mark.parametrize(
    ("handle", "reason", "status", "dead"),
    [(0, 87, 0, True), (0, 5, 0, False), (7, 0, 259, False), (7, 0, 1, True)],
    ids=["no such process", "of somebody else", "running", "ended"],
)
def test_windows_tells_by_a_handle_whether_a_process_lives(
    handle: int, reason: int, status: int, dead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeKernel(handle, status)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: kernel, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: reason, raising=False)
    monkeypatch.delattr(os, "kill")  # which would send it a Ctrl-C

    assert is_left_by_dead(Path(".writing-12-abc")) == dead
    assert not kernel.held


class FakeKernel:
    """The three calls of ``kernel32`` that are asked."""

    def __init__(self, handle: int, status: int) -> None:
        self.held = False
        self._handle, self._status = handle, status
        self.OpenProcess = partial(self._open)  # of which the return type can be set

    def _open(self, _access: int, _inherit: int, _process: object) -> int:
        self.held = self._handle > 0
        return self._handle

    def GetExitCodeProcess(self, _handle: object, status: object) -> int:  # noqa: N802
        status._obj.value = self._status  # type: ignore[attr-defined]  # what byref points to
        return 1

    def CloseHandle(self, _handle: object) -> int:  # noqa: N802
        self.held = False
        return 1


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"

    assert writable_folder(folder) == folder
    assert writable_folder(folder) == folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("why", "words", "cure"),
    [
        (OSError(28, "No space left on device"), "No space left on device", "free space"),
        (OSError(13, "Permission denied"), "Permission denied", "get permission to write"),
        (OSError(), "OSError", "choose another folder"),
    ],
    ids=["full", "denied", "unnamed"],
)
def test_a_folder_that_cannot_be_written_says_why_and_what_to_do(
    why: OSError, words: str, cure: str
) -> None:
    refused = FolderNotWritable(Path("out"), why)

    assert str(refused) == f"cannot write to the folder 'out': {words} [output.unwritable]"
    assert cure in refused.hint


def test_a_result_that_windows_holds_open_is_not_replaced_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a": tmp_path / "a.txt", "b": tmp_path / "b.txt"}
    for path in files.values():
        path.write_text("old")
    held = Held(monkeypatch, "b.txt", tries=1000)

    def write() -> None:
        with disk_faults_told(tmp_path), whole_files(files, tmp_path) as staged:
            for path in staged.values():
                path.write_text("new")

    with pytest.raises(FolderNotWritable, match=r"'b\.txt' is open in another program") as caught:
        write()

    assert "close it there" in caught.value.hint
    assert {path.read_text() for path in files.values()} == {"old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]
    assert held.pauses == 5


def test_what_windows_holds_for_a_moment_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("old")
    held = Held(monkeypatch, "a.txt", tries=3)

    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")

    assert (tmp_path / "a.txt").read_text() == "new"
    assert held.pauses == 3


def test_elsewhere_a_file_that_may_not_be_replaced_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, "a.txt", tries=1000)
    monkeypatch.setattr(sys, "platform", "linux")

    with pytest.raises(PermissionError), whole_file(tmp_path / "a.txt"):
        pass

    assert held.pauses == 0


class Held:
    """Windows with a file that a program holds for so many tries to replace it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, tries: int) -> None:
        self.pauses, self._name, self._tries = 0, name, tries
        self._replace = os.replace
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(os, "replace", self.replace)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def replace(self, source: Path, target: Path) -> None:
        if target.name == self._name and self._tries:
            self._tries -= 1
            raise PermissionError(13, "Permission denied", str(source), 32, str(target))
        self._replace(source, target)

    def sleep(self, _seconds: float) -> None:
        self.pauses += 1


@pytest.mark.parametrize(
    ("number", "path", "words"),
    [
        (errno.ENOENT, "C/" + "d" * 300, "characters, but Windows allows 259"),
        (errno.EINVAL, "C/a:b", "Windows does not allow a file named 'a:b'"),
    ],
)
def test_what_windows_refuses_is_told_with_the_reason(
    number: int, path: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")

    with pytest.raises(FolderNotWritable, match=words), disk_faults_told():
        raise OSError(number, "refused", path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_text_of_notepad_or_powershell_is_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("größe.tif\r\nb.tif\r\n".encode(encoding))

    assert given_text(path) == "größe.tif\nb.tif\n"
