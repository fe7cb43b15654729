"""Write what a rule on the answers would do to models of some kinds, from `left_out.csv`.

``python model_cards/kinds/rules.py`` after the training. The rule: warn where the probability of
the families times that of the structures, near ones included, is below a limit.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from figures import between

HERE = Path(__file__).parent
PAGES = (HERE / "README.md", HERE.parents[1] / "docs/explanation/kind-of-image.md")

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
        page.write_text(between(text, "rule", "\n".join(table)), encoding="utf-8")


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
