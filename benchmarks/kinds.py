"""How often do ``bmz check`` and ``bmz fit`` see that an image is not what a model is made for?

``python benchmarks/kinds.py ../shared [--images FOLDER] [--write PAGE] [--failures FILE]``

The classifier of kinds has learnt from most images at hand. So its answer for an image is that of a
classifier that has seen no image of the same source, where `model_cards/kinds/left_out.csv` has one
(written by the training); ``--seen`` takes the classifier that ships for every image, as is right
for images of sources that it has not met.

FOLDER holds images and an `index.csv` that says of each how it was made and what it shows (default
``../shared/data/kinds``); stacks are left out. What each model of the zoo is made for is read from
its description by the rules of ``../shared/data/kinds/models_kind.py``, not from the facts of bmz.
The zoo is served by the imitation of the live service on loopback. ``--write`` puts the tables
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
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from unittest.mock import patch

from zoo_commands import served

from bmz.app.check import check
from bmz.app.fit import FitRequest, fit
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
from bmz.engine.image_header import read_spread
from bmz.engine.load import find_model
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.spec.made_for import STRUCTURES, Family
from bmz.zoo.settings import settings_from_environment

MARKS = ("<!-- benchmarks/kinds.py -->\n", "<!-- end of kinds -->\n")

TRANSMITTED = frozenset({"phase", "dic", "brightfield"})
BOTH_LIGHTS = "light (any)"

FAMILIES: Mapping[str, str] = {
    **dict.fromkeys(TRANSMITTED, "transmitted"),
    "fluorescence": "fluorescence",
    "he": "stained",
    "ihc": "stained",
    "em": "electron",
    "photo": "not-microscopy",
}
"""Modality of the index -> family that bmz tells; others are of other microscopy."""

MADE_FOR: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "01": (frozenset({"fluorescence", BOTH_LIGHTS}), frozenset({"nuclei"})),
    "02": (frozenset({"fluorescence", BOTH_LIGHTS}), frozenset({"cells", "membranes"})),
    "03": (TRANSMITTED | {BOTH_LIGHTS}, frozenset({"cells", "myotubes"})),
    "04": (TRANSMITTED | {BOTH_LIGHTS}, frozenset({"bacteria", "cells"})),
    "05": (frozenset({"he"}), frozenset({"nuclei", "tissue"})),
    "06": (frozenset({"em"}), frozenset({"neurites", "membranes", "cells"})),
    "07": (frozenset({"em"}), frozenset({"mitochondria"})),
    "08": (frozenset({"fluorescence"}), frozenset({"spots"})),
    "09": (frozenset({"fluorescence"}), frozenset({"filaments"})),
    "10": (frozenset({"fluorescence", BOTH_LIGHTS}), frozenset({"membranes", "cells"})),
}
"""Number of a kind -> modalities and structures of the models that are made for it."""

WELL_SERVED = ("01", "02", "03", "04", "05", "06", "07", "10")
SPOTS_AND_FILAMENTS = ("08", "09")
NOT_MICROSCOPY = "14"

STARTER = "starter/"
NUCLEI = ("fluorescence", "nuclei")
PACKAGES: Mapping[str, tuple[str, str]] = {
    "starter/nuclei": NUCLEI,
    "starter/nuclei-flows": NUCLEI,
    "starter/nuclei-contour": NUCLEI,
    "nuclei-broad": NUCLEI,
    "stardist-dsb2018": NUCLEI,
    "stardist-dsb2018-declared": NUCLEI,
    "cellpose-cyto": (BOTH_LIGHTS, "cells"),
    "unmicst-nuclei": NUCLEI,
    "cremi-membrane": ("em", "membranes"),
    "psc-keras": ("phase", "cells"),
    "psc-keras-full": ("phase", "cells"),
    "multi-tensor": ("fluorescence", "cells"),
}
"""Packages that are checked -> modality and structure that they are made for."""

TAKEN_AT_ONCE = frozenset({*list(PACKAGES)[:3], "nuclei-broad", "stardist-dsb2018"})
"""Packages that must say nothing of the content of images of their kind."""

COUNTED_ONCE = frozenset(PACKAGES) - {"starter/nuclei-flows", "starter/nuclei-contour"}
"""Packages among which silent pairs are counted: one of those that come with bmz."""

SHOWN_STRUCTURES: Mapping[str, frozenset[str]] = {
    "nuclei": frozenset({"nuclei"}),
    "cells": frozenset({"cells", "membranes", "bacteria", "yeast"}),
    "membranes": frozenset({"neurites", "membranes"}),
}
"""Structure that a package is made for -> those of images that it is right for."""

LEFT_OUT = Path(__file__).parents[1] / "model_cards/kinds/left_out.csv"

ASKED_IN = ("bmz.check.kind", "bmz.check.measured")
"""Modules that ask for the kind of features."""


@dataclass(frozen=True)
class Picture:
    """An image, and what the index says of it.

    Parameters
    ----------
    path : of the image
    kind : such as ``01_fluo_nuclei``
    modality, structure : in the words of the index
    channels : 3 for a colour image
    """

    path: Path
    kind: str
    modality: str
    structure: str
    channels: int

    @property
    def number(self) -> str:
        """The number of the kind."""
        return self.kind[:2]

    @property
    def family(self) -> str:
        """The family of modalities, as bmz names them."""
        if self.number == NOT_MICROSCOPY:
            return "not-microscopy"
        return FAMILIES.get(self.modality, "other")


@dataclass(frozen=True)
class Pair:
    """What the check says of one image and one package.

    Parameters
    ----------
    package : as in `PACKAGES`
    picture : the image
    silent : it is accepted, without a warning
    codes : of the findings above a note
    same_channels : the image has as many channels as the package takes
    """

    package: str
    picture: Picture
    silent: bool
    codes: tuple[str, ...]
    same_channels: bool

    @property
    def right_modality(self) -> bool:
        """Say whether the image is made in a way that the package is made for."""
        modality = PACKAGES[self.package][0]
        if modality == BOTH_LIGHTS:
            return self.picture.family in {"fluorescence", "transmitted"}
        return self.picture.family == FAMILIES[modality]

    @property
    def right_kind(self) -> bool:
        """Say whether the image is of the kind that the package is made for."""
        shown = SHOWN_STRUCTURES[PACKAGES[self.package][1]]
        return self.right_modality and self.picture.structure in shown


@dataclass(frozen=True)
class Ranked:
    """The models that are said to fit one image, the best first.

    Parameters
    ----------
    picture : the image
    models : ids of those that fit or adapt, in their order
    """

    picture: Picture
    models: tuple[str, ...]


@dataclass(frozen=True)
class Told:
    """One thing that is said of an image with certainty.

    Parameters
    ----------
    picture : the image
    words : what is said, with its probability
    right : whether it is so
    """

    picture: Picture
    words: str
    right: bool


@dataclass(frozen=True)
class Figure:
    """A share that is measured, and what counts against it.

    Parameters
    ----------
    name : what is counted
    wanted : share that is wanted, and on which side of it: ``">= 95 %"``
    counted, total : so many of so many
    against : what counts against it, in words
    """

    name: str
    wanted: str
    counted: int
    total: int
    against: tuple[str, ...] = ()


def main() -> int:
    """Measure, print, and write what is asked for."""
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
    with zoo(words.shared), answered_by(answers):
        pairs = list(checked(pictures, words.shared / "models"))
        ranked = list(ranked_models(pictures))
        said = list(told(pictures))
    made_for = models_made_for(words.shared)
    figures = [*of_checks(pairs), *of_ranks(ranked, made_for), *of_kinds(said)]
    text = f"{table(figures)}\n\n{table_of_kinds(pairs, ranked, made_for)}"
    print(f"{len(pictures)} images, {len(answers)} planes answered by left-out classifiers\n")
    print(text)
    if words.write:
        write_between_marks(words.write, text)
    if words.failures:
        words.failures.write_text(failures(figures), encoding="utf-8")
    return 0


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
    """Let bmz of this process use the imitation of the service, and a cache of its own."""
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
    """Give what classifiers say that have seen no image of the same source.

    Parameters
    ----------
    file : a row an image, or a channel of it, and a column a family or structure
    folder : that the names of images in it start from

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
            row, measured = rows.get(name) or rows.get(f"{name}c{number}"), features(plane)
            if row is not None and measured is not None:
                answers[measured.tobytes()] = _kind_of_row(row)
    return answers


