"""Draw what is seen in one picture of each kind, and what `left_out.csv` says of it.

``python model_cards/kinds/pictures.py ../shared --data FOLDER ...`` after the training.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import get_args

import click
import matplotlib as mpl
import numpy as np
from PIL import Image

from bmz.check.blobs import stretched
from bmz.check.kind_levels import halved, plane_level
from bmz.spec.made_for import Family
from corpus import DSB_IMAGES, Sample, dsb2018_train, samples_of

mpl.use("agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/explanation/kind-of-image.png"
FAMILY_WORDS = [word for word in get_args(Family) if word != "other"]

PICTURES = {
    "08_spots/skimage-tutorials__chromosomes.tif": "fluorescence: spots",
    "15_other/dsb2018__papsmear_08275a5b.tif": "transmitted: smear, in grey",
    "05_he/dsb2018__stage1_57bd029b19c1.tif": "stained: H&E",
    "skimage__src_skimage2_data_ihc.tif": "stained: IHC",
    "15_other/skimage-tutorials__diatom-wild-000.tif": "electron: other",
    "14_not_microscopy/skimage__camera.tif": "not microscopy",
    "14_not_microscopy/skimage__coffee.tif": "not microscopy",
}
"""Sample -> title; all are CC0. The first image of DSB 2018 comes before them."""

SHOWN = 320
"""Side of the part of a picture that is shown, in px."""


def curvature_picture(smooth: np.ndarray) -> np.ndarray:
    """Colour bright ridges and blobs orange and dark ones blue, (y, x, 3)."""
    middle = smooth[1:-1, 1:-1]
    yy = smooth[2:, 1:-1] + smooth[:-2, 1:-1] - 2 * middle
    xx = smooth[1:-1, 2:] + smooth[1:-1, :-2] - 2 * middle
    yx = (smooth[2:, 2:] + smooth[:-2, :-2] - smooth[2:, :-2] - smooth[:-2, 2:]) / 4
    half = (yy + xx) / 2
    large = np.abs(half) + np.sqrt(((yy - xx) / 2) ** 2 + yx * yx)
    strength = np.clip(large / np.quantile(large, 0.98), 0, 1)[..., None]
    hue = np.where((half < 0)[..., None], [0.9, 0.5, 0.1], [0.1, 0.4, 0.85])
    return 1 - strength * (1 - hue)


def rows_of(samples: Iterable[Sample]) -> list[tuple[str, np.ndarray, dict[str, float]]]:
    """Give the title, the pixels and the left-out answer of each picture, in order."""
    with (HERE / "left_out.csv").open(encoding="utf-8") as lines:
        table = {row["image"]: row for row in csv.DictReader(lines)}
    nuclei = next(name for name, row in table.items() if _is_dsb_nuclei(row))
    titles = {nuclei: "fluorescence: nuclei", **PICTURES}
    arrays = {s.name: s.array for s in samples if s.name in titles and s.name in table}
    rows = []
    for name, title in titles.items():
        if name in arrays:
            shares = table[name]
            told = {word: float(shares.get(f"family {word}", 0)) for word in FAMILY_WORDS}
            rows.append((title, arrays[name], {**told, "unknown": 1 - sum(told.values())}))
    return rows


def _is_dsb_nuclei(row: dict[str, str]) -> bool:
    return row["kind"] == "fluorescence/nuclei" and row["image"].startswith("dsb2018/")


def draw(rows: Sequence[tuple[str, np.ndarray, Mapping[str, float]]], path: Path) -> None:
    """Draw a row for each picture: itself, its curvature, its grey levels, the answer.

    Parameters
    ----------
    rows : title, (y, x) or (y, x, 3) pixels, answer -> probability
    path : of the PNG
    """
    figure, axes = plt.subplots(
        len(rows), 4, figsize=(9, 2.1 * len(rows)), layout="constrained", squeeze=False
    )
    for line, (title, array, answers) in zip(axes, rows, strict=True):
        _picture(line[0], title, array)
        grey = array.mean(-1) if array.ndim == 3 else array
        image = stretched(grey)
        line[1].imshow(curvature_picture(plane_level(halved(_middle(image))).smooth))
        line[2].hist(image.ravel(), 64, range=(0, 1), color="#607d8b")
        line[2].set_yticks([])
        _bars(line[3], answers)
        for axis in line[:2]:
            axis.set_xticks([])
            axis.set_yticks([])
    drawn = BytesIO()
    figure.savefig(drawn, dpi=80, metadata={"Software": None})
    # a palette takes a third of the bytes, and nothing that is seen
    shown = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    shown.save(path, optimize=True)
    plt.close(figure)


def _picture(axis: plt.Axes, title: str, array: np.ndarray) -> None:
    part = _middle(array).astype(np.float32)
    low, high = np.quantile(part, [0.002, 0.998])
    axis.imshow(np.clip((part - low) / max(high - low, 1e-6), 0, 1), cmap="gray")
    axis.set_title(title, fontsize=9, loc="left")


def _middle(array: np.ndarray) -> np.ndarray:
    top, left = (max(0, (side - SHOWN) // 2) for side in array.shape[:2])
    return array[top : top + SHOWN, left : left + SHOWN]


def _bars(axis: plt.Axes, answers: Mapping[str, float]) -> None:
    best = sorted(answers.items(), key=lambda pair: -pair[1])[:4][::-1]
    axis.barh([word for word, _ in best], [share for _, share in best], color="#00897b")
    axis.set_xlim(0, 1)
    axis.tick_params(labelsize=8)


@click.command()
@click.argument("shared", type=click.Path(exists=True, path_type=Path))
@click.option("--data", multiple=True, type=click.Path(exists=True, path_type=Path))
def main(shared: Path, data: tuple[Path, ...]) -> None:
    """Draw the pictures of SHARED and of all folders of --data."""
    folders = (shared / "data/kinds", *data)
    samples = chain.from_iterable(map(samples_of, folders))
    draw(rows_of(chain(samples, dsb2018_train(shared / "data", DSB_IMAGES))), PAGE)


if __name__ == "__main__":
    main()
