"""Compare the CPU time of ``bmz run`` and ``bioimageio predict``, as whole processes in one run.

``python benchmarks/throughput.py [SIDE ...] [--write FILE]``, by default 128 2048 4096; needs
PyTorch, onnx, onnxruntime, bioimageio.core, and OpenVINO for its rows.

A U-Net with 1.9 million parameters and a halo of 32 px is built as TorchScript and ONNX, with
random weights except for one channel that carries the image to its map. Both programs predict the
same float32 image, with a spot in each square of 32 px, and write the map. bioimageio runs in its
better mode (whole or blockwise, either format). bmz runs in each precision, and in the one that it
chooses itself; this with labels, as the first image of its folder, so that its first tile is
compared.
Plain passes are those of bmz's own tiles in a process that does nothing else. bfloat16 is for
processors that compute in it (avx512_bf16, amx). ``--write`` writes the table between its marks in
FILE.
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
from scipy.ndimage import distance_transform_edt
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
        """Return features of the same size."""
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
        """Return a probability."""
        kept = []
        for level, pair in enumerate(self.down):
            x = pair(nn.functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for pair, side in zip(self.up, kept[-2::-1], strict=True):
            x = pair(torch.cat([nn.functional.interpolate(x, scale_factor=2.0), side], 1))
        return torch.sigmoid(self.last(x))


LEVEL, STEEP = 0.5, 10.0
"""Value of the normalised image at which the map is 0.5, and the steepness there."""


def carry_image(network: Net) -> None:
    """Make the first channel of full resolution carry the image past the others to the map."""
    first, last = network.down[0].both, network.up[-1].both
    beside = WIDTHS[1]  # the first channel that does not come from the level below
    for pair, taken in ((first, 0), (last, beside)):
        for layer, channel in ((pair[0], taken), (pair[2], 0)):
            layer.weight[0] = 0
            layer.weight[0, channel, 1, 1] = 1
            layer.bias[0] = 0
    network.last.weight[0, 0] = STEEP
    network.last.bias[0] = -LEVEL * STEEP


def spots(side: int) -> np.ndarray:
    """Return a float32 image of soft spots, one in each square of 32 px, with noise."""
    rng = np.random.default_rng(0)
    squares = np.stack(np.mgrid[0:side:32, 0:side:32]).reshape(2, -1)
    places = np.minimum(squares + rng.integers(0, 20, squares.shape), side - 1)
    away = np.ones((side, side), np.bool_)
    away[tuple(places)] = False
    distance = distance_transform_edt(away)
    noise = 0.03 * rng.standard_normal((side, side))
    image: np.ndarray = (np.exp(-((distance / 8) ** 2)) + noise).astype(np.float32)
    return image


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_package(folder: Path) -> int:
    """Write the package, and return the number of parameters."""
    torch.manual_seed(0)
    network, raw = Net().eval(), spots(128)[None, None]
    example = torch.from_numpy((raw - raw.mean()) / (raw.std() + 1e-6))
    folder.mkdir()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        carry_image(network)
        torch.jit.save(torch.jit.trace(network, example), str(folder / "weights.pt"))
        free = {0: "b", 2: "y", 3: "x"}
        torch.onnx.export(
            network, (example,), folder / "weights.onnx", dynamo=False, opset_version=17,
            input_names=["raw"], output_names=["map"], dynamic_axes={"raw": free, "map": free},
        )  # fmt: skip
        np.save(folder / "in.npy", raw)
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
    """Return the CPU time and the wall time of a process and its children in s.

    Both are infinite if it fails, as bioimageio.core does with blocks larger than the image.
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
"""Row -> its options; a row that the processor or the installation does not support has none."""

LABELS = ("--recipe", "components")


