"""Real images that fit a model, and the same images with one thing wrong each.

`sabotaged` writes the images; each case says which finding is the right one. Nothing of the check
decides what is wanted: sizes come from the masks that were drawn by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from tests.corpus.write import Plane, as_imagej, as_ome, as_plain, mask_diameter_px, resampled

import bmz
from bmz.check.codes import Severity
from bmz.testing.package import Description, description, write_package

STARTER = str(Path(bmz.__file__).parent / "starter" / "nuclei")

FACTORS = (0.25, 0.5, 2.0, 4.0)

MODEL_UM = 0.65
"""Pixel size that ``unmicst-nuclei`` declares."""

STEP = 10
"""Every tenth test image is sabotaged."""

UNDECIDED = 1.2
"""Within this ratio of the limit of a model either answer is right: such cases are left out."""

SEED = "xyc_8bit__membranes_nuclei.tif"
SEED_PX = 60.0
"""Cell diameter of the seed image, by its README."""

HALF: Mapping[str, Any] = {"scale": 0.5}
"""The words with which the seed image fits ``cellpose-cyto``, which is made for 30 px."""


@dataclass(frozen=True)
class Case:
    """One image, one model, and the right answer.

    Parameters
    ----------
    change : what was done to the image
    name : of the image it was done to
    file : the changed image
    model : the word MODEL
    words : further words of the call, fields of ``RunRequest``
    wanted : the right codes, any of which will do; none when the change does no harm with this
        model, and neither an error nor a warning is right
    floor : least severity of the wanted finding
    """

    change: str
    name: str
    file: Path
    model: str
    wanted: frozenset[str] = frozenset()
    floor: Severity = "warning"
    words: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """Where images come from and go to, and the models that are made for the corpus.

    Parameters
    ----------
    shared : folder of real models and images
    folder : for the changed images
    """

    shared: Path
    folder: Path

    def model(self, name: str) -> str:
        """Give a real model."""
        return str(self.shared / "models" / name)

    def made(self, name: str, described: Description) -> str:
        """Make a model that only its description matters of."""
        return str(write_package(self.folder / name, described).parent)

    def nuclei(self) -> list[Path]:
        """Give all untouched test images of nuclei."""
        return sorted((self.shared / "data" / "dsb2018" / "test" / "images").glob("*.tif"))

    def file(self, change: str, source: Path, ending: str = "tif") -> Path:
        """Name a changed image."""
        folder = self.folder / change.replace(" ", "_").replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{source.stem}.{ending}"


def untouched(corpus: Corpus) -> Iterator[Case]:
    """Yield images that fit their model as they are: nothing may be said of them."""
    data = corpus.shared / "data"
    fit: list[tuple[Path, str, Mapping[str, Any]]] = [(p, STARTER, {}) for p in corpus.nuclei()]
    fit += [(data / "stardist/img2d.tif", STARTER, {})]
    fit += [(data / "stardist/img2d.tif", corpus.model("stardist-dsb2018"), {})]
    fit += [(data / "neubias" / SEED, corpus.model("cellpose-cyto"), HALF)]
    isbi = sorted((data / "isbi2012/images").glob("*.png"))
    fit += [(path, corpus.model("cremi-membrane"), {}) for path in isbi]
    for path, model, words in fit:
        yield Case("none", path.name, path, model, words=words)


def sabotaged(corpus: Corpus) -> Iterator[Case]:
    """Yield every change of every image."""
    for source in corpus.nuclei()[::STEP]:
        yield from _values(corpus, source)
        yield from _axes(corpus, source)
        yield from _sizes(corpus, source)
    for source in corpus.nuclei()[:: 2 * STEP]:  # the pixels are not what these change
        yield from _metadata(corpus, source)
    yield from _channels(corpus)
    yield from _stacks(corpus)
    yield from _bit_depth(corpus)


def _values(corpus: Corpus, source: Path) -> Iterator[Case]:
    image = tifffile.imread(source)
    level = float(np.median(image[_mask(source) > 0]))
    hot = image.astype(np.uint16)
    hot[np.unravel_index(int(np.argmin(hot)), hot.shape)] = 60_000
    hole = image.astype(np.float32)
    hole[hole.shape[0] // 3, hole.shape[1] // 3] = np.nan
    changed: dict[str, tuple[Plane, str | None]] = {
        "inverted": (image.max() - image, "range.inverted"),
        # exposed so long that half of the nuclei is at the top
        "saturated": (np.clip(image * (255 / level), 0, 255).astype(np.uint8), "range.saturated"),
        "one hot pixel of 60,000": (hot, "range.outlier"),
        "black channel": (np.zeros_like(image), "channel.empty"),
        "NaN": (hole, "range.nonfinite"),
        # 10 bits of a camera in 16, of which the upper 8 are kept: up to 4 grey levels are left
        "uint8 of a 16-bit, upper bits": ((image.astype(np.uint16) * 4 >> 8), "range.flat"),
        # the starter stretches between percentiles of the image, so a factor changes nothing
        "12-bit in 16": (image.astype(np.uint16) * 16, None),
        "float 0-1": ((image / 255).astype(np.float32), None),
    }
    for change, (pixels, code) in changed.items():
        file = as_plain(corpus.file(change, source), pixels)
        wanted = frozenset({code} if code else ())
        if code == "range.flat":
            wanted |= {"channel.empty"}  # a dim image has one level left
        yield Case(change, source.name, file, STARTER, wanted)


def _axes(corpus: Corpus, source: Path) -> Iterator[Case]:
    image = tifffile.imread(source)
    rgb = corpus.file("RGB for grey", source, "png")
    Image.fromarray(np.dstack([image, image // 2, image // 2])).save(rgb)
    yield Case("RGB for grey", source.name, rgb, STARTER, frozenset({"channel.rgb"}), "error")
    grey, two = "grey for RGB", corpus.model("cellpose-cyto")
    yield Case(grey, source.name, source, two, frozenset({"channel.count"}), "error")
    change = "cropped below the least size"
    small = as_plain(corpus.file(change, source), image[:100, :100])
    yield Case(change, source.name, small, STARTER, frozenset({"size.below-least"}), "note")
    change = "wrong extra dimension, named"  # planes of time are run one by one
    stack = as_imagej(corpus.file(change, source), np.stack([image] * 3), "TYX")
    yield Case(change, source.name, stack, STARTER, frozenset({"axes.extra"}), "note")
    change = "wrong extra dimension, not named"
    bare = corpus.file(change, source, "npy")
    np.save(bare, np.stack([image] * 3))
    yield Case(change, source.name, bare, STARTER, frozenset({"axes.ambiguous"}), "error")
    change = "z taken for c"
    planes = as_imagej(corpus.file(change, source), np.stack([image] * 3), "CYX")
    yield Case(change, source.name, planes, STARTER, frozenset({"channel.count"}), "error")


def _metadata(corpus: Corpus, source: Path) -> Iterator[Case]:
    image, model = tifffile.imread(source), corpus.model("unmicst-nuclei")
    far, odd = frozenset({"scale.far"}), frozenset({"scale.implausible"})
    for factor in FACTORS:
        change = f"pixel size x {factor:g} in the metadata"
        file = as_imagej(corpus.file(change, source), image, "YX", MODEL_UM * factor)
        yield Case(change, source.name, file, model, far, "error")
        ome = as_ome(corpus.file(f"OME {change}", source), image, MODEL_UM * factor, "µm")
        yield Case(change, source.name, ome, model, far, "error")
        # the starter declares no pixel size, so none is used
        yield Case(f"{change}, which the model does not use", source.name, file, STARTER)
    change = "nm for um"
    file = as_imagej(corpus.file(change, source), image, "YX", MODEL_UM * 1000)
    yield Case(change, source.name, file, model, odd, "error")
    file = as_ome(corpus.file(f"OME {change}", source), image, MODEL_UM, "nm")
    yield Case(change, source.name, file, model, odd, "error")
    change = "72 dpi for um"
    file = corpus.file(change, source)
    tifffile.imwrite(file, image, resolution=(72, 72), resolutionunit="INCH")
    yield Case(change, source.name, file, model, odd, "error")


def _sizes(corpus: Corpus, source: Path) -> Iterator[Case]:
    image, diameter_px = tifffile.imread(source), mask_diameter_px(_mask(source))
    for factor in FACTORS:
        change = f"resampled x {factor:g}"
        file = as_plain(corpus.file(change, source), resampled(image, factor))
        # the README of the starter: nuclei with a diameter of about 10 to 80 px
        yield from _sized(Case(change, source.name, file, STARTER), diameter_px * factor, (10, 80))


def _sized(case: Case, diameter_px: float, limits: tuple[float, float]) -> Iterator[Case]:
    """Yield the case with what is wanted for objects of this size, unless it is near a limit."""
    low, high = limits
    if not any(1 / UNDECIDED < diameter_px / limit < UNDECIDED for limit in limits):
        fits = low <= diameter_px <= high
        wanted = frozenset[str]() if fits else frozenset({"object.size"})
        change = f"{case.change}, {'within' if fits else 'beyond'} what the model takes"
        yield Case(change, case.name, case.file, case.model, wanted, words=case.words)


def _channels(corpus: Corpus) -> Iterator[Case]:
    source = corpus.shared / "data" / "neubias" / SEED
    image, model = tifffile.imread(source), corpus.model("cellpose-cyto")
    changed: dict[str, tuple[Plane, str, Mapping[str, Any]]] = {
        "channel order swapped": (
            image[::-1], "channel.order", {"names": ("nuclei", "cytoplasm_or_membrane")},
        ),
        "black channel": (image * np.array([1, 0], np.uint8)[:, None, None], "channel.empty", {}),
        "inverted": (image.max() - image, "range.inverted", {}),
        "NaN": (np.where(image == image.max(), np.nan, image), "range.nonfinite", {}),
    }  # fmt: skip
    for change, (pixels, code, words) in changed.items():
        stored = pixels.astype(np.float32) if pixels.dtype == np.float64 else pixels
        file = as_imagej(corpus.file(change, source), stored, "CYX", **words)
        # channels that are taken by their names are a note
        floor: Severity = "note" if code == "channel.order" else "warning"
        yield Case(change, source.name, file, model, frozenset({code}), floor, HALF)
    hot = source.with_name("xyc_16bit__membranes_nuclei_hot_pixel.tif")
    wanted = frozenset({"range.outlier"})
    yield Case("one hot pixel of 60,000", hot.name, hot, model, wanted, words=HALF)
    for factor in FACTORS:
        change = f"resampled x {factor:g}"
        file = as_imagej(corpus.file(change, source), resampled(image, factor), "CYX")
        case = Case(change, source.name, file, model, words=HALF)
        yield from _sized(case, SEED_PX * factor * 0.5, (15, 60))


def _stacks(corpus: Corpus) -> Iterator[Case]:
    data = corpus.shared / "data"
    seed, stack = data / "neubias" / SEED, data / "stardist" / "img3d.tif"
    two, volume = tifffile.imread(seed), tifffile.imread(stack)
    cellpose = corpus.model("cellpose-cyto")
    count, missing = frozenset({"channel.count"}), frozenset({"axes.missing"})
    change = "z taken for c"
    file = as_imagej(corpus.file(f"{change}, channels named z", seed), two, "ZYX")
    yield Case(change, seed.name, file, cellpose, count, "error", HALF)
    file = as_imagej(corpus.file(f"{change}, slices named c", stack), volume, "CYX")
    yield Case(change, stack.name, file, STARTER, count, "error")
    # two slices that the file calls channels, for a model of two channels
    file = as_imagej(corpus.file(f"{change}, two slices", stack), volume[10:12], "CYX")
    yield Case(change, stack.name, file, cellpose, count, "error")
    change = "t for z"
    model = corpus.made("volumes", description(space="zyx", size=16))
    file = as_imagej(corpus.file(change, stack), volume, "TYX")
    yield Case(change, stack.name, file, model, missing, "error")
    colours = description(channels=3)
    colours["inputs"][0]["axes"][1]["channel_names"] = ["red", "green", "blue"]
    photographs = corpus.made("photographs", colours)
    for source in corpus.nuclei()[::STEP]:
        yield Case("grey for RGB", source.name, source, photographs, count, "error")
    change, names = "stains for RGB", ("DAPI", "actin", "tubulin")
    file = as_imagej(corpus.file(change, seed), np.stack([*two, two[0]]), "CYX", names=names)
    yield Case(change, seed.name, file, photographs, frozenset({"channel.rgb"}), "error")


def _bit_depth(corpus: Corpus) -> Iterator[Case]:
    image = np.load(corpus.shared / "models/psc-keras-full/test_input.npy")[0, :, :, 0]
    source, model = Path("phase_contrast"), corpus.model("psc-keras-full")
    described = description()
    described["inputs"][0]["data"] = {"type": "float32", "range": [0.0, 255.0]}
    ranged = corpus.made("ranged", described)
    depths: dict[str, tuple[Plane, str]] = {
        "12-bit in 16": (image.astype(np.uint16) * 16, "range.outside"),
        "float 0-1": ((image / 255).astype(np.float32), "range.unit"),
    }
    for change, (pixels, code) in depths.items():
        file = as_plain(corpus.file(change, source), pixels)
        # it takes uint8, which holds neither
        yield Case(change, file.name, file, model, frozenset({"dtype.narrowed"}))
        yield Case(change, file.name, file, ranged, frozenset({code}))
    deep = corpus.shared / "data/stardist/img2d.tif"
    values = tifffile.imread(deep)
    stretched = (255 * (values / values.max())).astype(np.uint8)
    change = "uint8 of a 16-bit, stretched"
    # 235 grey levels stay 235: nothing is lost
    yield Case(change, deep.name, as_plain(corpus.file(change, deep), stretched), STARTER)
    change = "uint8 of a 16-bit, upper bits"
    file = as_plain(corpus.file(change, deep), (values >> 8).astype(np.uint8))
    yield Case(change, deep.name, file, STARTER, frozenset({"range.flat", "channel.empty"}))


def _mask(source: Path) -> Plane:
    mask: Plane = tifffile.imread(source.parents[1] / "masks" / source.name)
    return mask
