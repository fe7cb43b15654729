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
"""Predictions for one image that differ by less are a tie: their order is hardly better than
chance, as ``model_cards/quality/train.py`` shows."""

SEEN_SPACE, MOST_SEEN_CHANNELS = "yx", 2
"""Axes and maximum number of channels of the networks whose masks are among the examples."""

LEARNT_FROM = "a rough estimate: trained on networks that take planes of one or two channels"

QualityWord = Literal["likely good", "look closely", "likely wrong"]


@dataclass(frozen=True, eq=False)
class RegressionForest:
    """Extremely randomised trees (Geurts et al. 2006), stored one after another.

    Leaves keep their training examples (Meinshausen 2006), so that the median can be predicted: a
    mean pulls predictions towards the centre.

    Parameters
    ----------
    names : of the features, in the order that nodes refer to
    unknown : (k,) the value that replaces an unknown feature, below all known values
    roots : (trees,) the first node of each
    feature : (nodes,) the feature that a node tests; -1 at a leaf
    threshold : (nodes,) values up to this one go to the left; at a leaf, the number of its examples
    right : (nodes,) the right child, while the left one is the next node; at a leaf, the position
        of its first example
    examples : (trees * n,) numbers of examples, by leaves
    answers, counts : (n,) true F1 of each example, ascending, and its weight
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
        """Return a forest from its compact storage.

        Parameters
        ----------
        arrays : by name; `threshold`, `right` and `examples` are bytes, as for `joined_bytes`;
            `right` holds the distance to the right child, and 0 at a leaf because the examples
            are in the order of the leaves; `threshold` is in the order of the features
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
        """Return the median over the examples of all trees, with equal weight for each tree.

        Parameters
        ----------
        values : name -> value; what is missing or NaN is unknown
        """
        below = np.cumsum(self._shares(values))
        return float(self.answers[np.searchsorted(below, below[-1] / 2)])

    def mean(self, values: Mapping[str, float]) -> float:
        """Return the mean over the examples, which ranks masks of equal median; see `predict`."""
        shares = self._shares(values)
        return float((shares * self.answers).sum() / shares.sum())

    def _shares(self, values: Mapping[str, float]) -> FloatArray:
        """Return the weight of each example in a prediction."""
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
    """Reassemble numbers whose first bytes, second bytes and so on are stored together.

    Parameters
    ----------
    split : (bytes, n) uint8
    dtype : of the numbers, with its byte order
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
    f1 : at IoU 0.5 with the masks of a careful annotator, 0 to 1
    low, high : interval that contains it in 8 of 10 cases
    word : what to do with the mask
    seen : whether masks of such networks were in the training data
    """

    f1: float
    low: float
    high: float
    word: QualityWord
    seen: bool = True

    def ties_with(self, first: Quality) -> bool:
        """Return whether it is not clearly lower than that of the best mask of the same image."""
        return self.f1 > first.f1 - TIE


def quality_record(quality: Quality) -> QualityRecord:
    """Return a prediction as documents hold it."""
    f1, low, high = (round(value, 3) for value in (quality.f1, quality.low, quality.high))
    return {"f1": f1, "low": low, "high": high, "word": quality.word}


def quality_words(quality: Quality) -> str:
    """Return the prediction as text, such as ``likely good, F1 about 0.86 (0.71 to 0.95)``."""
    return f"{quality.word}, {f1_words(quality)}"


def f1_words(quality: Quality) -> str:
    """Return the predicted F1 as text, such as ``F1 about 0.86 (0.71 to 0.95)``."""
    learnt = "" if quality.seen else f"; {LEARNT_FROM}"
    return f"F1 about {quality.f1:.2f} ({quality.low:.2f} to {quality.high:.2f}{learnt})"