def peer_seconds(place: Path, known: str) -> tuple[tuple[float, float], str]:
    """Time bioimageio.core in every mode and format, or in the known best; return the best."""
    theirs = {}
    for form in FORMATS:
        for mode, blockwise in (("whole", "False"), ("blockwise", "10")):
            if known not in ("", f"{form}, {mode}"):
                continue
            command = [
                str(SCRIPTS / "bioimageio"), "predict", str(place / "model"),
                "--inputs", json.dumps([["image.npy"]]), "--outputs", "out/{output_id}.npy",
                "--overwrite", "--blockwise", blockwise, "--weight-format", form,
            ]  # fmt: skip
            theirs[f"{form}, {mode}"] = processor_seconds(command, place)
    best = min(theirs, key=lambda key: theirs[key][0])
    return theirs[best], best


def table_rows(place: Path, side: int, known: str) -> Iterator[str]:
    """Time an image of one size, and yield the rows of a table."""
    image, folder = spots(side), place / f"{side}"
    folder.mkdir()
    np.save(place / "image.npy", image[None, None])
    tifffile.imwrite(folder / "image.tif", image, metadata={"axes": "YX"})
    peer, mode = peer_seconds(place, known)

    def row(what: str, seconds: float, *ratios: float) -> str:
        words = [f"{side} px", what, f"{seconds:.1f} s", f"{seconds / peer[0]:.2f}"]
        words += [f"{ratio:.2f}" for ratio in ratios] + [""] * (2 - len(ratios))
        return f"| {' | '.join(words)} |"

    yield row(f"bioimageio.core ({mode})", peer[0])
    for name, options in ROWS.items():
        took, record = timed_run(place, side, ("--recipe", "none", "--save", "raw", *options))
        if took == math.inf:
            continue
        yield row(name, took)
        if name == next(iter(ROWS)):
            whole, labelled = timed_run(place, side, (*LABELS, *options))
            plain, what = plain_passes(place, record["plan"], side)
            what += f"; {labelled['objects']} objects"
            yield row(what, plain, took / plain, whole / plain)
    took, record = timed_run(place, side, (*LABELS, "--save", "raw"))
    chosen = record["plan"]
    yield row(f"as bmz chooses, its gate asked: {chosen['precision']}, {chosen['backend']}", took)


def timed_run(place: Path, side: int, options: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Return the CPU time of ``bmz run`` in s, infinite if it fails, and its record."""
    command = [str(SCRIPTS / "bmz"), "run", str(place / "model"), str(place / f"{side}/image.tif")]
    command += ["-o", str(place / "out"), "--overwrite", *options]
    took, _ = processor_seconds(command, place)
    record = place / "out/image.run.json"
    return took, {} if took == math.inf else json.loads(record.read_text())


def plain_passes(place: Path, plan: dict[str, Any], side: int) -> tuple[float, str]:
    """Return the CPU time of as many passes of a tile in s, and a description of them."""
    tile, count = plan["tile"], plan["tiles"]
    words = [str(tile["y"]), str(tile["x"]), str(count)]
    weights = str(place / "model/weights.onnx")
    took, _ = processor_seconds([sys.executable, "-c", FORWARD, weights, *words], place)
    pixels = count * tile["y"] * tile["x"] / side**2
    return took, f"plain passes of its {count} tiles, x {pixels:.2f} the pixels"


def main() -> None:
    """Time every size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("sides", nargs="*", type=int, default=[128, 2048, 4096])
    parser.add_argument("--peer", default="", help="its best mode, such as 'onnx, whole'")
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
        np.save(place / "small.npy", spots(128))
        # the description and the choice of the faster framework are cached by the first run
        small = [str(SCRIPTS / "bmz"), "run", str(place / "model"), str(place / "small.npy")]
        small += ["--axes", "yx", "-o", str(place / "small"), "--save", "raw", "--overwrite"]
        for options in (
            ("--recipe", "none"),
            ("--recipe", "none", "--precision", "float32"),
            LABELS,
        ):
            subprocess.run([*small, *options], check=True, capture_output=True)  # noqa: S603
        for side in words.sides:
            for line in table_rows(place, side, words.peer):
                print(line, flush=True)
                lines.append(line)
    if words.write:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
