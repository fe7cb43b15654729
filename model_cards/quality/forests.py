"""What trainings of predictors share: rows of evidence, their weights, a forest, its figures."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesRegressor

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = (HERE / "README.md", ROOT / "docs/explanation/trial.md")
sys.path.insert(0, str(ROOT / "benchmarks"))

FACTS = ("network", "source", "image", "fault", "f1")

TREES, LEAST_IN_LEAF, FEATURES = 80, 3, 0.4

BELOW = 1.0
"""So far below all known values stands the one for a value that is not known."""

GOOD, BAD = 0.75, 0.5
"""F1 from which a mask is good, and below which it is bad."""

FALSE_ALARMS = 0.075
"""Share of good masks that may be called likely wrong."""

BINS = 12
ENDS = (0.1, 0.9)


@dataclass(frozen=True, eq=False)
class Rows:
    """The evidence.

    Parameters
    ----------
    names : of the features
    values : (n, k), NaN for what is not known
    f1 : (n,) true F1 at IoU 0.5
    facts : column -> (n,) words
    """

    names: tuple[str, ...]
    values: np.ndarray
    f1: np.ndarray
    facts: dict[str, np.ndarray]

    def without(self, beginnings: tuple[str, ...]) -> Rows:
        """Leave out the features whose names begin so."""
        kept = [i for i, name in enumerate(self.names) if not name.startswith(beginnings)]
        names = tuple(self.names[i] for i in kept)
        return Rows(names, self.values[:, kept], self.f1, self.facts)


def weights(rows: Rows) -> np.ndarray:
    """Let each source count by the root of its rows, so that a large one does not rule."""
    sources, own = np.unique(rows.facts["source"], return_inverse=True)
    counts = np.bincount(own, minlength=len(sources))
    return 1 / np.sqrt(counts[own])


def unknown(rows: Rows) -> np.ndarray:
    """Give what stands for an unknown value of each feature."""
    low = np.nanmin(np.where(np.isfinite(rows.values), rows.values, np.inf), axis=0)
    return np.float32(np.where(np.isfinite(low), low, 0.0) - BELOW)


def fitted(rows: Rows, chosen: np.ndarray) -> ExtraTreesRegressor:
    """Fit a forest to some of the rows."""
    forest = ExtraTreesRegressor(
        TREES, min_samples_leaf=LEAST_IN_LEAF, max_features=FEATURES, random_state=0, n_jobs=1
    )
    values = np.float32(np.where(np.isnan(rows.values), unknown(rows), rows.values))
    return forest.fit(values[chosen], rows.f1[chosen], weights(rows)[chosen])


def left_out(rows: Rows) -> np.ndarray:
    """Predict each row by a forest that saw neither its source nor its network."""
    sources, networks = rows.facts["source"], rows.facts["network"]
    values = np.float32(np.where(np.isnan(rows.values), unknown(rows), rows.values))
    predicted = np.zeros(len(rows.f1))
    for source in np.unique(sources):
        for network in np.unique(networks):
            mine = (sources == source) & (networks == network)
            if mine.any():
                forest = fitted(rows, (sources != source) & (networks != network))
                predicted[mine] = forest.predict(values[mine])
    return predicted.clip(0, 1)


def limits(predicted: np.ndarray, f1: np.ndarray) -> tuple[float, float]:
    """Choose up to where a mask is called likely wrong, and from where likely good.

    It is good from where 9 of 10 masks that are predicted so have an F1 of 0.5 or more.
    """
    wrong = float(np.quantile(predicted[f1 > GOOD], FALSE_ALARMS))
    at, low, _ = intervals(predicted, f1)
    many = np.linspace(0, 1, 1001)
    sure = many[np.interp(many, at, low) >= BAD]
    return wrong, max(float(sure[0]) if len(sure) else 1.0, wrong + 0.01)


def intervals(predicted: np.ndarray, f1: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give predictions, and between what the truth lies in 8 of 10 cases at each."""
    order = np.argsort(predicted)
    parts = np.array_split(order, BINS)
    at = np.array([predicted[part].mean() for part in parts])
    low, high = (np.array([np.quantile(f1[part], end) for part in parts]) for end in ENDS)
    return at, np.maximum.accumulate(low), np.maximum.accumulate(high)


def arrays(rows: Rows, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Give a predictor as `bmz.process.quality` reads it."""
    trees = [estimator.tree_ for estimator in fitted(rows, rows.f1 >= 0).estimators_]
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    inner = [tree.children_left >= 0 for tree in trees]
    shift = list(zip(trees, starts, inner, strict=False))
    # scikit-learn numbers nodes from the root to the left first
    assert all((t.children_left[i] == np.flatnonzero(i) + 1).all() for t, _, i in shift)
    at, low, high = intervals(predicted, rows.f1)
    wrong, good = limits(predicted, rows.f1)
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
        "at": np.float32(at),
        "low": np.float32(low),
        "high": np.float32(high),
        "wrong": np.float32(wrong),
        "good": np.float32(good),
    }


def figures(name: str, predicted: np.ndarray, f1: np.ndarray, chosen: tuple[float, float]) -> str:
    """Give a row of the table of figures.

    Parameters
    ----------
    chosen : the limits that are shipped
    """
    wrong, good = chosen
    bad, fine = predicted[f1 < BAD] <= wrong, predicted[f1 > GOOD] <= wrong
    sure = f1[predicted >= good]
    rho = spearmanr(predicted, f1).statistic
    cells = (
        name,
        f"{rho:.2f}",
        f"{abs(predicted - f1).mean():.3f}",
        f"{bad.mean():.1%}",
        f"{fine.mean():.1%}",
        f"{(sure >= BAD).mean():.1%} of {len(sure)}",
    )
    return "| " + " | ".join(cells) + " |"
