"""Answers for images from classifiers that have seen no image of their sources."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product

import numpy as np
from classifier import LARGEST, Linear, forest, forest_shares, linear, logits_of, softmax
from gather import Measured
from scipy import optimize
from sklearn.ensemble import ExtraTreesClassifier
from unknown import fading, nearness

from bmz.check.kind_classifier import as_of_grey
from corpus import MADE

PARTS = 20
"""Sources are left out in so many parts."""

SEEN = 464
"""So many features of the network come last."""

COLOURS = 33
"""So many features of colour come before them."""

AXES = 12
"""Directions in which kinds lie apart."""

HEADS = ("grey", "colour")

DECAY, STEPS = 1e-2, 150
"""Of the logistic regression."""

TREES, LEAF = 32, 8
"""Of the forest: their number, and the fewest rows at a leaf."""


LEVELS = ("families", "kinds")
"""What a head tells: families, and kinds within a family."""


@dataclass(frozen=True, eq=False)
class HeadFit:
    """Two unlike classifiers for grey or for colour images.

    Parameters
    ----------
    linear : level -> logistic regression on what the network sees
    trees : forest of extremely randomised trees on what is measured by hand; it tells kinds
    family_of : (kinds,) number of the family of each kind
    """

    linear: dict[str, Linear]
    trees: ExtraTreesClassifier
    family_of: np.ndarray

    def logits(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Give for each level (2, n, classes) logits of both classifiers, of (n, k) features."""
        by_hand = rows[:, : self.trees.n_features_in_]
        kinds = forest_shares(self.trees, by_hand, len(self.family_of))
        shares = {
            "kinds": kinds,
            "families": kinds @ np.eye(self.family_of.max() + 1)[self.family_of],
        }
        return {
            level: np.stack([self.linear[level].logits(rows[:, -SEEN:]), logits_of(shares[level])])
            for level in LEVELS
        }


@dataclass(frozen=True, eq=False)
class Space:
    """Where images lie by a discriminant analysis.

    Parameters
    ----------
    mean, scale : (k,) of what the network sees
    axes : (k, m) directions, in units of standardised features
    centres : (c, m) of each kind of each source
    """

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray
    centres: np.ndarray

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Give (n, m) the places of (n, k) features."""
        values = (rows[:, -SEEN:] - self.mean) / self.scale
        return np.clip(values, -LARGEST, LARGEST) @ self.axes


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What left-out classifiers say.

    Parameters
    ----------
    kinds : names of the columns
    probabilities : (n, kinds); what is missing to 1 is an unknown kind
    beside : the same of images that are not learnt from
    mixes : factors of both classifiers, by head and level
    fade : where and how fast distance makes a kind unknown
    pairs : (p, 3) distance of an image of a left-out source to one of another source, and whether
        the two are of one kind and of one family
    """

    kinds: list[str]
    probabilities: np.ndarray
    beside: np.ndarray
    mixes: dict[tuple[str, str], np.ndarray]
    fade: tuple[float, float]
    pairs: np.ndarray

    @property
    def unit(self) -> float:
        """Give the distance that 2 % of the pairs of one kind exceed."""
        return float(np.quantile(self.pairs[self.pairs[:, 1] > 0, 0], 0.98))


def balance(data: Measured) -> np.ndarray:
    """Weigh rows so that neither a source with many images nor a common kind outweighs others."""
    of_pair = Counter((s.kind, s.source) for s in data.samples)
    each = np.array([of_pair[s.kind, s.source] ** -0.6 for s in data.samples])
    for names, power in (
        ([s.kind for s in data.samples], -0.5),
        ([s.kind.split("/")[0] for s in data.samples], -0.7),
    ):
        total = Counter[str]()
        for name, weight in zip(names, each, strict=True):
            total[name] += weight
        each *= np.array([total[name] ** power for name in names])
    count = np.bincount(data.sample, minlength=len(data.samples))
    return (each / count)[data.sample]


def evenness(data: Measured) -> np.ndarray:
    """Weigh rows for probabilities to be true ones: milder than `balance`, without drawn images."""
    of_pair = Counter((s.kind, s.source) for s in data.samples)
    each = np.array([of_pair[s.kind, s.source] ** -0.6 for s in data.samples])
    each *= np.array([s.source not in MADE for s in data.samples])
    total = Counter[str]()
    for sample, weight in zip(data.samples, each, strict=True):
        total[sample.kind.split("/")[0]] += weight
    each *= np.array([total[s.kind.split("/")[0]] ** -0.5 for s in data.samples])
    return each[data.sample]


