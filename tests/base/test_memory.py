"""Free memory is that of the machine or of the container, and a peak is that of its block."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bmz.base import computer
from bmz.base.computer import (
    available_cpus,
    free_memory,
    held_memory,
    peak_memory,
    total_memory,
)

MB = 2**20
on_linux = pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux alone tells")


def container(folder: Path, **files: str) -> tuple[Path, Path]:
    """Write the two files of a control group; those that are not given are absent."""
    for name, text in files.items():
        (folder / name).write_text(text, encoding="ascii")
    return folder / "limit", folder / "used"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"limit": "3000000\n", "used": "1000000\n"}, 2000000),
        ({"limit": "1000000\n", "used": "3000000\n"}, 0),
        ({"limit": "1000000\n", "used": "1000000\n"}, 0),
    ],
)
def test_a_container_has_what_its_limit_leaves(
    files: dict[str, str], free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computer, "CGROUP_LIMITS", (container(tmp_path, **files),))

    assert free_memory() == free


@pytest.mark.parametrize(
    "files",
    [
        {"limit": "max\n", "used": "1000\n"},
        {"limit": "1000\n"},
        {"used": "1000\n"},
        {},
        {"limit": "9223372036854771712\n", "used": "1000\n"},  # version 1 writes "none" like this
    ],
)
def test_a_container_without_a_limit_has_what_the_machine_has(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computer, "CGROUP_LIMITS", (container(tmp_path, **files),))

    free = free_memory()

    of_machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 1 * MB < free <= of_machine


def test_the_narrower_of_two_control_groups_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    wide = container(tmp_path / "first", limit="5000000", used="1000000")
    narrow = container(tmp_path / "second", limit="4000000", used="3000000")

    for groups in ((wide, narrow), (narrow, wide)):
        monkeypatch.setattr(computer, "CGROUP_LIMITS", groups)
        assert free_memory() == 1000000


@on_linux
def test_what_the_machine_has_is_what_its_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computer, "CGROUP_LIMITS", ())
    words = Path("/proc/meminfo").read_text(encoding="ascii").split()

    free = free_memory()

    of_kernel = 1024 * int(words[words.index("MemAvailable:") + 1])
    assert free == pytest.approx(of_kernel, rel=0.5)  # others use the machine meanwhile


def taken_from_the_kernel(size: int) -> mmap.mmap:
    """Take memory that no allocator has in store from what ran before in this process."""
    taken = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, size, mmap.PAGESIZE):
        taken[start] = 1
    return taken


@on_linux
def test_a_peak_is_of_its_block_alone_even_if_all_is_let_go() -> None:
    before = held_memory()
    taken_from_the_kernel(128 * MB).close()

    with peak_memory() as peak:
        taken_from_the_kernel(64 * MB).close()

    if peak.bytes_more is None:
        pytest.skip("this kernel does not let the peak begin again")
    assert 60 * MB < peak.bytes_more < 120 * MB
    assert 1 * MB < before < 2**40


@on_linux
def test_what_is_held_grows_by_what_is_taken() -> None:
    before = held_memory()

    taken = taken_from_the_kernel(64 * MB)

    assert 60 * MB < held_memory() - before < 120 * MB
    assert taken[0] == 1


class FakeKernel:
    """The calls of ``kernel32`` that are asked, on a computer with 16 GB of which 6 are free."""

    def __init__(self, *, answers: bool = True) -> None:
        self._answers = answers
        self.GetCurrentProcess = partial(lambda: 2**64 - 1)  # of which the type can be set

    def GlobalMemoryStatusEx(self, status: Any) -> int:  # noqa: N802  (its name there)
        assert ctypes.sizeof(status._obj) == status._obj.length == 64
        status._obj.total, status._obj.free = 16 * 2**30, 6 * 2**30
        return int(self._answers)

    def GetProcessAffinityMask(self, _: object, allowed: Any, every: Any) -> int:  # noqa: N802
        allowed._obj.value, every._obj.value = 0b1011, 0b1111
        return int(self._answers)


@pytest.mark.parametrize(
    ("answers", "memory"), [(True, (6 * 2**30, 16 * 2**30, 3)), (False, (2**32, None, 5))]
)
def test_windows_tells_its_memory_and_the_processors_of_the_process(
    answers: bool, memory: tuple[int, int | None, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computer, "CGROUP_LIMITS", ())
    monkeypatch.setattr(sys, "platform", "win32")
    kernel = FakeKernel(answers=answers)
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: kernel, raising=False)
    for name in ("sched_getaffinity", "sysconf"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)

    assert (free_memory(), total_memory(), available_cpus()) == memory


@pytest.mark.parametrize(("status", "total"), [(0, 24 * 2**30), (-1, None)])
def test_a_mac_tells_its_memory(
    status: int, total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        def sysctlbyname(self, name: bytes, value: Any, size: Any, *_: object) -> int:
            assert (name, size._obj.value) == (b"hw.memsize", 8)
            value._obj.value = 24 * 2**30
            return status

    monkeypatch.setattr(computer, "CGROUP_LIMITS", ())
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_: Library())
    monkeypatch.setattr(Path, "read_text", absent)  # there is no /proc
    for name in ("sched_getaffinity", "sysconf"):
        monkeypatch.delattr(os, name)

    assert (total_memory(), free_memory()) == (total, total // 2 if total else 2**32)


def absent(path: Path, **_: object) -> str:
    raise FileNotFoundError(path)
