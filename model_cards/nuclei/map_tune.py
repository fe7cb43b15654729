"""Choose the parameters of the label recipe of starter/nuclei-flows and starter/nuclei-contour.

Many parameters give nearly the same score on the validation images. Some of them give masks that
depend on the last digits of the output, so the network is also run with its weights rounded to
bfloat16, in which many processors compute, and such parameters are not chosen.
"""

import csv
import json
from copy import deepcopy
from itertools import product
from pathlib import Path

import click
import numpy as np
import torch
from families import FAMILIES, loaded
from numpy.typing import NDArray
from pictures import Image, Picture, read_pictures, scaled, split
from scores import IOUS, f1_scores
from torch import nn

from bmz.process.recipe import Value
from bmz.process.recipes import RECIPES

SIZE_STEP = 16

RECIPE = {"nuclei-flows": "flows", "nuclei-contour": "contour"}

TRIED: dict[str, dict[str, tuple[Value, ...]]] = {
    "nuclei-flows": {
        "cellprob_threshold": (-2.0, -1.0, 0.0, 1.0),
        "flow_threshold": (0.2, 0.4, 0.6, 1.0),
        "niter": (50, 200),
    },
    "nuclei-contour": {
        "foreground_threshold": (0.3, 0.4, 0.5, 0.6, 0.7),
        "contour_threshold": (0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5),
        "seed_size": (3, 10),
    },
}
"""All combinations of these are tried; the other parameters keep their defaults."""

LEAST_SAME = 0.999
"""Lowest F1 at an IoU of 0.9 between masks with exact and with rounded weights."""


@torch.no_grad()
def output_of(network: nn.Module, image: Image) -> Image:
    """Give (channels, y, x) for a scaled image, mirrored up to the next multiple of 16."""
    padded = np.pad(image, [(0, -n % SIZE_STEP) for n in image.shape], mode="reflect")
    output: Image = network(torch.from_numpy(padded[None, None])).numpy()[0]
    return output[:, : image.shape[0], : image.shape[1]]


def labels_of(model: str, output: Image, given: dict[str, Value]) -> NDArray[np.int32]:
    """Label an output with the recipe of the model."""
    recipe = RECIPES[RECIPE[model]]
    labels: NDArray[np.int32] = recipe.apply(
        output, (1, 1), recipe.parameters_from(given, {})
    ).labels
    return labels


def with_rounded_weights(network: nn.Module) -> nn.Module:
    """Return a copy of a network with its weights rounded to bfloat16."""
    rounded = deepcopy(network)
    rounded.load_state_dict({k: v.bfloat16().float() for k, v in network.state_dict().items()})
    return rounded


def mean_scores(
    model: str,
    pictures: list[Picture],
    outputs: list[tuple[Image, Image]],
    given: dict[str, Value],
) -> dict[str, float]:
    """Return the mean F1 at every IoU with these parameters, and how steady the masks are.

    Parameters
    ----------
    outputs : of the network, and of the network with rounded weights, for each image

    Returns
    -------
    dict
        ``same`` is the mean F1 at an IoU of 0.9 between the masks of both outputs
    """
    scores, same = [], []
    for picture, output in zip(pictures, outputs, strict=True):
        labels, rounded = (labels_of(model, one, given) for one in output)
        scores.append(f1_scores(picture.labels, labels))
        same.append(f1_scores(labels, rounded)[-1])
    means = zip(IOUS, np.mean(scores, axis=0), strict=True)
    return {f"f1_{iou}": float(mean) for iou, mean in means} | {"same": float(np.mean(same))}


@click.command()
@click.argument("model", type=click.Choice(list(RECIPE)))
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), default="../shared/data/dsb2018/train")
@click.option("--out", type=click.Path(path_type=Path), help="Default: the card of the model.")
@click.option("--seed", default=2018, show_default=True, help="The seed of the training.")
def tune(model: str, weights: Path, data: Path, out: Path | None, seed: int) -> None:
    """Write thresholds.csv, and thresholds.json: the best mean F1 at IoU 0.5, then at 0.7."""
    torch.set_num_threads(2)
    out = out or Path(__file__).parent.with_name(model)
    out.mkdir(exist_ok=True)
    _, pictures = split(scaled(read_pictures(data)), seed)
    network = loaded(FAMILIES[model], weights)
    networks = network, with_rounded_weights(network)
    outputs = [(output_of(networks[0], p.image), output_of(networks[1], p.image)) for p in pictures]
    rows = []
    for values in product(*TRIED[model].values()):
        given = dict(zip(TRIED[model], values, strict=True))
        rows.append(given | mean_scores(model, pictures, outputs, given))
    with (out / "thresholds.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows({k: round(v, 4) for k, v in row.items()} for row in rows)
    steady = [row for row in rows if row["same"] >= LEAST_SAME]
    best = max(steady, key=lambda row: (round(row["f1_0.5"], 3), row["f1_0.7"]))
    (out / "thresholds.json").write_text(json.dumps(best, indent=2) + "\n")
    click.echo(json.dumps(best))


if __name__ == "__main__":
    tune()
