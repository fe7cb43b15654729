"""Fit the predictors of the quality of a mask, and say how good they are on what they never saw.

``python model_cards/quality/train.py`` with scikit-learn reads ``evidence.csv``, which
``gather.py`` writes, and writes ``src/bmz/process/quality.npz``, ``left_out.csv`` and the figures
of the card and of ``docs/explanation/trial.md``. One thread and fixed seeds: the same rows give
the same arrays.
"""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from forests import (
    BAD,
    BINS,
    ENDS,
    FACTS,
    FALSE_ALARMS,
    GOOD,
    PAGES,
    Rows,
    figures,
    intervals,
    unknown,
    weights,
)
from sklearn.ensemble import ExtraTreesRegressor

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ARRAYS = ROOT / "src/bmz/process/quality.npz"
PICTURE = ROOT / "docs/explanation/trial-reliability.svg"
MARKS = ("<!-- model_cards/quality/train.py -->\n", "<!-- end of quality -->\n")
sys.path.insert(0, str(ROOT / "benchmarks"))

OF_COPIES = ("agrees", "stays", "count_change", "area_change", "above_sample")
"""How the names of the features begin that need changed copies of the image, or the sample."""

TREES, LEAST_IN_LEAF, FEATURES = 60, 2, 0.6

TREES_LEFT_OUT = 20
"""Of each of the many forests that leave out a source and a network."""


IN_TURN = ("source", "network")
"""What is left out in turn, for the limits of the words."""


MEDIAN = 0.9
"""Share of the median in the F1 that is told; the rest is the mean of the forest, so that the
order stays."""


