"""What trainings of predictors share: rows of evidence, their weights, a forest, its figures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesRegressor

from bmz.process.quality import RegressionForest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = (HERE / "README.md", ROOT / "docs/explanation/trial.md")
sys.path.insert(0, str(ROOT / "benchmarks"))

FACTS = ("network", "source", "image", "fault", "f1")


@dataclass(frozen=True)
class Growth:
    """How a forest is grown.

    Parameters
    ----------
    features : share of them that is looked at for each node
    means : leaves keep the mean of their examples alone, which takes less room
    """

    trees: int
    least_in_leaf: int
    features: float
    means: bool = False


COARSE = np.uint32(0xFFFFF000)
"""Bits of a threshold that are kept: the others, a four-thousandth of it, only take room."""

STEPS = 1001
"""Of the means that leaves keep."""

OF_RUNS = Growth(40, 3, 0.4)

BELOW = 1.0
"""So far below all known values stands the one for a value that is not known."""

GOOD, BAD = 0.75, 0.5
"""F1 from which a mask is good, and below which it is bad."""

FALSE_ALARMS = 0.07
"""Share of good masks that may be called likely wrong."""

FOUND = 0.95
"""Share of bad masks that are to be called so; more are not asked for."""

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
    counts : (n,) how much each counts beside others of its source
    asked : (n,) for which a prediction is asked; all are learnt from
    """

    names: tuple[str, ...]
    values: np.ndarray
    f1: np.ndarray
    facts: dict[str, np.ndarray]
    counts: np.ndarray
    asked: np.ndarray

    @classmethod
    def all_alike(
        cls,
        names: tuple[str, ...],
        values: np.ndarray,
        f1: np.ndarray,
        facts: dict[str, np.ndarray],
    ) -> Rows:
        """Give rows that count alike, for all of which a prediction is asked."""
        return cls(names, values, f1, facts, np.ones(len(f1)), np.ones(len(f1), bool))

    def without(self, beginnings: tuple[str, ...]) -> Rows:
        """Leave out the features whose names begin so."""
        kept = [i for i, name in enumerate(self.names) if not name.startswith(beginnings)]
        names = tuple(self.names[i] for i in kept)
        return replace(self, names=names, values=self.values[:, kept])


def weights(rows: Rows) -> np.ndarray:
    """Let each source count by the root of its rows, so that a large one does not rule."""
    sources, own = np.unique(rows.facts["source"], return_inverse=True)
    counts = np.bincount(own, rows.counts, minlength=len(sources))
    return rows.counts / np.sqrt(counts[own])


def unknown(rows: Rows) -> np.ndarray:
    """Give what stands for an unknown value of each feature."""
    low = np.nanmin(np.where(np.isfinite(rows.values), rows.values, np.inf), axis=0)
    return np.float32(np.where(np.isfinite(low), low, 0.0) - BELOW)


