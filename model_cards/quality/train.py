"""Fit the predictors of the quality of a mask, and say how good they are on what they never saw.

``python model_cards/quality/train.py`` with scikit-learn reads ``evidence.csv`` and ``pairs.npz``,
which ``gather.py`` writes, and writes ``src/bmz/process/quality.npz``, ``left_out.csv`` and the
figures of the card and of ``docs/explanation/trial.md``. One thread and fixed seeds: the same rows
give the same arrays.
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from forests import (
    ENDS,
    FACTS,
    PAGES,
    Growth,
    Rows,
    arrays,
    figures,
    intervals,
    left_out,
    limits,
)
from gather import read_pairs

from bmz.process.quality import TIE, RegressionForest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ARRAYS = ROOT / "src/bmz/process/quality.npz"
PICTURE = ROOT / "docs/explanation/trial-reliability.svg"
MARKS = ("<!-- model_cards/quality/train.py -->\n", "<!-- end of quality -->\n")
sys.path.insert(0, str(ROOT / "benchmarks"))

Columns = dict[str, np.ndarray]
"""What was left out -> what is predicted of each mask then, NaN where nothing is."""

OF_COPIES = ("agrees", "stays", "count_change", "area_change", "above_sample")
"""How the names of the features begin that need changed copies of the image, or the sample."""

OF_TRIALS = Growth(trees=32, least_in_leaf=2, features=0.6)
OF_PLAIN = Growth(trees=16, least_in_leaf=2, features=0.6)
OF_BOTH = Growth(trees=20, least_in_leaf=2, features=0.6)
"""Of the many forests that leave out a source and a network."""

OF_STANDING = Growth(trees=40, least_in_leaf=3, features=0.6, means=True)

SUBSETS = 6
"""So many choices of some of the networks of an image are rows, too: it is not known how many stand
beside each other, nor how many of them are good."""

SUBSET_COUNT = 0.5
"""A row of such a choice counts for so much beside one of all networks."""

BOTH, PLAIN = "source and network", "source and network, without changed copies"
BESIDE = "source, beside masks of other models"
BESIDE_BOTH = "source and network, beside masks of other models"
IN_TURN = ("source", "network")
"""What is left out."""


def read_rows() -> Rows:
    """Read ``evidence.csv``."""
    with (HERE / "evidence.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    names = tuple(name for name in lines[0] if name not in FACTS)
    values = np.array(
        [[float(line[name]) if line[name] else np.nan for name in names] for line in lines]
    )
    facts = {name: np.array([line[name] for line in lines]) for name in FACTS[:-1]}
    f1 = np.array([float(line["f1"]) for line in lines])
    return Rows.all_alike(names, values, f1, facts)


def standing_rows(rows: Rows, predicted: np.ndarray) -> tuple[Rows, np.ndarray]:
    """Give how masks stand among those of other networks for the same image.

    Parameters
    ----------
    predicted : F1 of each row, by a forest that did not see it

    Returns
    -------
    Rows, (n,)
        those of all networks of an image are asked for, those of some of them are learnt from; and
        which of `rows` each is of
    """
    place = {
        tuple(rows.facts[fact][i] for fact in ("source", "image", "network")): i
        for i in np.flatnonzero(rows.facts["fault"] == "none")
    }
    rng = np.random.default_rng(0)
    told, own, counts = list[dict[str, float]](), list[int](), list[float]()
    for image, (networks, pairs) in read_pairs().items():
        at = [place[*image, network] for network in networks]
        sizes = rng.integers(2, max(len(at), 3), SUBSETS)
        some = [rng.permutation(len(at))[:size] for size in sizes if size < len(at)]
        for members in (np.arange(len(at)), *some):
            mine = [at[member] for member in members]
            told += pairs.among(members.tolist()).evidence(predicted[mine].tolist())
            own += mine
            counts += [1.0 if len(members) == len(at) else SUBSET_COUNT] * len(mine)
    names, chosen = tuple(told[0]), np.array(own)
    values = np.array([[each[name] for name in names] for each in told])
    facts = {name: column[chosen] for name, column in rows.facts.items()}
    weight = np.array(counts)
    return Rows(names, values, rows.f1[chosen], facts, weight, weight == 1), chosen


def standing(rows: Rows, predicted: np.ndarray, *kept_apart: str) -> np.ndarray:
    """Predict each row by how it stands among others, NaN where it stands alone."""
    beside, own = standing_rows(rows, predicted)
    result = np.full(len(rows.f1), np.nan)
    values = left_out(beside, *kept_apart, growth=OF_STANDING, told=RegressionForest.mean)
    result[own[beside.asked]] = values[beside.asked]
    return result


def tables(
    rows: Rows, predictions: Columns, chosen: dict[str, tuple[float, float]]
) -> Iterator[str]:
    """Yield the lines of the figures."""
    heads = ("left out", "Spearman", "mean error", "of F1 < 0.5 called likely wrong")
    more = ("of F1 > 0.75 called so", "of those called likely good F1 >= 0.5")
    yield "| " + " | ".join((*heads, *more)) + " |"
    yield "|" + "---|" * 6
    predicted = predictions[BOTH]
    for name, values in predictions.items():
        known = ~np.isnan(values)
        yield figures(name, values[known], rows.f1[known], chosen[name])
    yield ""
    yield order_line(rows, predictions[BESIDE])
    yield ""
    for fact in ("source", "network", "fault"):
        yield f"| {fact} | masks | true F1 | predicted | mean error |"
        yield "|---|---|---|---|---|"
        for group in np.unique(rows.facts[fact]):
            mine = rows.facts[fact] == group
            values = (rows.f1[mine].mean(), predicted[mine].mean())
            error = abs(predicted - rows.f1)[mine].mean()
            yield f"| {group} | {mine.sum()} | {values[0]:.2f} | {values[1]:.2f} | {error:.2f} |"
        yield ""
    yield "| predicted | masks | true F1, mean | 8 of 10 between |"
    yield "|---|---|---|---|"
    ends = np.arange(0, 1.01, 0.1)
    for start, stop in itertools.pairwise(ends):
        mine = (predicted >= start) & (predicted < stop)
        if mine.any():
            low, high = np.quantile(rows.f1[mine], ENDS)
            span, mean = f"{start:.1f} to {stop:.1f}", rows.f1[mine].mean()
            yield f"| {span} | {mine.sum()} | {mean:.2f} | {low:.2f}, {high:.2f} |"


def order_line(rows: Rows, predicted: np.ndarray) -> str:
    """Say how often two masks of an image are in the right order, near each other and else."""
    images = list(zip(rows.facts["source"], rows.facts["image"], strict=True))
    known = np.flatnonzero(~np.isnan(predicted))
    right: dict[bool, list[bool]] = {True: [], False: []}
    for one, other in itertools.combinations(known.tolist(), 2):
        if images[one] == images[other] and rows.f1[one] != rows.f1[other]:
            apart = predicted[one] - predicted[other]
            right[abs(apart) < TIE].append((rows.f1[one] - rows.f1[other]) * apart > 0)
    near, far = (f"{np.mean(right[tie]):.0%} of {len(right[tie])}" for tie in (True, False))
    told = f"whose predictions differ by less than {TIE:g}, and in {far} others."
    return f"Of two masks of an image the better one is predicted to be better in {near} {told}"


PLOT = 300
"""Side of the square of the diagram."""


def diagram(predicted: np.ndarray, f1: np.ndarray) -> str:
    """Draw predicted against true F1, one dot a mask, and where 8 of 10 lie, as SVG."""

    def at(x: float, y: float) -> str:
        return f"{40 + PLOT * x:.1f},{10 + PLOT * (1 - y):.1f}"

    dots = "".join(
        '<circle cx="{}" cy="{}" r="2"/>'.format(*at(x, y).split(","))
        for x, y in zip(predicted, f1, strict=True)
    )
    places, low, high = intervals(predicted, f1)
    ends = [*zip(places, low, strict=True), *zip(places[::-1], high[::-1], strict=True)]
    band = " ".join(at(x, y) for x, y in ends)
    numbers = "".join(
        f'<text x="{40 + PLOT * x:g}" y="{PLOT + 26}" text-anchor="middle">{x:g}</text>'
        f'<text x="34" y="{14 + PLOT * (1 - x):g}" text-anchor="end">{x:g}</text>'
        for x in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PLOT + 60} {PLOT + 50}" '
        'font-family="sans-serif" font-size="11">'
        f'<rect x="40" y="10" width="{PLOT}" height="{PLOT}" fill="white" stroke="#888"/>'
        f'<polygon points="{band}" fill="#cfe0f5"/>'
        f'<polyline points="{at(0, 0)} {at(1, 1)}" stroke="#888" stroke-dasharray="4"/>'
        f'<g fill="#1b5e9e" fill-opacity="0.45">{dots}</g>{numbers}'
        f'<text x="{40 + PLOT / 2}" y="{PLOT + 42}" text-anchor="middle">predicted F1</text>'
        f'<text x="12" y="{10 + PLOT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {10 + PLOT / 2})">true F1</text></svg>\n'
    )


def _written(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"


def main() -> None:
    """Fit, write the arrays, and the figures."""
    from pages import write_between  # of the benchmarks

    rows = read_rows()
    plain = rows.without(OF_COPIES)
    predictions = {
        BOTH: left_out(rows, "source", "network", growth=OF_BOTH),
        "source": left_out(rows, "source", growth=OF_TRIALS),
        "network": left_out(rows, "network", growth=OF_TRIALS),
        PLAIN: left_out(plain, "source", "network", growth=OF_BOTH),
    }
    predictions[BESIDE] = standing(rows, predictions["source"], "source")
    predictions[BESIDE_BOTH] = standing(rows, predictions[BOTH], "source", "network")
    tried = limits(rows.f1, *(predictions[name] for name in IN_TURN))
    still = limits(rows.f1, predictions[PLAIN])
    known = ~np.isnan(predictions[BESIDE])
    among = limits(rows.f1[known], predictions[BESIDE][known], predictions[BESIDE_BOTH][known])
    beside, own = standing_rows(rows, predictions["source"])
    parts = {
        "tried": arrays(rows, predictions[BOTH], tried, OF_TRIALS),
        "plain": arrays(plain, predictions[PLAIN], still, OF_PLAIN),
        "among": arrays(beside, predictions[BESIDE_BOTH][own], among, OF_STANDING),
    }
    np.savez_compressed(
        ARRAYS,
        **{f"{part}_{key}": value for part, of in parts.items() for key, value in of.items()},
    )
    chosen = dict.fromkeys(predictions, tried) | {PLAIN: still, BESIDE: among, BESIDE_BOTH: among}
    text = "\n".join(tables(rows, predictions, chosen))
    print(text)
    PICTURE.write_text(diagram(predictions[BOTH], rows.f1), encoding="utf-8")
    for page in PAGES:
        write_between(page, MARKS, text)
    with (HERE / "left_out.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow([*FACTS, *(f"without {name}" for name in predictions)])
        for i, f1 in enumerate(rows.f1):
            words = [rows.facts[fact][i] for fact in FACTS[:-1]]
            values = [_written(predicted[i]) for predicted in predictions.values()]
            lines.writerow([*words, f"{f1:.4f}", *values])


if __name__ == "__main__":
    main()
