"""Measure how often the cure that ``bmz check --try`` proposes restores a spoilt mask.

``python benchmarks/cures.py ../shared [IMAGES] [--write docs/explanation/trial.md]`` spoils test
images of DSB 2018 (by default 12 of 80, evenly spaced): they are enlarged or shrunk, inverted,
passed as the second of two channels while the first is used, or run with a scale or a threshold of
the recipe that is far off. starter/nuclei runs on each spoilt image; with the proposed cure, if
there is one, without a time limit; and on the original image. A mask counts as spoilt if its F1 at
IoU 0.5 is lower than the original one by more than 0.05, and as restored if its F1 comes within
0.05 of the original one.
"""

from __future__ import annotations

import argparse
import math
import shlex
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
from pages import write_between
from scipy import ndimage

import bmz
from bmz.base.arrays import AnyArray
from bmz.engine.file_trial import TrialExtent, try_file
from bmz.engine.request import RunRequest
from bmz.engine.setup import opened, prepare
from bmz.process.consensus import f1_between

MARKS = ("<!-- benchmarks/cures.py -->\n", "<!-- end of cures -->\n")
MODEL = "starter/nuclei"
SIDE = 256
NEAR = 0.05

Spoilt = tuple[AnyArray, AnyArray, str]
"""Image, true mask, axes."""


def resized(factor: float) -> Callable[[AnyArray, AnyArray], Spoilt]:
    """Return a function that enlarges or shrinks an image and its mask."""

    def spoil(image: AnyArray, mask: AnyArray) -> Spoilt:
        return ndimage.zoom(image, factor, order=1), ndimage.zoom(mask, factor, order=0), "yx"

    return spoil


def second_channel(image: AnyArray, mask: AnyArray) -> Spoilt:
    """Insert a channel of noise before the image."""
    noise = np.random.default_rng(0).normal(image.mean(), image.std() / 2, image.shape)
    return np.stack([noise.clip(0, 255).astype(image.dtype), image]), mask, "cyx"


def turned_round(image: AnyArray, mask: AnyArray) -> Spoilt:
    """Invert the intensities."""
    return image.max() - (image - image.min()), mask, "yx"


def as_it_is(image: AnyArray, mask: AnyArray) -> Spoilt:
    """Return the image unchanged."""
    return image, mask, "yx"


FAULTS = {
    "4 times as large": resized(4.0),
    "2.5 times as large": resized(2.5),
    "0.4 times as large": resized(0.4),
    "run at a scale of 0.3": as_it_is,
    "run at a scale of 3": as_it_is,
    "the other channel": second_channel,
    "bright and dark changed": turned_round,
    "threshold too high": as_it_is,
}

OPTIONS = {
    "run at a scale of 0.3": "--scale 0.3",
    "run at a scale of 3": "--scale 3",
    "threshold too high": "--set prob_threshold=0.9",
}
"""Fault -> options of the spoilt call."""


def typed(options: str) -> dict[str, str]:
    """Return the value of each option; the last one if an option is given twice."""
    words = shlex.split(options.replace("--invert", "--invert yes"))
    return dict(zip(words[::2], words[1::2], strict=True))


def settings_of(options: Mapping[str, str]) -> dict[str, str]:
    """Return the settings in ``--set``."""
    key, _, value = options.get("--set", "").partition("=")
    return {key: value} if key else {}


def f1(image: AnyArray, mask: AnyArray, axes: str, options: str) -> float:
    """Run the model with options, and compare its mask with the truth."""
    given = typed(options)
    channels = given.get("--channels", "0" if axes == "cyx" else None)
    with bmz.load(MODEL, backend="native", precision="float32") as model:
        result = model.run(
            image,
            axes=axes,
            scale=float(given["--scale"]) if "--scale" in given else None,
            channels=None if channels is None else (int(channels),),
            clip=float(given["--clip"]) if "--clip" in given else None,
            invert="--invert" in given,
            settings=settings_of(given),
            force=True,
        )
    return f1_between(np.asarray(result.labels), mask)


def cure_of(image: AnyArray, axes: str, options: str) -> str:
    """Return the options that a trial of the spoilt call proposes; empty for none."""
    given, channels = typed(options), (0,) if axes == "cyx" else None
    request = RunRequest(
        MODEL, (), Path(), axes=axes, channels=channels, force=True, backend="native",
        precision="float32", settings=settings_of(given),
        scale=float(given["--scale"]) if "--scale" in given else None,
    )  # fmt: skip
    setup = prepare(replace(request, device="cpu"))
    with tempfile.TemporaryDirectory() as folder, closing(opened(setup)) as backend:
        path = Path(folder) / "a.tif"
        tifffile.imwrite(path, image, photometric="minisblack")
        _, cure = try_file(setup, path, backend, extent=TrialExtent(cure_s=math.inf))
    return "" if cure is None else cure.options


def main() -> None:
    """Spoil images, and cure them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("images", type=int, nargs="?", default=12)
    parser.add_argument("--write", type=Path, help="put the table into this page")
    parser.add_argument("--each", action="store_true", help="print a line for each image, too")
    words = parser.parse_args()
    folder = words.shared / "data/dsb2018/test"
    every = sorted((folder / "images").glob("*.tif"))
    chosen = [every[i] for i in np.linspace(0, len(every) - 1, words.images).astype(int)]
    lines = ["| fault | spoilt | cure proposed | brought back |", "|---|---|---|---|"]
    totals = np.zeros(3, int)
    for fault, spoil in FAULTS.items():
        counts = np.zeros(3, int)
        for path in chosen:
            image, mask = (
                tifffile.imread(folder / kind / path.name)[:SIDE, :SIDE]
                for kind in ("images", "masks")
            )
            options = OPTIONS.get(fault, "")
            best = f1(image, mask, "yx", "")
            spoilt, truth, axes = spoil(image, mask)
            now = f1(spoilt, truth, axes, options)
            if now >= best - NEAR:
                continue
            more = cure_of(spoilt, axes, options)
            cured = f1(spoilt, truth, axes, f"{options} {more}") if more else now
            if words.each:
                print(f"{fault}: {path.stem} {best:.2f} {now:.2f} {more} {cured:.2f}", flush=True)
            counts += [1, bool(more), cured >= best - NEAR]
        lines.append(f"| {fault} | {counts[0]} of {len(chosen)} | {counts[1]} | {counts[2]} |")
        print(lines[-1], flush=True)
        totals += counts
    lines.append(f"| all | {totals[0]} | {totals[1]} | {totals[2]} ({totals[2] / totals[0]:.0%}) |")
    print("\n".join(lines))
    if words.write is not None:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