def read_rows() -> Rows:
    """Read ``evidence.csv``."""
    with (HERE / "evidence.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    names = tuple(name for name in lines[0] if name not in FACTS)
    values = np.array(
        [[float(line[name]) if line[name] else np.nan for name in names] for line in lines]
    )
    facts = {name: np.array([line[name] for line in lines]) for name in FACTS[:-1]}
    return Rows(names, values, np.array([float(line["f1"]) for line in lines]), facts)


def fitted(rows: Rows, chosen: np.ndarray, trees: int = TREES) -> ExtraTreesRegressor:
    """Fit a forest to some of the rows."""
    forest = ExtraTreesRegressor(
        trees, min_samples_leaf=LEAST_IN_LEAF, max_features=FEATURES, random_state=0, n_jobs=1
    )
    values = np.float32(np.where(np.isnan(rows.values), unknown(rows), rows.values))
    return forest.fit(values[chosen], rows.f1[chosen], weights(rows)[chosen])


def left_out(rows: Rows, *kept_apart: str) -> np.ndarray:
    """Predict each row by a forest that saw none of its own kind.

    Parameters
    ----------
    kept_apart : ``source`` or ``network``, or both
    """
    values = np.float32(np.where(np.isnan(rows.values), unknown(rows), rows.values))
    predicted = np.zeros(len(rows.f1))
    for group in sorted(set(zip(*(rows.facts[fact] for fact in kept_apart), strict=True))):
        same = [rows.facts[fact] == name for fact, name in zip(kept_apart, group, strict=True)]
        mine = np.all(same, 0)
        trees = TREES if len(kept_apart) == 1 else TREES_LEFT_OUT
        forest = fitted(rows, ~np.any(same, 0), trees)
        predicted[mine] = forest.predict(values[mine])
    return predicted.clip(0, 1)


def middles(means: np.ndarray, f1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give means of the forest, and what is told at each: near the median of the truth there.

    A mean over trees draws everything towards the middle, and the median has the least mean error.
    """
    parts = np.array_split(np.argsort(means), BINS)
    at = np.array([means[part].mean() for part in parts])
    median = np.maximum.accumulate([np.median(f1[part]) for part in parts])
    ends = np.array([0.0, *at, 1.0]), np.array([0.0, *median, 1.0])
    return ends[0], MEDIAN * ends[1] + (1 - MEDIAN) * ends[0]


def told(means: np.ndarray, f1: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Give what would be told of each row, where `middles` did not see its own group."""
    values = np.zeros(len(f1))
    for group in np.unique(groups):
        mine = groups == group
        values[mine] = np.interp(means[mine], *middles(means[~mine], f1[~mine]))
    return values


def limits(f1: np.ndarray, *predictions: np.ndarray) -> tuple[float, float]:
    """Choose up to where a mask is called likely wrong, and from where likely good.

    It is good from where 9 of 10 masks that are predicted so have an F1 of 0.5 or more.

    Parameters
    ----------
    predictions : in none of them more than `FALSE_ALARMS` are called wrong; the first tells what
        is good
    """
    wrong = min(float(np.quantile(each[f1 > GOOD], FALSE_ALARMS)) for each in predictions)
    at, low, _ = intervals(predictions[0], f1)
    many = np.linspace(0, 1, 1001)
    sure = many[np.interp(many, at, low) >= BAD]
    return wrong, max(float(sure[0]) if len(sure) else 1.0, wrong + 0.01)


def arrays(rows: Rows, means: np.ndarray, chosen: tuple[float, float]) -> dict[str, np.ndarray]:
    """Give a predictor as `bmz.process.quality` reads it.

    Parameters
    ----------
    means : of forests that did not see the row
    chosen : see `limits`
    """
    ends = middles(means, rows.f1)
    predicted = np.interp(means, *ends)
    trees = [estimator.tree_ for estimator in fitted(rows, rows.f1 >= 0).estimators_]
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    inner = [tree.children_left >= 0 for tree in trees]
    shift = list(zip(trees, starts, inner, strict=False))
    # scikit-learn numbers nodes from the root to the left first
    assert all((t.children_left[i] == np.flatnonzero(i) + 1).all() for t, _, i in shift)
    at, low, high = intervals(predicted, rows.f1)
    wrong, good = chosen
    return {
        "names": np.array(" ".join(rows.names)),
        "unknown": unknown(rows),
        "roots": starts[:-1].astype(np.int32),
        "feature": np.concatenate([np.where(i, t.feature, -1) for t, _, i in shift]).astype(
            np.int8
        ),
        "threshold": np.concatenate(
            [np.where(i, t.threshold, t.value[:, 0, 0]) for t, _, i in shift]
        ).astype(np.float32),
        "right": np.concatenate([np.where(i, t.children_right + s, 0) for t, s, i in shift]).astype(
            np.int32
        ),
        "means": np.float32(ends[0]),
        "middles": np.float32(ends[1]),
        "at": np.float32(at),
        "low": np.float32(low),
        "high": np.float32(high),
        "wrong": np.float32(wrong),
        "good": np.float32(good),
    }


def tables(
    rows: Rows, predictions: dict[str, np.ndarray], chosen: dict[str, tuple[float, float]]
) -> Iterator[str]:
    """Yield the lines of the figures."""
    heads = ("left out", "Spearman", "mean error", "of F1 < 0.5 called likely wrong")
    more = ("of F1 > 0.75 called so", "of those called likely good F1 >= 0.5")
    yield "| " + " | ".join((*heads, *more)) + " |"
    yield "|" + "---|" * 6
    predicted = predictions["source and network"]
    for name, values in predictions.items():
        yield figures(name, values, rows.f1, chosen[name])
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


def main() -> None:
    """Fit, write the arrays, and the figures."""
    from pages import write_between  # of the benchmarks

    rows = read_rows()
    plain = rows.without(OF_COPIES)
    means = {
        "source and network": left_out(rows, "source", "network"),
        "source": left_out(rows, "source"),
        "network": left_out(rows, "network"),
        "source and network, without changed copies": left_out(plain, "source", "network"),
    }
    groups = {name: rows.facts["network" if name == "network" else "source"] for name in means}
    predictions = {name: told(values, rows.f1, groups[name]) for name, values in means.items()}
    *with_copies, last = predictions
    chosen = dict.fromkeys(with_copies, limits(rows.f1, *(predictions[name] for name in IN_TURN)))
    chosen[last] = limits(rows.f1, predictions[last])
    tried = arrays(rows, means["source and network"], chosen["source"])
    still = arrays(plain, means[last], chosen[last])
    np.savez_compressed(
        ARRAYS,
        **{f"tried_{key}": value for key, value in tried.items()},
        **{f"plain_{key}": value for key, value in still.items()},
    )
    text = "\n".join(tables(rows, predictions, chosen))
    print(text)
    PICTURE.write_text(diagram(predictions["source and network"], rows.f1), encoding="utf-8")
    for page in PAGES:
        write_between(page, MARKS, text)
    with (HERE / "left_out.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow([*FACTS, *(f"without {name}" for name in predictions)])
        for i, f1 in enumerate(rows.f1):
            words = [rows.facts[fact][i] for fact in FACTS[:-1]]
            values = [f"{predicted[i]:.4f}" for predicted in predictions.values()]
            lines.writerow([*words, f"{f1:.4f}", *values])


if __name__ == "__main__":
    main()
