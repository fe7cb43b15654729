"""Score a package on a folder of images with label masks."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import tifffile
from numpy.typing import NDArray
from pictures import Picture, read_pictures
from scores import IOUS, f1_scores

from bmz.app.run import run
from bmz.engine.request import RunRequest

NAMES = [f"f1_{iou}" for iou in IOUS]
Row = dict[str, str | int | float]


def labels_of(image: NDArray[np.generic], package: Path) -> NDArray[np.int32]:
    """Give the label mask of a raw image, as ``bmz run`` writes it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        request = RunRequest(str(package), (path,), Path(folder), save=frozenset({"labels"}))
        (done,) = run(request).done
        return tifffile.imread(done.files["labels"]).astype(np.int32)


def scored(picture: Picture, package: Path) -> Row:
    """Give one row of the table."""
    found = labels_of(picture.image, package)
    counts = {"true": len(np.unique(picture.labels)) - 1, "found": len(np.unique(found)) - 1}
    scores = zip(NAMES, f1_scores(picture.labels, found), strict=True)
    return {"image": picture.name} | counts | {name: round(value, 4) for name, value in scores}


def summary(rows: list[Row]) -> dict[str, object]:
    """Give the number of images, the mean and median of every score, and the five worst."""
    columns = {name: [float(row[name]) for row in rows] for name in NAMES}
    worst = sorted(rows, key=lambda row: float(row[NAMES[0]]))[:5]
    return {
        "images": len(rows),
        "true_objects": sum(int(row["true"]) for row in rows),
        "found_objects": sum(int(row["found"]) for row in rows),
        "mean": {name: round(float(np.mean(values)), 4) for name, values in columns.items()},
        "median": {name: round(float(np.median(values)), 4) for name, values in columns.items()},
        "worst": [{"image": row["image"], NAMES[0]: row[NAMES[0]]} for row in worst],
    }


def written(rows: Iterable[Row], path: Path) -> list[Row]:
    """Write the table and give its rows."""
    rows = list(rows)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    return rows


@click.command()
@click.argument("package", type=click.Path(path_type=Path), default="src/bmz/starter/nuclei")
@click.option("--data", type=click.Path(path_type=Path), default="../shared/data/dsb2018/test")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent)
def evaluate(package: Path, data: Path, out: Path) -> None:
    """Score PACKAGE on the pictures of DATA; write scores.json and scores.csv to OUT."""
    rows = written((scored(p, package) for p in read_pictures(data)), out / "scores.csv")
    text = json.dumps(summary(rows), indent=2)
    (out / "scores.json").write_text(text + "\n")
    click.echo(text)


if __name__ == "__main__":
    evaluate()
