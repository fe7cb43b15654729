"""Measure the CPU time that many small images take in addition to the network.

``python benchmarks/many_images.py FOLDER [--count N] [--rounds N] [--write FILE]``, such as
``../shared/data/dsb2018/test/images``.

One process runs the bundled model on N images of 256 px (60 by default; those of the folder are
repeated if there are fewer) and writes the usual files. Another loads the same network in the same
way and does the same passes in a plain loop. The times include the start-up of the processes. They
run alternately, and each row is the median of the rounds. ``--write`` writes the table between its
marks in FILE.
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from statistics import median

import numpy as np
from pages import write_between

from bmz.app.run import MODEL
from bmz.base.arrays import AnyArray
from bmz.base.progress import nobody
from bmz.engine import network_choice, run_images
from bmz.engine.network_choice import precision_of
from bmz.engine.request import RunRequest
from bmz.engine.setup import opened, prepare
from bmz.engine.tile_gate import gated_precision
from bmz.image.inspect import inspect_image
from bmz.predict.backend import Backend, LoadRequest
from bmz.predict.formats import open_backend

MARKS = ("<!-- benchmarks/many_images.py -->\n", "<!-- end of many images -->\n")
SIDE_PX = 256

RUN = """
import os, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the command sets it before it imports NumPy
from bmz.cli.main import main
threads = sys.argv.pop(1)
from bmz.engine import run_images
run_images.threads_behind = lambda *_: int(threads)
main()
"""

PLAIN = """
import pickle, sys
from pathlib import Path
weights_format, request, tiles = pickle.loads(Path(sys.argv[1]).read_bytes())
from bmz.predict.formats import open_backend
network = open_backend(weights_format, request)
for tile in tiles:
    network.run(tile)
"""


def images_of(folder: Path, count: int, place: Path) -> list[Path]:
    """Copy the images of 256 px in a folder, repeatedly until there are `count`."""
    infos = [inspect_image(path) for path in sorted(folder.glob("*.tif"))]
    small = [i.path for i in infos if i.sizes["y"] == i.sizes["x"] == SIDE_PX]
    if not small:
        raise SystemExit(f"{folder} holds no image of {SIDE_PX} px")
    copies = [place / f"{number:03}.tif" for number in range(count)]
    for number, copy in enumerate(copies):
        shutil.copyfile(small[number % len(small)], copy)
    return copies


def keep_passes(images: Sequence[Path], place: Path) -> str:
    """Record how the network was loaded and all its inputs; return backend and precision."""
    setup = prepare(RunRequest(MODEL, tuple(images), place / "kept", overwrite=True))
    loads: list[tuple[str, LoadRequest]] = []
    tiles: list[list[AnyArray]] = []

    def noted(weights_format: str, request: LoadRequest) -> Backend:
        loads.append((weights_format, request))
        return open_backend(weights_format, request)

    network_choice.open_backend = noted
    with closing(opened(setup)) as backend:
        network = backend.run

        def kept(inputs: Sequence[AnyArray]) -> list[AnyArray]:
            tiles.append([array.copy() for array in inputs])
            return network(inputs)

        backend.run = kept  # type: ignore[method-assign]  # of this one alone
        given = dict.fromkeys(images)
        paths = run_images.claim_files(setup, given)
        states = run_images.image_states(setup, given, paths)
        for _ in run_images.run_images(setup, states, paths, nobody, lambda: nullcontext(backend)):
            pass
        precision = gated_precision(backend) or setup.decided.precision
        name = f"{backend.name}, {precision.name}"
    (load,) = {load for load in loads if load[1].precision == precision_of(precision)}
    (place / "passes").write_bytes(pickle.dumps((*load, tiles)))
    return name


def seconds(command: Sequence[str]) -> tuple[float, float]:
    """Return the CPU time and the wall time of a process in s."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603  (our own)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[:4]} failed")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - start


def table(folder: Path, count: int, rounds: int) -> Iterator[str]:
    """Measure, and yield the rows of a table."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        images = images_of(folder, count, place)
        ran_by = keep_passes(images, place)
        words = [MODEL, *map(str, images), "-o", str(place / "out"), "--overwrite"]
        commands = {"plain passes": [sys.executable, "-c", PLAIN, str(place / "passes")]} | {
            label: [sys.executable, "-c", RUN, threads, "run", *words]
            for label, threads in (
                ("bmz run, with a thread that labels and one that writes", "1"),
                ("bmz run, without", "0"),
            )
        }
        took: dict[str, list[tuple[float, float]]] = {label: [] for label in commands}
        for _ in range(rounds):
            for label, command in commands.items():
                took[label].append(seconds(command))
    plain = median(cpu for cpu, _ in took["plain passes"])
    yield f"| {count} images of {SIDE_PX} px | processor | beyond, per image | wall |"
    yield "|---|---|---|---|"
    for label, times in took.items():
        cpu, wall = (float(np.median(column)) for column in zip(*times, strict=True))
        beyond = "" if label == "plain passes" else f"{(cpu - plain) / count:.3f} s"
        what = f"{label} ({ran_by})" if not beyond else label
        yield f"| {what} | {cpu:.1f} s | {beyond} | {wall:.1f} s |"


def main() -> None:
    """Measure the images of a folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    words = parser.parse_args()
    lines = []
    for line in table(words.folder, words.count, words.rounds):
        print(line, flush=True)
        lines.append(line)
    if words.write:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
