"""Write the figures of left-out sources into the card and the page of the docs."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from figures import between, confusion, diagram, reliability
from gather import Measured
from left_out import SEEN, LeftOut

from bmz.check.kind import kind_of
from bmz.check.kind_features import UNLIKE_NOTE, UNLIKE_WARNING
from bmz.spec.made_for import STRUCTURES
from corpus import MADE, shown_structures

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/explanation/kind-of-image.md"

FALSE_ALARMS = 0.02
"""So many images of the right kind may lie below a threshold."""

FEWEST = 20
"""A family with fewer images has no such threshold."""

LIKELY = 0.5
"""An answer counts as given from this probability on."""

SURE = 0.9
"""What is said with this probability is said as a fact."""

DECISIONS = {
    "nuclei": ("nuclei", "tissue"),
    "cells": ("cells", "membranes", "bacteria", "yeast"),
    "membranes": ("membranes", "cells", "neurites"),
    "spots": ("spots",),
    "filaments": ("filaments",),
}
"""Structures that count as right for a model of the first, as `Structure.near` says."""


class Answers:
    """Answers for images of left-out sources that no code drew.

    Parameters
    ----------
    data, left : rows and what left-out classifiers say of them
    plain : only the images themselves, or only their variants
    """

    def __init__(self, data: Measured, left: LeftOut, *, plain: bool) -> None:
        real = np.array([s.source not in MADE for s in data.samples])[data.sample]
        chosen = real & (data.plain == plain)
        self.samples = [data.samples[i] for i in data.sample[chosen]]
        self.kinds, self.shares = left.kinds, left.probabilities[chosen]
        self.coloured = np.isfinite(data.rows[chosen, -SEEN - 1])
        self.truth = np.array([s.kind.split("/")[0] for s in self.samples])
        self.shown = np.array([s.kind.split("/")[1] for s in self.samples])

    def family(self, name: str) -> np.ndarray:
        """Give the probability of a family for each image."""
        return self.shares[:, [kind.split("/")[0] == name for kind in self.kinds]].sum(1)

    def structures(self, names: tuple[str, ...]) -> np.ndarray:
        """Give the probability that one of some structures is shown."""
        held = [
            float(np.mean([word in names for word in shown_structures(kind)]))
            for kind in self.kinds
        ]
        return self.shares @ np.array(held)

    def said(self, options: dict[str, np.ndarray]) -> list[str]:
        """Give the likely one of some options for each image, or unknown."""
        names, table = list(options), np.stack(list(options.values()), 1)
        best = zip(table, table.argmax(1), strict=True)
        return [names[k] if row[k] > LIKELY else "unknown" for row, k in best]


def write_report(data: Measured, beside: Measured, left: LeftOut, shared: Path) -> None:
    """Write `left_out.csv`, the diagrams, and the figures into the card and the page.

    Images that are not learnt from are in `left_out.csv` alone.
    """
    answers, variants = (Answers(data, left, plain=plain) for plain in (True, False))
    families = sorted(set(answers.truth))
    points = reliability(*_said_and_right(answers, families))
    for path in (HERE / "reliability.svg", PAGE.with_name("kind-of-image-reliability.svg")):
        path.write_text(diagram(points), encoding="utf-8")
    others = Answers(beside, replace(left, probabilities=left.beside), plain=True)
    _write_rows((answers, others), families)
    text = "\n\n".join(_figures(answers, variants, left, shared))
    for page, name, part in (
        (HERE / "README.md", "figures", text),
        (HERE / "README.md", "data", _sources(data)),
        (PAGE, "figures", text),
    ):
        page.write_text(between(page.read_text(encoding="utf-8"), name, part), encoding="utf-8")


def _said_and_right(answers: Answers, families: list[str]) -> tuple[np.ndarray, np.ndarray]:
    said = np.concatenate([answers.family(name) for name in families])
    right = np.concatenate([answers.truth == name for name in families])
    return said, right


def _figures(answers: Answers, variants: Answers, left: LeftOut, shared: Path) -> list[str]:
    families = sorted(set(answers.truth))
    inside = answers.truth == "fluorescence"
    shown = answers.said({name: answers.structures((name,)) for name in STRUCTURES})
    said = answers.said({name: answers.family(name) for name in families})
    table = [s for s, kept in zip(shown, inside, strict=True) if kept]
    sources = len({s.source for s in answers.samples})
    return [
        f"{len(answers.samples)} images (planes) of {sources} sources. Families:",
        confusion(list(answers.truth), said),
        _sure(answers, families),
        "Structures in fluorescence:",
        confusion(list(answers.shown[inside]), table),
        f"Below these thresholds lie {FALSE_ALARMS:.0%} of the images of a kind, and of others:",
        _decisions(answers, variants, families),
        _dsb_test(shared),
        _unlike(left),
    ]


def _sure(answers: Answers, families: list[str]) -> str:
    table = np.stack([answers.family(name) for name in families], 1)
    sure = table.max(1) >= SURE
    right = np.array(families)[table.argmax(1)] == answers.truth
    return (
        f"Of the {sure.sum()} families that are said with {SURE} or more, {right[sure].mean():.1%} "
        f"are right; of the {(~sure).sum()} others {right[~sure].mean():.1%}."
    )


def _decisions(answers: Answers, variants: Answers, families: list[str]) -> str:
    head = "| probability of | threshold | others below it | grey | colour | variants of others |"
    lines = [f"{head} variants of right ones |", "|---|---|---|---|---|---|---|"]
    both = (answers, variants)
    for name in families:
        if (answers.truth == name).sum() >= FEWEST:
            cases = [Case(a.family(name), a.truth == name, a.truth != name) for a in both]
            lines.append(_decision(name, cases, answers.coloured))
    for name, right in DECISIONS.items():
        cases = [_structure_case(a, name, right) for a in both]
        lines.append(_decision(" or ".join(right), cases, answers.coloured))
    return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Case:
    """A decision on images: their probability, which are right, and which are not."""

    shares: np.ndarray
    right: np.ndarray
    other: np.ndarray


def _structure_case(answers: Answers, name: str, near: tuple[str, ...]) -> Case:
    right = (answers.truth == "fluorescence") & (answers.shown == name)
    also = np.isin(answers.shown, near) | ((answers.truth == "stained") & ("nuclei" in near))
    return Case(answers.structures(near), right, ~also)


def _decision(name: str, cases: list[Case], coloured: np.ndarray) -> str:
    plain, varied = cases
    limit = float(np.quantile(plain.shares[plain.right], FALSE_ALARMS))
    parts = [plain.other, plain.other & ~coloured, plain.other & coloured]
    cells = [_share(plain.shares[part] < limit) for part in parts]
    cells += [_share(varied.shares[part] < limit) for part in (varied.other, varied.right)]
    return f"| {name} | {limit:.2f} | {' | '.join(cells)} |"


def _share(part: np.ndarray) -> str:
    return f"{part.mean():.1%} of {len(part)}" if len(part) else "none"


def _dsb_test(shared: Path) -> str:
    """Tell what is said of the test images of DSB 2018, none of which was learnt from."""
    kinds = [
        kind_of(tifffile.imread(path))
        for path in sorted((shared / "data/dsb2018/test/images").glob("*.tif"))
    ]
    told = [kind for kind in kinds if kind is not None]
    fluorescence = np.array([kind.families["fluorescence"] for kind in told])
    nuclei = np.array([kind.structures["nuclei"] for kind in told])
    return (
        f"The {len(kinds)} test images of DSB 2018 (fluorescent nuclei; none was learnt from, but "
        f"others of their source were): fluorescence is said with {fluorescence.min():.2f} or "
        f"more, nuclei with {nuclei.min():.2f} or more and in 78 of 80 with "
        f"{np.sort(nuclei)[2]:.2f} or more."
    )


def _unlike(left: LeftOut) -> str:
    """Tell how well two images of different sources are told apart by their distance."""
    far, same_kind, same_family = left.pairs.T
    lines = [
        "| distance of more than | pairs of one kind | pairs of two families |",
        "|---|---|---|",
    ]
    for limit in (UNLIKE_NOTE, UNLIKE_WARNING):
        over = far > limit * left.unit
        of_kind, of_two = over[same_kind > 0], over[same_family == 0]
        lines.append(f"| {limit:g} | {of_kind.mean():.1%} | {of_two.mean():.1%} |")
    table = "\n".join(lines)
    return f"`sample.unlike`, an image of a left-out source and one of another source:\n\n{table}"


def _write_rows(parts: Iterable[Answers], families: list[str]) -> None:
    with (HERE / "left_out.csv").open("w", newline="", encoding="utf-8") as lines:
        table = csv.writer(lines)
        table.writerow(["image", "source", "kind", *(f"family {f}" for f in families), *STRUCTURES])
        for answers in parts:
            columns = [answers.family(name) for name in families]
            columns += [answers.structures((name,)) for name in STRUCTURES]
            for sample, *values in zip(answers.samples, *columns, strict=True):
                numbers = (f"{value:.3f}" for value in values)
                table.writerow([sample.name, sample.source, sample.kind, *numbers])


def _sources(data: Measured) -> str:
    lines = [
        "| left out as | repository @ commit | licence | planes | kinds |",
        "|---|---|---|---|---|",
    ]
    groups = Counter((s.source, s.origin, s.licence) for s in data.samples)
    for (source, origin, licence), count in sorted(groups.items()):
        kinds = sorted({s.kind for s in data.samples if (s.source, s.origin) == (source, origin)})
        cells = (source, origin or "see licence", licence, str(count), ", ".join(kinds))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
