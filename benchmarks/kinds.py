"""Measure how often ``bmz check`` and ``bmz fit`` notice that a model is not made for an image.

``python benchmarks/kinds.py ../shared [--images FOLDER] [--write PAGE] [--failures FILE]``

The classifier of kinds was trained on most of the available images. Its answer for an image is
therefore that of a classifier trained without images of the same source, if
`model_cards/kinds/left_out.csv` (written by the training) has one. ``--seen`` uses the released
classifier for every image, which is right for images of sources that it was not trained on.

FOLDER contains images and an `index.csv` that states how each was made and what it shows (default
``../shared/data/kinds``); stacks are left out. What each model of the zoo is made for is read from
its description by the rules of ``../shared/data/kinds/models_kind.py``, not from the facts of bmz.
An imitation of the zoo's service on loopback serves the models. ``--write`` writes the tables
between their marks in PAGE, ``--failures`` lists every image that counts against a figure.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import get_args
from unittest.mock import patch

import numpy as np
from kinds_counts import (
    PACKAGES,
    STARTER,
    Figure,
    Pair,
    Picture,
    Ranked,
    Told,
    failures,
    of_checks,
    of_kinds,
    of_ranks,
    table,
    table_of_kinds,
)
from pages import write_between
from zoo_commands import served

from bmz.app.check import check
from bmz.app.fit import fit
from bmz.base.arrays import AnyArray, FloatArray
from bmz.check.kind import (
    SURE,
    ImageKind,
    channel_stacks,
    fullest,
    image_kinds,
    is_photograph,
    kind_of_features,
    photograph,
)
from bmz.check.kind_features import features
from bmz.check.measured import Look
from bmz.engine.fit_image import FitRequest
from bmz.engine.image_header import read_spread
from bmz.engine.load import find_model
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.spec.made_for import STRUCTURES, Family
from bmz.zoo.settings import settings_from_environment

MARKS = ("<!-- benchmarks/kinds.py -->\n", "<!-- end of kinds -->\n")

LEFT_OUT = Path(__file__).parents[1] / "model_cards/kinds/left_out.csv"

ASKED_IN = ("bmz.check.kind", "bmz.check.measured")
"""Modules that ask for the kind of features."""


def main() -> int:
    """Measure, print, and write the requested files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--images", type=Path, metavar="FOLDER")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of N images take one")
    parser.add_argument("--seen", action="store_true", help="the classifier that ships answers")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    parser.add_argument("--failures", type=Path, metavar="FILE")
    words = parser.parse_args()
    folder = words.images or words.shared / "data/kinds"
    pictures = pictures_of(folder)[:: words.every]
    answers = {} if words.seen else left_out_answers(LEFT_OUT, folder, pictures)
    text, figures = measured(pictures, answers, words.shared)
    print(text)
    if words.write:
        write_between(words.write, MARKS, text)
    if words.failures:
        words.failures.write_text(failures(figures), encoding="utf-8")
    return 0


def measured(
    pictures: Sequence[Picture], answers: Mapping[bytes, ImageKind], shared: Path
) -> tuple[str, list[Figure]]:
    """Check all images and rank the models for each; return the tables and the figures."""
    with zoo(shared), answered_by(answers), measured_once():
        pairs = list(checked(pictures, shared / "models"))
        ranked = list(ranked_models(pictures))
        said = list(told(pictures))
    made_for = models_made_for(shared)
    figures = [*of_checks(pairs), *of_ranks(ranked, made_for), *of_kinds(said)]
    first = (
        f"{len(pictures)} images, {len(answers)} planes answered by classifiers that have seen "
        "no image of the same source."
    )
    return f"{first}\n\n{table(figures)}\n\n{table_of_kinds(pairs, ranked, made_for)}", figures


