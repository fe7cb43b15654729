"""Damage files of every kind that bmz reads, and look for what must not come of it.

``python -m tests.fuzz.run [--seconds 3600] [--target NAME]… [--first NUMBER]`` (or ``make fuzz``)
looks for crashes (an error that is not one of ours), hangs, processes that die, and content that
differs from the sound file without a word. The seconds are those of the processor, in all. What it
finds is written to ``build/fuzz``, to be kept in ``tests/fuzz/kept`` once it is mended.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.targets import TARGETS

HANG_S = 120.0
"""Seconds of processor after which a case counts as one that does not end."""

STILL_S = 1200.0
"""Seconds by the clock after which it does so, too: it may wait for what never comes."""

_LOOK_S = 5.0

_KEPT_OF_EACH = 3
FOUND = Path("build/fuzz")


@dataclass
class Tally:
    """What came of the cases of one target."""

    cases: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Fuzz every target for its share of the time; 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    parser.add_argument("--first", type=int, default=0)
    words = parser.parse_args()
    names = words.target or list(TARGETS)
    total = Counter[str]()
    for name in names:
        tally = fuzzed(name, words.first, words.seconds / len(names))
        total += Counter(cases=tally.cases, faults=tally.faults.total())
        print(f"{name:12} {tally.cases:7} cases {tally.seconds:7.0f} s", flush=True)
        for fault, count in tally.faults.most_common():
            print(f"    {count} x {fault}", flush=True)
    print(f"{total['cases']} cases, {total['faults']} faults")
    return 1 if total["faults"] else 0


def fuzzed(name: str, first: int, seconds: float) -> Tally:
    """Run one target in processes of its own until its time is gone."""
    tally, number = Tally(), first
    while tally.seconds < seconds:
        left = str(seconds - tally.seconds)
        words = [sys.executable, "-m", "tests.fuzz.worker", name, str(number), left]
        number = one_process(words, name, number, tally)
    return tally


def one_process(words: list[str], name: str, first: int, tally: Tally) -> int:
    """Run cases until the time is gone or the process is; give the number of the next case."""
    started = time.monotonic()
    number, under_way, spent = first, False, 0.0
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
    ) as child:
        assert child.stdout is not None
        while line := _line(child):
            number, fault, spent = json.loads(line)
            under_way = fault is None
            tally.cases += under_way
            if fault:
                _note(name, number, fault, tally)
        if line is None:
            child.kill()
        status = child.wait()
    if not under_way and status:
        raise RuntimeError(f"the worker for {name} does not start")
    if under_way:
        ended = f"the process died ({status})"
        _note(name, number, "it does not end" if line is None else ended, tally)
    tally.seconds += spent or time.monotonic() - started
    return number + 1


def _environment() -> dict[str, str]:
    # memory that nobody wrote to holds the same bytes each time, which are no zeros
    return dict(os.environ, BMZ_OFFLINE="1", MALLOC_PERTURB_="85")


def _line(child: subprocess.Popen[bytes]) -> bytes | None:
    """Wait for a line; None when none comes, empty at the end.

    Seconds of the clock alone would tell of a busy machine.
    """
    assert child.stdout is not None
    used, started = _processor_s(child.pid), time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while not selector.select(_LOOK_S):
            still = time.monotonic() - started > STILL_S
            if still or _processor_s(child.pid) - used > HANG_S:
                return None
    return child.stdout.readline()


def _processor_s(pid: int) -> float:
    """Give the seconds of processor that a child has used; proc(5), fields 14 and 15 of stat."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _note(name: str, number: int, fault: str, tally: Tally) -> None:
    tally.faults[fault] += 1
    if tally.faults[fault] <= _KEPT_OF_EACH:
        file, content = TARGETS[name].case(number)
        place = FOUND / name
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.{file.replace('/', '~')}").write_bytes(content)
        print(f"    {name} {number}: {fault}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
