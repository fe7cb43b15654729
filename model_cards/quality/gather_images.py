"""Run networks on images with true masks, also on spoilt ones, and keep the evidence.

``python model_cards/quality/gather.py ../shared [--network NAME]`` writes the rows of all networks,
or those of one anew, into ``evidence.csv``: what `bmz.engine.trial.evidence_of` tells of each mask,
and its true F1 at IoU 0.5. About an hour of processor; fixed seeds.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from bmz.base.errors import BmzError
from bmz.engine.image_header import check_image_header, given_image
from bmz.engine.request import RunRequest
from bmz.engine.setup import RunSetup, opened, prepare, with_options
from bmz.engine.trial import CHANGES, Change, Tried, tried
from bmz.predict.backend import Backend
from bmz.process.consensus import f1_between

HERE = Path(__file__).parent
FACTS = ("network", "source", "image", "fault", "f1")

NETWORKS = {
    "starter/nuclei": "nuclei",
    "starter/nuclei-contour": "nuclei",
    "starter/nuclei-flows": "nuclei",
    "nuclei-broad": "nuclei",
    "stardist-dsb2018": "nuclei",
    "unmicst-nuclei": "nuclei",
    "cellpose-cyto": "cells",
    "cremi-membrane": "neurites",
    "psc-keras-full": "phase",
}
"""Network -> what it is made for."""

NEAR = {
    "nuclei": ("nuclei",),
    "cells": ("cells", "nuclei", "bacteria", "membranes"),
    "neurites": ("neurites",),
    "phase": (),
}
"""What a network is made for -> what true masks may hold for which it is run with faults, too."""

FAULTS = (
    "scale", "inverted", "noisy", "blurred", "saturated", "dim", "gamma", "photons", "threshold",
    "channel",
)  # fmt: skip
FAULTS_EACH = 2
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


def cases(network: str, shared: Path) -> Iterator[tuple[Truth, str]]:
    """Yield images and faults with which a network is run."""
    made = NETWORKS[network]
    rng = np.random.default_rng(sum(map(ord, network)))
    for truth in truths(shared):
        if truth.structure in NEAR[made]:
            yield truth, "none"
            for fault in rng.choice(FAULTS, FAULTS_EACH, replace=False):
                yield truth, str(fault)
        elif rng.random() < OTHERS:
            yield truth, "none"


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


def evidence(
    setup: RunSetup, backend: Backend, truth: Truth, fault: str, rng: np.random.Generator
) -> tuple[float, dict[str, float]]:
    """Run a network on an image with a fault; give the true F1 and the evidence.

    Raises
    ------
    BmzError
        The network does not take it.
    """
    part = fullest_part(truth)
    trial = trial_of(setup, backend, part, fault, rng)
    return f1_between(np.asarray(trial.result.labels), part.mask), trial.evidence


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
    return with_options(setup, replace(request, settings={names[0]: str(value)}))


def rows_of(network: str, shared: Path) -> Iterator[dict[str, object]]:
    """Run a network on all its cases."""
    path = network if network.startswith("starter/") else str(shared / "models" / network)
    request = RunRequest(
        path, (), Path(), trust="confined", precision="float32", force=True, device="cpu"
    )
    setup = prepare(request)
    rng = np.random.default_rng(sum(map(ord, network)) + 1)
    with closing(opened(setup)) as backend:
        for truth, fault in cases(network, shared):
            try:
                f1, values = evidence(setup, backend, truth, fault, rng)
            except BmzError as why:
                print(f"{network}, {truth.name}, {fault}: {why}")
                continue
            facts = dict(zip(FACTS, (network, origin(truth), truth.name, fault, f1), strict=True))
            yield facts | {name: _rounded(value) for name, value in values.items()}


def _rounded(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.5g}"


def write_rows(rows: Sequence[dict[str, object]]) -> None:
    """Write all rows, and the columns of any of them."""
    names = dict.fromkeys((*FACTS, *sorted({name for row in rows for name in row} - set(FACTS))))
    with (HERE / "evidence.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
        lines.writeheader()
        lines.writerows(rows)


def main() -> None:
    """Gather the rows of all networks, or of one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--network", choices=NETWORKS, help="only its rows, beside the others")
    words = parser.parse_args()
    kept: list[dict[str, object]] = []
    if words.network and (HERE / "evidence.csv").exists():
        with (HERE / "evidence.csv").open(newline="", encoding="utf-8") as file:
            kept = [row for row in csv.DictReader(file) if row["network"] != words.network]
    for network in [words.network] if words.network else NETWORKS:
        kept += rows_of(network, words.shared)
        write_rows(kept)
        print(network, len(kept))


if __name__ == "__main__":
    main()
