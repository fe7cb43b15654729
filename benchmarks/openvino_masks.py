"""Compare OpenVINO with ONNX Runtime: time on the test input, and masks in bfloat16 and float32.

``python benchmarks/openvino_masks.py SHARED [--images N] [--write FILE]``, where SHARED is the
folder of real models and images; needs onnxruntime, TensorFlow and OpenVINO.

The ways of running each model are measured as in bmz: by the CPU time of one pass on the model's
own test input, the shortest of three. Where bmz chooses bfloat16, the images of
``data/dsb2018/test`` are run in float32 by the framework of the weights, in bfloat16 by OpenVINO,
and as bmz decides for each image, and the objects of all masks are matched at an IoU of 0.9 with
those of float32. ``--write`` writes the table between its marks in FILE.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pages import write_between

import bmz
from bmz.engine.network_choice import NetworkChoice, decide_precision, open_way
from bmz.engine.request import RunRequest
from bmz.engine.setup import prepare
from bmz.plan.weights_choice import Way
from bmz.process.matching import match_labels

MARKS = ("<!-- benchmarks/openvino_masks.py -->\n", "<!-- end of OpenVINO -->\n")
MODELS = (
    "starter/nuclei", "starter/nuclei-contour", "starter/nuclei-flows", "nuclei-broad",
    "stardist-dsb2018", "stardist-dsb2018-declared", "unmicst-nuclei", "cellpose-cyto", "psc-keras",
    "cremi-membrane",
)  # fmt: skip

CHANNELS = {"cellpose-cyto": (0, -1)}
"""Model -> channels that it is given; of an image with one channel, no second one."""

LEAST_IOU = 0.9


def place_of(name: str, shared: Path) -> str:
    """Return the name of a bundled model unchanged, or the folder of any other model."""
    return name if name.startswith("starter/") else str(shared / "models" / name)


@dataclass
class Agreement:
    """How far the masks of some images agree with those in float32.

    Parameters
    ----------
    same, missing, more : objects of all images: in both masks, only in float32, only in the other
    least : the lowest F1 of an image
    whole : number of images that were run in float32
    """

    same: int = 0
    missing: int = 0
    more: int = 0
    least: float = 1.0
    whole: int = 0

    def add(self, reference: bmz.Result, result: bmz.Result) -> None:
        """Match the objects of an image."""
        masks = (np.asarray(result.labels), np.asarray(reference.labels))
        matching = match_labels(*masks, LEAST_IOU)
        self.same += matching.tp
        self.missing += matching.fn
        self.more += matching.fp
        self.least = min(self.least, matching.f1)
        self.whole += result.record["plan"]["precision"] == "float32"

    @property
    def f1(self) -> float:
        """F1 of all objects."""
        return 2 * self.same / max(2 * self.same + self.missing + self.more, 1)

    @property
    def cell(self) -> str:
        """Its entry of the table."""
        return f"{self.f1:.4f}, least {self.least:.3f}"


def agreements(name: str, shared: Path, images: list[Path]) -> tuple[Agreement, Agreement]:
    """Run a model in three ways; return the agreement in bfloat16, and as bmz decides."""
    place, channels = place_of(name, shared), CHANNELS.get(name)
    reference = bmz.load(place, backend="native", precision="float32")
    ways = (bmz.load(place, backend="openvino", precision="bfloat16"), bmz.load(place))
    found = Agreement(), Agreement()
    with reference, ways[0], ways[1]:
        for image in images:
            whole = reference.run(image, channels=channels, force=True)
            for way, agreement in zip(ways, found, strict=True):
                agreement.add(whole, way.run(image, channels=channels, force=True))
    return found


def opened_s(network: NetworkChoice) -> tuple[float, float]:
    """Return the CPU time in s to open a network that must be compiled, and one that is cached."""
    for kept in network.notes[-1].glob("compiled.*"):
        kept.unlink()
    took_s = []
    for _ in range(2):
        start = time.process_time()
        open_way(network, Way("bfloat16", "openvino")).close()
        took_s.append(time.process_time() - start)
    return took_s[0], took_s[1]


def table_rows(shared: Path, count: int) -> Iterator[str]:
    """Yield the rows of the table."""
    images = sorted((shared / "data/dsb2018/test/images").glob("*.tif"))[:count]
    for name in MODELS:
        setup = prepare(RunRequest(place_of(name, shared), (), Path()), measure=False)
        choice = decide_precision("auto", setup.network)
        opening = " and ".join(f"{took_s:.2f} s" for took_s in opened_s(setup.network))
        cells = [name, choice.why.partition(": ")[2], "", "", "", opening]
        if choice.gated:
            half, decided = agreements(name, shared, images)
            objects = decided.same + decided.missing
            cells[2:5] = half.cell, decided.cell, f"{objects}, {decided.whole} of {len(images)}"
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, print, and write the table if requested."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    words = parser.parse_args()
    lines = [
        (
            "| model | against its own framework in float32 | bfloat16 throughout, F1 "
            "| as bmz decides, F1 | objects, images in float32 | opened, compiled and kept |"
        ),
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["BMZ_CACHE_DIR"] = cache  # an empty cache
        for line in table_rows(words.shared, words.images):
            print(line, flush=True)
            lines.append(line)
    if words.write:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