def parts_of_sources(data: Measured) -> dict[str, int]:
    """Give the part that each source is in; the parts have about as many images each."""
    load, part_of = [0] * PARTS, dict[str, int]()
    images = Counter(s.source for s in data.samples)
    for source, count in sorted(images.items(), key=lambda pair: (-pair[1], pair[0])):
        part_of[source] = load.index(min(load))
        load[part_of[source]] += count
    return part_of


def left_out(data: Measured, kinds: list[str], beside: Measured) -> LeftOut:
    """Answer for every row without any image of its source.

    Parameters
    ----------
    data : what is learnt from
    kinds : of these
    beside : what is only answered for
    """
    part_of, rows = parts_of_sources(data), np.concatenate([data.rows, beside.rows])
    part = np.concatenate(
        [np.array([part_of.get(s.source, 0) for s in m.samples])[m.sample] for m in (data, beside)]
    )
    learnt, coloured = np.arange(len(rows)) < len(data.rows), is_coloured(rows)
    far, pairs = np.zeros(len(rows)), []
    logits = {k: np.zeros((2, len(rows), max(truths(data, kinds, k)) + 1)) for k in LEVELS}
    for number in range(PARTS):
        out = part == number
        for head in HEADS:
            answered = out & (coloured if head == "colour" else ~coloured)
            if answered.any():
                told = head_fit(data, kinds, ~out[learnt], head).logits(rows[answered])
                for level in LEVELS:
                    logits[level][:, answered] = told[level]
        space = space_of(data, ~out[learnt])
        far[out] = nearness(space.places(rows[out]), space.centres)
        pairs.append(_pairs(data, space, out[learnt]))
        print(f"part {number} of {PARTS} is answered", flush=True)
    told, mixes, fade = _calibrated(data, kinds, logits, far, coloured)
    return LeftOut(kinds, told[learnt], told[~learnt], mixes, fade, np.concatenate(pairs))


def _pairs(data: Measured, space: Space, out: np.ndarray) -> np.ndarray:
    """Give the distances of images that are left out to all images of other sources."""
    names = np.array([s.kind for s in data.samples])[data.sample]
    families = np.array([s.kind.split("/")[0] for s in data.samples])[data.sample]
    real = evenness(data) > 0
    one, other = np.flatnonzero(out & data.plain & real), np.flatnonzero(~out & data.plain & real)
    places = space.places(data.rows)
    far = np.linalg.norm(places[one][:, None] - places[other][None], axis=-1)
    same_kind = names[one][:, None] == names[other][None]
    same_family = families[one][:, None] == families[other][None]
    return np.stack([far.ravel(), same_kind.ravel(), same_family.ravel()], 1)


def _calibrated(
    data: Measured,
    kinds: list[str],
    logits: dict[str, np.ndarray],
    far: np.ndarray,
    coloured: np.ndarray,
) -> tuple[np.ndarray, dict[tuple[str, str], np.ndarray], tuple[float, float]]:
    """Give probabilities, factors and fading, chosen on what is learnt from, whose rows lead."""
    weights, count = evenness(data), len(data.rows)
    mixes, shares = {}, {k: np.zeros(table.shape[1:]) for k, table in logits.items()}
    for head, level in product(HEADS, LEVELS):
        spoken = coloured if head == "colour" else ~coloured
        own = np.flatnonzero(spoken[:count])
        truth = truths(data, kinds, level)[own]
        mixes[head, level] = mix(logits[level][:, own], truth, weights[own])
        together = np.tensordot(mixes[head, level], logits[level][:, spoken], 1)
        shares[level][spoken] = softmax(together)
    fade = fading(far[:count], strange_distances(data), weights)
    known = 1 / (1 + np.exp(fade[1] * (far - fade[0])))
    print(f"mixes {mixes}, fade {fade}, known {np.quantile(known, [0.01, 0.05, 0.2, 0.5])}")
    told = combined(shares["families"], shares["kinds"], kinds)
    told[~coloured] = as_of_grey(told[~coloured], np.array([k.split("/")[0] for k in kinds]))
    return told * known[:, None], mixes, fade


def combined(families: np.ndarray, shares: np.ndarray, kinds: list[str]) -> np.ndarray:
    """Give families their probability and kinds theirs within a family, (n, kinds)."""
    family_of = families_of(kinds)
    inside = shares @ np.eye(families.shape[1])[family_of]
    return shares * (families / inside)[:, family_of]