@dataclass(frozen=True, eq=False)
class Predictor:
    """A forest, and the errors of its predictions on held-out sources and networks.

    Parameters
    ----------
    forest : predicts the F1
    at, low, high : (n,) predicted F1, and the ends of the interval at each
    wrong, good : predictions up to `wrong` are "likely wrong", those from `good` "likely good"
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
        values : name -> value, see `bmz.process.mask_evidence`; missing ones are unknown
        seen : see `at_f1`
        """
        return self.at_f1(self.forest.predict(values), seen=seen)

    def at_f1(self, f1: float, *, seen: bool = True) -> Quality:
        """Return the interval and the word for a prediction.

        Parameters
        ----------
        seen : see `is_seen`; if false, the interval covers what any mask may have, and nothing is
            called likely
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
    """Return whether masks of such networks are in the training data of the predictions.

    Parameters
    ----------
    space, channels : axes of the network, and number of image channels that it takes
    """
    return space == SEEN_SPACE and channels <= MOST_SEEN_CHANNELS


PredictorName = Literal["tried", "plain", "among", "run"]
"""With labels of modified copies of the image; without them; by comparison with the masks of other
models, see `bmz.process.consensus.MaskPairs`; or from what a run computes anyway."""


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
"""Decimals of a confidence: more than it is accurate to."""

FARTHEST = 3.0
"""Features are clipped at this many standard deviations from the middle."""

DOUBTED = 0.5
"""Objects with a lower confidence are doubtful."""


_AT_ONCE = 8192
"""Objects whose terms are held at once; a large image has hundreds of thousands."""


@dataclass(frozen=True, eq=False)
class ObjectModel:
    """A logistic regression that is piecewise linear in each feature of an object.

    Parameters
    ----------
    middle, spread : (o + p,) of the features of objects, and then of those of the plane; unknown
        features are replaced by the middle
    knots : (k, o) where the slope changes
    weights : (o + k o + p,) of features, of their excess above each knot, and of the plane
    constant : the intercept
    findings : name -> change of the log odds of all objects for each step of its gravity
    """

    middle: FloatArray
    spread: FloatArray
    knots: FloatArray
    weights: FloatArray
    constant: float
    findings: Mapping[str, float]

    def confidences(self, objects: FloatArray, plane: FloatArray) -> FloatArray:
        """Return the probability that each object is a true one.

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
        # a matrix product would start threads, which cost more than the sum
        odds = (terms * self.weights).sum(1) + self.constant
        chances: FloatArray = 1 / (1 + np.exp(-odds))
        return chances

    def after_check(self, confidences: FloatArray, gravities: Mapping[str, float]) -> FloatArray:
        """Adjust for findings of the check: a poor image lowers the confidence of all objects.

        Parameters
        ----------
        confidences : (n,) as returned by `confidences`
        gravities : finding -> 0 absent, 1 a note, 2 a warning, 3 an error
        """
        change = sum(weight * gravities.get(name, 0.0) for name, weight in self.findings.items())
        odds = confidences * np.exp(change)
        chances: FloatArray = np.round(odds / (odds + 1 - confidences), DIGITS)
        return chances


@cache
def object_model() -> ObjectModel:
    """Load the model for single objects."""
    with np.load(OBJECT_ARRAYS) as arrays:
        mine = {name: arrays[name] for name in ("middle", "spread", "knots", "weights")}
        names = str(arrays["finding_names"]).split()
        findings = dict(zip(names, arrays["findings"].tolist(), strict=True))
        return ObjectModel(**mine, constant=float(arrays["constant"]), findings=findings)


def plane_confidences(
    evidence: ObjectEvidence, expected: Expectation
) -> tuple[FloatArray, dict[str, float]]:
    """Return the confidence of each object of a plane, and the features of its whole mask.

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
    """Return the features of a mask that derive from the confidences of its objects."""
    names = ("mean", "low", "middle", "high", "doubted")
    if not len(confidences):
        return {f"confidence_{name}": np.nan for name in names}
    low, middle, high = percentiles(np.sort(confidences), (10, 50, 90))
    values = (confidences.mean(), low, middle, high, (confidences < DOUBTED).mean())
    return {f"confidence_{n}": float(v) for n, v in zip(names, values, strict=True)}
