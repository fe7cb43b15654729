"""Choose the two thresholds of starter/nuclei on the validation pictures."""

import csv
import json
from itertools import product
from pathlib import Path

import click
import numpy as np
import torch
from labels import Thresholds, labels_from, output_of
from network import NucleiNet
from pictures import Image, Picture, read_pictures, scaled, split
from scores import IOUS, f1_scores

PROBABILITIES = tuple(np.arange(0.30, 0.71, 0.05).round(2).tolist())
OVERLAPS = (0.2, 0.3, 0.4, 0.5)


def loaded(weights: Path) -> NucleiNet:
    """Give the network with trained weights, ready to predict."""
    network = NucleiNet()
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


@torch.no_grad()
def outputs(network: NucleiNet, pictures: list[Picture]) -> list[Image]:
    """Give the output of the network for every whole picture."""
    return [output_of(p.image, lambda x: network(torch.from_numpy(x)).numpy()) for p in pictures]


def mean_scores(
    pictures: list[Picture], found: list[Image], thresholds: Thresholds
) -> dict[str, float]:
    """Give the mean F1 at every IoU under these thresholds."""
    scores = [
        f1_scores(p.labels, labels_from(output, p.labels.shape, thresholds))
        for p, output in zip(pictures, found, strict=True)
    ]
    return {f"f1_{iou}": value for iou, value in zip(IOUS, np.mean(scores, axis=0), strict=True)}


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), default="../shared/data/dsb2018/train")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent)
@click.option("--seed", default=2018, show_default=True, help="The seed of the training.")
def tune(weights: Path, data: Path, out: Path, seed: int) -> None:
    """Write thresholds.json (the best mean F1 at IoU 0.5) and thresholds.csv (all tried)."""
    torch.set_num_threads(2)
    _, pictures = split(scaled(read_pictures(data)), seed)
    found = outputs(loaded(weights), pictures)
    rows = [
        {"prob": prob, "nms": nms} | mean_scores(pictures, found, Thresholds(prob, nms))
        for prob, nms in product(PROBABILITIES, OVERLAPS)
    ]
    with (out / "thresholds.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows({k: round(v, 4) for k, v in row.items()} for row in rows)
    best = max(rows, key=lambda row: (round(row["f1_0.5"], 3), row["f1_0.7"]))
    (out / "thresholds.json").write_text(json.dumps(best, indent=2) + "\n")
    click.echo(json.dumps(best))


if __name__ == "__main__":
    tune()
