"""The images on which evidence of objects was gathered, and a network that is run on one of them.

`gather_objects.py` uses them; `gather.py` has more images, of `truths.py`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from truths import spoilt

from bmz.base.errors import BmzError
from bmz.engine.image_header import check_image_header, given_image
from bmz.engine.request import RunRequest
from bmz.engine.setup import RunSetup, with_options
from bmz.engine.trial import CHANGES, Change, Tried, tried
from bmz.predict.backend import Backend

NEAR = {
    "nuclei": ("nuclei",),
    "cells": ("cells", "nuclei", "bacteria", "membranes"),
    "neurites": ("neurites",),
    "phase": (),
}
"""What a network is made for -> what true masks may hold for which it is run with faults, too."""

OTHERS = 0.35
"""Share of the images of another structure on which a network is run."""

DSB = 18
SIDE = 288
LARGEST = 576
"""px: crops of images, and what a network is given at the most."""


@dataclass(frozen=True, eq=False)
class Truth:
    """An image whose objects are known.

    Parameters
    ----------
    pixels : ((c,) y, x)
    mask : (y, x)
    structure : what the mask holds
    """

    source: str
    name: str
    pixels: np.ndarray
    mask: np.ndarray
    structure: str


def truths(shared: Path, nuclei: int = DSB) -> Iterator[Truth]:
    """Yield all images that are used, always in one order.

    Parameters
    ----------
    nuclei : so many images of DSB 2018
    """
    yield from _nuclei(shared / "data", nuclei)
    folder = shared / "data/scellseg/cytomembrane"
    for path in sorted(folder.glob("*_img.png")):
        mask = np.asarray(Image.open(str(path).replace("_img", "_masks")))
        pixels = np.moveaxis(np.asarray(Image.open(path)), -1, 0)
        yield Truth("cytomembrane", path.stem, pixels, mask, "cells")
    yield from _kinds(shared / "data/kinds")


def _nuclei(data: Path, count: int) -> Iterator[Truth]:
    names = sorted((data / "dsb2018/train/images").glob("*.tif"))
    for i in np.random.default_rng(1).permutation(len(names))[:count]:
        pixels = tifffile.imread(names[i])
        mask = tifffile.imread(data / "dsb2018/train/masks" / names[i].name)
        yield Truth("dsb2018", names[i].stem, pixels, mask, "nuclei")
    stardist = data / "stardist"
    pixels, mask = (tifffile.imread(stardist / name) for name in ("img2d.tif", "mask2d.tif"))
    yield Truth("stardist", "img2d", pixels, mask, "nuclei")


def _kinds(folder: Path) -> Iterator[Truth]:
    structures = {"01": "nuclei", "04": "bacteria", "06": "neurites", "10": "membranes"}
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            plane = line["dims"] in {"YX", "YXS"}
            if plane and line["mask"] and line["source"] != "dsb2018":
                pixels, mask = (tifffile.imread(folder / line[name]) for name in ("file", "mask"))
                pixels = pixels.max(-1) if pixels.ndim == 3 else pixels
                name = Path(line["file"]).stem
                yield Truth(line["source"], name, pixels, mask, structures[line["kind"][:2]])


def origin(truth: Truth) -> str:
    """Give the source that is left out: DSB 2018 is of many laboratories, told by image sizes."""
    sides = "x".join(map(str, truth.mask.shape))
    return f"dsb2018 {sides}" if truth.source == "dsb2018" else truth.source


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


def channels_of(pixels: np.ndarray, wanted: int, fault: str) -> np.ndarray:
    """Choose channels of an image: the most varied, with the fault the least."""
    if pixels.ndim == 2:
        return pixels
    deviations = pixels.reshape(len(pixels), -1).std(1)
    order = np.argsort(-deviations)
    if fault == "channel":
        return pixels[order[-1]]
    if wanted == 2 and deviations[order[1]] > 1:
        return pixels[[order[0], order[1]]]
    return pixels[order[0]]


def trial_of(
    setup: RunSetup,
    backend: Backend,
    part: Truth,
    fault: str,
    rng: np.random.Generator,
    changes: Mapping[str, Change] = CHANGES,
) -> Tried:
    """Run a network on an image with a fault, and on changed copies of it.

    Raises
    ------
    BmzError
        The network does not take it.
    """
    fault = "inverted" if fault == "channel" and part.pixels.ndim == 2 else fault
    wanted = setup.model.required_inputs[0].channels or 1
    pixels = spoilt(channels_of(part.pixels, wanted, fault), fault, rng)
    count = len(pixels) if pixels.ndim == 3 else 1
    numbers = [*range(count), *[-1] * wanted][:wanted] if wanted == 2 else [0] * wanted
    request = replace(
        setup.request, axes="cyx" if pixels.ndim == 3 else "yx", channels=tuple(numbers)
    )
    setup = (
        with_options(setup, request)
        if fault != "threshold"
        else _other_threshold(setup, request, rng)
    )
    image = given_image(pixels, request.axes)
    scale = _scale(setup, image, rng) * (
        rng.choice([0.3, 0.5, 1.8, 3.0]) if fault == "scale" else 1.0
    )
    scale = float(np.clip(scale, 0.1, min(8.0, LARGEST / max(part.mask.shape))))
    setup = replace(setup, request=replace(setup.request, scale=scale))
    return tried(setup, image, backend, changes)


def _scale(setup: RunSetup, image: object, rng: np.random.Generator) -> float:
    if rng.random() > 0.7:
        return 1.0
    auto = replace(setup.request, scale="auto")
    try:
        header = check_image_header(setup.model, image.info, auto, setup.sample, image.sample)
    except BmzError:
        return 1.0  # neither image nor model tells
    return header.case.scale or 1.0


def _other_threshold(setup: RunSetup, request: RunRequest, rng: np.random.Generator) -> RunSetup:
    parameters = setup.labelling.shown_parameters
    names = [name for name, value in parameters.items() if "threshold" in name and value]
    if not names:
        return with_options(setup, request)
    value = float(parameters[names[0]])
    if names[0] == "cellprob_threshold":
        value += rng.choice([-4.0, 4.0])
    else:
        value = float(np.clip(value * rng.choice([0.2, 2.2]), 0.02, 0.98))
    settings = {**request.settings, names[0]: str(value)}
    return with_options(setup, replace(request, settings=settings))