def forest_arrays(
    growth: Growth, values: np.ndarray, f1: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Grow a forest, and give it as `bmz.process.quality.RegressionForest.of` reads it.

    Parameters
    ----------
    values : (n, k) without NaN
    counts : (n,) how much each example counts
    """
    order = np.argsort(f1, kind="stable")
    values, f1, counts = np.float32(values[order]), f1[order], counts[order]
    forest = ExtraTreesRegressor(
        growth.trees, min_samples_leaf=growth.least_in_leaf, max_features=growth.features,
        random_state=0, n_jobs=1,
    ).fit(values, f1, counts)  # fmt: skip
    parts: dict[str, list[np.ndarray]] = {name: [] for name in _PARTS}
    node = 0
    for tree, leaves in zip(forest.estimators_, forest.apply(values).T, strict=True):
        grown = tree.tree_
        inner = grown.children_left >= 0
        # scikit-learn numbers nodes from the root to the left first
        assert (grown.children_left[inner] == np.flatnonzero(inner) + 1).all()
        many = np.bincount(leaves, minlength=grown.node_count)
        examples = np.argsort(leaves, kind="stable")
        if growth.means:
            many = np.minimum(many, 1)
            examples = np.rint(grown.value[:, 0, 0][many > 0] * (STEPS - 1))
        parts["roots"].append(np.array([node]))
        parts["feature"].append(np.where(inner, grown.feature, -1))
        parts["threshold"].append(np.where(inner, grown.threshold, many))
        own = np.arange(grown.node_count)
        parts["right"].append(np.where(inner, grown.children_right - own, 0))
        parts["examples"].append(examples)
        node += grown.node_count
    joined = {name: np.concatenate(arrays).astype(_PARTS[name]) for name, arrays in parts.items()}
    joined["threshold"] = (joined["threshold"].view(np.uint32) & COARSE).view(np.float32)
    if growth.means:
        f1, counts = np.linspace(0, 1, STEPS), np.ones(STEPS)
    return packed(joined) | {
        "answers": np.float32(f1),
        "counts": np.float32(counts / counts.mean()),
    }


def packed(nodes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bring what is alike together, which takes less room: thresholds by feature, and bytes."""
    alike = nodes["threshold"][np.argsort(nodes["feature"], kind="stable")]
    split = {}
    for name, array in (nodes | {"threshold": alike}).items():
        if name in SPLIT:
            ordered = array.astype(array.dtype.newbyteorder("<"))
            split[name] = np.ascontiguousarray(ordered.view(np.uint8).reshape(len(array), -1).T)
    return nodes | split


SPLIT = ("threshold", "right", "examples")
"""What is kept by its bytes; see `bmz.process.quality.joined_bytes`."""

_PARTS = {
    "roots": np.int32, "feature": np.int8, "threshold": np.float32, "right": np.int16,
    "examples": np.int16,
}  # fmt: skip


def filled(rows: Rows) -> np.ndarray:
    """Give the values, with the one that stands for an unknown value where there is none."""
    return np.float32(np.where(np.isnan(rows.values), unknown(rows), rows.values))


def forest_of(rows: Rows, chosen: np.ndarray, growth: Growth) -> RegressionForest:
    """Fit a forest to some of the rows."""
    grown = forest_arrays(growth, filled(rows)[chosen], rows.f1[chosen], weights(rows)[chosen])
    return RegressionForest.of(rows.names, unknown(rows), grown)


Told = Callable[[RegressionForest, Mapping[str, float]], float]


def left_out(
    rows: Rows, *kept_apart: str, growth: Growth, told: Told = RegressionForest.predict
) -> np.ndarray:
    """Predict each row by a forest that saw none of its own kind.

    Parameters
    ----------
    kept_apart : ``source`` or ``network``, or both
    told : the median of the forest, or its mean
    """
    predicted = np.full(len(rows.f1), np.nan)
    for group in sorted(set(zip(*(rows.facts[fact] for fact in kept_apart), strict=True))):
        same = [rows.facts[fact] == name for fact, name in zip(kept_apart, group, strict=True)]
        mine = np.all(same, 0) & rows.asked
        if mine.any():
            forest = forest_of(rows, ~np.any(same, 0), growth)
            predicted[mine] = [
                told(forest, dict(zip(rows.names, values, strict=True)))
                for values in rows.values[mine]
            ]
    return predicted


def limits(f1: np.ndarray, *predictions: np.ndarray) -> tuple[float, float]:
    """Choose up to where a mask is called likely wrong, and from where likely good.

    It is good from where 9 of 10 masks that are predicted so have an F1 of 0.5 or more.

    Parameters
    ----------
    predictions : in none of them more than `FALSE_ALARMS` are called wrong; the first tells what
        is good
    """
    wrong = min(float(np.quantile(each[f1 > GOOD], FALSE_ALARMS)) for each in predictions)
    wrong = min(wrong, max(float(np.quantile(each[f1 < BAD], FOUND)) for each in predictions))
    at, low, _ = intervals(predictions[0], f1)
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


def arrays(
    rows: Rows, predicted: np.ndarray, chosen: tuple[float, float], growth: Growth
) -> dict[str, np.ndarray]:
    """Give a predictor as `bmz.process.quality` reads it.

    Parameters
    ----------
    predicted : by forests that did not see the row
    chosen : see `limits`
    """
    everyone = np.ones(len(rows.f1), bool)
    grown = forest_arrays(growth, filled(rows), rows.f1, weights(rows)[everyone])
    at, low, high = intervals(predicted[rows.asked], rows.f1[rows.asked])
    wrong, good = chosen
    return {
        "names": np.array(" ".join(rows.names)),
        "unknown": unknown(rows),
        **grown,
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
