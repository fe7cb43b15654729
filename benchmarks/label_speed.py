"""Compare the CPU time of the recipes `boundary` and `gasp` with torch-em and elf.

``python benchmarks/label_speed.py ENVIRONMENT [--shared ../shared] [--growth] [--write FILE]``

ENVIRONMENT is a folder; if it does not exist, python-elf 0.9.2, bioimage-cpp 0.10.0 and torch-em
0.10.9 (only its helper, without PyTorch) are installed into it. Maps are made from a real mask that
is repeated, blurred by 0.7 px, with noise of a standard deviation of 0.1. Both use one thread and
are called alternately; the minimum of three calls counts. ``--growth`` instead measures, for bmz
only, how the time of more recipes grows from 1024 to 4096 px a side; the minimum of two calls
counts. ``--write`` writes the table between its marks in FILE.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pages import write_between

Array = NDArray[Any]
Label = Callable[[], Array]

SIDES = (1024, 2048)
TIMES = 3
MASK = "data/golden/cellpose-cyto3-img075/masks.npy"
REFERENCES = ("python-elf==0.9.2", "bioimage-cpp==0.10.0")
ALONE = "torch-em==0.10.9"
GROWING = (1024, 4096)
GROWTH_MARKS = ("<!-- benchmarks/label_speed.py --growth -->\n", "<!-- end of growth -->\n")
MARKS = ("<!-- benchmarks/label_speed.py -->\n", "<!-- end -->\n")
PEERS = {
    "boundary": "torch-em 0.10.9 `watershed_from_components`",
    "gasp": "the steps of PlantSeg by elf 0.9.2",
}


def by_torch_em(maps: Array) -> Label:
    """Label a foreground and a boundary with torch-em's helper, which does not need PyTorch."""
    spec = importlib.util.find_spec("torch_em")
    if spec is None or spec.origin is None:
        raise SystemExit("torch-em is not installed there")
    place = Path(spec.origin).parent / "util" / "segmentation.py"
    one = importlib.util.spec_from_file_location("segmentation", place)
    if one is None or one.loader is None:
        raise SystemExit(f"{place} cannot be loaded")
    helper = importlib.util.module_from_spec(one)
    one.loader.exec_module(helper)
    return lambda: helper.watershed_from_components(maps[1], maps[0], min_size=15)


