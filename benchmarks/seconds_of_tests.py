"""Measure the CPU time of each test file, including the processes that it starts.

``python -m pytest -p benchmarks.seconds_of_tests tests/ship tests/app/test_search.py``

A pytest plugin, to be used without ``-n``. User and system time are counted, including those of
processes that still run, so that other work on the machine matters little. The costliest files come
first. Shared work, such as an import, counts for the first file that needs it.
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
"""Test file -> CPU time in s."""


def spent_s() -> float:
    """Return the CPU time of this process, its ended children, and those that still run."""
    times = os.times()
    ended_s = times.user + times.system + times.children_user + times.children_system
    return ended_s + sum(map(running_child_s, children()))


def children() -> list[str]:
    """Return the ids of the child processes that this process has not waited for."""
    found: list[str] = []
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # the thread has ended
            found += (thread / "children").read_text().split()
    return found


def running_child_s(number: str) -> float:
    """Return the CPU time of a child and of its own ended children; 0 once it is gone."""
    try:
        words = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, words[OF_CHILD])) / TICKS_PER_S


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Add the time of a test and its fixtures to that of its file."""
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
