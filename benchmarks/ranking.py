"""How well the order of ``bmz compare`` without the truth predicts the order with it.

``python benchmarks/ranking.py ../shared [IMAGES] [--write docs/how-to/compare.md]``: models for
nuclei on test images of DSB 2018 (default 20 of 80, evenly spread). Printed for each measure, and
for their mean, the guess: Kendall's tau with the order by F1 at IoU 0.5 (1 the same order, 0 none),
the share of images whose best result is first, and the regret: F1 of the best result less F1 of the
one that was put first. Beside it the regret of a choice at random, and of the model that is the
best over all images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pages import write_between
from scipy.stats import kendalltau

from bmz.app.compare import CompareRequest, compare
from bmz.engine.request import RunRequest
from bmz.results.compare import ResultQuality

MARKS = ("<!-- benchmarks/ranking.py -->\n", "<!-- end of ranking -->\n")

MODELS = ("starter/nuclei", "starter/nuclei-flows", "starter/nuclei-contour",
          "nuclei-broad", "unmicst-nuclei", "stardist-dsb2018")  # fmt: skip

MEASURES: dict[str, Callable[[ResultQuality], float]] = {
    "agreement": lambda quality: quality.agreement or 0.0,
    "stability": lambda quality: quality.stability or 0.0,
    "plausible": lambda quality: quality.plausible.share if quality.plausible else 0.0,
    "predicted": lambda quality: quality.predicted.f1 if quality.predicted else 0.0,
    "guess": lambda quality: quality.guess,
}


def main() -> None:
    """Compare the orders."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("images", type=int, nargs="?", default=20)
    parser.add_argument("--write", type=Path, help="put the table into this page")
    words = parser.parse_args()
    folder = words.shared / "data/dsb2018/test"
    every = sorted((folder / "images").glob("*.tif"))
    images = tuple(every[i] for i in np.linspace(0, len(every) - 1, words.images).astype(int))
    models = tuple(
        name if name.startswith("starter/") else str(words.shared / "models" / name)
        for name in MODELS
    )
    run = RunRequest("", (), Path(), force=True)
    guessed, known = (
        compare(CompareRequest(images, models, {}, truth, stability=truth is None, options=run))
        for truth in (None, folder / "masks")
    )
    rows = []
    for blind, seen in zip(guessed.images, known.images, strict=True):
        f1 = {one.model: one.quality.f1 or 0.0 for one in seen.done}
        rows.append(({one.model: one.quality for one in blind.done}, f1))
    mean = {model: np.mean([f1[model] for _, f1 in rows if model in f1]) for model in models}
    always = max(mean, key=lambda model: mean[model])
    lines = ["| order by | Kendall's tau | the best is first | regret |", "|---|---|---|---|"]
    for name, measure in MEASURES.items():
        taus, firsts, regrets = [], [], []
        for quality, f1 in rows:
            order = sorted(f1)
            values = [measure(quality[model]) for model in order]
            tau = kendalltau(values, [f1[model] for model in order]).statistic
            taus.append(0.0 if np.isnan(tau) else tau)
            first = max(order, key=lambda model: measure(quality[model]))
            regrets.append(max(f1.values()) - f1[first])
            firsts.append(f1[first] == max(f1.values()))
        means = f"{np.mean(taus):.2f} | {np.mean(firsts):.0%} | {np.mean(regrets):.3f}"
        lines.append(f"| {name} | {means} |")
    chance = np.mean([max(f1.values()) - np.mean(list(f1.values())) for _, f1 in rows])
    one = np.mean([max(f1.values()) - f1[always] for _, f1 in rows])
    lines.append(f"| at random | 0 | {1 / len(models):.0%} | {chance:.3f} |")
    lines.append(f"| always {Path(always).name} | | | {one:.3f} |")
    print("\n".join(lines))
    if words.write is not None:
        write_between(words.write, MARKS, "\n".join(lines))


if __name__ == "__main__":
    main()
