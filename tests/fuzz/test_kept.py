"""Files that once brought something down do so no more; the fuzzer finds what it looks for."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fuzz import run
from tests.fuzz.mutate import CHANGES, damaged
from tests.fuzz.targets import TARGETS, Target, judged

from bmz.base.errors import CouldNotTell

for module in ("onnx", "onnxruntime", "h5py"):
    pytest.importorskip(module)

KEPT = sorted(path for path in (Path(__file__).parent / "kept").rglob("*") if path.is_file())


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_file_that_brought_something_down_does_so_no_more(path: Path, tmp_path: Path) -> None:
    name = path.name.partition(".")[2].replace("~", "/")

    assert judged(TARGETS[path.parent.name], tmp_path / "case", name, path.read_bytes()) == ""


@pytest.mark.parametrize("name", TARGETS)
def test_a_sound_file_of_every_target_is_read(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    file, content = next(iter(target.seeds().items()))
    (tmp_path / "case").mkdir()

    if name in {"record", "onnx"}:  # of another image, and of other names of tensors
        assert judged(target, tmp_path / "case", file, content) == ""
    else:
        target.run(tmp_path / "case", file, content)


@pytest.mark.parametrize("name", TARGETS)
def test_a_number_names_one_damaged_file(name: str) -> None:
    target = TARGETS[name]

    assert target.case(3) == target.case(3)
    assert len({target.case(number) for number in range(20)}) > 1


def test_every_change_can_be_made_of_hardly_anything() -> None:
    for content in (b"", b"a", b"ab"):
        for number, change in enumerate(CHANGES):
            change(random.Random(number), content, [content])
        damaged(random.Random(0), content, [])


def target_of(run_case: Any, *, exact: bool = False) -> Target:
    return Target(lambda: {"a": b"sound"}, run_case, exact=exact, told=(KeyError,))


def raising(error: BaseException) -> Any:
    def run_case(*_: object) -> None:
        raise error

    return run_case


def test_an_error_of_another_kind_is_a_fault_and_one_of_ours_is_none(tmp_path: Path) -> None:
    ours = CouldNotTell("a", hint="b", code="c.d")

    faults = [
        judged(target_of(raising(error)), tmp_path / "case", "a", b"x")
        for error in (ours, KeyError("k"), IndexError("out of range"))
    ]

    assert faults == ["", "", "IndexError: out of range"]


def test_other_content_without_a_word_is_a_fault_where_it_must_be_the_same(tmp_path: Path) -> None:
    def read(_: Path, __: str, content: bytes) -> bytes:
        return content[:2]

    for exact, content, fault in (
        (True, b"sound", False),
        (True, b"SO", True),
        (False, b"SO", False),
    ):
        found = judged(target_of(read, exact=exact), tmp_path / "case", "a", content)
        assert bool(found) == fault


def test_damage_that_makes_another_seed_is_held_against_that_seed(tmp_path: Path) -> None:
    def read(_: Path, __: str, content: bytes) -> bytes:
        return content

    both = Target(lambda: {"a": b"sound", "b": b"other"}, read, exact=True)

    faults = [judged(both, tmp_path / "case", "a", content) for content in (b"other", b"othex")]

    assert faults == ["", "other content than that of the sound file, without a word"]


def test_a_process_that_dies_or_does_not_end_is_told_with_its_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_LOOK_S", 0.1)
    for limit, ending, fault in (
        ("HANG_S", "os._exit(7)", "the process died (7)"),
        ("STILL_S", "time.sleep(60)", "it does not end"),
        ("HANG_S", "exec('while True: pass')", "it does not end"),
    ):
        monkeypatch.setattr(run, "HANG_S", 120.0)
        monkeypatch.setattr(run, "STILL_S", 1200.0)
        monkeypatch.setattr(run, limit, 0.5)
        tally = run.Tally()
        code = f"import os, time; print('[4, null, 0.1]', flush=True); {ending}"

        following = run.one_process([sys.executable, "-c", code], "index", 4, tally)

        assert following == 5
        assert [fault in told for told in tally.faults] == [True]
        assert [path.name for path in (run.FOUND / "index").iterdir()] == ["4.index.json"]


def test_a_process_that_waits_for_its_turn_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_LOOK_S", 0.1)
    monkeypatch.setattr(run, "HANG_S", 0.5)
    tally = run.Tally()
    code = "import time; time.sleep(1.5); print('[4, null, 0.1]'); print('[4, \"\", 0.1]')"

    run.one_process([sys.executable, "-c", code], "index", 4, tally)

    assert (tally.cases, tally.faults.total()) == (1, 0)


def test_the_fuzzer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])

    tally = run.fuzzed("index", 0, 0.2)

    assert tally.cases > 10
    assert not tally.faults
