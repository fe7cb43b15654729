"""Compare OpenVINO with ONNX Runtime: time on the test input, and masks in bfloat16 and float32.

``python benchmarks/openvino_masks.py SHARED [--images N] [--write FILE]``, where SHARED is the
folder of real models and images; needs onnxruntime and OpenVINO.

The ways of running each model are measured as in bmz: by the CPU time of one pass on the model's
own test input, the shortest of three. Then the images of ``data/dsb2018/test`` are run in float32
by ONNX Runtime and in bfloat16 by OpenVINO, and the objects of all masks are matched at an IoU of
0.9. ``--write`` writes the table between its marks in FILE.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pages import write_between

import bmz
from bmz.base.arrays import AnyArray
from bmz.engine.network_choice import NetworkChoice, decide_precision, open_way
from bmz.engine.request import RunRequest
from bmz.engine.setup import prepare
from bmz.plan.weights_choice import Way
from bmz.process.matching import match_labels

MARKS = ("<!-- benchmarks/openvino_masks.py -->\n", "<!-- end of OpenVINO -->\n")
MODELS = (
    "starter/nuclei", "models/nuclei-broad", "starter/nuclei-contour", "starter/nuclei-flows",
    "models/stardist-dsb2018", "models/cellpose-cyto", "models/cremi-membrane",
)  # fmt: skip
OF_NUCLEI = MODELS[:5]
"""The models for nuclei, whose masks of the images are compared."""

LEAST_IOU = 0.9


def place_of(name: str, shared: Path) -> str:
    """Return the name of a bundled model unchanged, or the folder of any other model."""
    return name if name.startswith("starter/") else str(shared / name)


def agreement(name: str, images: list[Path]) -> tuple[float, float, int]:
    """Return the F1 of all objects, the lowest F1 of one image, and the number of objects."""
    same = objects = others = 0
    least = 1.0
    whole = bmz.load(name, backend="native", precision="float32")
    half = bmz.load(name, backend="openvino", precision="bfloat16")
    with whole, half:
        for image in images:
            reference, labels = (_labels(model, image) for model in (whole, half))
            matching = match_labels(labels, reference, LEAST_IOU)
            same, objects, others = (
                same + matching.tp, objects + matching.fn, others + matching.fp,
            )  # fmt: skip
            least = min(least, matching.f1)
    return 2 * same / max(2 * same + objects + others, 1), least, same + objects


def _labels(model: bmz.Model, image: Path) -> AnyArray:
    return np.asarray(model.run(image, force=True).labels)


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
        place = place_of(name, shared)
        setup = prepare(RunRequest(place, (), Path()), measure=False)
        choice = decide_precision("auto", setup.network)
        row = f"| {name.removeprefix('models/')} | {choice.why.partition(': ')[2]} "
        opening = " and ".join(f"{took_s:.2f} s" for took_s in opened_s(setup.network))
        if name in OF_NUCLEI:
            f1, least, objects = agreement(place, images)
            row += f"| {f1:.4f} of {objects} objects on {len(images)} images, least {least:.3f} "
        else:
            row += "| "
        yield f"{row}| {opening} |"


def main() -> None:
    """Measure, print, and write the table if requested."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    words = parser.parse_args()
    lines = [
        "| model | against ONNX Runtime in float32 | F1 at IoU 0.9 | opened, compiled and kept |",
        "|---|---|---|---|",
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
