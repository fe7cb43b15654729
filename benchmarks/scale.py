"""Estimate what 10,000 images and a gigapixel cost on few and many processors, and what saturates.

``python benchmarks/scale.py ../shared --write docs/reference/cost.md`` measures the parts here as
CPU time of single threads (four minutes), takes those of a GPU from the figures in
docs/reference/performance.md, and simulates larger computers from both. ``--images 3 --side 1024
--tasks 100`` shows in half a minute that it runs; its figures are meaningless.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from large import SQUARE, write_mosaic
from pages import write_between

from bmz.base.computer import available_cpus
from bmz.base.progress import Progress, nobody
from bmz.engine import cluster
from bmz.engine.cluster_worker import ImageJob, ToCaller
from bmz.engine.request import RunRequest
from bmz.engine.run_images import claim_files, image_states
from bmz.engine.setup import prepare
from bmz.image.series import with_fields
from bmz.predict.formats import processor_name
from bmz.results.images import ImageRun

MODEL = "starter/nuclei"
IMAGE_PX = 1024
MANY = 10_000
GIGAPIXEL = 1e9
PAGE = Path(__file__).parents[1] / "docs/reference/performance.md"
MARKS = "<!-- benchmarks/scale.py -->\n", "<!-- end of scale -->\n"

PROGRAM = """
import sys
from pathlib import Path
from bmz.engine.request import RunRequest
from bmz.app.run import run
if __name__ == "__main__":
    out, weights, zarr, *images = sys.argv[1:]
    how = {"labels_format": "zarr", "memory_gb": 0.0} if zarr else {}
    request = RunRequest("starter/nuclei", tuple(map(Path, images)), Path(out), threads=1,
                         device="cpu", weights=weights, overwrite=True, **how)
    assert len(run(request).done) == len(images)
