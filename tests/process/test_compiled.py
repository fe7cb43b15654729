"""Loops that are compiled for their first use: told when that takes long, and not again."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bmz.base.progress import Event, Note
from bmz.process.compiled import NOTE, TEXT, CompileNote

SOURCE = """
from bmz.process.compiled import compiled

@compiled
def half(x):
    return x // 2

@compiled
def halves(values):
    total = 0
    for value in values:
        total += half(value)
    return total
"""


def module(path: Path, name: str) -> ModuleType:
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def heard(loops: ModuleType) -> list[str]:
    """Run the loops; give what is told meanwhile."""
    told: list[Event] = []
    with NOTE.heard_by(told.append):
        assert loops.halves(np.arange(5)) == 4
    return [event.text for event in told if isinstance(event, Note)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "loops.py"
    path.write_text(SOURCE)
    return path


def test_a_first_use_that_takes_long_is_told_once(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient() -> None:
        monkeypatch.setattr("bmz.process.compiled.AFTER_S", NOTE._spent_s + 1e-6)

    impatient()
    first = heard(module(source, "loops_a"))
    impatient()
    again = heard(module(source, "loops_a"))

    assert first == [TEXT]
    assert again == []  # from the disk


def test_a_quick_first_use_is_not_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bmz.process.compiled.AFTER_S", 1e4)

    assert heard(module(source, "loops_b")) == []


def test_many_short_ones_are_told_by_their_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    waits: list[float] = []

    class Timer:
        daemon = False

        def __init__(self, wait_s: float, _then: object) -> None:
            waits.append(wait_s)

        def start(self) -> None: ...
        def cancel(self) -> None: ...

    monkeypatch.setattr("bmz.process.compiled.threading.Timer", Timer)
    monkeypatch.setattr("bmz.process.compiled.time.monotonic", lambda: clock[0])
    note = CompileNote()

    for took_s in (1.0, 1.5, 9.0, 1.0):
        note.begin()
        note.begin()  # a loop within the loop
        note.end()
        clock[0] += took_s
        note.end()

    assert waits == [3.0, 2.0, 0.5]
