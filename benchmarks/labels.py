"""Compare the CPU time of label recipes with that of their reference implementations.

``python benchmarks/labels.py [--cellpose3 FOLDER] [--quick] [--shared FOLDER] [--write FILE]``

Both run in one process with one thread each (the fastest setting for stardist, whose threads wait
for each other on shared cores). Maps are made from scenes of ellipses, with a little noise on the
probabilities so that no two are equal. The first call of a compiled loop is not counted.
The first FOLDER contains an unpacked wheel of cellpose 3.1.1.3, which cannot be installed together
with NumPy 2.1. The second one contains the mask of a stack, which is repeated up to
62 x 244 x 228 px, and on which only bmz is timed. ``--write`` writes the table and the growth
between their marks in FILE.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before stardist is imported

import numpy as np
import tifffile
from pages import write_between
from scipy import ndimage
from skimage.draw import ellipse
from skimage.morphology import disk, h_maxima
from skimage.segmentation import watershed

from bmz.base.arrays import AnyArray, FloatArray, LabelArray
from bmz.process.heat import flows_of_labels
from bmz.process.matching import match_labels
from bmz.process.recipe import Value
from bmz.process.recipes import RECIPES
from bmz.process.relabel import in_raster_order

MARKS = ("<!-- benchmarks/labels.py -->\n", "<!-- end -->\n")
RAYS = 32
SIDE = 2048
COUNTS = (3000, 8600)


def scene(side: int, count: int, seed: int = 0) -> LabelArray:
    """Draw about `count` ellipses that cover a third of a square."""
    rng = np.random.default_rng(seed)
    rows = math.ceil(math.sqrt(count))
    pitch = side / rows
    labels = np.zeros((side, side), np.int32)
    for number in range(rows * rows):
        at = [(n + 0.5 + rng.uniform(-0.15, 0.15)) * pitch for n in divmod(number, rows)]
        size = rng.uniform(0.25, 0.42, 2) * pitch
        inside = ellipse(*at, *size, shape=labels.shape, rotation=rng.uniform(0, np.pi))
        free = labels[inside] == 0
        labels[inside[0][free], inside[1][free]] = number + 1
    return in_raster_order(labels).labels


def took(work: Callable[[], Any], times: int = 2) -> tuple[float, Any]:
    """Return the minimum CPU time of several calls in s, and the result."""
    found = []
    for _ in range(times):
        start = time.process_time()
        result = work()
        found.append(time.process_time() - start)
    return min(found), result


def ours(recipe: str, maps: FloatArray, grid: int = 1, **words: Value) -> tuple[float, AnyArray]:
    """Time a recipe, once it is compiled."""
    one = RECIPES[recipe]
    parameters = one.parameters_from(words, {})
    steps = (grid,) * (maps.ndim - 1)
    one.apply(maps[:, :64, :64], steps, parameters)
    seconds, done = took(lambda: one.apply(maps, steps, parameters))
    return seconds, done.labels


def told(what: str, own: float, theirs: float, peer: str, agree: float) -> str:
    """Print a row of the table, and return it."""
    ratio = f"{theirs / own:.1f}"
    row = f"| {what} | {own:.2f} | {theirs:.2f} ({peer}) | {ratio} | {agree:.3f} |"
    print(row, flush=True)
    return row


def agreement(found: AnyArray, theirs: AnyArray) -> float:
    """Return the F1 at IoU 0.9 of two label masks in the area that both cover."""
    shape = tuple(slice(min(a, b)) for a, b in zip(found.shape, theirs.shape, strict=True))
    return match_labels(found[shape], theirs[shape].astype(np.int32), 0.9).f1


def star_maps(labels: LabelArray) -> FloatArray:
    """Return probability and distances of perfect objects."""
    from stardist.geometry import star_dist
    from stardist.utils import edt_prob

    noise = np.random.default_rng(0).random(labels.shape)
    probability = (0.9 * edt_prob(labels) + 0.05 * noise).astype(np.float32)
    return np.concatenate([probability[None], np.moveaxis(star_dist(labels, RAYS), -1, 0)])


def stardist_2d(side: int, count: int) -> Iterator[str]:
    """Compare candidates, suppression and rendering of planes at both grids."""
    from stardist.geometry import polygons_to_label
    from stardist.nms import non_maximum_suppression

    labels = scene(side, count)
    full = star_maps(labels)
    for grid in (2, 1):
        maps = np.ascontiguousarray(full[:, ::grid, ::grid])
        own, found = ours("stardist", maps, grid)
        distances = np.ascontiguousarray(np.moveaxis(maps[1:], 0, -1))

        def theirs(maps: FloatArray = maps, d: FloatArray = distances, g: int = grid) -> AnyArray:
            points, scores, kept = non_maximum_suppression(
                d, maps[0], grid=(g, g), prob_thresh=0.5, nms_thresh=0.4, verbose=False
            )
            drawn: AnyArray = polygons_to_label(kept, points, labels.shape, prob=scores)
            return drawn

        seconds, reference = took(theirs)
        what = f"stardist {side} px, {labels.max()} nuclei, grid {grid}"
        yield told(what, own, seconds, "stardist 0.9.2", agreement(found, reference))


def large_stack(shared: Path) -> str:
    """Time a stack of 62 x 244 x 228 px with 96 rays, and print its row."""
    from stardist.geometry import star_dist3D
    from stardist.rays3d import Rays_GoldenSpiral
    from stardist.utils import edt_prob

    mask = tifffile.imread(shared / "data/stardist/mask3d.tif").astype(np.int32)
    times = (2, 4, 4)
    tiles = np.kron(np.arange(math.prod(times)).reshape(times), np.ones(mask.shape, np.int32))
    labels = np.where(np.tile(mask, times) > 0, np.tile(mask, times) + tiles * mask.max(), 0)
    labels = labels.astype(np.int32)
    noise = np.random.default_rng(0).random(labels.shape)
    maps = np.empty((97, *labels.shape), np.float32)
    maps[0] = 0.9 * edt_prob(labels) + 0.05 * noise
    maps[1:] = np.moveaxis(star_dist3D(labels, Rays_GoldenSpiral(96)), -1, 0)
    recipe = RECIPES["stardist"]
    parameters = recipe.parameters_from({}, {})
    seconds, done = took(lambda: recipe.apply(maps, (1, 1, 1), parameters), 1)
    size = " x ".join(map(str, labels.shape))
    row = f"| stardist, stack {size}, 96 rays, {done.labels.max()} nuclei | {seconds:.2f} | | | |"
    print(row, flush=True)
    return row


def stardist_3d() -> str:
    """Compare the decoding of a stack of balls."""
    from stardist.geometry import polyhedron_to_label, star_dist3D
    from stardist.nms import non_maximum_suppression_3d
    from stardist.rays3d import Rays_GoldenSpiral
    from stardist.utils import edt_prob

    rng = np.random.default_rng(0)
    labels = np.zeros((32, 96, 96), np.int32)
    place = np.indices(labels.shape)
    for number in range(48):
        centre = rng.uniform((5, 5, 5), (27, 91, 91)).reshape(3, 1, 1, 1)
        away = np.square(place - centre).sum(axis=0)
        labels[(away < rng.uniform(4, 8) ** 2) & (labels == 0)] = number + 1
    rays = Rays_GoldenSpiral(96)
    probability = 0.9 * edt_prob(labels) + 0.05 * rng.random(labels.shape)
    distances = star_dist3D(labels, rays)
    maps = np.concatenate([probability[None], np.moveaxis(distances, -1, 0)]).astype(np.float32)
    coarse = np.ascontiguousarray(maps[:, :, ::2, ::2])
    own, found = ours("stardist", coarse, prob_threshold=0.55, nms_threshold=0.3)

    def theirs() -> AnyArray:
        points, scores, kept = non_maximum_suppression_3d(
            np.ascontiguousarray(np.moveaxis(coarse[1:], 0, -1)), coarse[0].copy(), rays,
            prob_thresh=0.55, nms_thresh=0.3,
        )  # fmt: skip
        drawn: AnyArray = polyhedron_to_label(
            kept, points, rays, coarse.shape[1:], prob=scores, verbose=False
        )
        return drawn

    seconds, reference = took(theirs, 1)
    what, f1 = "stardist, stack 32 x 48 x 48", agreement(found, reference)
    return told(what, own, seconds, "stardist 0.9.2", f1)


def flow_maps(labels: LabelArray) -> FloatArray:
    """Return flows and cell probability of perfect objects."""
    logit = np.where(labels > 0, np.float32(6), np.float32(-6))
    return np.concatenate([5 * flows_of_labels(labels), logit[None]])


def cellpose(side: int, count: int) -> str:
    """Compare the dynamics of planes."""
    import torch
    from cellpose import dynamics, version

    torch.set_num_threads(1)
    labels = scene(side, count)
    maps = flow_maps(labels)
    own, found = ours("flows", maps)

    def theirs() -> AnyArray | tuple[AnyArray, ...]:
        done: AnyArray | tuple[AnyArray, ...] = dynamics.resize_and_compute_masks(
            maps[:2], maps[2], niter=200, cellprob_threshold=0.0, flow_threshold=0.4,
            min_size=15, device=torch.device("cpu"),
        )  # fmt: skip
        return done

    seconds, done = took(theirs, 1)
    reference = done[0] if isinstance(done, tuple) else done
    what = f"flows {side} px, {labels.max()} cells"
    return told(what, own, seconds, f"cellpose {version}", agreement(found, reference))


def deep_watershed(side: int, count: int) -> str:
    """Compare Mesmer's peaks and watershed with the same steps of scikit-image."""
    from skimage.measure import label

    labels = scene(side, count)
    inner = ndimage.distance_transform_edt(labels > 0)
    inner = (inner / inner.max() + 0.01 * np.random.default_rng(0).random(labels.shape)).astype(
        "f4"
    )
    interior = (labels > 0).astype(np.float32)
    own, found = ours("mesmer", np.stack([inner, interior]))

    def theirs() -> AnyArray:
        markers = label(h_maxima(inner, 0.075, footprint=disk(2)))
        soft = ndimage.gaussian_filter(interior, 2, mode="nearest")
        flooded: AnyArray = watershed(-soft, markers, mask=soft > 0.2)
        return flooded

    seconds, reference = took(theirs, 1)
    what = f"mesmer {side} px, {labels.max()} cells"
    return told(what, own, seconds, "scikit-image", agreement(found, reference))


