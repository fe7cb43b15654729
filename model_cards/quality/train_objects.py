"""Fit the model of single objects and the predictor of every run, and say how good they are.

``python model_cards/quality/train_objects.py`` with scikit-learn reads ``objects.npz``, which
``gather_objects.py`` writes, and writes ``src/bmz/process/objects.npz``, the figures of the card
and of ``docs/explanation/trial.md``, and the diagram ``docs/explanation/object-confidence.svg``.
One thread and fixed seeds: the same rows give the same arrays.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "benchmarks"), str(ROOT / "src")]

import forests as train  # noqa: E402  (beside this file)

from bmz.process.object_evidence import OBJECT_FEATURES, PLANE_FEATURES  # noqa: E402
from bmz.process.quality import FARTHEST, ObjectModel, confidence_features  # noqa: E402

ARRAYS = ROOT / "src/bmz/process/objects.npz"
DIAGRAM = ROOT / "docs/explanation/object-confidence.svg"
MARKS = ("<!-- model_cards/quality/train_objects.py -->\n", "<!-- end of objects -->\n")

TRUE_IOU = 0.5
"""Above this an object is a true one."""

KNOTS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Quantiles of the features of objects at which their answers bend."""

RISING = (
    "filled", "score", "score_beside_others", "map_mean", "map_steepness", "sure", "step",
    "step_beside_others", "step_to_noise",
)  # fmt: skip
"""With more of these an object is never less sure."""

PLANE_SHARE = 0.3
"""Features of the plane count for so much beside those of the objects, before they are weighed."""

STRENGTH = 0.002
"""Of the weights against their penalty."""

CLEAN = 2.5
"""An image as it is, of what its network is made for, counts for so much beside any other."""

BINS = 10
WORST = 0.1
"""The share of objects that is looked at first."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The evidence.

    Parameters
    ----------
    values : (n, o + p) features of each object and of its plane
    true : (n,) whether it is a true one
    mask : (n,) which mask it is of
    planes : (m, p) features of each mask
    flags : (m, q) what the check found
    f1 : (m,)
    facts : column -> (m,) words
    """

    values: np.ndarray
    true: np.ndarray
    mask: np.ndarray
    planes: np.ndarray
    flags: np.ndarray
    flag_names: tuple[str, ...]
    f1: np.ndarray
    facts: dict[str, np.ndarray]

    def of(self, chosen: np.ndarray) -> np.ndarray:
        """Give which objects are of the chosen masks."""
        return chosen[self.mask]


def read_objects() -> Objects:
    """Read ``objects.npz``."""
    with np.load(HERE / "objects.npz") as arrays:
        read = {name: arrays[name] for name in arrays.files}
    planes = read["planes"].astype(np.float64)
    values = np.concatenate([read["objects"].astype(np.float64), planes[read["mask"]]], 1)
    facts = {name: read[name] for name in ("network", "source", "image", "fault", "near")}
    names = tuple(str(read["flag_names"]).split())
    true = read["iou"].astype(np.float64) > TRUE_IOU
    return Objects(
        values, true, read["mask"], planes, read["flags"], names, read["f1"].astype(float), facts
    )


def mask_weights(rows: Objects) -> np.ndarray:
    """Let each source count by the root of its masks, and images as they are for more."""
    _, own = np.unique(rows.facts["source"], return_inverse=True)
    clean = np.where(rows.facts["fault"] == "none", CLEAN, 1.0)
    return clean / np.sqrt(np.bincount(own)[own])


def object_weights(rows: Objects) -> np.ndarray:
    """Let each mask count by the root of its objects, too."""
    counts = np.bincount(rows.mask, minlength=len(rows.f1))
    weights = (mask_weights(rows) / np.sqrt(np.maximum(counts, 1)))[rows.mask]
    return weights / weights.mean()


