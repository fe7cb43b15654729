"""Measure the CPU time of whole processes, of the check, of writing, and of many images.

``python benchmarks/start_up.py ../shared [--write FILE]``

Commands run as separate processes, five times each, after one run that fills the caches. User and
system time are added, and the minimum is reported. The code is compiled, as in an installed wheel.
``--write`` writes the tables between their marks in FILE.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy, as bmz does

import numpy as np
import tifffile
from pages import write_between
from PIL import Image

from bmz.base.arrays import AnyArray
from bmz.image.pixels import Pixels

MARKS = ("<!-- benchmarks/start_up.py -->\n", "<!-- end of start-up -->\n")
MODEL = "starter/nuclei"
REPEATS = 5
MANY = 60
SIDE_PX = 256
"""Side of the small images of the dataset; a large image is made of four by four of them."""


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shared", type=Path, help="folder with data/dsb2018")
    parser.add_argument("--write", type=Path, metavar="FILE")
    words = parser.parse_args()
    pairs = list(small_pairs(words.shared / "data/dsb2018/test"))
    tables = [
        commands(pairs[0][0]),
        statistics(*pairs[0]),
        tricks(),
        compressions(pairs[0][0]),
        many([image for image, _ in pairs]),
    ]
    text = "\n".join(tables)
    print(text)
    if words.write:
        write_between(words.write, MARKS, text)


def small_pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield images of `SIDE_PX` a side, each with its mask."""
    for image in sorted((folder / "images").glob("*.tif")):
        if tifffile.TiffFile(image).pages[0].shape == (SIDE_PX, SIDE_PX):
            yield image, folder / "masks" / image.name


def processor_s(command: Sequence[str]) -> float:
    """Run a command and return the CPU time of the whole process in s.

    Raises
    ------
    SystemExit
        The command fails.
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    process = subprocess.Popen(  # noqa: S603  (our own program)
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime


def commands(image: Path) -> str:
    """Measure commands and, for comparison, what they are built on."""
    python = [sys.executable, "-c"]
    bmz = [sys.executable, "-m", "bmz"]
    with tempfile.TemporaryDirectory() as folder:
        rows: Mapping[str, Sequence[str]] = {
            "Python alone": [*python, "pass"],
            "`import numpy`": [*python, "import numpy"],
            "`import numpy, scipy.ndimage`": [*python, "import numpy, scipy.ndimage"],
            "`import numpy, onnxruntime`": [*python, "import numpy, onnxruntime"],
            "`import numpy, PIL.Image`": [*python, "import numpy, PIL.Image"],
            "`bmz --help`": [*bmz, "--help"],
            f"`bmz check {MODEL}`, {SIDE_PX} px": [*bmz, "check", MODEL, str(image)],
            f"`bmz run {MODEL}`, {SIDE_PX} px, everything written": [
                *bmz, "run", MODEL, str(image), "-o", folder, "--overwrite",
            ],
            f"`bmz run {MODEL} --save labels`, {SIDE_PX} px": [
                *bmz, "run", MODEL, str(image), "-o", folder, "--overwrite", "--save", "labels",
            ],
        }  # fmt: skip
        lines = ["| process | s of processor |", "|---|---|"]
        for name, command in rows.items():
            processor_s(command)
            lines.append(f"| {name} | {min(processor_s(command) for _ in range(REPEATS)):.2f} |")
    return "\n".join(lines) + "\n"


def least_ms(work: Callable[[], object]) -> float:
    """Call a function several times and return the minimum CPU time in ms."""
    took = []
    for _ in range(REPEATS + 2):
        start = time.process_time()
        work()
        took.append(time.process_time() - start)
    return min(took) * 1e3


def statistics(image: Path, mask: Path) -> str:
    """Measure the check's statistics, the picture and the table of a small and a large image."""
    from bmz.check.kind_features import features
    from bmz.check.kind_network import layers_run_by, network_features
    from bmz.check.measured import measure_plane
    from bmz.check.object_size import survey
    from bmz.predict.onnx import LayersInOnnxruntime
    from bmz.process.measure import measure_objects
    from bmz.write.overlay import overlay
    from bmz.write.shown import png_bytes

    def of_many(plane: AnyArray) -> None:
        with layers_run_by(layers):
            measure_plane(plane)

    layers = LayersInOnnxruntime()
    small, labels = tifffile.imread(image), tifffile.imread(mask).astype(np.int32)
    columns, record = list[list[float]](), _record_of(image)
    for times in (1, 4):
        plane = np.tile(small, (times, times))
        numbers = np.tile(labels, (times, times))
        pixels, objects = Pixels(plane, ("y", "x")), Pixels(numbers, ("y", "x"))
        picture = overlay(pixels, objects)
        works: Sequence[Callable[[], object]] = (
            partial(measure_plane, plane), partial(of_many, plane), partial(features, plane),
            partial(network_features, plane / np.float32(255)), partial(survey, plane),
            partial(_size, plane),
            partial(overlay, pixels, objects),
            partial(png_bytes, picture), partial(_pillow, picture),
            partial(measure_objects, objects, pixels),
            partial(_as_csv, measure_objects(objects, pixels)), partial(_as_record, record),
        )  # fmt: skip
        columns.append([least_ms(work) for work in works])
    names = (
        "statistics of the check, all", "the same in a run of many images",
        "of which features of the kind",
        "of these by the network", "of which scales", "scales with the size of objects",
        "overlay, drawn", "overlay, as PNG", "the same by Pillow", "table of objects",
        "table of objects, as CSV", "record, as JSON",
    )  # fmt: skip
    lines = [f"| ms of processor | {SIDE_PX} px | {4 * SIDE_PX} px |", "|---|---|---|"]
    rows = zip(names, *columns, strict=True)
    return "\n".join([*lines, *(f"| {n} | {a:.1f} | {b:.1f} |" for n, a, b in rows)]) + "\n"


