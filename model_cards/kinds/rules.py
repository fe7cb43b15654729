"""Choose the limits of `content.modality`, and tell what another rule would do.

``python model_cards/kinds/rules.py`` after the training; both from `left_out.csv`.

An image is told to be of another family than that of a model where the family has less than a
limit, and all others together at least `SEEN`. The limit of each family is the smallest at which at
most `SILENT` of the images of other families pass without a word: a larger one would only warn of
more images that are right. `bmz.check.content.LEAST_LIKELY` holds the limits.

The other rule: warn where the probability of the families times that of the structures, near ones
included, is below a limit.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
from figures import between

from bmz.check.content import SEEN

HERE = Path(__file__).parent
PAGES = (HERE / "README.md", HERE.parents[1] / "docs/explanation/kind-of-image.md")

SILENT = 0.04
"""So many of the images of other families may pass without a word."""

STEP, LARGEST = 0.05, 0.45
"""Limits are multiples of the one, up to the other."""

FEWEST = 20
"""A family with fewer images has no limit of its own."""

LIMITS = (0.05, 0.1, 0.15)
"""Products below which a rule would warn."""

MODELS = {
    "fluorescent nuclei": ("fluorescence", ("nuclei", "tissue"), ("nuclei",)),
    "fluorescent cells": (
        "fluorescence",
        ("cells", "membranes", "bacteria", "yeast"),
        ("cells", "membranes"),
    ),
    "stained tissue": ("stained", ("tissue", "nuclei"), ("tissue",)),
    "neurites in electron micrographs": (
        "electron",
        ("neurites", "membranes", "cells"),
        ("neurites",),
    ),
    "cells in transmitted light": (
        "transmitted",
        ("cells", "membranes", "bacteria", "yeast"),
        ("cells", "bacteria", "yeast"),
    ),
}
"""What a model is made for -> family, structures and near ones, structures that are right."""


def main() -> None:
    """Write the table into the card and the page."""
    with (HERE / "left_out.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    table = ["| model made for | right images | other families | other structures |"]
    table += ["|---|---|---|---|", *(table_row(name, rows) for name in MODELS)]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        text = between(text, "limits", table_of_limits(rows))
        page.write_text(between(text, "rule", "\n".join(table)), encoding="utf-8")


def table_of_limits(rows: list[dict[str, str]]) -> str:
    """Give the limit of each family, and what it does."""
    lines = [
        "| family | limit | its images told to be of another | images of others that pass |",
        "|---|---|---|---|",
    ]
    counts = Counter(row["kind"].split("/")[0] for row in rows)
    for family in sorted(word for word in counts if f"family {word}" in rows[0]):
        if counts[family] >= FEWEST and family != "not-microscopy":
            limit = limit_of(rows, family)
            wrong, silent = shares_at(rows, family, limit)
            right, others = counts[family], len(rows) - counts[family]
            lines.append(
                f"| {family} | {limit:.2f} | {wrong:.1%} of {right} | {silent:.1%} of {others} |"
            )
    return "\n".join(lines)


def limit_of(rows: list[dict[str, str]], family: str) -> float:
    """Choose the limit of a family; `LARGEST` where even that lets too many images pass."""
    steps = np.arange(STEP, LARGEST + STEP / 2, STEP).round(2)
    passing = (float(step) for step in steps if shares_at(rows, family, step)[1] <= SILENT)
    return next(passing, LARGEST)


def shares_at(rows: list[dict[str, str]], family: str, limit: float) -> tuple[float, float]:
    """Give how many images of a family are told at a limit, and how many of others are not."""
    families = [name for name in rows[0] if name.startswith("family ")]
    table = np.array([[float(row[name]) for name in families] for row in rows])
    own = table[:, families.index(f"family {family}")]
    told = (own < limit) & (table.sum(1) - own >= SEEN)
    right = np.array([row["kind"].split("/")[0] == family for row in rows])
    return float(told[right].mean()), float((~told[~right]).mean())


def table_row(name: str, rows: list[dict[str, str]]) -> str:
    """Give the shares of images that are warned of at each limit."""
    family, near, right = MODELS[name]
    shares = np.array(
        [float(row[f"family {family}"]) * sum(float(row[w]) for w in near) for row in rows]
    )
    kinds = [tuple(row["kind"].split("/")) for row in rows]
    of_family = np.array([kind[0] == family for kind in kinds])
    is_right = of_family & np.array([kind[1] in right for kind in kinds])
    is_near = of_family & np.array([kind[1] in near for kind in kinds])
    parts = (is_right, ~of_family, of_family & ~is_near & ~is_right)
    return f"| {name} | {' | '.join(_cell(shares[part]) for part in parts)} |"


def _cell(shares: np.ndarray) -> str:
    if not len(shares):
        return "none"
    words = " / ".join(f"{(shares < limit).mean():.1%}" for limit in LIMITS)
    return f"{words} of {len(shares)}"


if __name__ == "__main__":
    main()