def fitted(rows: Objects, chosen: np.ndarray) -> ObjectModel:
    """Fit the model to the objects of the chosen masks.

    A feature counts by its slope everywhere and by one more between each two knots; of features in
    `RISING` none may be negative.
    """
    mine, own = rows.of(chosen), len(OBJECT_FEATURES)
    values, weights = rows.values[mine], object_weights(rows)[mine]
    known = np.isfinite(values)
    share = known * weights[:, None]
    middle = np.nansum(np.where(known, values, 0) * share, 0) / np.maximum(share.sum(0), 1e-9)
    filled = np.where(known, values, middle)
    spread = filled.std(0) + 1e-9
    level = np.clip((filled - middle) / spread, -FARTHEST, FARTHEST)
    knots = np.quantile(filled[:, :own], KNOTS, axis=0)
    ends = [*(knots - middle[:own]) / spread[:own], np.full(own, np.inf)]
    parts = [np.minimum(level[:, :own], ends[0])]
    parts += [np.clip(level[:, :own], low, high) - low for low, high in itertools.pairwise(ends)]
    terms = np.concatenate([level[:, :own], *parts, level[:, own:] * PLANE_SHARE], 1)
    least = [0.0 if name in RISING else None for name in OBJECT_FEATURES] * (len(parts) + 1)
    least += [None] * (len(PLANE_FEATURES) + 1)
    solved = logistic(terms, rows.true[mine], weights, least)
    slopes = solved[: own * (len(parts) + 1)].reshape(-1, own)
    whole = slopes[0] + slopes[1:]
    of_objects = [whole[0], *np.diff(whole, axis=0)]
    of_plane = solved[own * (len(parts) + 1) : -1] * PLANE_SHARE
    weights = np.concatenate([*of_objects, of_plane])
    return ObjectModel(middle, spread, knots, weights, solved[-1], {})


def logistic(
    terms: np.ndarray, true: np.ndarray, weights: np.ndarray, least: list[float | None]
) -> np.ndarray:
    """Fit a logistic regression with a penalty on squares, and bounds.

    Parameters
    ----------
    least : of each weight, and of the constant, which comes last
    """
    sides = np.where(true, 1.0, -1.0)

    def loss(solution: np.ndarray) -> tuple[float, np.ndarray]:
        margins = sides * (terms @ solution[:-1] + solution[-1])
        costs = weights * np.logaddexp(0, -margins)
        pull = -weights * sides / (1 + np.exp(np.minimum(margins, 500)))
        slope = np.append(STRENGTH * (terms.T @ pull) + solution[:-1], STRENGTH * pull.sum())
        return STRENGTH * costs.sum() + 0.5 * float(solution[:-1] @ solution[:-1]), slope

    start = np.zeros(terms.shape[1] + 1)
    bounds = [(low, None) for low in least]
    result = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200}
    )
    return np.asarray(result.x)


def confidences(model: ObjectModel, rows: Objects, mine: np.ndarray) -> np.ndarray:
    """Predict objects; their planes are those beside them."""
    own = len(OBJECT_FEATURES)
    given = np.zeros(int(mine.sum()))
    for mask in np.unique(rows.mask[mine]):
        here = rows.mask[mine] == mask
        given[here] = model.confidences(rows.values[mine][here][:, :own], rows.planes[mask])
    return given


@dataclass(frozen=True, eq=False)
class Bend:
    """What is done with log odds, to fit what was seen on sources that were left out (Platt 1999).

    Parameters
    ----------
    slope, shift : of the log odds
    findings : (q,) by how much a finding of the check changes those of all objects
    """

    slope: float
    shift: float
    findings: np.ndarray

    @classmethod
    def fitted(cls, chances: np.ndarray, rows: Objects, chosen: np.ndarray) -> Bend:
        """Fit it to the objects of the chosen masks."""
        mine = rows.of(chosen)
        clean = (rows.facts["fault"] == "none") & rows_near(rows)
        weights = np.where(clean, CLEAN, 1.0)[rows.mask[mine]]
        terms = np.column_stack([_odds(chances), _gravities(rows)])[mine]
        model = LogisticRegression(C=1e2).fit(terms, rows.true[mine], weights)
        slope, *findings = model.coef_[0].tolist()
        return cls(slope, float(model.intercept_[0]), np.array(findings))

    def base(self, chances: np.ndarray) -> np.ndarray:
        """Bend chances; what the check found is left out."""
        return 1 / (1 + np.exp(-(self.slope * _odds(chances) + self.shift)))

    def whole(self, chances: np.ndarray, rows: Objects, mine: np.ndarray) -> np.ndarray:
        """Bend chances of some of the objects."""
        odds = _odds(self.base(chances)) + _gravities(rows)[mine] @ self.findings
        return 1 / (1 + np.exp(-odds))

    def of(self, model: ObjectModel) -> ObjectModel:
        """Give a model that is bent so."""
        constant = model.constant * self.slope + self.shift
        return replace(model, weights=model.weights * self.slope, constant=constant)