def seen_planes(path: Path) -> Iterator[AnyArray]:
    """Yield the colour image, or the plane of each channel, that is looked at."""
    pixels = read_spread(inspect_image(path))
    if is_photograph(pixels):
        yield photograph(pixels)
    else:
        yield from map(fullest, channel_stacks(pixels))


def _kind_of_row(row: Mapping[str, str]) -> ImageKind:
    families = {family: float(row[family]) for family in get_args(Family) if family in row}
    structures = {word: float(row[word]) for word in STRUCTURES if word in row}
    return ImageKind(families, structures)


@contextmanager
def answered_by(answers: Mapping[bytes, ImageKind]) -> Iterator[None]:
    """Let these answers count in place of those of the classifier that ships."""

    def answer(row: FloatArray) -> ImageKind:
        return answers.get(row.tobytes()) or kind_of_features(row)

    with ExitStack() as undone:
        for module in ASKED_IN:
            undone.enter_context(patch(f"{module}.kind_of_features", answer))
        yield


def models_made_for(shared: Path) -> dict[str, tuple[str, str]]:
    """Give the modality and structure of each model, by the rules beside the images."""
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
    """Rank the models of the zoo for each image by itself."""
    settings = settings_from_environment()
    for picture in pictures:
        ranking = fit(FitRequest((picture.path,)), settings)
        fitting = (model for model in ranking.models if model.verdict in {"fits", "adapts"})
        yield Ranked(picture, tuple(model.id for model in fitting))


