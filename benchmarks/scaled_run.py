"""Compare CPU time and memory of ``bmz run --scale`` in this tree and another one.

``git worktree add ../before COMMIT; python benchmarks/scaled_run.py ../before [SIDE ...]``

A test image is repeated, mirrored, up to each side, by default 1024 and 2048 px. Both trees run it
alternately with the same Python and the same packages, each time in a separate process, after one
run that does not count. Times are CPU time, user and system, and the minimum of all runs counts;
the memory is the peak resident memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

HERE = Path(__file__).parents[1]
IMAGE = "data/neubias/xyc_8bit__membranes_nuclei.tif"
SIDES = (1024, 2048)
TIMES = 3
KIB = 1024


class Cost(NamedTuple):
    """The cost of a process: CPU time in s, and peak memory in MiB."""

    cpu_s: float
    memory_mib: float


def mosaic(image: Path, side: int, file: Path) -> Path:
    """Repeat an image (c, y, x), mirrored, up to a side."""
    pixels = tifffile.imread(image)
    room = [(0, max(side - n, 0)) for n in pixels.shape[1:]]
    wide = np.pad(pixels, [(0, 0), *room], mode="symmetric")[:, :side, :side]
    tifffile.imwrite(file, wide, ome=True, metadata={"axes": "CYX"})
    return file


def cost_of_run(tree: Path, words: list[str], folder: Path) -> Cost:
    """Run ``bmz run`` of a tree, and return the cost of the process."""
    command = [sys.executable, "-m", "bmz", "run", *words, "--overwrite", "-o", str(folder)]
    child = subprocess.Popen(  # noqa: S603
        command,
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        cwd=folder.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(
            f"{' '.join(command)} in {tree} ended with {child.returncode}; try it there"
        )
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / KIB)


def row(trees: tuple[Path, Path], side: int, asked: argparse.Namespace, folder: Path) -> str:
    """Return the row of the table for one side."""
    file = mosaic(asked.shared / IMAGE, side, folder / f"{side}.tif")
    words = [str(asked.model or asked.shared / "models" / "cellpose-cyto"), str(file)]
    words += ["--scale", str(asked.scale)]
    costs: list[list[Cost]] = [[], []]
    for count in range(asked.times + 1):
        for at, tree in enumerate(trees):
            cost = cost_of_run(tree, words, folder / f"results-{at}")
            if count:  # the first one may compile loops
                costs[at].append(cost)
    before, now = (Cost(*np.min(runs, axis=0)) for runs in costs)
    return (
        f"| {side} px | {before.cpu_s:.1f} s | {now.cpu_s:.1f} s "
        f"| {now.cpu_s / before.cpu_s:.2f} | {before.memory_mib:.0f} MiB "
        f"| {now.memory_mib:.0f} MiB | {now.memory_mib / before.memory_mib:.2f} |"
    )


def main() -> None:
    """Print one row for each side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("before", type=Path, help="the tree that this one is compared with")
    parser.add_argument("sides", type=int, nargs="*", default=SIDES, help="of the images, px")
    parser.add_argument("--model", help="what bmz run takes, by default cellpose-cyto of SHARED")
    parser.add_argument("--scale", default="0.5")
    parser.add_argument("--shared", type=Path, default=HERE.parent / "shared")
    parser.add_argument("--times", type=int, default=TIMES)
    asked = parser.parse_args()
    asked.shared = asked.shared.resolve()
    print("| image | before | now | ratio | memory before | now | ratio |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for side in asked.sides:
            trees = (asked.before.resolve(), HERE.resolve())
            print(row(trees, side, asked, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
