"""Measure whether the factor in a warning about the object size improves F1.

``python benchmarks/object_size_warnings.py ../shared [--every N] [--write PAGE]``

Images of fluorescent nuclei with true masks are checked against packages made for them: all as they
are, and one in N images (12 by default) enlarged and shrunk, since few original images cause a
warning. If ``bmz check`` warns of `object.size`, the package runs without and with the factor of
the warning, and both label masks are compared with the true one at IoU 0.5.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from pages import write_between
from scale_auto import resized

from bmz.app.check import check
from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image
from bmz.process.adapt import resize_labels
from bmz.process.matching import match_labels
from bmz.results.images import ImageRun

MARKS = ("<!-- benchmarks/object_size_warnings.py -->\n", "<!-- end of object sizes -->\n")

IOU = 0.5

SIZES = (1.0, 1 / 3, 1 / 2, 2.0, 3.0)
"""Factors by which the images are resized; 1 leaves them unchanged."""

PACKAGES = ("starter/nuclei", "stardist-dsb2018")
"""Packages that are made for fluorescent nuclei: one states a range of sizes, one has a sample."""

OF_TRAINING = 4
"""One in this many images of the training part of DSB 2018 is used."""


@dataclass(frozen=True)
class Pair:
    """An image and its true mask.

    Parameters
    ----------
    image, mask : files
    group : what the image belongs to
    """

    image: Path
    mask: Path
    group: str


@dataclass(frozen=True)
class Warned:
    """An image for which the check warns about the object size.

    Parameters
    ----------
    package : package that was checked
    name : name of the image
    group : what the image belongs to
    size : factor by which the image was resized beforehand
    factor : factor that the warning names
    before, after : F1 without and with the factor
    """

    package: str
    name: str
    group: str
    size: float
    factor: float
    before: float
    after: float


def pairs_of(shared: Path) -> Iterator[Pair]:
    """Yield each image of fluorescent nuclei that has a mask once."""
    data = shared / "data"
    for split, step in (("test", 1), ("train", OF_TRAINING)):
        for image in sorted((data / "dsb2018" / split / "images").glob("*.tif"))[::step]:
            mask = data / "dsb2018" / split / "masks" / image.name
            yield Pair(image, mask, f"DSB 2018, {split}")
    yield Pair(data / "stardist/img2d.tif", data / "stardist/mask2d.tif", "others")
    with (data / "kinds/index.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            other = row["source"] not in {"dsb2018", "stardist"}
            flat = "Z" not in row["dims"] and row["channels"] == "1"
            right = (row["modality"], row["structure"]) == ("fluorescence", "nuclei")
            if row["mask"] and other and flat and right:
                folder = data / "kinds"
                yield Pair(folder / row["file"], folder / row["mask"], "others")


def warned(package: str, pairs: Sequence[Pair], size: float, folder: Path) -> Iterator[Warned]:
    """Check images of one size, and run those for which the check warns."""
    files = {_written(pair.image, size, folder): pair for pair in pairs}
    summary = check(RunRequest(package, tuple(files), Path()), every=True)
    for image in summary.images:
        factors = [
            float(match[1])
            for finding in image.report.findings
            if finding.code == "object.size" and finding.severity == "warning"
            if (match := re.search(r"--scale ([0-9.e+-]+)", finding.hint))
        ]
        if not factors:
            continue
        pair = files[image.image]
        truth = read_image(inspect_image(pair.mask)).array
        before, after = (_f1(package, image.image, truth, scale) for scale in (None, factors[0]))
        yield Warned(package, pair.image.name, pair.group, size, factors[0], before, after)


def _written(image: Path, size: float, folder: Path) -> Path:
    if size == 1:
        return image
    pixels = read_image(inspect_image(image)).array
    path = folder / f"{image.parent.parent.name}-{image.stem}-{size:.2f}.tif"
    tifffile.imwrite(path, resized(pixels, size), photometric="minisblack")
    return path


def _f1(package: str, image: Path, truth: AnyArray, scale: float | None) -> float:
    with tempfile.TemporaryDirectory() as folder:
        save = frozenset({"labels"})
        request = RunRequest(package, (image,), Path(folder) / "out", scale=scale, save=save)
        (outcome,) = run(request).outcomes
        if not isinstance(outcome, ImageRun):
            raise outcome.error
        labels = tifffile.imread(outcome.files["labels"])
    mask = truth if labels.shape == truth.shape else resize_labels(truth, list(labels.shape))
    return match_labels(labels, mask, IOU).f1


def table(every: Sequence[Warned], checked: Mapping[float, int]) -> str:
    """Return the figures as a table in Markdown.

    Parameters
    ----------
    checked : size -> number of pairs of an image and a package that were checked
    """
    rows = [
        "| images | pairs checked | warnings | F1 rises | falls | is equal | F1 before | after |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for size, count in checked.items():
        name = "as they are" if size == 1 else f"x {size:.2f}"
        rows.append(_row(name, count, [w for w in every if w.size == size]))
    return "\n".join([*rows, _row("all", sum(checked.values()), every)])


def _row(name: str, checked: int, some: Sequence[Warned]) -> str:
    if not some:
        return f"| {name} | {checked} | 0 | - | - | - | - | - |"
    rises, falls = (sum(sign * (w.after - w.before) > 0 for w in some) for sign in (1, -1))
    before, after = (np.mean([getattr(w, part) for w in some]) for part in ("before", "after"))
    share = f"{rises} ({rises / len(some):.1%})".replace("%", " %")
    counts = f"{checked} | {len(some)} | {share} | {falls} | {len(some) - rises - falls}"
    return f"| {name} | {counts} | {before:.3f} | {after:.3f} |"


def against(every: Iterable[Warned]) -> str:
    """List the warnings whose factor does not improve F1."""
    return "\n".join(
        f"{w.package} {w.group} {w.name} x {w.size:.2f}: factor {w.factor:g}, "
        f"F1 {w.before:.3f} -> {w.after:.3f}"
        for w in every
        if w.after <= w.before
    )


def main() -> None:
    """Measure, print, and write the requested files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--every", type=int, default=12, metavar="N", help="of N images resize one")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    words = parser.parse_args()
    pairs = list(pairs_of(words.shared))
    every, checked = list[Warned](), dict.fromkeys(SIZES, 0)
    with tempfile.TemporaryDirectory() as folder:
        for name in PACKAGES:
            package = name if "/" in name else str(words.shared / "models" / name)
            for size in SIZES:
                some = pairs if size == 1 else pairs[:: words.every]
                checked[size] += len(some)
                every += warned(package, some, size, Path(folder))
                print(f"{name} x {size:.2f} is done", flush=True)
    text = table(every, checked)
    print(f"{text}\n\n{against(every)}")
    if words.write:
        write_between(words.write, MARKS, text)


if __name__ == "__main__":
    main()
