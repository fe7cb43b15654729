"""Compare ``bmz run`` and ``bmz test`` on a GPU and the CPU, each command in its own process.

``python benchmarks/gpu_commands.py ../shared [--device cuda] [--side 8192]`` needs PyTorch in
addition to bmz; ``--device cpu --side 1024`` runs the same commands on any computer. Prints one
line per row. The exit status is 1 if a label mask of the device differs from that of the CPU (F1
below 0.99 at an IoU of 0.9).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from large import write_mosaic

DEMO = Path(__file__).parents[1] / "src/bmz/starter/demo/nuclei.tif"


@dataclass(frozen=True)
class Ran:
    """The output of a command, and the resources that it used."""

    text: str
    took_s: float
    peak_gb: float


@dataclass(frozen=True)
class Bench:
    """The device, the inputs, and the folder for results."""

    shared: Path
    device: str
    side: int
    folder: Path

    def run(self, model: str, *images: Path, device: str = "", words: Sequence[str] = ()) -> Ran:
        """Run ``bmz run`` with a separate output folder."""
        words = words if "--weights" in words else (*words, "--weights", "torchscript")
        return bmz(
            "run", model, *map(str, images), "-o", str(self.folder / (device or self.device)),
            "--device", device or self.device, "--overwrite", "--json", *words,
        )  # fmt: skip

    def labels(self, image: Path, device: str = "", ending: str = "labels.tif") -> Path:
        """Return the path of the labels of an image."""
        stem = image.name.removesuffix(".ome.zarr").removesuffix(".tif")
        return self.folder / (device or self.device) / f"{stem}.{ending}"


def bmz(*words: str, may_fail: bool = False) -> Ran:
    """Run a command of bmz, and forward its messages to stderr."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen([sys.executable, "-m", "bmz", *words], stdout=told)  # noqa: S603  (our own program)
        _, status, usage = os.wait4(process.pid, 0)
        took_s = time.perf_counter() - start
        told.seek(0)
        text = told.read()
    if status and not may_fail:
        raise SystemExit(f"bmz {' '.join(words)} failed with {status}:\n{text}")
    return Ran(text, took_s, usage.ru_maxrss / 1e6)


def f1(found: Path, wanted: Path) -> float:
    """Compare two label masks at an IoU of 0.9."""
    scores = json.loads(bmz("score", str(found), str(wanted), "--iou", "0.9", "--json").text)
    return float(scores["scores"][0]["f1"])


def where_labelled(document: Mapping[str, Any]) -> str:
    """Describe where the labels of a run were made, what was copied from the GPU, and why."""
    made = document.get("labels_made")
    if made is None:
        return "labels by the processor, for no GPU ran the network"
    why = "; ".join(dict.fromkeys((*made["left_to_processor"], *made["maps_copied"])))
    return (
        f"labels on {made['planes']}, {made['copied_bytes'] / 1e6:.2f} MB copied"
        f"{f' ({why})' if why else ''}"
    )


def labels_alone(bench: Bench) -> Iterator[tuple[str, bool]]:
    """Run StarDist and flows with labels only: the same bytes as on the CPU, and no map is copied.

    The numbers of the network differ between devices, so the masks may differ.
    """
    for model in ("starter/nuclei-flows", str(bench.shared / "models/stardist-dsb2018")):
        words = ("--save", "labels", "--weights", "onnx")
        here = bench.run(model, DEMO, words=words)
        there = bench.run(model, DEMO, device="cpu", words=words)
        document, cpu = json.loads(here.text), json.loads(there.text)
        same = f1(bench.labels(DEMO), bench.labels(DEMO, "cpu"))
        stage_s = [one["timings_s"]["labels"] for one in (document, cpu)]
        told = (
            f"{Path(model).name}, labels alone: {here.took_s:.1f} s, labels {stage_s[0]:.2f} s, "
            f"on the CPU {stage_s[1]:.2f} s; F1 {same:.3f}, busy {document['device_busy']}; "
            f"{where_labelled(document)}"
        )
        yield told, same >= 0.99


def small_images(bench: Bench) -> Iterator[tuple[str, bool]]:
    """Run two models on the demo image, on the device and on the CPU."""
    for model in ("starter/nuclei", str(bench.shared / "models/nuclei-broad")):
        name = Path(model).name
        here, there = bench.run(model, DEMO), bench.run(model, DEMO, device="cpu")
        # if the device is the CPU, this is the same folder, and a mask is compared with itself
        same = f1(bench.labels(DEMO), bench.labels(DEMO, "cpu"))
        document = json.loads(here.text)
        timings = {stage: round(took_s, 2) for stage, took_s in document["timings_s"].items()}
        precision = document["plan"]["precision"]
        told = (
            f"{name}, demo image: {here.took_s:.1f} s ({timings}, {precision}), "
            f"CPU {there.took_s:.1f} s; {document['objects']} objects, F1 {same:.3f}; "
            f"{where_labelled(document)}"
        )
        yield told, same >= 0.99


