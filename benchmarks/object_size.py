"""Measure how accurate object size, polarity and values are, on unused images with true masks.

Factor: the estimate for a resized image divided by that for the image itself, divided by the true
factor. Repeat: ``python benchmarks/object_size.py ../shared`` (some minutes), or with ``--train``
for tuning. ``--window 768`` moves windows of that side through large planes
(`bmz.check.blobs.MOST_SIDE`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from bmz.check import blobs
from bmz.check.measured import PlaneMeasures, measure_plane
from bmz.check.object_size import object_diameter_px
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image

Plane = NDArray[Any]
FACTORS = (1 / 4, 1 / 3, 1 / 2, 1 / 1.5, 1.5, 2, 3, 4)
LEAST_PX = 4
TOLERANCE = 1.2
AXES = {"img3d.tif": "zyx"}
SETS = ("dsb2018", "neubias", "stardist", "scellseg", "isbi2012/images")


def planes(path: Path) -> Iterator[tuple[str, Plane]]:
    """Yield name and pixels of each channel, the middle plane of a stack; skip empty ones."""
    image = read_image(inspect_image(path, axes=AXES.get(path.name)))
    for axis in "tz":
        if axis in image.axes:
            image = image.part({axis: image.sizes[axis] // 2})
    for channel in range(image.sizes.get("c", 1)):
        plane = image.part({"c": channel}) if "c" in image.axes else image
        if plane.array.min() < plane.array.max():
            yield f"{path.parent.name}/{path.stem}/{channel}", plane.array


def images(shared: Path, name: str, *, split: str) -> list[Path]:
    """List the images of one set, without masks and labels."""
    folder = shared / "data" / name
    if name == "dsb2018":
        return sorted((folder / split / "images").glob("*.tif"))
    found = sorted([*folder.rglob("*.tif"), *folder.rglob("*.png")])
    return [p for p in found if "mask" not in p.name and "label" not in p.name]


def true_diameter(path: Path) -> float | None:
    """Return the median diameter of the true objects, or None without a mask next to the image."""
    beside = {
        path.parents[1] / "masks" / path.name,
        path.with_name(path.name.replace("_img", "_masks")),
        path.with_name(path.name.replace("img2d", "mask2d")),
    } - {path}
    for mask in (candidate for candidate in beside if candidate.exists()):
        areas = np.bincount(read_image(inspect_image(mask)).array.astype(int).ravel())[1:]
        return float(2 * np.sqrt(np.median(areas[areas > 0]) / np.pi))
    return None


def diameter(plane: Plane) -> float | None:
    """Return the estimated diameter in px, or None."""
    size = object_diameter_px(plane)
    return size.diameter_px if size else None


def resized(plane: Plane, factor: float) -> Plane:
    """Resize with anti-aliasing; the intensities keep their unit."""
    shape = tuple(round(side * factor) for side in plane.shape)
    large = resize(plane.astype(np.float32), shape, anti_aliasing=factor < 1, preserve_range=True)
    return np.asarray(large, dtype=np.float32)


def factors(plane: Plane, true_px: float | None) -> list[float | None]:
    """Return the ratio of estimated and true factor for each resize to at least `LEAST_PX`."""
    native = diameter(plane)
    found: list[float | None] = []
    for factor in FACTORS:
        across = true_px or native
        if across is not None and across * factor < LEAST_PX:
            continue
        estimate = diameter(resized(plane, factor)) if native else None
        found.append(estimate / native / factor if estimate and native else None)
    return found


def alarms(measures: PlaneMeasures) -> list[str]:
    """Return the warnings that this plane alone would cause."""
    checks = {
        "outlier": measures.outliers.dominate,
        "saturated": measures.saturation.cuts,
        "unit": measures.unit_range,
        "dark": measures.polarity is not None and measures.polarity.side == "dark",
    }
    return [name for name, fires in checks.items() if fires]


def report(name: str, found: list[tuple[str, Plane, float | None]]) -> None:
    """Print the results for one set."""
    ratios, absolute, warned, dark = list[float | None](), list[float](), [], 0
    for plane_name, plane, true_px in found:
        measures = measure_plane(plane)
        if measures is None:
            continue
        warned += [f"{plane_name}: {alarm}" for alarm in alarms(measures)]
        inverted = measure_plane(plane.max() - plane)
        dark += bool(inverted and inverted.polarity and inverted.polarity.side == "dark")
        ratios += factors(plane, true_px)
        if measures.size and true_px:
            absolute.append(measures.size.diameter_px / true_px)
    print(f"{name}: {len(found)} planes; inverted told dark: {dark}")
    print("  alarms:", "; ".join(warned) or "none")
    print_factors(ratios)
    if absolute:
        low, middle, high = np.percentile(absolute, [5, 50, 95])
        near = np.mean(np.abs(np.log(absolute)) <= np.log(1.25))
        print(f"  over true: {low:.2f} {middle:.2f} {high:.2f} (5, 50, 95 %), {near:.2f} in 25 %")


def print_factors(ratios: list[float | None]) -> None:
    """Print in how many cases a factor was estimated, and in how many it was right."""
    given = np.array([ratio for ratio in ratios if ratio is not None])
    within = np.mean(np.abs(np.log(given)) <= np.log(TOLERANCE)) if given.size else np.nan
    share = len(given) / max(len(ratios), 1)
    print(f"  factor given in {len(given)} of {len(ratios)} cases ({share:.3f}),", end=" ")
    print(f"within 20 % in {within:.3f} of them")


def speed() -> None:
    """Print how long a plane takes."""
    plane = np.random.default_rng(0).normal(size=(1024, 1024))
    start = time.perf_counter()
    measure_plane(plane)
    print(f"1024 x 1024 of noise, all measures: {time.perf_counter() - start:.2f} s")


def refusals() -> None:
    """Print the results for planes without objects."""
    random = np.random.default_rng(0)
    noise = random.normal(100, 10, (512, 512))
    ramp = np.add.outer(np.arange(512.0), np.arange(512.0))
    for name, plane in {
        "flat": np.full((512, 512), 7.0),
        "noise": noise,
        "noise x 4": resized(noise[:256, :256], 4),
        "Poisson": random.poisson(3, (512, 512)),
        "ramp and noise": ramp + noise,
    }.items():
        print(f"  {name}: {diameter(plane)}")


def main(shared: Path, split: str) -> None:
    """Print one table per set, and the results for planes without objects."""
    for name in SETS:
        paths = images(shared, name, split=split)
        found = [
            (plane_name, plane, true_diameter(path))
            for path in paths
            for plane_name, plane in planes(path)
        ]
        report(name, found)
    refusals()
    speed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shared", type=Path, nargs="?", default=Path("../shared"))
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--window", type=int, default=blobs.MOST_SIDE, metavar="PX")
    words = parser.parse_args()
    blobs.MOST_SIDE = words.window
    main(words.shared, "train" if words.train else "test")
