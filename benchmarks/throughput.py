"""``bmz run`` against ``bioimageio predict``, whole processes, seconds of processor time, one run.

``python benchmarks/throughput.py [SIDE ...] [--write FILE]``, by default 128 2048 4096; needs
PyTorch, onnx, onnxruntime, bioimageio.core, and OpenVINO for its rows.

A U-Net with 1.9 million parameters and a halo of 32 px is built with random weights, as
TorchScript and ONNX. Both programs predict the same float32 image and write the map; the peer in
its better mode (whole or blockwise, either format), bmz in each precision. Plain passes are those
of bmz's own tiles in a process that does nothing else. bfloat16 is for processors that compute in
it (avx512_bf16, amx). ``--write`` puts the table between its marks in FILE.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from pages import write_between
from torch import nn

HALO = 32
LEAST = 96
STEP = 16
WIDTHS = (32, 64, 128, 256)
FORMATS = ("onnx", "torchscript")
SCRIPTS = Path(sys.executable).parent
MARKS = ("<!-- benchmarks/throughput.py -->\n", "<!-- end of throughput -->\n")


class Pair(nn.Module):
    """Two 3 x 3 convolutions."""

    def __init__(self, taken: int, given: int) -> None:
        super().__init__()
        self.both = nn.Sequential(
            nn.Conv2d(taken, given, 3, padding=1), nn.ReLU(),
            nn.Conv2d(given, given, 3, padding=1), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give features of the same size."""
        found: torch.Tensor = self.both(x)
        return found


class Net(nn.Module):
    """A U-Net of four levels."""

    def __init__(self) -> None:
        super().__init__()
        pairs = zip((1, *WIDTHS[:-1]), WIDTHS, strict=True)
        self.down = nn.ModuleList(Pair(a, b) for a, b in pairs)
        rising = zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True)
        self.up = nn.ModuleList(Pair(a + b, b) for a, b in rising)
        self.last = nn.Conv2d(WIDTHS[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give a probability."""
        kept = []
        for level, pair in enumerate(self.down):
            x = pair(nn.functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for pair, side in zip(self.up, kept[-2::-1], strict=True):
            x = pair(torch.cat([nn.functional.interpolate(x, scale_factor=2.0), side], 1))
        return torch.sigmoid(self.last(x))


def sha256(path: Path) -> str:
    """Give the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_package(folder: Path) -> int:
    """Write the package; gives the number of parameters."""
    torch.manual_seed(0)
    network, example = Net().eval(), torch.rand(1, 1, 128, 128)
    folder.mkdir()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network, example), str(folder / "weights.pt"))
        free = {0: "b", 2: "y", 3: "x"}
        torch.onnx.export(
            network, (example,), folder / "weights.onnx", dynamo=False, opset_version=17,
            input_names=["raw"], output_names=["map"], dynamic_axes={"raw": free, "map": free},
        )  # fmt: skip
        np.save(folder / "in.npy", example.numpy())
        np.save(folder / "out.npy", network(example).numpy())
    (folder / "README.md").write_text("# Benchmark\n")
    rule = {"min": LEAST, "step": STEP}
    scaled = {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}}
    given = [
        {"type": "space", "id": a, "halo": HALO, "size": {"tensor_id": "raw", "axis_id": a}}
        for a in "yx"
    ]
    channel = {"type": "channel", "channel_names": ["stain"]}

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": sha256(folder / name)}

    description: dict[str, Any] = {
        "format_version": "0.5.4", "type": "model", "name": "Benchmark", "description": "A U-Net.",
        "authors": [{"name": "bmz developers"}], "license": "CC0-1.0",
        "cite": [{"text": "none", "url": "https://example.com"}], "documentation": "README.md",
        "tags": ["segmentation"],
        "inputs": [{
            "id": "raw", "data": {"type": "float32"}, "test_tensor": file("in.npy"),
            "axes": [{"type": "batch"}, channel,
                     *({"type": "space", "id": a, "size": rule} for a in "yx")],
            "preprocessing": [scaled, {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}],
        }],
        "outputs": [{
            "id": "map", "data": {"type": "float32"}, "test_tensor": file("out.npy"),
            "axes": [{"type": "batch"}, channel, *given],
        }],
        "weights": {
            "torchscript": {**file("weights.pt"), "pytorch_version": "2.6"},
            "onnx": {**file("weights.onnx"), "opset_version": 17, "parent": "torchscript"},
        },
    }  # fmt: skip
    (folder / "bioimageio.yaml").write_text(json.dumps(description))
    return sum(p.numel() for p in network.parameters())