def _odds(chances: np.ndarray) -> np.ndarray:
    safe = chances.clip(1e-6, 1 - 1e-6)
    return np.log(safe / (1 - safe))


def _gravities(rows: Objects) -> np.ndarray:
    return rows.flags[rows.mask]


def left_out(rows: Objects) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predict each object by a model that saw neither its source nor its network.

    Returns
    -------
    (n,), (n,), (n,)
        as the model gives it; bent by what was predicted for other sources; and with the findings
    """
    sources, networks = rows.facts["source"], rows.facts["network"]
    plain = np.zeros(len(rows.true))
    for source in np.unique(sources):
        for network in np.unique(networks):
            here = (sources == source) & (networks == network)
            if rows.of(here).any():
                model = fitted(rows, (sources != source) & (networks != network))
                plain[rows.of(here)] = confidences(model, rows, rows.of(here))
    base, whole = np.zeros_like(plain), np.zeros_like(plain)
    for source in np.unique(sources):
        bend, mine = Bend.fitted(plain, rows, sources != source), rows.of(sources == source)
        base[mine] = bend.base(plain[mine])
        whole[mine] = bend.whole(plain[mine], rows, mine)
    return plain, base, whole


def rows_near(rows: Objects) -> np.ndarray:
    """Choose the masks of images that show what their network is made for."""
    return rows.facts["near"] == "yes"


def calibration_error(chances: np.ndarray, true: np.ndarray) -> float:
    """Give the mean distance of chances from what is true, in ten bins, by their objects."""
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    error = 0.0
    for number in np.unique(bins):
        mine = bins == number
        error += mine.mean() * abs(chances[mine].mean() - true[mine].mean())
    return float(error)


def errors_found(chances: np.ndarray, true: np.ndarray) -> float:
    """Give the share of all wrong objects that is among the tenth flagged worst."""
    worst = np.argsort(chances, kind="stable")[: max(round(len(chances) * WORST), 1)]
    return float((~true[worst]).sum() / max((~true).sum(), 1))


def _row(name: str, chances: np.ndarray, true: np.ndarray) -> str:
    wrong = (~true).mean()
    both = 0 < wrong < 1
    cells = (
        name,
        f"{len(true)}",
        f"{wrong:.1%}",
        f"{chances.mean():.2f}",
        f"{calibration_error(chances, true):.3f}",
        f"{errors_found(chances, true):.1%}",
        f"{min(WORST / wrong, 1):.0%}" if wrong else "",
        f"{roc_auc_score(true, chances):.2f}" if both else "",
    )
    return "| " + " | ".join(cells) + " |"


_HEAD = (
    "| {} | objects | wrong | confidence, mean | calibration error | "
    "of the errors in the tenth flagged worst | possible | area under the curve |"
)


def tables(rows: Objects, chances: np.ndarray) -> Iterator[str]:
    """Yield the lines of the figures."""
    near, clean = rows_near(rows), rows.facts["fault"] == "none"
    everyone = np.ones(len(near), bool)
    pools = {
        "images that show what the network is made for": near,
        "the same, without a fault": near & clean,
        "the same, of masks with an F1 of 0.5 or more": near & clean & (rows.f1 >= 0.5),
        "all images, also of other structures": everyone,
    }
    yield _HEAD.format("")
    yield "|" + "---|" * 8
    for name, pool in pools.items():
        yield _row(name, chances[rows.of(pool)], rows.true[rows.of(pool)])
    for fact in ("source", "network", "fault"):
        yield ""
        yield _HEAD.format(fact)
        yield "|" + "---|" * 8
        for group in np.unique(rows.facts[fact]):
            mine = rows.of(near & (rows.facts[fact] == group))
            if mine.any():
                yield _row(group, chances[mine], rows.true[mine])
    yield ""
    yield "| confidence | objects | true |"
    yield "|---|---|---|"
    for low, count, _, share in bins_of(chances, rows.true):
        yield f"| {low:.1f} to {low + 1 / BINS:.1f} | {count} | {share:.0%} |"


def bins_of(chances: np.ndarray, true: np.ndarray) -> Iterator[tuple[float, int, float, float]]:
    """Yield of each bin its beginning, its objects, mean confidence and share of true ones."""
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    for number in np.unique(bins):
        mine = bins == number
        yield number / BINS, int(mine.sum()), float(chances[mine].mean()), float(true[mine].mean())


SIDE, EDGE = 260, 40
"""Of the diagram and its margin, px."""


def diagram(chances: np.ndarray, true: np.ndarray) -> str:
    """Draw how many objects are true at each confidence, as SVG."""

    def at(x: float, y: float) -> tuple[float, float]:
        return EDGE + x * SIDE, EDGE / 2 + (1 - y) * SIDE

    whole = SIDE + 1.5 * EDGE
    x0, y0 = at(0, 0)
    x1, y1 = at(1, 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:g} {whole:g}">',
        "<title>True objects by their confidence, of sources and networks left out</title>",
        "<style>text { font: 11px sans-serif }</style>",
        f'<rect width="{whole:g}" height="{whole:g}" fill="white"/>',
        f'<rect x="{x0}" y="{y1}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#888"/>',
        f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#888" stroke-dasharray="4"/>',
    ]
    for tick in (0, 0.5, 1):
        x, y = at(tick, tick)
        lines.append(f'<text x="{x:g}" y="{y0 + 14:g}" text-anchor="middle">{tick:g}</text>')
        lines.append(f'<text x="{x0 - 5:g}" y="{y + 4:g}" text-anchor="end">{tick:g}</text>')
    bins = list(bins_of(chances, true))
    points = [at(mean, share) for _, _, mean, share in bins]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    lines.append(f'<polyline points="{path}" fill="none" stroke="#1a5fb4" stroke-width="2"/>')
    most = max(count for _, count, _, _ in bins)
    for (x, y), (_, count, _, _) in zip(points, bins, strict=True):
        radius = 2 + 6 * (count / most) ** 0.5
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#1a5fb4"/>')
    middle, low = at(0.5, 0)
    lines.append(f'<text x="{middle:g}" y="{low + 28:g}" text-anchor="middle">confidence</text>')
    turned = f"translate(12 {whole / 2:g}) rotate(-90)"
    lines.append(f'<text transform="{turned}" text-anchor="middle">true objects</text>')
    return "\n".join([*lines, "</svg>", ""])


def run_rows(rows: Objects, chances: np.ndarray) -> train.Rows:
    """Give what a run tells of each mask, with the confidences of models that saw none of it."""
    of_masks = [
        list(confidence_features(chances[rows.mask == mask]).values())
        for mask in range(len(rows.f1))
    ]
    names = (*PLANE_FEATURES, *confidence_features(np.ones(1)), *rows.flag_names)
    values = np.concatenate([rows.planes, np.array(of_masks), rows.flags], 1)
    return train.Rows.all_alike(names, values, rows.f1, rows.facts)


def main() -> None:
    """Fit, write the arrays, and the figures."""
    from pages import write_between  # of the benchmarks

    rows = read_objects()
    plain, base, chances = left_out(rows)
    everyone = np.ones(len(rows.f1), bool)
    bend = Bend.fitted(plain, rows, everyone)
    model = bend.of(fitted(rows, everyone))
    runs = run_rows(rows, base)
    predicted = train.left_out(runs, "source", "network", growth=train.OF_RUNS)
    limits = train.limits(runs.f1, predicted)
    forest = train.arrays(runs, predicted, limits, train.OF_RUNS)
    np.savez_compressed(
        ARRAYS,
        middle=np.float32(model.middle),
        spread=np.float32(model.spread),
        knots=np.float32(model.knots),
        weights=np.float32(model.weights),
        constant=np.float32(model.constant),
        finding_names=np.array(" ".join(rows.flag_names)),
        findings=np.float32(bend.findings),
        **{f"run_{name}": value for name, value in forest.items()},
    )
    heads = ("left out", "Spearman", "mean error", "of F1 < 0.5 called likely wrong")
    more = ("of F1 > 0.75 called so", "of those called likely good F1 >= 0.5")
    mask_lines = [
        "| " + " | ".join((*heads, *more)) + " |",
        "|" + "---|" * 6,
        train.figures("source and network, every run", predicted, runs.f1, limits),
    ]
    text = "\n".join(
        [*tables(rows, chances), "", "The mask as a whole, in every run:", "", *mask_lines]
    )
    print(text)
    DIAGRAM.write_text(diagram(chances, rows.true), encoding="utf-8")
    for page in train.PAGES:
        write_between(page, MARKS, text)


if __name__ == "__main__":
    main()
