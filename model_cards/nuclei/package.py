"""Build the package starter/nuclei from the trained weights and the chosen thresholds."""

import json
from pathlib import Path

import click
import numpy as np
import torch
import yaml
from description import Measured, described
from draw import draw_cover, draw_losses
from labels import Thresholds
from measure import possible_reach_px, usual_diameter, usual_reach_px
from network import NucleiNet
from pictures import Image, Picture, read_pictures, scaled, scaled_range, split
from tune import loaded
from weights import largest_difference, onnx_output, write_onnx, write_torchscript

HERE = Path(__file__).parent
TEST_PICTURE = "958114e5f37d"
TEST_PX = 256
USUAL_SHARE = 1e-3


def example_crop(pictures: list[Picture]) -> Image:
    """Give the upper left 256 x 256 px of one training image as (1, 1, y, x), raw values."""
    image = next(p.image for p in pictures if p.name == TEST_PICTURE)
    return image[None, None, :TEST_PX, :TEST_PX].astype(np.float32)


def write_weights(network: NucleiNet, folder: Path, raw: Image) -> float:
    """Write the weights and the test tensors; give the largest difference between formats."""
    x = scaled_range(raw)
    onnx, torchscript = folder / "weights.onnx", folder / "weights.pt"
    write_onnx(network, onnx, torch.from_numpy(x))
    write_torchscript(network, torchscript, torch.from_numpy(x))
    np.save(folder / "test_input.npy", raw)
    np.save(folder / "test_output.npy", onnx_output(onnx, x))
    return largest_difference(network, onnx, torchscript, x)


def measured(network: NucleiNet, pictures: list[Picture], thresholds: Path, seed: int) -> Measured:
    """Measure the network and its training data."""
    train, validation = split(scaled(pictures), seed)
    chosen = json.loads(thresholds.read_text())
    return Measured(
        thresholds=Thresholds(chosen["prob"], chosen["nms"]),
        object_diameter_px=usual_diameter(train),
        reach_px=possible_reach_px(network),
        usual_reach_px=usual_reach_px(network, validation, USUAL_SHARE),
    )


@click.command()
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), default="../shared/data/dsb2018/train")
@click.option("--thresholds", type=click.Path(path_type=Path), default=HERE / "thresholds.json")
@click.option("--history", type=click.Path(path_type=Path), default=HERE / "history.csv")
@click.option("--out", type=click.Path(path_type=Path), default="src/bmz/starter/nuclei")
@click.option("--seed", default=2018, show_default=True, help="The seed of the training.")
def package(
    weights: Path, data: Path, thresholds: Path, history: Path, out: Path, seed: int
) -> None:
    """Write the package to OUT, and the loss curve beside the history."""
    torch.set_num_threads(2)
    out.mkdir(parents=True, exist_ok=True)
    network, pictures = loaded(weights), read_pictures(data)
    raw = example_crop(pictures)
    click.echo(f"largest difference between formats {write_weights(network, out, raw):.1e}")
    facts = measured(network, pictures, thresholds, seed)
    draw_cover(raw[0, 0], np.load(out / "test_output.npy")[0], facts.thresholds, out / "cover.png")
    draw_losses(history, history.with_name("loss.png"))
    text = yaml.safe_dump(described(out, facts), sort_keys=False, width=100)
    (out / "bioimageio.yaml").write_text(text)
    click.echo(str(facts))


if __name__ == "__main__":
    package()