def told(pictures: Iterable[Picture]) -> Iterator[Told]:
    """Give all that is told of the families of images with certainty."""
    for picture in pictures:
        info = inspect_image(picture.path)
        kind = image_kinds(read_spread(info), range(info.sizes.get("c", 1))).whole
        for family, share in kind.families.items() if kind else ():
            if share >= SURE:
                yield Told(picture, f"{family} ({share:.0%})", family == picture.family)


def of_checks(pairs: Sequence[Pair]) -> Iterator[Figure]:
    """Count the pairs of images and packages that the check is silent about, and should be."""
    wrong = [p for p in pairs if p.package in COUNTED_ONCE and not p.right_modality]
    alike = [p for p in wrong if p.same_channels]
    yield _share("wrong modality, no warning, channels match", "<= 5 %", alike, _is_silent)
    yield _share("wrong modality, no warning, all pairs", "", wrong, _is_silent)
    first = [p for p in pairs if p.package == "starter/nuclei"]
    grey = [
        p
        for p in first
        if p.picture.number == NOT_MICROSCOPY
        or (p.picture.channels == 1 and p.picture.family in {"electron", "transmitted"})
    ]
    name = "`starter/nuclei` warns of or refuses grey EM, phase, DIC, bright field; photographs"
    yield _share(name, ">= 95 %", grey, lambda pair: not pair.silent, against_true=False)
    right = [p for p in pairs if p.package in TAKEN_AT_ONCE and p.right_kind]
    name = "right kind: nothing of `content.*` or `sample.*` above a note"
    yield _share(name, ">= 96 %", right, lambda p: not _content(p), against_true=False)


def _is_silent(pair: Pair) -> bool:
    return pair.silent


def _content(pair: Pair) -> tuple[str, ...]:
    return tuple(code for code in pair.codes if code.startswith(("content.", "sample.")))


def _share(
    name: str,
    wanted: str,
    pairs: Sequence[Pair],
    counts: Callable[[Pair], bool],
    *,
    against_true: bool = True,
) -> Figure:
    against = (p for p in pairs if counts(p) is against_true)
    words = tuple(
        f"{p.package}: {named(p.picture)}: {' '.join(p.codes) or 'silent'}" for p in against
    )
    return Figure(name, wanted, sum(map(counts, pairs)), len(pairs), words)


def named(picture: Picture) -> str:
    """Name an image with what it is."""
    return f"{picture.kind}/{picture.path.name} ({picture.modality}, {picture.structure})"


def is_made_for(picture: Picture, model: tuple[str, str] | None) -> bool:
    """Say whether a model is made for the kind of an image."""
    modalities, structures = MADE_FOR.get(picture.number, (frozenset(), frozenset()))
    return model is not None and model[0] in modalities and model[1] in structures


def is_wrong(picture: Picture, model: tuple[str, str]) -> bool:
    """Say whether a model is made for another modality than that of an image."""
    light = {BOTH_LIGHTS} if picture.family in {"fluorescence", "transmitted"} else set[str]()
    alike = {word for word, family in FAMILIES.items() if family == picture.family} | light
    return not model[0].startswith(tuple(alike or {picture.modality}))