"""

SERIAL_OF_LARGE = ("check", "prepare", "labels", "write")
"""Stages that only the caller does for an image in parts; only tiles are distributed."""


@dataclass(frozen=True)
class Parts:
    """The measurements, as CPU time in s unless stated otherwise.

    Parameters
    ----------
    image_s : stage -> time for an image of `IMAGE_PX`
    large_s : stage -> time for a megapixel of an image that is run in parts
    start_s : weights format -> time for a process that runs one image, without that image
    plan_s : time of the caller to plan an image before it is distributed
    deal_s : time of the caller and the scheduler to distribute an image
    take_s : time of a worker to receive an image and to report it
    read_mb, written_mb : MB read and written per image
    gpu_s : GPU time of the network for an image of `IMAGE_PX`
    gpu_large_s : GPU time of the network for a megapixel of an image in parts
    """

    image_s: Mapping[str, float]
    large_s: Mapping[str, float]
    start_s: Mapping[str, float]
    plan_s: float
    deal_s: float
    take_s: float
    read_mb: float
    written_mb: float
    gpu_s: float
    gpu_large_s: float


@dataclass(frozen=True)
class Layout:
    """One or several computers with workers of one thread each, which share any GPUs."""

    name: str
    workers: int
    gpus: int = 0

    @property
    def weights(self) -> str:
        """Return the weights format: on a GPU, only PyTorch was measured."""
        return "torchscript" if self.gpus else "onnx"


LAYOUTS = (
    Layout("this computer, 2 workers", 2),
    Layout("16 cores, 16 workers", 16),
    Layout("one GPU, 16 cores, 16 workers", 16, 1),
    Layout("eight GPUs, 128 cores, 128 workers", 128, 8),
    Layout("100 Dask workers of one core", 100),
)


@dataclass(frozen=True)
class Work:
    """One of many equal tasks; a single worker does all of it, with the GPU part in the middle.

    Parameters
    ----------
    caller_s : time of the caller to plan and distribute it, one task after the other
    before_s, after_s : time of the worker before and after the GPU part
    gpu_s : time for which the worker holds a GPU, after waiting for it
    """

    caller_s: float
    before_s: float
    after_s: float
    gpu_s: float = 0.0

    def least_s(self, count: int, workers: int, gpus: int) -> dict[str, float]:
        """Return the minimum time that each part needs for `count` tasks."""
        each = self.before_s + self.gpu_s + self.after_s
        return {
            "caller": count * self.caller_s,
            "workers": math.ceil(count / workers) * each,
            "GPUs": math.ceil(count / gpus) * self.gpu_s if gpus else 0.0,
        }


def simulated_s(work: Work, count: int, workers: int, gpus: int = 0) -> float:
    """Simulate workers that do tasks as they are distributed, first come, first served.

    Parameters
    ----------
    count : number of tasks

    Returns
    -------
    float
        the time at which the last task is done, in s
    """
    events: list[tuple[float, int, int]] = []  # (time, next step: 0 take, 1 GPU, 2 end, worker)
    for worker in range(workers):
        heappush(events, (0.0, 0, worker))
    free = [0.0] * gpus
    dealt, last = 0, 0.0
    while events:
        now, phase, worker = heappop(events)
        if phase == 0 and dealt < count:
            dealt += 1
            begun = max(now, dealt * work.caller_s)
            heappush(events, (begun + work.before_s, 1, worker))
        elif phase == 1:
            if gpus:
                now = max(now, heappop(free))
                heappush(free, now + work.gpu_s)
            heappush(events, (now + work.gpu_s, 2, worker))
        elif phase == 2:
            last = now + work.after_s
            heappush(events, (last, 0, worker))
    return last


def work_of_image(parts: Parts, layout: Layout) -> Work:
    """Return the cost of one of many images on a layout."""
    stages = parts.image_s
    before = parts.take_s + sum(stages[name] for name in ("read", "check", "prepare"))
    after = stages["labels"] + stages["write"]
    caller = parts.plan_s + parts.deal_s
    if layout.gpus:
        return Work(caller, before, after, parts.gpu_s)
    return Work(caller, before + stages["network"], after)


def many_images(parts: Parts, layout: Layout) -> str:
    """Return the row of a layout: time and cost of many images, and the busiest part."""
    work = work_of_image(parts, layout)
    start = parts.start_s[layout.weights]
    took = start + simulated_s(work, MANY, layout.workers, layout.gpus)
    least = work.least_s(MANY, layout.workers, layout.gpus)
    busiest = max(least, key=lambda name: least[name])
    per_worker = work.before_s + work.gpu_s + work.after_s
    slowest = max(work.caller_s, work.gpu_s / layout.gpus if layout.gpus else 0)
    mb_s = MANY * (parts.read_mb + parts.written_mb) / took
    cells = (
        layout.name, _time(took), _hours(took * layout.workers),
        _hours(took * layout.gpus) if layout.gpus else "",
        f"{busiest}, {100 * least[busiest] / took:.0f} %", f"{per_worker / slowest:.0f}",
        f"{mb_s:.0f} MB/s",
    )  # fmt: skip
    return _row(cells)


def gigapixel(parts: Parts, layout: Layout) -> str:
    """Return the row of a layout: time and cost of an image of a gigapixel, run in parts."""
    mpx = GIGAPIXEL / 1e6
    serial = mpx * sum(parts.large_s[name] for name in SERIAL_OF_LARGE)
    tiles = cluster.SHARES * layout.workers
    network = mpx * parts.large_s["network"] / tiles
    gpu = mpx * parts.gpu_large_s / tiles if layout.gpus else 0.0
    work = Work(parts.deal_s, 0.0 if layout.gpus else network, 0.0, gpu)
    start = parts.start_s[layout.weights]
    dealt = simulated_s(work, tiles, layout.workers, layout.gpus)
    took = start + serial + dealt
    cells = (
        layout.name, _time(took), _hours(took * layout.workers),
        _hours(took * layout.gpus) if layout.gpus else "",
        f"{100 * dealt / took:.0f} %", f"{100 * serial / took:.0f} %",
    )  # fmt: skip
    return _row(cells)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2g} h"


def gpu_figures(page: str) -> tuple[float, float]:
    """Read the time of the network for an image and for a megapixel from the performance page.

    Returns
    -------
    float, float
        GPU time in s for an image of `IMAGE_PX`, and for a megapixel in parts

    Raises
    ------
    ValueError
        The page does not contain them.
    """
    text, number = " ".join(page.split()), r"([\d.]+)"
    told = rf"take {number} s, of which {number} s for the network"
    images = re.search(rf"(\d+) images of (\d+) px {told}", text)
    large = re.search(rf"(\d+) x \d+ px in parts {told}", text)
    if images is None or large is None or int(images[2]) != IMAGE_PX:
        raise ValueError("the page of performance lacks the seconds of a GPU")
    return float(images[4]) / int(images[1]), float(large[3]) / (int(large[1]) ** 2 / 1e6)


def processor_s(folder: Path, images: Sequence[Path], weights: str, *, zarr: bool = False) -> float:
    """Run images in a process with one thread, and return its CPU time in s."""
    words = [str(folder / "out"), weights, "zarr" if zarr else "", *map(str, images)]
    process = subprocess.Popen([sys.executable, str(folder / "program.py"), *words])  # noqa: S603  (our own program)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run of {len(images)} images failed with {status}")
    return usage.ru_utime + usage.ru_stime


def shared_out(total_s: float, walls: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Split CPU time among stages in proportion to their wall time, which load makes longer.

    Parameters
    ----------
    total_s : CPU time of each run
    walls : stage -> wall time in s, for each run
    """
    names = ("read", "check", "prepare", "network", "labels", "write")
    sums = {name: sum(wall.get(name, 0.0) for wall in walls) for name in names}
    return {name: total_s * took / sum(sums.values()) for name, took in sums.items()}


