"""Would the few cell images that we may read make a useful model? Train on some, score the others.

``PYTHONPATH=model_cards/nuclei python model_cards/cells/trial.py --out FOLDER``
"""

import csv
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import click
import numpy as np
import torch
from crops import Crops, validation_batches
from families import FAMILIES, loaded
from map_tune import labels_of, output_of
from pictures import Picture, scaled
from scores import f1_at, overlaps
from skimage.io import imread
from torch.utils.data import DataLoader
from train import BATCH, Training

MODEL = "nuclei-flows"
STYLES = ("Kc167", "cytomembrane", "neurocyte")
SEED = 2018


def read_style(data: Path, style: str) -> list[Picture]:
    """Read the images of a style; the brightest stain of each pixel is the image."""
    return [
        Picture(
            path.stem, imread(path).max(axis=2), np.int32(imread(str(path).replace("img", "masks")))
        )
        for path in sorted((data / style).glob("*_img.png"))
    ]


def trained(pictures: list[Picture], held: list[Picture], folder: Path, steps: int) -> Path:
    """Train the network of starter/nuclei-flows on these pictures, and give its weights."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    family = FAMILIES[MODEL]
    loader = DataLoader(Crops(scaled(pictures), family.targets, SEED), BATCH, num_workers=1)
    training = Training(family, folder, steps)
    training.run(islice(loader, steps), validation_batches(scaled(held), family.targets))
    return folder / "last.pt"


def f1_of(pictures: Iterable[Picture], weights: Path) -> float:
    """Give the mean F1 at IoU 0.5."""
    network = loaded(FAMILIES[MODEL], weights)
    found = [
        labels_of(MODEL, output_of(network, p.image), {"flow_threshold": 0.6})
        for p in scaled(list(pictures))
    ]
    pairs = zip(pictures, found, strict=True)
    return float(np.mean([f1_at(overlaps(p.labels, labels), 0.5) for p, labels in pairs]))


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default="../shared/data/scellseg")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for weights.")
@click.option("--steps", default=1000, show_default=True)
def trial(data: Path, out: Path, steps: int) -> None:
    """Write trial.csv: F1 on one held image of each style, and on a style that was never seen."""
    styles = {style: read_style(data, style) for style in STYLES}
    rows = []
    held = [pictures[0] for pictures in styles.values()]
    seen = [p for pictures in styles.values() for p in pictures[1:]]
    weights = trained(seen, held, out / "held", steps)
    for style, picture in zip(STYLES, held, strict=True):
        rows.append({"tested": style, "trained": "all styles", "f1_0.5": f1_of([picture], weights)})
    for style in STYLES:
        others = [p for name, pictures in styles.items() if name != style for p in pictures]
        weights = trained(others, styles[style], out / f"without-{style}", steps)
        score = f1_of(styles[style], weights)
        rows.append({"tested": style, "trained": "other styles", "f1_0.5": score})
    with Path(__file__).with_name("trial.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows({**row, "f1_0.5": round(row["f1_0.5"], 3)} for row in rows)
    click.echo(rows)


if __name__ == "__main__":
    trial()