def pictures_of(folder: Path) -> list[Picture]:
    """Read the index of a folder; stacks are left out."""
    with (folder / "index.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if "Z" not in row["dims"]]
    return [
        Picture(
            folder / row["file"],
            row["kind"],
            row["modality"],
            row["structure"],
            int(row["channels"]),
        )
        for row in rows
    ]


@contextmanager
def zoo(shared: Path) -> Iterator[None]:
    """Make bmz in this process use the imitation of the service and a separate cache."""
    with tempfile.TemporaryDirectory() as cache, served(shared) as url:
        mirrors = ",".join(
            f"{live}={url}" for live in ("https://hypha.aicell.io", "https://bioimage-io.github.io")
        )
        ours = {
            "BMZ_CACHE_DIR": cache,
            "BMZ_INDEX_URL": f"{url}/collection/index.json",
            "BMZ_MIRROR": mirrors,
        }
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def left_out_answers(
    file: Path, folder: Path, pictures: Iterable[Picture]
) -> dict[bytes, ImageKind]:
    """Return the answers of classifiers that were trained without images of the same source.

    Parameters
    ----------
    file : table with one row per image or channel, and one column per family or structure
    folder : folder that the names of images in the table are relative to

    Returns
    -------
    dict
        Bytes of the features of a plane or colour image -> its kind.
    """
    with file.open(encoding="utf-8") as lines:
        rows = {row["image"]: row for row in csv.DictReader(lines)}
    answers = {}
    for picture in pictures:
        name = picture.path.relative_to(folder).as_posix()
        for number, plane in enumerate(seen_planes(picture.path)):
            row, found = rows.get(name) or rows.get(f"{name}c{number}"), features(plane)
            if row is not None and found is not None:
                answers[found.tobytes()] = _kind_of_row(row)
    return answers


def seen_planes(path: Path) -> Iterator[AnyArray]:
    """Yield the colour image, or the plane of each channel, that is examined."""
    pixels = read_spread(inspect_image(path))
    if is_photograph(pixels):
        yield photograph(pixels)
    else:
        yield from map(fullest, channel_stacks(pixels))


def _kind_of_row(row: Mapping[str, str]) -> ImageKind:
    families = {family: float(row.get(f"family {family}", 0)) for family in get_args(Family)}
    structures = {word: float(row[word]) for word in STRUCTURES if word in row}
    return ImageKind(families, structures)


@contextmanager
def answered_by(answers: Mapping[bytes, ImageKind]) -> Iterator[None]:
    """Replace the answers of the released classifier by these."""

    def answer(row: FloatArray) -> ImageKind:
        return answers.get(row.tobytes()) or kind_of_features(row)

    with ExitStack() as undone:
        for module in ASKED_IN:
            undone.enter_context(patch(f"{module}.kind_of_features", answer))
        yield


@contextmanager
def measured_once() -> Iterator[None]:
    """Make each plane be measured only once for all packages and models."""
    known: dict[tuple[object, ...], object] = {}

    def once(name: str) -> Callable[..., object]:
        measure = getattr(import_module(ASKED_IN[-1]), name)

        def remembered(plane: AnyArray, look: Look | None = None) -> object:
            pixels = sha256(np.ascontiguousarray(plane)).digest()
            key = (name, plane.shape, plane.dtype.str, pixels, look and look.features)
            if key not in known:
                known[key] = measure(plane) if look is None else measure(plane, look)
            return known[key]

        return remembered

    with ExitStack() as undone:
        for module in ASKED_IN:
            undone.enter_context(patch(f"{module}.features", once("features")))
        undone.enter_context(patch(f"{ASKED_IN[-1]}.measure_plane", once("measure_plane")))
        yield


def models_made_for(shared: Path) -> dict[str, tuple[str, str]]:
    """Return the modality and structure of each model, by the rules beside the images."""
    path = shared / "data/kinds/models_kind.py"
    spec = importlib.util.spec_from_file_location("models_kind", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the rules leave their files open
        rows = rules.main(str(shared / "zoo"), f"{folder}/models.csv")
    return {row["model"]: (row["modality"], row["structure"]) for row in rows}


def checked(pictures: Sequence[Picture], models: Path) -> Iterator[Pair]:
    """Check all images with each package."""
    paths = tuple(picture.path for picture in pictures)
    for package in PACKAGES:
        where = package if package.startswith(STARTER) else str(models / package)
        _, model = find_model(where, settings_from_environment())
        channels = sum(tensor.channels or 1 for tensor in model.inputs)
        summary = check(RunRequest(where, paths, Path()), every=True)
        of_path = {image.image: image for image in summary.images}
        for picture in pictures:
            image = of_path[picture.path]
            codes = tuple(f.code for f in image.report.findings if f.severity != "note")
            accepted = image.verdict in {"fits", "adapts"}
            silent = accepted and not image.warnings
            yield Pair(package, picture, silent, codes, picture.channels == channels)


def ranked_models(pictures: Sequence[Picture]) -> Iterator[Ranked]:
    """Rank the models of the zoo for each image separately."""
    settings = settings_from_environment()
    for picture in pictures:
        ranking = fit(FitRequest((picture.path,)), settings)
        fitting = (model for model in ranking.models if model.verdict in {"fits", "adapts"})
        yield Ranked(picture, tuple(model.id for model in fitting))


def told(pictures: Iterable[Picture]) -> Iterator[Told]:
    """Return all statements about the families of images that are made with certainty."""
    for picture in pictures:
        info = inspect_image(picture.path)
        kind = image_kinds(read_spread(info), range(info.sizes.get("c", 1))).whole
        for family, share in kind.families.items() if kind else ():
            if share >= SURE:
                yield Told(picture, f"{family} ({share:.0%})", family == picture.family)


if __name__ == "__main__":
    raise SystemExit(main())