def by_elf(maps: Array) -> Label:
    """Label a boundary with the steps of PlantSeg 2 and its defaults."""
    from elf.segmentation.gasp import GaspFromAffinities
    from elf.segmentation.watershed import apply_size_filter, distance_transform_watershed

    def label() -> Array:
        pixels, _ = distance_transform_watershed(
            maps[1], 0.5, 1.0, sigma_weights=2.0, min_size=100, alpha=1.0
        )
        stack = maps[1][None]
        join = GaspFromAffinities(
            [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
            superpixel_generator=lambda *_, **__: pixels[None],
            run_GASP_kwargs={
                "linkage_criteria": "average",
                "add_cannot_link_constraints": False,
                "use_efficient_implementations": False,
            },
            n_threads=1,
            beta_bias=0.5,
        )
        joined, _ = join(1 - np.stack([stack] * 3))
        filtered: Array = apply_size_filter(joined.astype("uint32"), stack, 100)[0]
        return filtered

    return label


def by_bmz(recipe: str) -> Callable[[Array], Label]:
    """Return the recipe of bmz, compiled."""
    from bmz.process.recipes import RECIPES

    one = RECIPES[recipe]
    parameters = one.parameters_from({}, {})

    def planned(maps: Array) -> Label:
        one.apply(maps[:, :64, :64], (1, 1), parameters)
        return lambda: one.apply(maps, (1, 1), parameters).labels

    return planned


def drawn(recipe: str, maps: Array) -> Array:
    """Return the input of a recipe of `GROWING`, made from a foreground and a boundary."""
    from scipy import ndimage

    foreground, boundary = maps
    if recipe == "mesmer":
        depth = ndimage.distance_transform_edt(foreground - boundary > 0.5)
        noise = np.random.default_rng(0).random(depth.shape)
        return np.stack([np.clip(depth / 10 + 0.05 * noise, 0, 1), foreground]).astype(np.float32)
    if recipe == "distance_watershed":
        return np.clip(foreground - boundary, 0, 1)[None]
    return boundary[None] if recipe == "gasp" else maps


def growth(mask: Array) -> Iterator[str]:
    """Return the lines of the table of growth."""
    yield f"| recipe | {GROWING[0]} px | {GROWING[1]} px | exponent in pixels |"
    yield "|---|---|---|---|"
    for recipe in ("contour", "mesmer", "distance_watershed", "boundary", "gasp"):
        seconds = []
        for side in GROWING:
            label = by_bmz(recipe)(drawn(recipe, maps_of(mask, side)))
            seconds.append(min(timed(label)[0] for _ in range(2)))
        power = math.log(seconds[1] / seconds[0], (GROWING[1] / GROWING[0]) ** 2)
        yield f"| `{recipe}` | {seconds[0]:.2f} s | {seconds[1]:.2f} s | {power:.2f} |"


def timed(label: Label) -> tuple[float, int]:
    """Return the CPU time of a call in s, and the number of objects that it finds."""
    start = time.process_time()
    labels = label()
    seconds = time.process_time() - start
    return seconds, len(np.setdiff1d(np.unique(labels), [0]))


def serve() -> None:
    """Answer each line with a recipe and a file of maps by the CPU time and number of objects."""
    planned: dict[tuple[str, str], Label] = {}
    for line in sys.stdin:
        recipe, file = json.loads(line)
        if (recipe, file) not in planned:
            maps = np.load(file)
            planned[recipe, file] = {"boundary": by_torch_em, "gasp": by_elf}[recipe](maps)
        print(json.dumps(timed(planned[recipe, file])), flush=True)


@contextmanager
def references(environment: Path) -> Iterator[Callable[[str, Path], tuple[float, int]]]:
    """Start a process in the environment of the references; yield a function that queries it."""
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *REFERENCES], check=True)  # noqa: S603
        subprocess.run([*install, "--no-deps", ALONE], check=True)  # noqa: S603
    process = subprocess.Popen(  # noqa: S603
        [str(python), __file__, "--serve", str(environment)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.stdin is None or process.stdout is None:
        raise SystemExit("no pipes to the environment of the references")
    words, answers = process.stdin, process.stdout

    def ask(recipe: str, file: Path) -> tuple[float, int]:
        print(json.dumps([recipe, str(file)]), file=words, flush=True)
        seconds, objects = json.loads(answers.readline())
        return seconds, objects

    yield ask
    words.close()
    process.wait()


def maps_of(mask: Array, side: int) -> Array:
    """Repeat a mask up to a side; return its foreground and boundary, blurred and with noise."""
    from scipy import ndimage
    from skimage.segmentation import find_boundaries

    times = [-(-side // n) for n in mask.shape]
    tiles = np.kron(np.arange(np.prod(times)).reshape(times), np.ones(mask.shape, np.int64))
    labels = np.where(np.tile(mask, times) > 0, np.tile(mask, times) + tiles * mask.max(), 0)
    labels = labels[:side, :side]
    clean = np.stack([labels > 0, find_boundaries(labels, mode="thick")]).astype(np.float32)
    soft = ndimage.gaussian_filter(clean, (0, 0.7, 0.7))
    noise = np.random.default_rng(0).normal(0, 0.1, soft.shape)
    return np.clip(soft + noise, 0, 1).astype(np.float32)


def compared(environment: Path, mask: Array, folder: Path) -> Iterator[str]:
    """Return the lines of the table."""
    yield "| recipe | image | bmz | peer | ratio | objects | exponent in pixels, bmz and peer |"
    yield "|---|---|---|---|---|---|---|"
    with references(environment) as ask:
        for recipe, peer in PEERS.items():
            least: list[list[float]] = []
            for side in SIDES:
                file = folder / f"{side}.npy"
                if not file.exists():
                    np.save(file, maps_of(mask, side))
                label = by_bmz(recipe)(drawn(recipe, np.load(file)))
                runs = [(timed(label), ask(recipe, file)) for _ in range(TIMES)]
                least.append([min(run[at][0] for run in runs) for at in (0, 1)])
                counts = " and ".join(str(runs[0][at][1]) for at in (0, 1))
                own, theirs = least[-1]
                growth = ""
                if len(least) == len(SIDES):
                    power = [
                        math.log(b / a, (SIDES[1] / SIDES[0]) ** 2)
                        for a, b in zip(*least, strict=True)
                    ]
                    growth = f"{power[0]:.2f}, {power[1]:.2f}"
                yield (
                    f"| `{recipe}` | {side} px | {own:.2f} s | {theirs:.2f} s ({peer}) "
                    f"| {own / theirs:.2f} | {counts} | {growth} |"
                )


def main() -> None:
    """Compare, or serve."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("environment", type=Path, help="folder of the references")
    parser.add_argument("--growth", action="store_true", help="how time grows, of bmz alone")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.serve:
        serve()
        return
    mask = np.load(words.shared / MASK).astype(np.int64)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        table = growth(mask) if words.growth else compared(words.environment, mask, Path(folder))
        for line in table:
            print(line, flush=True)
            lines.append(line)
    if words.write:
        marks = GROWTH_MARKS if words.growth else MARKS
        write_between(words.write, marks, "\n".join(lines))


if __name__ == "__main__":
    main()