def mix(logits: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Choose the factors of both classifiers of the best likelihood, temperature included.

    Parameters
    ----------
    logits : (2, n, kinds)
    truth : (n,) number of the kind
    weights : (n,)
    """

    def loss(factors: np.ndarray) -> float:
        shares = softmax(np.tensordot(factors, logits, 1))
        right = shares[np.arange(len(truth)), truth]
        return float(-(weights * np.log(right + 1e-9)).sum() / weights.sum())

    best = optimize.minimize(loss, np.array([0.3, 0.5]), bounds=[(0.01, 3), (0.01, 3)])
    return best.x


def is_coloured(rows: np.ndarray) -> np.ndarray:
    """Tell which rows are of colour images."""
    return np.isfinite(rows[:, -SEEN - 1])


def strange_distances(data: Measured) -> np.ndarray:
    """Give the distances of images of each family from all of other families."""
    family = np.array([s.kind.split("/")[0] for s in data.samples])[data.sample]
    distances = []
    for name in sorted(set(family)):
        out = (family == name) & data.plain
        space = space_of(data, family != name)
        distances.append(nearness(space.places(data.rows[out]), space.centres))
    return np.concatenate(distances)


def truths(data: Measured, kinds: list[str], level: str = "kinds") -> np.ndarray:
    """Give the number of the kind, or of the family, of each row."""
    numbers = families_of(kinds) if level == "families" else range(len(kinds))
    number_of = dict(zip(kinds, numbers, strict=True))
    return np.array([number_of[s.kind] for s in data.samples])[data.sample]


def head_fit(data: Measured, kinds: list[str], part: np.ndarray, head: str) -> HeadFit:
    """Fit both classifiers of a head to a part of the rows."""
    if head == "colour":
        part = part & is_coloured(data.rows)
    by_hand = data.rows[part, : -SEEN if head == "colour" else -SEEN - COLOURS]
    weights = balance(data)[part]
    regressions = {}
    for level in LEVELS:
        truth = truths(data, kinds, level)
        targets = np.eye(truth.max() + 1)[truth[part]]
        regressions[level] = linear(data.rows[part, -SEEN:], targets, weights, DECAY, STEPS)
    trees = forest(by_hand, truths(data, kinds)[part], weights, TREES, LEAF)
    return HeadFit(regressions, trees, families_of(kinds))


def families_of(kinds: list[str]) -> np.ndarray:
    """Give the number of the family of each kind."""
    return np.unique([kind.split("/")[0] for kind in kinds], return_inverse=True)[1]


def space_of(data: Measured, part: np.ndarray) -> Space:
    """Find directions in which kinds lie apart and the images of a source do not (Fisher 1936).

    Their unit is such that 2 % of the pairs of images of one kind lie farther apart than 1.
    """
    rows = data.rows[part, -SEEN:]
    mean, scale = rows.mean(0), rows.std(0) + 1e-3
    values = np.clip((rows - mean) / scale, -LARGEST, LARGEST)
    kind = _numbers([s.kind for s in data.samples], data.sample[part])
    group = _numbers([f"{s.kind} {s.source}" for s in data.samples], data.sample[part])
    means, centres = _means(values, group), _means(values, kind)
    inside = np.cov((values - means[group]).T) + 0.3 * np.eye(values.shape[1])
    sizes, vectors = np.linalg.eigh(inside)
    white = vectors / np.sqrt(sizes)
    _, _, turned = np.linalg.svd((centres - centres.mean(0)) @ white, full_matrices=False)
    axes = white @ turned[:AXES].T
    plain = data.plain[part]
    axes /= _usual_distance((values @ axes)[plain], kind[plain])
    return Space(mean, scale, axes, _means(values @ axes, group))


def _usual_distance(places: np.ndarray, kind: np.ndarray) -> float:
    far = np.linalg.norm(places[:, None] - places[None], axis=-1)
    same = (kind[:, None] == kind[None]) & ~np.eye(len(kind), dtype=bool)
    counts = same.sum(1, keepdims=True).clip(1).repeat(len(kind), 1)
    order = np.argsort(far[same])
    total = (1 / counts[same])[order].cumsum()
    return float(far[same][order][np.searchsorted(total, 0.98 * total[-1])])


def _numbers(names: list[str], sample: np.ndarray) -> np.ndarray:
    chosen = np.array(names)[sample]
    return np.unique(chosen, return_inverse=True)[1]


def _means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    return np.stack([values[group == g].mean(0) for g in range(group.max() + 1)])