def processor_seconds(command: Sequence[str], place: Path) -> tuple[float, float]:
    """Give the seconds of processor and of wall that a process and its children take.

    Infinite where it fails, as bioimageio.core does with blocks larger than the image.
    """
    start = time.perf_counter()
    with (place / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log)  # noqa: S603  (named above)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        return math.inf, math.inf
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - start


FORWARD = """
import sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = len(__import__("os").sched_getaffinity(0))
session = onnxruntime.InferenceSession(
    sys.argv[1], options, providers=["CPUExecutionProvider"])
tile = np.random.default_rng(0).random((1, 1, int(sys.argv[2]), int(sys.argv[3])), np.float32)
for _ in range(int(sys.argv[4])):
    session.run(None, {"raw": tile})
"""


ROWS = {
    "float32, ONNX Runtime": ("--precision", "float32", "--backend", "native"),
    "float32, the faster": ("--precision", "float32"),
    "bfloat16, OpenVINO": ("--precision", "bfloat16", "--backend", "openvino"),
    "bfloat16, TorchScript": ("--precision", "bfloat16", "--weights", "torchscript"),
}
"""Options of each row; what a processor or an installation lacks has none."""


def peer_seconds(place: Path) -> tuple[tuple[float, float], str]:
    """Time bioimageio.core in every mode and format, and give its best with a name."""
    theirs = {}
    for form in FORMATS:
        for mode, blockwise in (("whole", "False"), ("blockwise", "10")):
            command = [
                str(SCRIPTS / "bioimageio"), "predict", str(place / "model"),
                "--inputs", json.dumps([["image.npy"]]), "--outputs", "out/{output_id}.npy",
                "--overwrite", "--blockwise", blockwise, "--weight-format", form,
            ]  # fmt: skip
            theirs[f"{form}, {mode}"] = processor_seconds(command, place)
    best = min(theirs, key=lambda key: theirs[key][0])
    return theirs[best], best


def table_rows(place: Path, side: int) -> Iterator[str]:
    """Time an image of one size, and yield the rows of a table."""
    image = np.random.default_rng(0).random((side, side), np.float32)
    np.save(place / "image.npy", image[None, None])
    tifffile.imwrite(place / "image.tif", image, metadata={"axes": "YX"})
    base = [str(SCRIPTS / "bmz"), "run", str(place / "model"), str(place / "image.tif")]
    raw = [*base, "-o", str(place / "raw"), "--recipe", "none", "--save", "raw", "--overwrite"]
    labels = [*base, "-o", str(place / "labels"), "--recipe", "components", "--overwrite"]
    peer, mode = peer_seconds(place)
    yield f"| {side} px | bioimageio.core ({mode}) | {peer[0]:.1f} s | 1.00 | | |"
    for name, options in ROWS.items():
        took = processor_seconds([*raw, *options], place)
        if took[0] == math.inf:
            continue
        yield f"| {side} px | {name} | {took[0]:.1f} s | {took[0] / peer[0]:.2f} | | |"
        if name == next(iter(ROWS)):
            record = json.loads((place / "raw/image.run.json").read_text())
            tile, count = record["plan"]["tile"], record["plan"]["tiles"]
            words = [str(tile["y"]), str(tile["x"]), str(count)]
            weights = str(place / "model/weights.onnx")
            plain = processor_seconds([sys.executable, "-c", FORWARD, weights, *words], place)
            whole = processor_seconds([*labels, *options], place)
            pixels = count * tile["y"] * tile["x"] / side**2
            yield (
                f"| {side} px | plain passes of its {count} tiles, x {pixels:.2f} the pixels | "
                f"{plain[0]:.1f} s | {plain[0] / peer[0]:.2f} | {took[0] / plain[0]:.2f} | "
                f"{whole[0] / plain[0]:.2f} |"
            )


def main() -> None:
    """Time every size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("sides", nargs="*", type=int, default=[128, 2048, 4096])
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    words = parser.parse_args()
    lines = [
        "| image | what | processor | to the peer | float32 to it | with labels, table, picture |",
        "|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["BMZ_CACHE_DIR"] = str(place / "cache")
        write_package(place / "model")
        np.save(place / "small.npy", np.random.default_rng(0).random((128, 128), np.float32))
        # a description is read once and kept, and so is which framework is the faster
        small = [str(SCRIPTS / "bmz"), "run", str(place / "model"), str(place / "small.npy")]
        small += ["--axes", "yx", "-o", str(place / "small"), "--recipe", "none", "--save", "raw"]
        for options in ((), ("--precision", "float32", "--overwrite")):
            subprocess.run([*small, *options], check=True, capture_output=True)  # noqa: S603
        for side in words.sides:
            for line in table_rows(place, side):
                print(line, flush=True)
                lines.append(line)
    if words.write:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