def _size(plane: AnyArray) -> object:
    from bmz.check.object_size import object_diameter_px

    return object_diameter_px(plane)


def _record_of(image: Path) -> Mapping[str, object]:
    """Run the model on an image, and return the record of the run."""
    from bmz.app.run import run
    from bmz.engine.request import RunRequest

    with tempfile.TemporaryDirectory() as folder:
        (done,) = run(RunRequest(MODEL, (image,), Path(folder), save=frozenset({"labels"}))).done
    return done.record


def _as_record(record: Mapping[str, object]) -> None:
    from bmz.write.tables import write_record

    with tempfile.TemporaryDirectory() as folder:
        write_record(Path(folder) / "a.json", record)


def _as_csv(table: Mapping[str, AnyArray]) -> None:
    from bmz.write.tables import write_objects

    with tempfile.TemporaryDirectory() as folder:
        write_objects(Path(folder) / "a.csv", [table])


def _pillow(picture: AnyArray) -> bytes:
    file = BytesIO()
    Image.fromarray(picture).save(file, "png", compress_level=2)
    return file.getvalue()


def tricks() -> str:
    """Compare functions of NumPy and Python with those that bmz uses instead."""
    from bmz.base.arrays import median, shipped_arrays
    from bmz.base.values import dataclass as lighter
    from bmz.check.kind_classifier import ARRAYS
    from bmz.check.kind_network import _beside, _seen_by, layers_of
    from bmz.check.pixel_values import mean_and_deviation
    from bmz.predict.onnx import LayersInOnnxruntime
    from bmz.process.adapt import taken

    image = np.random.default_rng(0).random((64, 256), np.float32)
    inner, weights = (np.ones(shape, np.float32) for shape in ((28, 28, 240), (5, 5, 240)))
    flat, long = image.ravel(), _beside(weights, 24)
    few, maps = image[0, :74], np.ones((4, 128, 128), np.float32)
    halves, seen = np.arange(256) // 2, np.ones((192, 192, 1), np.float32)
    order = np.sort((np.resize(image, 1024**2) * 255).astype(np.uint8))
    rows: Mapping[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "a dataclass of four fields": (
            lambda: dataclass(frozen=True)(_four_fields()),
            lambda: lighter(frozen=True)(_four_fields()),
        ),
        "arrays of the classifier": (lambda: dict(np.load(ARRAYS)), lambda: shipped_arrays(ARRAYS)),
        "16,384 px and the ones beside them": (
            lambda: [image[:, 1:] + image[:, :-1] for _ in range(100)],
            lambda: [flat[1:] + flat[:-1] for _ in range(100)],
        ),
        "median of 74 numbers": (lambda: np.median(few), lambda: median(few)),
        "a map of 4 x 128 x 128 as it lies on 256 px": (
            lambda: maps[:, halves[:, np.newaxis], halves],
            lambda: taken(maps, (halves, halves)),
        ),
        "mean and deviation of 1024 x 1024 bytes": (
            lambda: (order.mean(dtype=np.float64), order.std(dtype=np.float64)),
            lambda: mean_and_deviation(order),
        ),
        "the network that looks at an image, by NumPy and by ONNX Runtime": (
            partial(layers_of(1).run, seen),
            partial(LayersInOnnxruntime(), seen),
        ),
        "a depthwise convolution": (
            lambda: sum(
                inner[y : y + 24, x : x + 24] * weights[y, x] for y in range(5) for x in range(5)
            ),
            lambda: _seen_by(inner, long, (24, 24), 1),
        ),
    }
    lines = ["| ms of processor | Python and NumPy | bmz |", "|---|---|---|"]
    for name, ways in rows.items():
        times = 100 if name.startswith("16,384") else 1
        before, now = (least_ms(way) / times for way in ways)
        lines.append(f"| {name} | {before:.3f} | {now:.3f} |")
    return "\n".join(lines) + "\n"