def of_ranks(ranked: Sequence[Ranked], made_for: Mapping[str, tuple[str, str]]) -> Iterator[Figure]:
    """Count the images for which models of their kind come first."""
    for numbers, most, wanted in (
        (WELL_SERVED, 5, ">= 92 %"),
        (WELL_SERVED, 1, ">= 75 %"),
        (SPOTS_AND_FILAMENTS, 5, ">= 75 %"),
    ):
        ours = [one for one in ranked if one.picture.number in numbers]
        against = [one for one in ours if not _made_among(one, most, made_for)]
        which = "kinds 08, 09" if numbers == SPOTS_AND_FILAMENTS else "kinds 01 to 07, 10"
        place = "first" if most == 1 else f"among the first {most}"
        name = f"{which}: a model made for the kind is {place}"
        words = tuple(f"{named(one.picture)}: {_first(one, most)}" for one in against)
        yield Figure(name, wanted, len(ours) - len(against), len(ours), words)
    known = [
        (one, id_) for one in ranked for id_ in one.models
        if made_for.get(id_, ("unknown", ""))[0] != "unknown"
    ]  # fmt: skip
    wrong = [(one, id_) for one, id_ in known if is_wrong(one.picture, made_for[id_])]
    words = tuple(f"{named(one.picture)}: {id_}, for {made_for[id_][0]}" for one, id_ in wrong)
    name = "models of another modality among those said to fit"
    yield Figure(name, "<= 8 %", len(wrong), len(known), words)
    photographs = [one for one in ranked if one.picture.number == NOT_MICROSCOPY]
    against = [one for one in photographs if one.models]
    words = tuple(f"{named(one.picture)}: {len(one.models)}: {_first(one, 3)}" for one in against)
    name = "kind 14: no model is said to fit"
    yield Figure(name, ">= 92 %", len(photographs) - len(against), len(photographs), words)


def _made_among(one: Ranked, most: int, made_for: Mapping[str, tuple[str, str]]) -> bool:
    return any(is_made_for(one.picture, made_for.get(id_)) for id_ in one.models[:most])


def _first(one: Ranked, most: int) -> str:
    return ", ".join(one.models[:most]) or "no model fits"


def of_kinds(answers: Sequence[Told]) -> Iterator[Figure]:
    """Count how much of what is told with certainty is right."""
    against = tuple(f"{named(one.picture)}: {one.words}" for one in answers if not one.right)
    name = f"families told with {SURE:.0%} certainty that are right"
    yield Figure(name, ">= 85 %", len(answers) - len(against), len(answers), against)


def percent(counted: int, total: int) -> str:
    """Give a share in words; a dash for one of nothing."""
    return f"{counted / total:.1%}".replace("%", " %") if total else "-"


def table(figures: Iterable[Figure]) -> str:
    """Give the figures as a table in Markdown."""
    rows = [
        f"| {one.name} | {one.counted} of {one.total} | {percent(one.counted, one.total)} "
        f"| {one.wanted or '-'} |"
        for one in figures
    ]
    return "\n".join(["| measure | counted | share | wanted |", "|---|---:|---:|---:|", *rows])


def table_of_kinds(
    pairs: Sequence[Pair], ranked: Sequence[Ranked], made_for: Mapping[str, tuple[str, str]]
) -> str:
    """Give the figures of each kind as a table in Markdown."""
    head = (
        "| kind | images | `starter/nuclei` is silent | a model made for it is first "
        "| among five | any fits |\n|---|---:|---:|---:|---:|---:|"
    )
    return "\n".join([head, *(
        _row_of_kind(kind, pairs, ranked, made_for)
        for kind in sorted({one.picture.kind for one in ranked})
    )])  # fmt: skip


def _row_of_kind(
    kind: str,
    pairs: Sequence[Pair],
    ranked: Sequence[Ranked],
    made_for: Mapping[str, tuple[str, str]],
) -> str:
    ours = [one for one in ranked if one.picture.kind == kind]
    silent = sum(
        p.silent for p in pairs if p.package == "starter/nuclei" and p.picture.kind == kind
    )
    first, five = (
        str(sum(_made_among(one, most, made_for) for one in ours)) if kind[:2] in MADE_FOR else "-"
        for most in (1, 5)
    )
    fitting = sum(bool(one.models) for one in ours)
    words = kind[3:].replace("_", " ")
    return f"| {kind[:2]} {words} | {len(ours)} | {silent} | {first} | {five} | {fitting} |"


def write_between_marks(page: Path, text: str) -> None:
    """Put tables into a page."""
    words = page.read_text(encoding="utf-8")
    start, end = (words.index(mark) for mark in MARKS)
    written = f"{words[: start + len(MARKS[0])]}\n{text}\n\n{words[end:]}"
    page.write_text(written, encoding="utf-8")


def failures(figures: Iterable[Figure]) -> str:
    """List what counts against each figure."""
    parts = [
        f"{one.name}: {one.counted} of {one.total} = {percent(one.counted, one.total)}, "
        f"wanted {one.wanted or '-'}\n" + "".join(f"    {words}\n" for words in one.against)
        for one in figures
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
