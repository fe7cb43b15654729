"""Runs cases of one target, one after the other, in a process that may die of one.

``python -m tests.fuzz.worker TARGET FIRST SECONDS`` prints a line of JSON before and after each.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.fuzz.targets import TARGETS, judged

MOST_MEMORY = 4 * 2**30  # bytes of address space, half of it of libraries

MOST_CASES = 50_000
"""Of one process: each PNG that imagecodecs refuses takes a reference of None too many, and after
some 120,000 of them Python itself ends the process ("deallocating None")."""


def main(name: str, first: str, seconds: str) -> None:
    """Run cases from number `first` on until so many seconds of processor are gone."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    warnings.simplefilter("ignore")
    target, number = TARGETS[name], int(first)
    target.seeds()
    with tempfile.TemporaryDirectory(prefix="bmz-fuzz-") as folder:
        end, last = time.process_time() + float(seconds), number + MOST_CASES
        while time.process_time() < end and number < last:
            _say(number, None)
            _say(number, judged(target, Path(folder) / "case", *target.case(number)))
            number += 1


def _say(number: int, fault: str | None) -> None:
    print(json.dumps([number, fault, time.process_time()]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
