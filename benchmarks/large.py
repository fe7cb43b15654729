"""Measure memory, time and seams of ``bmz run`` on one large image.

``python benchmarks/large.py ../shared FOLDER [SIDE ...]``, such as 4096 8192; 32768 takes a
quarter of an hour and 40 GB of disk.

A mosaic of the test images of DSB 2018 (pieces of 150 to 255 px, rotated at random, uint16) is
written as OME-Zarr into FOLDER, and ``bmz run starter/nuclei --format zarr`` labels it in a
separate process. The peak memory and time of that process, the number of objects, and the seam
score are printed. The seam score is the density of object edges on lines where parts meet, divided
by that on lines half a part away. It is computed for the tiles of the network and for the blocks of
labels, each with the scatter of the ratio for lines anywhere else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
import zarr

from bmz.engine.request import RunRequest
from bmz.engine.setup import plan_image, prepare
from bmz.plan.plan import Blocks

SQUARE = 256
CHUNK = 1024
SIDES = (150, 256)
"""Shortest and longest side of a square in the mosaic, px."""


def write_mosaic(shared: Path, folder: Path, side: int, chunk: int = CHUNK) -> None:
    """Write the image, strip by strip."""
    files = sorted((shared / "data/dsb2018/test/images").glob("*.tif"))
    squares = [p[:SQUARE, :SQUARE] for p in map(tifffile.imread, files) if min(p.shape) >= SQUARE]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    array = zarr.create_array(
        store=folder / "0", shape=(side, side), chunks=(chunk, chunk), dtype="uint16",
        dimension_names=["y", "x"],
    )  # fmt: skip
    # of many sizes: nuclei are cut where squares meet, which no tile spacing may meet more often
    y = 0
    while y < side:
        height, row, width = int(rng.integers(*SIDES)), [], 0
        while width < side:
            square = np.rot90(squares[rng.integers(len(squares))], rng.integers(4))
            row.append(square[:height, : rng.integers(*SIDES)].astype(np.uint16) * 16)
            width += row[-1].shape[1]
        strip = np.concatenate(row, axis=1)[: side - y, :side]
        array[y : y + len(strip)] = strip
        y += height
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group = zarr.open_group(folder, mode="a")
    group.attrs["ome"] = {
        "version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets, "name": "mosaic"}],
    }  # fmt: skip


def edges_by_line(labels: zarr.Array) -> list[np.ndarray]:
    """Count the pixels in each row and column whose label differs from that of the one before."""
    height, width = labels.shape
    rows, columns = np.zeros(height, np.int64), np.zeros(width, np.int64)
    for y in range(0, height, CHUNK):
        for x in range(0, width, CHUNK):
            top, left = max(y - 1, 0), max(x - 1, 0)
            part = labels[top : y + CHUNK, left : x + CHUNK]
            inner = part[:, x - left :]
            rows[top + 1 : top + len(part)] += (inner[1:] != inner[:-1]).sum(1)
            inner = part[y - top :]
            columns[left + 1 : left + part.shape[1]] += (inner[:, 1:] != inner[:, :-1]).sum(0)
    return [rows, columns]


def seam_scores(edges: list[np.ndarray], cuts: list[float]) -> tuple[float, float]:
    """Return the density of edges on the lines at `cuts` over that on lines half a part away.

    The second value is the standard deviation of the same ratio for lines anywhere else, since
    pieces of the mosaic differ in their number of nuclei.
    """
    lines, step = np.array(cuts[1:-1]), cuts[1] - cuts[0]
    beside = (np.array(cuts[1:]) + np.array(cuts[:-1])) / 2

    def ratio(shift: float) -> float:
        on, off = (
            sum(counts[(where + shift).astype(int) % len(counts)].mean() for counts in edges)
            for where in (lines, beside)
        )
        return float(on / off)

    return ratio(0), float(np.std([ratio(shift) for shift in np.arange(8, step - 8, 4)]))


def tile_cuts_of(image: Path) -> list[float]:
    """Return the positions along an axis where the tiles of the network meet, in px."""
    setup = prepare(RunRequest("starter/nuclei", (image,), image.parent))
    planned = plan_image(setup, image)
    return planned.plan.cuts_on_image()["y"]


def main() -> None:
    """Run every size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sides", type=int, nargs="*", default=[4096, 8192])
    words = parser.parse_args()
    for side in words.sides:
        place = words.folder / f"mosaic{side}"
        shutil.rmtree(place, ignore_errors=True)
        write_mosaic(words.shared, place / "a.ome.zarr", side)
        command = [
            sys.executable, "-m", "bmz", "run", "starter/nuclei", str(place / "a.ome.zarr"),
            "-o", str(place / "out"), "--format", "zarr", "--memory", "0.2",
        ]  # fmt: skip
        start = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603  (our own program)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - start
        if status:
            raise SystemExit(f"bmz run failed with {status}")
        labels = zarr.open_array(place / "out/a.labels.ome.zarr/labels/objects/0", mode="r")
        record = json.loads((place / "out/a.run.json").read_text())
        edges = edges_by_line(labels)
        blocks = [float(at) for at in range(0, side + 1, min(Blocks().side_px, side // 2))]
        at_tiles, at_blocks = (
            "{:.3f} +- {:.3f}".format(*seam_scores(edges, cuts))
            for cuts in (tile_cuts_of(place / "a.ome.zarr"), blocks)
        )
        peak = usage.ru_maxrss / 1e6
        cpu = usage.ru_utime + usage.ru_stime
        print(f"{side} px: peak {peak:.2f} GB, {took:.0f} s, {cpu:.0f} s of processor, "
              f"{record['objects']} objects, seam score of tiles {at_tiles} "
              f"({record['seam_score']:.3f} in the record), of blocks {at_blocks}",
              flush=True)  # fmt: skip
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
