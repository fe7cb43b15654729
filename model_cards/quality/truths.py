"""Images whose objects are known, the part of each that is used, and faults that spoil them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

DSB_SIZES: Mapping[tuple[int, int], int] = {
    (256, 256): 24, (360, 360): 10, (520, 696): 12, (512, 640): 7, (256, 320): 3, (603, 1272): 3,
    (1040, 1388): 1, (260, 347): 1,
}  # fmt: skip
"""Of DSB 2018 so many images of each size are used: it is of many laboratories."""

STRUCTURES: Mapping[str, str] = {
    "01_fluo_nuclei": "nuclei", "04_bacteria_yeast": "bacteria", "05_he": "tissue",
    "06_em_neurites": "neurites", "10_tissue_membranes": "membranes", "12_stacks_3d": "",
    "15_other": "smear",
}  # fmt: skip
"""Kind of an image -> what its true mask holds; of a stack its source tells."""

OF_STACKS: Mapping[str, str] = {"stardist": "nuclei", "plantseg": "membranes"}

PHOTOGRAPHS = ("brick", "camera", "moon", "page")
"""Photographs of scikit-image in which there is nothing to be found."""

SIDE = 256
"""px: crops of images."""


@dataclass(frozen=True, eq=False)
class Truth:
    """An image whose objects are known.

    Parameters
    ----------
    source : where it is from, as it is left out
    name : unlike all others of the source
    pixels : (c, y, x), the channel in which the objects stand out most first
    mask : (y, x)
    structure : what the mask holds
    """

    source: str
    name: str
    pixels: np.ndarray
    mask: np.ndarray
    structure: str


def truths(shared: Path, more: Path | None) -> Iterator[Truth]:
    """Yield the part that is used of every image, always in one order.

    Parameters
    ----------
    more : folder with images of other sources; see the card
    """
    data = shared / "data"
    for truth in (*_nuclei(data), *_cells(data), *_kinds(data / "kinds"), *_neurites(data)):
        yield _channels_sorted(fullest_part(truth))
    if more is not None:
        for truth in (*_usiigaci(more / "usiigaci"), *_aisegcell(more / "aisegcell")):
            yield _channels_sorted(fullest_part(truth))


def _nuclei(data: Path) -> Iterator[Truth]:
    names = sorted((data / "dsb2018/train/images").glob("*.tif"))
    taken = Counter[tuple[int, ...]]()
    for i in np.random.default_rng(1).permutation(len(names)):
        mask = tifffile.imread(data / "dsb2018/train/masks" / names[i].name)
        if taken[mask.shape] < DSB_SIZES.get(mask.shape, 0):
            taken[mask.shape] += 1
            source = "dsb2018 " + "x".join(map(str, mask.shape))
            yield Truth(source, names[i].stem, tifffile.imread(names[i])[None], mask, "nuclei")
    image, mask = (tifffile.imread(data / "stardist" / f"{word}2d.tif") for word in ("img", "mask"))
    yield Truth("stardist", "img2d", image[None], mask, "nuclei")


def _cells(data: Path) -> Iterator[Truth]:
    for style in ("cytomembrane", "Kc167", "neurocyte"):
        for path in sorted((data / "scellseg" / style).glob("*_img.png")):
            mask = np.asarray(Image.open(str(path).replace("_img", "_masks")))
            pixels = np.moveaxis(np.asarray(Image.open(path)), -1, 0)
            stained = pixels[[plane.std() > 1 for plane in pixels]]
            yield Truth(style, path.stem, stained, mask, "cells")


def _kinds(folder: Path) -> Iterator[Truth]:
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            name = Path(line["file"]).stem
            if line["source"] == "skimage" and name.endswith(PHOTOGRAPHS):
                pixels = tifffile.imread(folder / line["file"])
                yield Truth("skimage", name, pixels[None], np.zeros(pixels.shape, int), "none")
            if not line["mask"] or line["kind"].startswith("06"):
                continue
            pixels, mask = (tifffile.imread(folder / line[word]) for word in ("file", "mask"))
            structure = STRUCTURES[line["kind"]]
            if line["dims"] == "ZYX":
                yield from _planes(line["source"], name, pixels, mask)
            elif line["source"] != "dsb2018" or structure != "nuclei":
                source = line["source"] if structure != "tissue" else "dsb2018 stained"
                source = "dsb2018 smear" if structure == "smear" else source
                grey = pixels if line["dims"] == "YX" else pixels.mean(-1).astype(pixels.dtype)
                yield Truth(source, name, grey[None], mask, structure)


def _planes(source: str, name: str, stack: np.ndarray, mask: np.ndarray) -> Iterator[Truth]:
    for z in (len(stack) // 3, 2 * len(stack) // 3):
        plane = mask[z]
        yield Truth(f"{source} stack", f"{name} z{z}", stack[z][None], plane, OF_STACKS[source])


def _neurites(data: Path) -> Iterator[Truth]:
    names = sorted((data / "isbi2012/images").iterdir())
    for path in names[:: max(1, len(names) // 7)]:
        membranes = np.asarray(Image.open(data / "isbi2012/membranes" / path.name))
        inside, _ = ndimage.label(membranes > 127)
        yield Truth("isbi2012", path.stem, np.asarray(Image.open(path))[None], inside, "neurites")


def _usiigaci(folder: Path) -> Iterator[Truth]:
    for path in sorted(folder.glob("*.raw.tif")):
        mask = np.asarray(Image.open(str(path).replace("raw.tif", "instances_ids.png")))
        yield Truth("usiigaci", path.name.split(".")[0], tifffile.imread(path)[None], mask, "phase")


def _aisegcell(folder: Path) -> Iterator[Truth]:
    for path in sorted(folder.glob("bf*.png")):
        mask, _ = ndimage.label(np.asarray(Image.open(str(path).replace("bf", "mask"))) > 0)
        yield Truth("aisegcell", path.stem, np.asarray(Image.open(path))[None], mask, "phase")


def fullest_part(truth: Truth) -> Truth:
    """Cut out the part of an image that holds most of its objects."""
    height, width = truth.mask.shape
    step = SIDE // 3
    places = [
        (int((truth.mask[y : y + SIDE, x : x + SIDE] > 0).sum()), -y, -x)
        for y in range(0, max(1, height - SIDE + 1), step)
        for x in range(0, max(1, width - SIDE + 1), step)
    ]
    _, y, x = max(places)
    cut = slice(-y, -y + SIDE), slice(-x, -x + SIDE)
    return replace(truth, pixels=truth.pixels[..., *cut], mask=truth.mask[cut])


def _channels_sorted(truth: Truth) -> Truth:
    """Put the channel first in which the objects stand out most, as a user would choose it."""
    inside = truth.mask > 0
    if len(truth.pixels) == 1 or not inside.any() or inside.all():
        return truth
    planes = truth.pixels.astype(float)
    apart = [abs(p[inside].mean() - p[~inside].mean()) / (p.std() + 1) for p in planes]
    return replace(truth, pixels=truth.pixels[np.argsort(apart)[::-1]])


FAULTS = (
    "scale", "inverted", "noisy", "blurred", "saturated", "dim", "gamma", "photons", "threshold",
    "channel",
)  # fmt: skip
"""What may be wrong: of the scale, the threshold and the channel with the call, else with the
image."""


def spoilt(pixels: np.ndarray, fault: str, rng: np.random.Generator) -> np.ndarray:
    """Give an image with a fault, of the same dtype."""
    values = pixels.astype(float)
    low, high = np.percentile(values, 1), np.percentile(values, 99.8)
    span = max(high - low, 1)
    share = np.clip((values - low) / span, 0, 1)
    if fault == "inverted":
        values = values.max() + values.min() - values
    elif fault == "noisy":
        values += rng.normal(0, span * rng.choice([0.08, 0.15, 0.3, 0.6]), values.shape)
    elif fault == "blurred":
        sigma = rng.choice([1.5, 3, 5, 8])
        values = ndimage.gaussian_filter(values, [0] * (values.ndim - 2) + [sigma, sigma])
    elif fault == "saturated":
        values = np.minimum(values, np.percentile(values, rng.choice([50, 70, 90])))
    elif fault == "dim":
        values = low + (values - low) * 0.06 + rng.normal(0, span * 0.02, values.shape)
    elif fault == "gamma":
        values = low + span * share ** rng.choice([0.3, 2.5])
    elif fault == "photons":
        values = rng.poisson(share * rng.choice([2, 6, 15])) * span / 15
    if pixels.dtype.kind not in "iu":
        return values.astype(pixels.dtype)
    return np.clip(np.rint(values), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
