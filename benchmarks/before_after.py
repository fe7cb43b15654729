"""Compare the CPU time of ``bmz run`` in this checkout with that of an older commit.

``python benchmarks/before_after.py SHARED COMMIT [--side PX] [--rounds N] [--write FILE]``

Two jobs: the images of ``SHARED/data/dsb2018/test`` with ``starter/nuclei``, and one image of the
U-Net of ``benchmarks/throughput.py``, as ONNX in float32 with the map written. Both commits are
unpacked and run alternately by the same interpreter and libraries, each with its own cache, which
a first run has filled. The table shows the minimum over all rounds, which other work disturbs the
least. ``--write`` writes it between its marks in FILE.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import tifffile
from house import unpacked
from pages import write_between
from throughput import processor_seconds, spots, write_package

MARKS = ("<!-- benchmarks/before_after.py -->\n", "<!-- end of before_after -->\n")


def main() -> int:
    """Time both commits, or write the times into a page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("commit")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        sources = {"before": options.commit, "now": "HEAD"}
        root = Path(__file__).parents[1]
        folders = {}
        for column, commit in sources.items():
            (place / column).mkdir()
            folders[column] = unpacked(root, commit, place / column)
        jobs = jobs_in(place, options.shared, options.side)
        seconds = {job: timed(place, folders, job, words, options.rounds) for job, words in jobs}
    text = table(seconds)
    print(text)
    if options.write:
        write_between(options.write, MARKS, text)
    return 0


def jobs_in(place: Path, shared: Path, side: int) -> list[tuple[str, list[str]]]:
    """Return each job with the arguments of its command; its files are written to `place`."""
    # each by its path: not every commit takes folders
    images = sorted(map(str, (shared.resolve() / "data/dsb2018/test/images").iterdir()))
    write_package(place / "model")
    tifffile.imwrite(place / "spots.tif", spots(side), metadata={"axes": "YX"})
    of_network = ["--recipe", "none", "--save", "raw", "--weights", "onnx"]
    return [
        (f"{len(images)} images, `starter/nuclei`", ["starter/nuclei", *images]),
        (
            f"one image of {side} px, a U-Net",
            [str(place / "model"), "spots.tif", *of_network, "--precision", "float32"],
        ),
    ]


def timed(
    place: Path, folders: Mapping[str, Path], job: str, words: Sequence[str], rounds: int
) -> dict[str, list[float]]:
    """Run a job with each commit alternately; return the CPU time of each round in s."""
    seconds: dict[str, list[float]] = {column: [] for column in folders}
    for number in range(rounds + 1):
        for column, source in folders.items():
            os.environ["PYTHONPATH"] = str(source)
            os.environ["BMZ_CACHE_DIR"] = str(place / f"cache of {column}")
            command = [sys.executable, "-m", "bmz", "run", *words, "-o", "out", "--overwrite"]
            took, _ = processor_seconds(command, place)
            if took == math.inf:
                raise RuntimeError((place / "log").read_text(encoding="utf-8"))
            print(f"{job}, {column}, round {number}: {took:.2f} s", file=sys.stderr, flush=True)
            if number:  # the first fills the cache
                seconds[column].append(took)
    return seconds


def table(seconds: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Return the minimum CPU time of each job, and the ratios, as a table in Markdown."""
    rows = ["| processor seconds | before | now | ratio |", "|---|---:|---:|---:|"]
    for job, columns in seconds.items():
        before, now = min(columns["before"]), min(columns["now"])
        rows.append(f"| {job} | {before:.1f} | {now:.1f} | {now / before:.2f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    raise SystemExit(main())
