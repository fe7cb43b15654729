"""Measure the time and memory that it takes to write the outlines of many objects.

    python benchmarks/outlines_speed.py [--write docs/how-to/fiji-and-qupath.md]

Objects are discs of random size on a grid, with a hole in every seventh, measured on one channel.
The mask is on the disk, and is read in blocks like that of a large run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.engine.image_result import ImageResult
from bmz.engine.label_stack import Labels, LabelStack
from bmz.image.inspect import inspect_image
from bmz.image.region import ImageSource, open_image
from bmz.process.blocks import Found
from bmz.write.outputs import OUTPUT_KINDS

if TYPE_CHECKING:
    from bmz.plan.plan import Plan
    from bmz.results.image_documents import RanRecord

GRID_PX, BLOCK_PX, OVERLAP_PX = 34, 2048, 96
CASES = (("rois", 10_000), ("geojson", 350_000), ("coco", 350_000))
MARK = "<!-- speed: benchmarks/outlines_speed.py -->"


def scene(folder: Path, count: int) -> tuple[AnyArray, AnyArray]:
    """Draw at least `count` objects into a mask on disk; return it and their first pixels."""
    side = int(np.ceil(np.sqrt(count)))
    width = side * GRID_PX
    mask = np.lib.format.open_memmap(folder / "mask.npy", "w+", np.int32, (width, width))
    image = np.lib.format.open_memmap(folder / "image.npy", "w+", np.uint8, (width, width))
    y, x = np.mgrid[:GRID_PX, :GRID_PX] - GRID_PX / 2
    far = np.tile(np.hypot(y, x), (1, side))
    rng = np.random.default_rng(0)
    first = []
    for row in range(side):
        radius = np.repeat(rng.uniform(8, 15, side), GRID_PX)
        hole = np.repeat(np.where(rng.random(side) < 1 / 7, 3, 0), GRID_PX)
        numbers = np.repeat(np.arange(side) + row * side + 1, GRID_PX)
        strip = np.where((far < radius) & (far >= hole), numbers, 0)
        rows = slice(row * GRID_PX, (row + 1) * GRID_PX)
        mask[rows] = strip
        image[rows] = rng.integers(0, 255, strip.shape, np.uint8)
        first.append(np.unique(strip, return_index=True)[1][1:] + rows.start * width)
    mask.flush()
    image.flush()
    return mask, np.concatenate(first)


def result_of(folder: Path, mask: AnyArray, first: AnyArray, image: ImageSource) -> ImageResult:
    """Return the result of a run in parts that made this mask."""
    objects = Found([first])
    part = Labels(mask, objects.numbers(), objects, mask.shape, (BLOCK_PX,) * 2, (OVERLAP_PX,) * 2)
    plan = cast(
        "Plan", SimpleNamespace(joined=(), near=None)
    )  # writing a result needs nothing else
    record = cast("RanRecord", {"image": str(folder / "image.npy")})
    return ImageResult(image, plan, LabelStack([part], {}, "yx"), None, record=record)


def measured(kind: str, count: int) -> dict[str, float]:
    """Write a kind of output, and return seconds and GB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mask, first = scene(folder, count)
        info = replace(
            inspect_image(folder / "image.npy"), axes="yx", pixel_um={"y": 0.5, "x": 0.5}
        )
        with open_image(info) as image:
            # what is compiled or imported once is not part of it
            small_mask, small_first = mask[:GRID_PX].copy(), first[first < GRID_PX * mask.shape[1]]
            OUTPUT_KINDS[kind].write(
                result_of(folder, small_mask, small_first, image), folder / "small"
            )
            result = result_of(folder, mask, first, image)
            start, start_cpu = time.perf_counter(), time.process_time()
            OUTPUT_KINDS[kind].write(result, folder / "written")
            took, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        size = (folder / "written").stat().st_size
    return {"objects": len(first), "s": took, "cpu_s": cpu, "gb": peak_gb(), "file_mb": size / 1e6}


def peak_gb() -> float:
    """Return the peak private memory of this process, without pages of mapped files."""
    words = Path("/proc/self/status").read_text(encoding="utf-8").split()
    anonymous, peak = (int(words[words.index(n) + 1]) for n in ("RssAnon:", "VmHWM:"))
    files = int(words[words.index("RssFile:") + 1])
    return max(anonymous, peak - files) * 1024 / 1e9


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return the figures as a table in Markdown."""
    lines = [
        f"| `{kind}` | {row['objects']:,.0f} | {row['s']:.1f} s | {row['cpu_s']:.1f} s "
        f"| {row['gb']:.2f} GB | {row['file_mb']:,.0f} MB |"
        for kind, row in rows.items()
    ]
    head = "| kind | objects | time | of a processor | memory | file |\n|---|---|---|---|---|---|"
    return "\n".join([head, *lines])


def main() -> None:
    """Measure each kind in a separate process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="page whose figures are written again")
    parser.add_argument("--only", nargs=2, metavar=("KIND", "COUNT"))
    options = parser.parse_args()
    if options.only:
        kind, count = options.only
        print(json.dumps(measured(kind, int(count))))
        return
    rows = {}
    for kind, count in CASES:
        words = [sys.executable, __file__, "--only", kind, str(count)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603
        rows[kind] = json.loads(done.stdout)
    print(table(rows))
    if options.write:
        before, _, after = options.write.read_text(encoding="utf-8").split(MARK)
        text = f"{before}{MARK}\n{table(rows)}\n{MARK}{after}"
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
