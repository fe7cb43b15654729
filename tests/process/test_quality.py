"""The predictors of the quality of a mask: their forests, their intervals and their words."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from bmz.base.arrays import AnyArray
from bmz.process import quality
from bmz.process.quality import (
    PredictorName,
    RegressionForest,
    is_seen,
    object_model,
    predictor,
    quality_words,
)

HALF = 0.5

LEFT_OUT = Path(__file__).parents[2] / "model_cards/quality/left_out.csv"
NAMES: tuple[PredictorName, ...] = ("tried", "plain", "among")


def stump() -> RegressionForest:
    """Two trees: one asks for contrast, one is a leaf."""
    return RegressionForest(
        names=("contrast",),
        unknown=np.array([-1.0], np.float32),
        roots=np.array([0, 3]),
        feature=np.array([0, -1, -1, -1]),
        threshold=np.array([0.5, 2, 1, 3], np.float32),
        right=np.array([2, 0, 2, 3]),
        examples=np.array([0, 1, 2, 0, 1, 2]),
        answers=np.array([0.1, 0.3, 0.9], np.float32),
        counts=np.array([1, 3, 1], np.float32),
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [({"contrast": 0.2}, 0.3), ({"contrast": 3.0}, 0.9), ({}, 0.3), ({"contrast": np.nan}, 0.3)],
)
def test_a_forest_gives_the_median_of_what_its_leaves_hold(
    values: dict[str, float], expected: float
) -> None:
    assert stump().predict(values) == pytest.approx(expected)


def split_bytes(array: AnyArray) -> AnyArray:
    return np.ascontiguousarray(array.view(np.uint8).reshape(len(array), -1).T)


def test_a_forest_comes_back_from_what_takes_less_room() -> None:
    """The tree asks for feature 1, then on the left for feature 0; leaves have 1, 2 and 3."""
    feature = np.array([1, 0, -1, -1, -1], np.int8)
    threshold = np.array([0.5, -4.0, 1, 2, 3], "<f4")
    kept: dict[str, AnyArray] = {
        "roots": np.array([0], np.int32),
        "feature": feature,
        "threshold": split_bytes(threshold[[2, 3, 4, 1, 0]]),  # leaves, then feature 0, then 1
        "right": split_bytes(np.array([4, 2, 0, 0, 0], "<i2")),
        "examples": split_bytes(np.array([5, 4, 3, 300, 1, 0], "<i2")),
        "answers": np.linspace(0, 1, 301, dtype=np.float32),
        "counts": np.ones(301, np.float32),
    }

    forest = RegressionForest.of(("a", "b"), np.zeros(2, np.float32), kept)

    assert forest.threshold.tolist() == threshold.tolist()
    assert forest.right.tolist() == [4, 3, 0, 1, 3]
    assert forest.predict({"a": -5.0, "b": 0.0}) == pytest.approx(5 / 300)
    assert forest.mean({"a": 1.0, "b": 0.0}) == pytest.approx(7 / 600)
    assert forest.predict({"a": 0.0, "b": 1.0}) == pytest.approx(1 / 300)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_predicted_lies_within_its_interval(name: PredictorName) -> None:
    words = set()
    for f1 in np.linspace(0, 1, 41):
        quality = predictor(name).at_f1(float(f1))
        assert 0 <= quality.low <= quality.f1 <= quality.high <= 1
        words.add(quality.word)
    assert words == {"likely wrong", "look closely", "likely good"}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_known_is_not_called_good(name: PredictorName) -> None:
    assert predictor(name).quality({}).word != "likely good"


def test_only_one_predictor_asks_for_copies() -> None:
    tried, plain, _ = (set(predictor(name).forest.names) for name in NAMES)

    begin = ("agrees", "stays", "count_change", "area_change", "above_sample")
    of_copies = {name for name in tried if name.startswith(begin)}
    assert len(of_copies) > len(begin)
    assert tried - plain == of_copies


@pytest.mark.skipif(not LEFT_OUT.exists(), reason="the card is not part of the source archive")
@pytest.mark.parametrize(
    ("left_out", "least_rho", "least_found", "most_alarms"),
    [
        ("source", 0.85, 0.9, 0.08),
        ("network", 0.85, 0.9, 0.08),
        ("source and network", 0.78, 0.85, 0.12),
    ],
)
def test_masks_that_are_left_out_are_told_apart(
    left_out: str, least_rho: float, least_found: float, most_alarms: float
) -> None:
    with LEFT_OUT.open(newline="", encoding="utf-8") as file:
        rows = [
            (float(row["f1"]), float(row[f"without {left_out}"])) for row in csv.DictReader(file)
        ]
    f1, predicted = np.array(rows).T
    words = np.array([predictor("tried").at_f1(value).word for value in predicted])

    assert spearmanr(f1, predicted).statistic >= least_rho
    assert (words[f1 < 0.5] == "likely wrong").mean() >= least_found
    assert (words[f1 > 0.75] == "likely wrong").mean() <= most_alarms


def test_words_name_the_interval() -> None:
    quality = predictor("tried").at_f1(0.9)

    assert quality_words(quality).startswith("likely good, F1 about 0.90 (")


@pytest.mark.parametrize("name", NAMES)
def test_of_networks_unlike_all_examples_nothing_is_called_likely(name: PredictorName) -> None:
    for f1 in (0.02, 0.5, 0.97):
        seen, unseen = (predictor(name).at_f1(f1, seen=known) for known in (True, False))

        assert (unseen.f1, unseen.word) == (f1, "look closely")
        assert unseen.low <= seen.low
        assert unseen.high >= seen.high
        assert unseen.high - unseen.low > HALF
        assert "trained on networks that take planes" in quality_words(unseen)
        assert "learnt" not in quality_words(seen)


@pytest.mark.parametrize(
    ("space", "channels", "seen"), [("yx", 1, True), ("yx", 2, True), ("yx", 3, False)]
)
def test_stacks_and_colours_were_not_among_the_examples(
    space: str, channels: int, *, seen: bool
) -> None:
    assert is_seen(space, channels) == seen
    assert not is_seen("zyx", channels)


def test_what_the_check_found_lowers_all_objects_alike() -> None:
    model = object_model()
    plain = np.array([0.2, 0.5, 0.9])

    same = model.after_check(plain, {})
    worse = model.after_check(plain, {"found_content.modality": 2.0})

    assert same == pytest.approx(plain)
    assert (worse < plain).all()
    assert (np.diff(worse) > 0).all()


def test_many_objects_are_judged_a_part_at_a_time_as_they_are_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = object_model()
    objects = np.random.default_rng(0).normal(size=(100, model.knots.shape[1]))
    objects[3, 2] = np.nan
    plane = np.zeros(len(model.middle) - objects.shape[1])
    at_once = model.confidences(objects, plane)

    monkeypatch.setattr(quality, "_AT_ONCE", 7)

    assert len(np.unique(at_once)) == 100
    assert np.array_equal(model.confidences(objects, plane), at_once)
    assert model.confidences(objects[:0], plane).shape == (0,)
