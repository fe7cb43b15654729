from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from bmz.cli import main as program


class Ended(BaseException):
    pass


def _watched(monkeypatch: pytest.MonkeyPatch, *signals: bytes, grace_s: float) -> list[str]:
    ends: list[str] = []

    def end(_number: int, why: str) -> None:
        ends.append(why)
        raise Ended

    monkeypatch.setattr(program, "_end", end)
    monkeypatch.setattr(program, "GRACE_S", grace_s)
    told, tell = socket.socketpair()
    for numbers in signals:
        tell.send(numbers)
    if not signals or grace_s > 1:
        tell.close()
    try:
        program._watch(told)
    except Ended:
        pass
    finally:
        tell.close()
    return ends


INT, CHILD = bytes([signal.SIGINT]), bytes([signal.SIGCHLD])


def test_a_second_interrupt_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _watched(monkeypatch, INT, INT, grace_s=60) == ["interrupted twice"]


def test_one_interrupt_is_answered_by_python_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _watched(monkeypatch, INT, CHILD, grace_s=60) == []


def test_an_interrupt_without_effect_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _watched(monkeypatch, INT, grace_s=0.01) == [
        "the program did not respond to the signal to end"
    ]


@pytest.fixture
def interrupt_raises() -> Iterator[None]:
    """Python's own answer to Ctrl-C, also where a shell starts the tests with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupt_raises")
def test_the_watch_ends_with_its_block() -> None:
    before = threading.active_count()

    with program.interruptible(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)

    assert threading.active_count() == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM for one process")
def test_a_program_that_is_asked_to_end_clears_up_and_says_by_which_signal() -> None:
    with program.interruptible(), pytest.raises(program.Terminated) as ended:
        os.kill(os.getpid(), signal.SIGTERM)

    assert ended.value.exit_status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_block_that_ends_by_itself_is_given_the_time_that_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with program.patient():
        once = _watched(monkeypatch, INT, CHILD, grace_s=2)
        twice = _watched(monkeypatch, INT, INT, grace_s=2)

    assert (once, twice) == ([], ["interrupted twice"])
    assert not program._PATIENT.is_set()