def records(images: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the records next to the results."""
    out = images[0].parents[1] / "out"
    names = (image.name.removesuffix(".ome.zarr").removesuffix(".tif") for image in images)
    return [json.loads((out / f"{name}.run.json").read_text()) for name in names]


def made_images(shared: Path, folder: Path, count: int) -> list[Path]:
    """Write images of many nuclei, as compressed TIFF."""
    files = sorted((shared / "data/dsb2018/test/images").glob("*.tif"))
    squares = [p[:SQUARE, :SQUARE] for p in map(tifffile.imread, files) if min(p.shape) >= SQUARE]
    rng, side = np.random.default_rng(0), IMAGE_PX // SQUARE
    images = [folder / f"{number:03}.tif" for number in range(count)]
    for image in images:
        tiles = rng.integers(len(squares), size=(side, side))
        pixels = np.block([[squares[k] for k in row] for row in tiles])
        tifffile.imwrite(image, pixels, compression="zlib", metadata={"axes": "YX"})
    return images


def large_image_s(shared: Path, folder: Path, side: int) -> dict[str, float]:
    """Return the time of each stage for a megapixel: that of an image less that of half its width.

    What does not grow with the image, such as the check of a sample, cancels out.
    """
    spent: list[dict[str, float]] = []
    for px in (side // 2, side):
        image = folder / f"in/{px}.ome.zarr"
        write_mosaic(shared, image, px)
        total = processor_s(folder, [image], "onnx", zarr=True)
        spent.append(shared_out(total, [records([image])[0]["timings_s"]]))
    mpx = (side**2 - (side // 2) ** 2) / 1e6
    return {name: max(spent[1][name] - spent[0][name], 0.0) / mpx for name in spent[0]}


def caller_s(images: Sequence[Path], out: Path) -> float:
    """Return the seconds that a caller takes to plan an image."""
    setup = prepare(RunRequest(MODEL, tuple(images), out, device="cpu", overwrite=True))
    fields = with_fields(images, "all")
    start = time.process_time()
    image_states(setup, fields, claim_files(setup, fields))
    return (time.process_time() - start) / len(images)


def empty_task(_request: RunRequest, jobs: Sequence[ImageJob], record: Any) -> list[ImageRun]:  # noqa: ANN401
    """Report each image as done without doing anything."""
    for _ in jobs:
        ToCaller("image")(Progress("tiles", 1, 1))
    return [ImageRun(job.image, job.files, 0, (), record) for job in jobs]


def dask_s(tasks: int, files: Mapping[str, Path], record: Any) -> tuple[float, float]:  # noqa: ANN401
    """Distribute empty images, each with the record of a real one.

    Returns
    -------
    float, float
        time per image in s: of the caller with the scheduler, and of the workers
    """
    import distributed

    cluster.run_in_worker = partial(empty_task, record=record)
    jobs = [ImageJob(Path(f"/images/{number:05}.tif"), files) for number in range(tasks)]
    request = RunRequest(MODEL, (), Path("/results"))
    words = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
    with (
        distributed.LocalCluster(**words) as local,
        distributed.Client(local) as client,
        cluster.events_of_workers(client, tasks, nobody),
    ):
        list(cluster.outcomes_of_images(client, request, jobs[:2]))
        start, before = time.process_time(), sum(client.run(time.process_time).values())
        done = len(list(cluster.outcomes_of_images(client, request, jobs)))
        took = time.process_time() - start
        by_workers = sum(client.run(time.process_time).values()) - before
    if done != tasks:
        raise SystemExit(f"{done} of {tasks} images came back")
    return took / tasks, by_workers / tasks


def measured(shared: Path, folder: Path, count: int, side: int, tasks: int) -> Parts:
    """Measure every part here.

    Parameters
    ----------
    count : number of images of `IMAGE_PX`
    side : side of the large image in px
    tasks : number of images that are distributed without work
    """
    (folder / "program.py").write_text(PROGRAM)
    (folder / "in").mkdir()
    images = made_images(shared, folder / "in", count)
    processor_s(folder, images[:1], "onnx")  # compiles and caches what later processes use
    one, torch_one = (processor_s(folder, images[:1], name) for name in ("onnx", "torchscript"))
    every = processor_s(folder, images, "onnx")
    each = (every - one) / (count - 1)
    plan = caller_s(images, folder / "planned")
    found = records(images)
    stages = shared_out(each - plan, [record["timings_s"] for record in found[1:]])
    results = [path for path in (folder / "out").iterdir() if path.stem[:3].isdigit()]
    written = sum(path.stat().st_size for path in results)
    deal, take = dask_s(tasks, {"labels": images[0]}, found[0])
    gpu, gpu_large = gpu_figures(PAGE.read_text(encoding="utf-8"))
    return Parts(
        image_s=stages,
        large_s=large_image_s(shared, folder, side),
        start_s={"onnx": one - each, "torchscript": torch_one - each},
        plan_s=plan,
        deal_s=deal,
        take_s=take,
        read_mb=sum(image.stat().st_size for image in images) / count / 1e6,
        written_mb=written / count / 1e6,
        gpu_s=gpu,
        gpu_large_s=gpu_large,
    )


def page(parts: Parts) -> Iterator[str]:
    """Yield the lines of the tables."""
    yield f"Parts, on one thread of {processor_name().rpartition(' x ')[0]}:"
    yield ""
    yield "| part | an image of 1024 px | a megapixel of a large image |"
    yield "|---|---|---|"
    for name, took in parts.image_s.items():
        yield f"| {name} | {1000 * took:.0f} ms | {1000 * parts.large_s[name]:.0f} ms |"
    yield f"| network on a GPU | {1000 * parts.gpu_s:.0f} ms | {1000 * parts.gpu_large_s:.0f} ms |"
    for name, took in (("planned by the caller", parts.plan_s),
                       ("distributed by caller and scheduler", parts.deal_s),
                       ("taken and reported by a worker", parts.take_s)):  # fmt: skip
        yield f"| {name} | {1000 * took:.2f} ms | |"
    starts = f"{parts.start_s['onnx']:.1f} s, with PyTorch {parts.start_s['torchscript']:.1f} s"
    yield ""
    yield f"A process starts in {starts}. An image is read from {parts.read_mb:.1f} MB, and its"
    load = f"a load of {os.getloadavg()[2]:.0f} on {available_cpus()} cores"
    yield f"results take {parts.written_mb:.1f} MB. Measured with {load}, which makes times longer."
    yield ""
    yield f"{MANY:,} images of {IMAGE_PX} px:"
    yield ""
    yield "| where | time | of cores | of GPUs | busiest | workers at most | files |"
    yield "|---|---|---|---|---|---|---|"
    yield from (many_images(parts, layout) for layout in LAYOUTS)
    yield ""
    yield "A gigapixel in one image:"
    yield ""
    yield "| where | time | of cores | of GPUs | tiles | caller alone |"
    yield "|---|---|---|---|---|---|"
    yield from (gigapixel(parts, layout) for layout in LAYOUTS)


def main() -> None:
    """Measure, simulate, and print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--images", type=int, default=13, help="of 1024 px, at least 2")
    parser.add_argument("--side", type=int, default=4096, help="of the large image, px")
    parser.add_argument("--tasks", type=int, default=MANY, help="images without work for Dask")
    parser.add_argument("--write", type=Path, help="page to write the tables into")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts = measured(
            words.shared.resolve(), Path(folder), words.images, words.side, words.tasks
        )
    text = "\n".join(page(parts))
    print(text)
    if words.write:
        write_between(words.write, MARKS, text)


if __name__ == "__main__":
    main()
