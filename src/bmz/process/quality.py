"""How good a label mask is likely to be, predicted from evidence without ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from typing_extensions import Doc, TypedDict  # pydantic asks for it below Python 3.12

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.values import dataclass
from bmz.check.pixel_values import percentiles
from bmz.process.object_evidence import (
    PLANE_FEATURES,
    Expectation,
    ObjectEvidence,
    features_of,
)

ARRAYS = Path(__file__).with_name("quality.npz")
"""Written by ``model_cards/quality/train.py``, which says what each array holds."""

TIE = 0.05
"""Predictions for one image that differ by less are a tie: their order is little better than by
chance, as ``model_cards/quality/train.py`` shows."""

SEEN_SPACE, MOST_SEEN_CHANNELS = "yx", 2
"""Axes, and most channels, of the networks whose masks are among the examples."""

LEARNT_FROM = "a rough estimate: trained on networks that take planes of one or two channels"

QualityWord = Literal["likely good", "look closely", "likely wrong"]


@dataclass(frozen=True, eq=False)
class RegressionForest:
    """Extremely randomised trees (Geurts et al. 2006), one after another.

    Leaves keep what was seen there (Meinshausen 2006), so that the median can be told: a mean draws
    everything towards the middle.

    Parameters
    ----------
    names : of the features, in the order that nodes refer to
    unknown : (k,) stands for a feature that is not known, below all that are
    roots : (trees,) the first node of each
    feature : (nodes,) the feature that a node asks for; -1 at a leaf
    threshold : (nodes,) up to this value the answer is on the left; at a leaf how many examples it
        has
    right : (nodes,) the node that follows on the right; on the left it is the next one; at a leaf
        the place of its first example
    examples : (trees * n,) numbers of examples, by leaves
    answers, counts : (n,) true F1 of each example, rising, and how much it counts
    """

    names: tuple[str, ...]
    unknown: FloatArray
    roots: AnyArray
    feature: AnyArray
    threshold: FloatArray
    right: AnyArray
    examples: AnyArray
    answers: FloatArray
    counts: FloatArray

    @classmethod
    def of(
        cls, names: Sequence[str], unknown: FloatArray, arrays: Mapping[str, AnyArray]
    ) -> RegressionForest:
        """Return a forest that is kept in less room.

        Parameters
        ----------
        arrays : by name; of `threshold`, `right` and `examples` the bytes, as `joined_bytes` takes
            them; in `right` is how far away the node on the right is, and 0 at a leaf, for the
            examples are in the order of the leaves; `threshold` is in the order of the features
        """
        feature = arrays["feature"]
        threshold = np.empty(len(feature), np.float32)
        threshold[np.argsort(feature, kind="stable")] = joined_bytes(arrays["threshold"], "<f4")
        many = np.where(feature < 0, threshold, 0).astype(np.int64)
        beyond = np.arange(len(feature)) + joined_bytes(arrays["right"], "<i2")
        return cls(
            tuple(names),
            unknown,
            roots=arrays["roots"],
            feature=feature,
            threshold=threshold,
            right=np.where(feature < 0, np.cumsum(many) - many, beyond),
            examples=joined_bytes(arrays["examples"], "<i2"),
            answers=arrays["answers"],
            counts=arrays["counts"],
        )

    def predict(self, values: Mapping[str, float]) -> float:
        """Return the median over the examples of all trees, each tree counting alike.

        Parameters
        ----------
        values : name -> value; what is missing or NaN is unknown
        """
        below = np.cumsum(self._shares(values))
        return float(self.answers[np.searchsorted(below, below[-1] / 2)])

    def mean(self, values: Mapping[str, float]) -> float:
        """Return their mean: it puts in order what has one median; see `predict`."""
        shares = self._shares(values)
        return float((shares * self.answers).sum() / shares.sum())

    def _shares(self, values: Mapping[str, float]) -> FloatArray:
        """Return how much each example counts for a prediction."""
        given = np.array([values.get(name, np.nan) for name in self.names], np.float32)
        row = np.where(np.isnan(given), self.unknown, given)
        nodes = self.roots
        while (inner := self.feature[nodes] >= 0).any():
            low = row[self.feature[nodes]] <= self.threshold[nodes]
            nodes = np.where(inner, np.where(low, nodes + 1, self.right[nodes]), nodes)
        many = self.threshold[nodes].astype(np.int64)
        first = np.cumsum(many) - many
        seen = self.examples[np.repeat(self.right[nodes] - first, many) + np.arange(many.sum())]
        counts = self.counts[seen]
        of_tree = np.repeat(np.add.reduceat(counts, first), many)
        return np.asarray(np.bincount(seen, counts / of_tree, len(self.answers)), np.float64)


def joined_bytes(split: AnyArray, dtype: str) -> AnyArray:
    """Give numbers whose first bytes, second bytes and so on are kept together, to take less room.

    Parameters
    ----------
    split : (bytes, n) uint8
    dtype : of the numbers, with its order of bytes
    """
    numbers: AnyArray = np.ascontiguousarray(split.T).view(dtype)[:, 0]
    return numbers


class QualityRecord(TypedDict):
    """How good a mask is likely to be, without ground truth."""

    f1: Annotated[float, Doc("predicted F1 at IoU 0.5")]
    low: Annotated[float, Doc("the actual F1 is higher in 9 of 10 cases")]
    high: Annotated[float, Doc("the actual F1 is lower in 9 of 10 cases")]
    word: Annotated[str, Doc("the verdict: `likely good`, `look closely` or `likely wrong`")]


@dataclass(frozen=True)
class Quality:
    """A prediction.

    Parameters
    ----------
    f1 : at IoU 0.5 with the masks of a careful person, 0 to 1
    low, high : between them it lies in 8 of 10 cases
    word : what to do with the mask
    seen : whether masks of such networks were among those that the prediction was learnt from
    """

    f1: float
    low: float
    high: float
    word: QualityWord
    seen: bool = True

    def ties_with(self, first: Quality) -> bool:
        """Return whether it is not surely lower than the one of the best mask of the same image."""
        return self.f1 > first.f1 - TIE


def quality_record(quality: Quality) -> QualityRecord:
    """Return a prediction as documents hold it."""
    f1, low, high = (round(value, 3) for value in (quality.f1, quality.low, quality.high))
    return {"f1": f1, "low": low, "high": high, "word": quality.word}


def quality_words(quality: Quality) -> str:
    """Return what is predicted, such as ``likely good, F1 about 0.86 (0.71 to 0.95)``."""
    return f"{quality.word}, {f1_words(quality)}"


def f1_words(quality: Quality) -> str:
    """Return what F1 is predicted, such as ``F1 about 0.86 (0.71 to 0.95)``."""
    learnt = "" if quality.seen else f"; {LEARNT_FROM}"
    return f"F1 about {quality.f1:.2f} ({quality.low:.2f} to {quality.high:.2f}{learnt})"


@dataclass(frozen=True, eq=False)
class Predictor:
    """A forest, and how far its predictions were off on sources and networks that were left out.

    Parameters
    ----------
    forest : tells the F1
    at, low, high : (n,) F1 that is told, and the ends of the interval at each
    wrong, good : the predictions up to, and from, which the word is "likely wrong", "likely good"
    """

    forest: RegressionForest
    at: FloatArray
    low: FloatArray
    high: FloatArray
    wrong: float
    good: float

    def quality(self, values: Mapping[str, float], *, seen: bool = True) -> Quality:
        """Predict the quality of a mask from its evidence.

        Parameters
        ----------
        values : name -> value, see `bmz.process.mask_evidence`; what is missing is unknown
        seen : see `at_f1`
        """
        return self.at_f1(self.forest.predict(values), seen=seen)

    def at_f1(self, f1: float, *, seen: bool = True) -> Quality:
        """Return the interval and the word for a prediction.

        Parameters
        ----------
        seen : see `is_seen`; where it is not, the interval holds whatever any mask may have, and
            nothing is called likely
        """
        if not seen:
            low, high = min(float(self.low[0]), f1), max(float(self.high[-1]), f1)
            return Quality(f1, low, high, "look closely", seen=False)
        low, high = (float(np.interp(f1, self.at, ends)) for ends in (self.low, self.high))
        word: QualityWord = "look closely"
        if f1 <= self.wrong:
            word = "likely wrong"
        elif f1 >= self.good:
            word = "likely good"
        return Quality(f1, min(low, f1), max(high, f1), word)


def is_seen(space: str, channels: int) -> bool:
    """Return whether masks of such networks are among those that predictions were learnt from.

    Parameters
    ----------
    space, channels : axes of the network, and how many channels of an image it takes
    """
    return space == SEEN_SPACE and channels <= MOST_SEEN_CHANNELS


PredictorName = Literal["tried", "plain", "among", "run"]
"""With the labels of changed copies of the image; without them; by how a mask stands among those of
other models, see `bmz.process.consensus.MaskPairs`; or by what a run makes anyway."""


@cache
def predictor(name: PredictorName) -> Predictor:
    """Load one of the predictors."""
    with np.load(OBJECT_ARRAYS if name == "run" else ARRAYS) as arrays:
        mine = {key: arrays[f"{name}_{key}"] for key in _FOREST + _PREDICTOR}
    kept = {key: mine[key] for key in _FOREST[2:]}
    forest = RegressionForest.of(str(mine["names"]).split(), mine["unknown"], kept)
    limits = (float(mine["wrong"]), float(mine["good"]))
    at, low, high = (mine[key] for key in _PREDICTOR[:-2])
    return Predictor(forest, at, low, high, *limits)


_FOREST = (
    "names", "unknown", "roots", "feature", "threshold", "right", "examples", "answers", "counts",
)  # fmt: skip
_PREDICTOR = ("at", "low", "high", "wrong", "good")


OBJECT_ARRAYS = Path(__file__).with_name("objects.npz")
"""Written by ``model_cards/quality/train_objects.py``."""

DIGITS = 4
"""Of a confidence: more than it can be sure of."""

FARTHEST = 3.0
"""So many standard deviations from the middle a feature counts, and not more."""

DOUBTED = 0.5
"""An object that is less likely a true one than this is doubted."""


_AT_ONCE = 8192
"""Objects of which all terms are held at once; a large image has hundreds of thousands."""


@dataclass(frozen=True, eq=False)
class ObjectModel:
    """A logistic regression whose answer to a feature of an object bends at some values of it.

    Parameters
    ----------
    middle, spread : (o + p,) of the features of objects, and then of those of the plane; an
        unknown one is taken for the middle
    knots : (k, o) where the answer bends
    weights : (o + k o + p,) of features, of what of them lies above each knot, and of the plane
    constant : what all objects have
    findings : name -> by how much the log odds of all objects change for each step of its gravity
    """

    middle: FloatArray
    spread: FloatArray
    knots: FloatArray
    weights: FloatArray
    constant: float
    findings: Mapping[str, float]

    def confidences(self, objects: FloatArray, plane: FloatArray) -> FloatArray:
        """Return how likely each object is a true one.

        Parameters
        ----------
        objects, plane : (n, o), (p,) see `bmz.process.object_evidence.features_of`

        Returns
        -------
        (n,) float64
            0 to 1
        """
        parts = [
            self._confidences(objects[start : start + _AT_ONCE], plane)
            for start in range(0, len(objects), _AT_ONCE)
        ]
        return np.concatenate([np.zeros(0), *parts])

    def _confidences(self, objects: FloatArray, plane: FloatArray) -> FloatArray:
        own = objects.shape[1]
        values = np.concatenate([objects, np.tile(plane, (len(objects), 1))], 1)
        known = np.where(np.isfinite(values), values, self.middle)
        level = np.clip((known - self.middle) / self.spread, -FARTHEST, FARTHEST)
        bends = (self.knots - self.middle[:own]) / self.spread[:own]
        above = [np.maximum(level[:, :own] - bend, 0) for bend in bends]
        terms = np.concatenate([level[:, :own], *above, level[:, own:]], 1)
        # a product of matrices would wake threads, which costs more than the sum
        odds = (terms * self.weights).sum(1) + self.constant
        chances: FloatArray = 1 / (1 + np.exp(-odds))
        return chances

    def after_check(self, confidences: FloatArray, gravities: Mapping[str, float]) -> FloatArray:
        """Bring in what the check found: an image that is bad as a whole lowers all objects.

        Parameters
        ----------
        confidences : (n,) as `confidences` gives them
        gravities : finding -> 0 absent, 1 a note, 2 a warning, 3 an error
        """
        change = sum(weight * gravities.get(name, 0.0) for name, weight in self.findings.items())
        odds = confidences * np.exp(change)
        chances: FloatArray = np.round(odds / (odds + 1 - confidences), DIGITS)
        return chances


@cache
def object_model() -> ObjectModel:
    """Load the model of single objects."""
    with np.load(OBJECT_ARRAYS) as arrays:
        mine = {name: arrays[name] for name in ("middle", "spread", "knots", "weights")}
        names = str(arrays["finding_names"]).split()
        findings = dict(zip(names, arrays["findings"].tolist(), strict=True))
        return ObjectModel(**mine, constant=float(arrays["constant"]), findings=findings)


def plane_confidences(
    evidence: ObjectEvidence, expected: Expectation
) -> tuple[FloatArray, dict[str, float]]:
    """Give how likely each object of a plane is a true one, and what tells of its mask as a whole.

    Returns
    -------
    (n,) float64, dict
        0 to 1; and feature -> value, for the predictor ``run``
    """
    objects, plane = features_of(evidence, expected)
    confidences = np.round(object_model().confidences(objects, plane), DIGITS)
    features = dict(zip(PLANE_FEATURES, plane.tolist(), strict=True))
    return confidences, features | confidence_features(confidences)


def confidence_features(confidences: FloatArray) -> dict[str, float]:
    """Return what the confidences of all objects of a mask say of it."""
    names = ("mean", "low", "middle", "high", "doubted")
    if not len(confidences):
        return {f"confidence_{name}": np.nan for name in names}
    low, middle, high = percentiles(np.sort(confidences), (10, 50, 90))
    values = (confidences.mean(), low, middle, high, (confidences < DOUBTED).mean())
    return {f"confidence_{n}": float(v) for n, v in zip(names, values, strict=True)}
