"""Measure the CPU time of the first use of recipes with compiled loops, with an empty cache.

``python benchmarks/first_use.py [--write FILE]``

Each recipe labels a small map in its own process, with its own folder for the machine code. Only
the call is timed, including the import of Numba. It is then repeated with the cached code.
``--write`` writes the table between its marks in FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pages import write_between

from bmz.process.recipe import Value

MARKS = ("<!-- benchmarks/first_use.py -->\n", "<!-- end of first use -->\n")

FAR = "-1,0;0,-1;-3,0;0,-3;-5,0;0,-5"

CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Value]]] = {
    "StarDist, stacks": ("stardist", (97, 8, 20, 20), {"anisotropy": "1,1,1"}),
    "flows, planes": ("flows", (3, 32, 32), {}),
    "flows, stacks": ("flows", (4, 6, 16, 16), {}),
    "mutex watershed": ("affinities", (6, 32, 32), {"offsets": FAR}),
    "affinities to direct neighbours": ("affinities", (2, 32, 32), {"offsets": "-1,0;0,-1"}),
    "Mesmer": ("mesmer", (2, 32, 32), {}),
    "boundary": ("boundary", (2, 32, 32), {}),
    "gasp": ("gasp", (1, 32, 32), {}),
    "distance_watershed": ("distance_watershed", (1, 32, 32), {}),
}


def seconds_of(case: str) -> tuple[float, float]:
    """Label a map of noise twice, and return the CPU time of both calls in s."""
    from bmz.process.recipes import RECIPES

    name, shape, given = CASES[case]
    maps = np.random.default_rng(0).random(shape, np.float32)
    if name == "stardist":
        maps[1:] = 4 + maps[1:]  # rays long enough for many to overlap
    recipe = RECIPES[name]
    parameters = recipe.parameters_from(given, {})
    found = []
    for _ in range(2):
        start = time.process_time()
        recipe.apply(maps, (1,) * (len(shape) - 1), parameters)
        found.append(time.process_time() - start)
    return found[0], found[1]


def in_process(case: str, folder: str) -> tuple[float, float]:
    """Run `seconds_of` in a separate process that caches its machine code in `folder`."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, __file__, "--case", case],
        env={**os.environ, "NUMBA_CACHE_DIR": folder},
        check=True,
        capture_output=True,
        text=True,
    )
    first, second = json.loads(done.stdout)
    return first, second


def main() -> None:
    """Measure every case, or one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.case:
        print(json.dumps(seconds_of(words.case)))
        return
    lines = ["| recipe | first use | next process | next call |", "|---|---|---|---|"]
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            first, again = in_process(case, folder)[0], in_process(case, folder)
        lines.append(f"| {case} | {first:.1f} s | {again[0]:.1f} s | {again[1]:.3f} s |")
        print(lines[-1], flush=True)
    if words.write:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