def large_image(bench: Bench) -> Iterator[tuple[str, bool]]:
    """Plan and run a mosaic in parts."""
    image = bench.folder / "mosaic.ome.zarr"
    write_mosaic(bench.shared, image, bench.side)
    plain = ("--format", "zarr", "--memory", "0.2", "--save", "labels")
    (plan,) = json.loads(bench.run("starter/nuclei", image, words=[*plain, "--plan"]).text)["plans"]
    ran = bench.run("starter/nuclei", image, words=plain)
    document = json.loads(ran.text)
    timings = {stage: round(took_s, 1) for stage, took_s in document["timings_s"].items()}
    told = (
        f"{bench.side} px in parts: {ran.took_s:.0f} s, peak {ran.peak_gb:.2f} GB of the process, "
        f"{document['objects']} objects, seam score {document['seam_score']}, {timings}, "
        f"network foretold {plan['estimate']['network_s']:.1f} s, "
        f"tiles of {document['plan']['tile']}, {document['plan']['batch']} at once"
    )
    yield told, document["objects"] > 0
    there = bench.run("starter/nuclei", image, device="cpu", words=plain)
    ending = "labels.ome.zarr"
    same = f1(bench.labels(image, ending=ending), bench.labels(image, "cpu", ending))
    network_s = json.loads(there.text)["timings_s"]["network"]
    told = f"{there.took_s:.0f} s, {network_s:.1f} s network; F1 {same:.3f}"
    yield f"{bench.side} px on the CPU: {told}", same >= 0.99


def batch(bench: Bench) -> Iterator[tuple[str, bool]]:
    """Run 40 images in one process and on two workers, which share the available GPUs."""
    files = sorted((bench.shared / "data/dsb2018/test/images").glob("*.tif"))
    squares = [p[:256, :256] for p in map(tifffile.imread, files) if min(p.shape) >= 256]
    rng = np.random.default_rng(0)
    images = []
    for number in range(40):
        tiles = rng.integers(len(squares), size=(4, 4))
        images.append(bench.folder / f"{number:03}.tif")
        block = np.block([[squares[k] for k in row] for row in tiles])
        tifffile.imwrite(images[-1], block, metadata={"axes": "YX"})
    words = ("--save", "labels")
    for workers in (1, 2):
        ran = bench.run("starter/nuclei", *images, words=[*words, "--workers", str(workers)])
        document = json.loads(ran.text)
        done, busy = document["runs"], document["device_busy"]
        devices = sorted({one["device"] for one in done})
        stages = {
            stage: sum(one["timings_s"][stage] for one in done) for stage in done[0]["timings_s"]
        }
        took = {stage: round(took_s, 1) for stage, took_s in stages.items()}
        told = f"{ran.took_s:.1f} s on {devices}, {took}, busy {busy}; {where_labelled(done[0])}"
        yield f"40 images of 1024 px, {workers} worker(s): {told}", len(done) == len(images)


def own_test(bench: Bench) -> Iterator[tuple[str, bool]]:
    """Reproduce the models' own test outputs on the device."""
    for model in ("starter/nuclei", str(bench.shared / "models/nuclei-broad")):
        ran = bmz("test", model, "--weights", "torchscript", "--device", bench.device, "--json",
                  may_fail=True)  # fmt: skip
        (found,) = json.loads(ran.text)["models"]
        checks = ", ".join(f"{one['name']} {one['status']}" for one in found["checks"])
        yield (
            f"bmz test {Path(model).name}: {ran.took_s:.1f} s; {checks}",
            (found["status"] == "passed"),
        )


PARTS = {
    "small": small_images,
    "labels": labels_alone,
    "test": own_test,
    "batch": batch,
    "large": large_image,
}


def main() -> int:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--only", choices=PARTS, nargs="*", default=PARTS, help="parts to run")
    words = parser.parse_args()
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(words.shared.resolve(), words.device, words.side, Path(folder))
        for name in words.only:
            for line, good in PARTS[name](bench):
                print("pass " if good else "FAIL ", line, flush=True)
                passed &= good
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
