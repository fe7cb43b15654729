"""Score a package on validation pictures that are resized to other object diameters."""

from pathlib import Path

import click
import numpy as np
from evaluate import NAMES, Row, labels_of, written
from measure import diameters
from pictures import Picture, read_pictures, split
from scores import f1_scores
from skimage.transform import resize

DIAMETERS_PX = (5, 6, 8, 10, 15, 20, 30, 40, 60, 80)
FEWEST_OBJECTS = 12


def resized(picture: Picture, diameter_px: float) -> Picture:
    """Resize a picture so that its median object has this diameter."""
    factor = diameter_px / float(np.median(diameters(picture.labels)))
    shape = [round(n * factor) for n in picture.image.shape]
    image = resize(picture.image.astype(np.float32), shape, order=1, anti_aliasing=factor < 1)
    labels = resize(picture.labels, shape, order=0, anti_aliasing=False, preserve_range=True)
    return Picture(picture.name, image, labels.astype(np.int32))


def scored(pictures: list[Picture], diameter_px: float, package: Path) -> Row:
    """Give the mean F1 at one diameter."""
    changed = [resized(p, diameter_px) for p in pictures]
    scores = np.mean([f1_scores(p.labels, labels_of(p.image, package)) for p in changed], axis=0)
    return {"diameter_px": diameter_px, "images": len(changed)} | {
        name: round(float(value), 4) for name, value in zip(NAMES, scores, strict=True)
    }


@click.command()
@click.argument("package", type=click.Path(path_type=Path), default="src/bmz/starter/nuclei")
@click.option("--data", type=click.Path(path_type=Path), default="../shared/data/dsb2018/train")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent)
@click.option("--seed", default=2018, show_default=True, help="The seed of the training.")
def sizes(package: Path, data: Path, out: Path, seed: int) -> None:
    """Write sizes.csv: every second validation picture with 12 objects or more, resized."""
    _, pictures = split(read_pictures(data), seed)
    many = [p for p in pictures if len(diameters(p.labels)) >= FEWEST_OBJECTS][::2]
    rows = written((scored(many, d, package) for d in DIAMETERS_PX), out / "sizes.csv")
    click.echo("\n".join(str(row) for row in rows))


if __name__ == "__main__":
    sizes()
