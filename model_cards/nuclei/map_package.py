"""Build starter/nuclei-flows or starter/nuclei-contour from weights and chosen parameters."""

import json
import shutil
from pathlib import Path

import click
import numpy as np
import torch
import yaml
from draw import draw_labels, draw_losses
from families import FAMILIES, loaded
from map_description import Measured, described
from map_tune import RECIPE, TRIED, labels_of
from measure import possible_reach_px, usual_diameter, usual_reach_px
from package import TEST_PICTURE, USUAL_SHARE
from pictures import Image, Picture, read_pictures, scaled, scaled_range, split
from torch import nn
from weights import LARGEST_DIFFERENCE, OTHER_SHAPES, FormatsDisagreeError, onnx_output, write_onnx

HERE = Path(__file__).parent
TEST_PX = 240
COVER_PX = 128


def example_crop(pictures: list[Picture]) -> Image:
    """Give the upper left 240 x 240 px of one training image as (1, 1, y, x), raw values."""
    image = next(p.image for p in pictures if p.name == TEST_PICTURE)
    return image[None, None, :TEST_PX, :TEST_PX].astype(np.float32)


@torch.no_grad()
def write_weights(network: nn.Module, folder: Path, raw: Image) -> float:
    """Write the weights and the test tensors; give the largest difference from the network."""
    x, onnx = scaled_range(raw), folder / "weights.onnx"
    write_onnx(network, onnx, torch.from_numpy(x))
    np.save(folder / "test_input.npy", raw)
    np.save(folder / "test_output.npy", onnx_output(onnx, x))
    rng = np.random.default_rng(0)
    inputs = [x, *(rng.random(shape, np.float32) for shape in OTHER_SHAPES)]
    found = [np.abs(onnx_output(onnx, i) - network(torch.from_numpy(i)).numpy()) for i in inputs]
    difference = max(float(one.max()) for one in found)
    if difference > LARGEST_DIFFERENCE:
        raise FormatsDisagreeError(f"difference {difference:.2e}, allowed {LARGEST_DIFFERENCE:.0e}")
    return difference


def measured(model: str, network: nn.Module, pictures: list[Picture], card: Path) -> Measured:
    """Measure the network and its training data, and read the chosen parameters."""
    train, validation = split(scaled(pictures), 2018)
    chosen = json.loads((card / "thresholds.json").read_text())
    return Measured(
        parameters={name: chosen[name] for name in TRIED[model]}
        | ({"channels": "F+C"} if RECIPE[model] == "contour" else {}),
        object_diameter_px=usual_diameter(train),
        reach_px=possible_reach_px(network),
        usual_reach_px=usual_reach_px(network, validation, USUAL_SHARE),
    )


@click.command()
@click.argument("model", type=click.Choice(list(RECIPE)))
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), default="../shared/data/dsb2018/train")
@click.option("--out", type=click.Path(path_type=Path), help="Default: src/bmz/starter/MODEL.")
def package(model: str, weights: Path, data: Path, out: Path | None) -> None:
    """Write the package of MODEL to OUT, and the loss curve beside its card."""
    torch.set_num_threads(2)
    folder, card = out or Path("src/bmz/starter") / model, HERE.with_name(model)
    folder.mkdir(parents=True, exist_ok=True)
    network, pictures = loaded(FAMILIES[model], weights), read_pictures(data)
    raw = example_crop(pictures)
    click.echo(f"largest difference of ONNX {write_weights(network, folder, raw):.1e}")
    facts = measured(model, network, pictures, card)
    labels = labels_of(model, np.load(folder / "test_output.npy")[0], facts.parameters)
    corner = np.s_[:COVER_PX, :COVER_PX]
    draw_labels(raw[0, 0][corner], labels[corner], folder / "cover.png")
    shutil.copy(weights.with_name("history.csv"), card / "history.csv")
    draw_losses(card / "history.csv", card / "loss.png")
    text = yaml.safe_dump(described(model, folder, facts), sort_keys=False, width=100)
    (folder / "bioimageio.yaml").write_text(text)
    click.echo(str(facts))


if __name__ == "__main__":
    package()
