"""Memory, time and seams of ``bmz run`` on one large image.

``python benchmarks/large.py ../shared FOLDER [SIDE ...]``, such as 4096 8192; 32768 takes hours.

A mosaic of the test images of DSB 2018 (squares of 256 px, turned at random, uint16) is written as
OME-Zarr into FOLDER; ``bmz run starter/nuclei --format zarr`` labels it in a process of its own.
Printed: peak memory and seconds of that process, objects, and the seam score (the density of object
edges on lines where parts meet over that on lines half a part away) twice: for the tiles of the
network, as the run record has it, and for the blocks of labels.
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

from bmz.app.stream_labels import BLOCK_PX

SQUARE = 256
CHUNK = 1024
SHIFT_PX = 100


def write_mosaic(shared: Path, folder: Path, side: int) -> None:
    """Write the image, strip by strip."""
    files = sorted((shared / "data/dsb2018/test/images").glob("*.tif"))
    squares = [p[:SQUARE, :SQUARE] for p in map(tifffile.imread, files) if min(p.shape) >= SQUARE]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    array = zarr.create_array(
        store=folder / "0", shape=(side, side), chunks=(CHUNK, CHUNK), dtype="uint16",
        dimension_names=["y", "x"],
    )  # fmt: skip
    # squares do not end where blocks of labels do
    for y in range(-SHIFT_PX, side, SQUARE):
        row = [
            np.rot90(squares[rng.integers(len(squares))], rng.integers(4)).astype(np.uint16) * 16
            for _ in range(-SHIFT_PX, side, SQUARE)
        ]
        strip = np.concatenate(row, axis=1)[max(-y, 0) : side - y, SHIFT_PX : SHIFT_PX + side]
        array[max(y, 0) : max(y, 0) + len(strip)] = strip
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group = zarr.open_group(folder, mode="a")
    group.attrs["ome"] = {
        "version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets, "name": "mosaic"}],
    }  # fmt: skip


def seam_score(labels: zarr.Array, block: int) -> float:
    """Give the density of edges on block lines over that on lines half a block away."""
    side = labels.shape[0]

    def density(lines: range) -> float:
        counts = pixels = 0
        for line in lines:
            for strip in (labels[line - 1 : line + 1, :], labels[:, line - 1 : line + 1].T):
                counts += np.count_nonzero(strip[0] != strip[1])
                pixels += strip.shape[1]
        return counts / max(pixels, 1)

    on, off = density(range(block, side, block)), density(range(block // 2, side, block))
    return on / off if off else float("nan")


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
        blocks = seam_score(labels, min(BLOCK_PX, side // 2))
        peak = usage.ru_maxrss / 1e6
        cpu = usage.ru_utime + usage.ru_stime
        print(f"{side} px: peak {peak:.2f} GB, {took:.0f} s, {cpu:.0f} s of processor, "
              f"{record['objects']} objects, seam score {record['seam_score']:.3f} at tiles, "
              f"{blocks:.3f} at blocks", flush=True)  # fmt: skip
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