def growth() -> Iterator[str]:
    """Describe how the time grows from 1024 to 4096 px a side at the same object density."""
    makers = {"stardist": star_maps, "flows": flow_maps}
    for recipe, maps_of in makers.items():
        seconds = []
        for side in (1024, 2048, 4096):
            own, _ = ours(recipe, maps_of(scene(side, round(3000 * (side / SIDE) ** 2))))
            seconds.append(own)
        exponent = math.log(seconds[-1] / seconds[0]) / math.log(16)
        shown = ", ".join(f"{s:.2f}" for s in seconds)
        yield f"| `{recipe}` | {shown} | {exponent:.2f} |"
        print(f"{recipe}: {shown} s, exponent {exponent:.2f}", flush=True)


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cellpose3", type=Path, help="unpacked wheel of cellpose 3.1.1.3")
    parser.add_argument("--quick", action="store_true", help="512 px and 200 objects only")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="has the stack")
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    words = parser.parse_args()
    warnings.simplefilter("ignore")
    if words.cellpose3:
        sys.path.insert(0, str(words.cellpose3))
    side, counts = (512, (200,)) if words.quick else (SIDE, COUNTS)
    lines = ["| maps | bmz, s | peer, s | ratio | F1 at IoU 0.9 |", "|---|---|---|---|---|"]
    for count in counts:
        lines.extend(stardist_2d(side, count))
    lines += [stardist_3d(), cellpose(side, counts[0]), deep_watershed(side, counts[0])]
    if not words.quick:
        lines.append(large_stack(words.shared))
        lines += ["", "| recipe | 1024, 2048 and 4096 px a side, s | exponent in pixels |"]
        lines += ["|---|---|---|", *growth()]
    if words.write:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
