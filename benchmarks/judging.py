"""Measure what the prediction of the quality of masks and objects costs a run.

``python benchmarks/judging.py ../shared [--model starter/nuclei] [--images 80] [--rounds 3]`` runs
images of DSB 2018 and one of 2048 px in one process, alternately with and without the prediction,
and prints the CPU time of both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import tifffile

from bmz.app.run import run
from bmz.engine.request import RunRequest

SIDE = 2048


def seconds(model: str, images: list[Path], *, judged: bool) -> float:
    """Run images, and return the CPU time in s."""
    with tempfile.TemporaryDirectory() as folder:
        request = RunRequest(model, tuple(images), Path(folder), precision="float32")
        start = time.process_time()
        if judged:
            run(request)
        else:
            with patch("bmz.engine.run_image.judging_of", lambda *_: None):
                run(request)
        return time.process_time() - start


def large_image(images: list[Path], folder: Path) -> Path:
    """Tile images until they fill a square of 2048 px."""
    pixels = [np.asarray(tifffile.imread(path)) for path in images]
    tiles = [some for some in pixels if some.shape == (256, 256)]
    count = SIDE // 256
    rows = [
        np.concatenate([tiles[(i * count + j) % len(tiles)] for j in range(count)], 1)
        for i in range(count)
    ]
    tifffile.imwrite(folder / "large.tif", np.concatenate(rows))
    return folder / "large.tif"


def report(name: str, model: str, images: list[Path], rounds: int) -> None:
    """Print the medians of both over all rounds after a warm-up round, and their ratio."""
    took: dict[bool, list[float]] = {True: [], False: []}
    seconds(model, images[:2], judged=True)
    for number in range(rounds):
        for judged in (True, False) if number % 2 else (False, True):
            took[judged].append(seconds(model, images, judged=judged))
    with_it, without = (statistics.median(took[judged]) for judged in (True, False))
    share = with_it / without - 1
    print(f"{model}, {name}: {with_it:.2f} s with, {without:.2f} s without: {share:+.1%}")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--model", default="starter/nuclei")
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    words = parser.parse_args()
    images = sorted((words.shared / "data/dsb2018/test/images").glob("*.tif"))
    report(f"{words.images} images", words.model, images[: words.images], words.rounds)
    with tempfile.TemporaryDirectory() as folder:
        large = large_image(images, Path(folder))
        report(f"an image of {SIDE} px", words.model, [large], words.rounds)


if __name__ == "__main__":
    main()
