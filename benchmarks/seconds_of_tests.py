"""Seconds of processor of each file of tests, with those of the processes that it starts.

``python -m pytest -p benchmarks.seconds_of_tests tests/ship tests/app/test_search.py``

A plugin of pytest, without ``-n``. User and system time are counted, those of processes that still
run, too, so that other work on the machine matters little; the costliest files come first.
What a file of tests starts up for others, such as an import, counts for the first that needs it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
OF_CHILD = slice(11, 15)  # utime, stime, cutime and cstime of /proc/PID/stat behind the name

SECONDS: defaultdict[str, float] = defaultdict(float)
"""File of tests -> seconds of processor."""


def spent_s() -> float:
    """Return the seconds of this process, of its ended children, and of those that run."""
    times = os.times()
    ended_s = times.user + times.system + times.children_user + times.children_system
    return ended_s + sum(map(running_child_s, children()))


def children() -> list[str]:
    """Return the numbers of the processes that this one started and that it has not waited for."""
    found: list[str] = []
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # the thread has ended
            found += (thread / "children").read_text().split()
    return found


def running_child_s(number: str) -> float:
    """Return the seconds of a child and of its own ended children; 0 once it is gone."""
    try:
        words = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, words[OF_CHILD])) / TICKS_PER_S


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Count what a test takes, with its fixtures, for its file."""
    start_s = spent_s()
    result = yield
    SECONDS[item.nodeid.partition("::")[0]] += spent_s() - start_s
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the files, the costliest first."""
    terminalreporter.section("seconds of processor")
    for name in sorted(SECONDS, key=lambda name: -SECONDS[name]):
        terminalreporter.line(f"{SECONDS[name]:8.1f}  {name}")
    terminalreporter.line(f"{sum(SECONDS.values()):8.1f}  all")