def _four_fields() -> type:
    return type("Four", (), {"__doc__": "", "__annotations__": dict.fromkeys("abcd", "int")})


def compressions(image: Path) -> str:
    """Compare ways to compress a picture that was enlarged, and a noisy one that was not."""
    from bmz.write.overlay import overlay
    from bmz.write.shown import png_bytes

    small = tifffile.imread(image)
    noise = np.random.default_rng(0).normal(0, 8, (1500, 2000))
    large = np.clip(np.resize(small, noise.shape) + noise, 0, 255).astype(np.uint8)
    pictures = [
        overlay(Pixels(plane, ("y", "x")), Pixels(np.zeros(plane.shape, np.int32), ("y", "x")))
        for plane in (small, large)
    ]
    ways: Mapping[str, Callable[[AnyArray], bytes]] = {
        "bmz: one filter, zlib-ng or libdeflate": png_bytes,
        "Pillow": _pillow,
        **{
            f"no filter, zlib, {name}": partial(_zlib, level=level, strategy=strategy)
            for name, level, strategy in (
                ("level 1", 1, zlib.Z_DEFAULT_STRATEGY),
                ("level 2", 2, zlib.Z_DEFAULT_STRATEGY),
                ("level 3", 3, zlib.Z_DEFAULT_STRATEGY),
                ("run lengths", 1, zlib.Z_RLE),
            )
        },
    }
    lines = ["| PNG | enlarged, ms | kB | noisy, ms | kB |", "|---|---|---|---|---|"]
    for name, way in ways.items():
        cells = [
            f"{least_ms(partial(way, picture)):.0f} | {len(way(picture)) / 1e3:.0f}"
            for picture in pictures
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _zlib(picture: AnyArray, level: int, strategy: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    return packer.compress(picture.tobytes()) + packer.flush()


def many(images: Sequence[Path]) -> str:
    """Compare running many images with a loop of network passes over the same images."""
    chosen = [images[number % len(images)] for number in range(MANY)]
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for number, image in enumerate(chosen):
            copy = Path(folder) / f"{number}.tif"
            copy.write_bytes(image.read_bytes())
            copies.append(str(copy))
        out = ["-o", f"{folder}/out", "--overwrite"]
        run = [sys.executable, "-m", "bmz", "run", MODEL]
        loop = [sys.executable, __file__, "--passes"]
        rows = {
            "`bmz run`, everything written": [*run, *copies, *out],
            "`bmz run --save labels`": [*run, *copies, *out, "--save", "labels"],
            "a loop of passes of the network": [*loop, *copies],
        }
        least = {name: min(processor_s(row) for _ in range(2)) for name, row in rows.items()}
        first = processor_s([*run, copies[0], *out])
    passes = least["a loop of passes of the network"]
    lines = [f"| {MANY} images of {SIDE_PX} px | s of processor | beyond passes, ms an image |"]
    lines.append("|---|---|---|")
    for name, took in least.items():
        lines.append(f"| {name} | {took:.1f} | {(took - passes) / MANY * 1e3:.0f} |")
    lines.append(f"| one image, everything written | {first:.2f} | |")
    return "\n".join(lines) + "\n"


def passes(images: Sequence[str]) -> None:
    """Run the network over every image, as fast as ONNX Runtime does."""
    import onnxruntime

    import bmz

    file = next((Path(bmz.__file__).parent / "starter/nuclei").glob("*.onnx"))
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(file, options)
    (name,) = (tensor.name for tensor in session.get_inputs())
    for image in images:
        session.run(None, {name: tifffile.imread(image).astype(np.float32)[None, None] / 255})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--passes"]:
        passes(sys.argv[2:])
    else:
        main()
