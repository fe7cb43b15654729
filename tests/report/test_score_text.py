"""Scores as a table, as sentences and as a document: whose objects are counted, and how rounded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bmz.base.errors import CouldNotTell
from bmz.process.matching import MaskError, Matching, WorstObject
from bmz.report.compare_text import (
    HEADINGS,
    PAIR_HEADINGS,
    pair_table,
    score_json,
    score_lines,
    score_table,
    worst_table,
)
from bmz.results.compare import IOUS, MaskPair, PairFailed, PairScore, ScoreSummary

# tp 3, fp 1, fn 0 with a mean IoU of 0.8; then tp 1, fp 0, fn 5 with 0.6
MANY = Matching(3, 1, 0, 0.75, 1.0, 6 / 7, 0.75, 2 * 2.4 / 7, 0.8)
FEW = Matching(1, 0, 5, 1.0, 1 / 6, 2 / 7, 1 / 6, 2 * 0.6 / 7, 0.6)
NONE = Matching(0, 4, 3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
MISSED = WorstObject("missed", None, 7, 0.0, (9.6, 0.4), 90)
ERROR = MaskError("missed", 7, (9.6, 0.4), 90)


def pair(name: str) -> MaskPair:
    return MaskPair(name, Path("found") / name, Path("truth") / name)


def scored(
    name: str,
    *matchings: Matching,
    errors: tuple[MaskError, ...] = (),
    worst: tuple[WorstObject, ...] = (),
) -> PairScore:
    return PairScore(pair(name), (0.5, 0.95)[: len(matchings)], matchings, errors, worst)


def summary(*outcomes: PairScore | PairFailed) -> ScoreSummary:
    return ScoreSummary("found", "truth", outcomes)


def test_masks_are_scored_at_the_thresholds_of_coco() -> None:
    assert tuple(number / 20 for number in range(10, 20)) == IOUS


def test_the_table_counts_the_objects_of_all_masks_together() -> None:
    table = score_table(summary(scored("a", MANY, NONE), scored("b", FEW, NONE)))

    # 4 matched of 5 found and 9 true ones; IoUs 3 x 0.8 + 0.6 = 3.0
    assert [dict(zip(HEADINGS, line, strict=True)) for line in table] == [
        {
            "IoU": "0.50", "F1": "0.571", "precision": "0.800", "recall": "0.444", "AP": "0.400",
            "PQ": "0.429", "mean IoU": "0.750", "TP": "4", "FP": "1", "FN": "5",
        },
        {
            "IoU": "0.95", "F1": "0.000", "precision": "0.000", "recall": "0.000", "AP": "0.000",
            "PQ": "0.000", "mean IoU": "0.000", "TP": "0", "FP": "8", "FN": "6",
        },
    ]  # fmt: skip


def test_the_mean_over_images_weighs_each_mask_the_same() -> None:
    document = json.loads(score_json(summary(scored("a", MANY), scored("b", FEW))))

    (mean,) = document["image_mean"]
    assert mean["iou"] == 0.5
    assert mean["recall"] == pytest.approx((1 + 1 / 6) / 2)
    assert mean["f1"] == pytest.approx(4 / 7)
    assert mean["mean_matched_iou"] == pytest.approx(0.7)
    assert set(mean) == {"iou", "f1", "precision", "recall", "ap", "pq", "mean_matched_iou"}


def test_without_any_score_the_tables_are_empty() -> None:
    nothing = summary(PairFailed(pair("a"), None))

    assert score_table(nothing) == pair_table(nothing) == []


def test_the_row_of_a_mask_is_of_its_first_threshold_and_counts_each_kind_of_error() -> None:
    errors = tuple(
        MaskError(kind, 1, (0.0, 0.0), 9)
        for kind in ("split", "merge", "merge", "missed", "missed", "missed")
    )

    # 3 matched of 4 found and 5 true ones
    first = replace(MANY, fn=2, f1=6 / 9, ap=0.5, pq=2 * 2.4 / 9)

    (row,) = pair_table(summary(scored("a.tif", first, NONE, errors=errors)))

    assert dict(zip(PAIR_HEADINGS, row, strict=True)) == {
        "mask": "a.tif", "F1": "0.667", "AP": "0.500", "PQ": "0.533", "true": "5", "found": "4",
        "split": "1", "merged": "2", "missed": "3", "false": "0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("worst", "cells"),
    [
        (
            WorstObject("split", None, 3, 0.4, (10.4, 99.6), 120, (4, 9)),
            ("split into 4, 9", "", "3", "0.40", "120", "10, 100"),
        ),
        (
            WorstObject("merge", 3, None, 0.3, (1.0, 2.0, 3.0), 1, (5, 6)),
            ("holds true objects 5, 6", "3", "", "0.30", "1", "1, 2, 3"),
        ),
        (MISSED, ("missed", "", "7", "0.00", "90", "10, 0")),
        (
            WorstObject("small", 2, 8, 0.6, (0.0, 0.0), 5),
            ("too small", "2", "8", "0.60", "5", "0, 0"),
        ),
    ],
    ids=["split", "merge", "missed", "small"],
)
def test_the_table_says_what_is_wrong_with_an_object(
    worst: WorstObject, cells: tuple[str, ...]
) -> None:
    assert worst_table(summary(scored("a", MANY, worst=(worst,)))) == [cells]


def test_the_worst_objects_of_all_masks_come_first_and_ten_are_named() -> None:
    poor = replace(MISSED, what="moved", iou=0.7)
    several = summary(scored("a", MANY, worst=(poor,) * 9), scored("b", MANY, worst=(MISSED,) * 2))

    table = worst_table(several)

    assert [cells[0] for cells in table] == ["b: missed"] * 2 + ["a: of another shape"] * 8
    assert any("--json" in text for _, text in score_lines(several))
    assert score_lines(summary(scored("a", MANY, worst=(poor,)))) == []


def test_the_document_names_the_worst_objects() -> None:
    (first,) = json.loads(score_json(summary(scored("a", MANY, worst=(MISSED,)))))["pairs"]

    (worst,) = first["worst"]
    assert (worst["what"], worst["truth"], worst["label"]) == ("missed", 7, None)
    assert (worst["iou"], worst["area_px"]) == (0.0, 90)


def test_a_mask_without_a_score_says_why_and_what_to_do() -> None:
    why = CouldNotTell("it is damaged", hint="copy it again", code="x.y")
    broken, alone = PairFailed(pair("a"), why), PairFailed(MaskPair("b", Path("b"), None), None)

    lines = score_lines(summary(broken, alone))

    assert lines == [
        ("error", "a: it is damaged [x.y]"),
        ("hint", "copy it again"),
        ("error", "b: there is no true mask of that name"),
    ]


def test_the_document_tells_each_pair_with_all_thresholds_and_errors() -> None:
    alone = PairFailed(MaskPair("b", Path("found/b"), None), None)

    document = json.loads(score_json(summary(scored("a", MANY, NONE, errors=(ERROR,) * 11), alone)))

    first, second = document["pairs"]
    assert (document["predicted"], document["truth"]) == ("found", "truth")
    assert [one["iou"] for one in first["scores"]] == [0.5, 0.95]
    assert [one["tp"] for one in first["scores"]] == [3, 0]
    assert first["errors"] == 11 * [
        {"kind": "missed", "label": 7, "centroid": [9.6, 0.4], "area_px": 90, "parts": []}
    ]
    assert second == {
        "name": "b",
        "predicted": "found/b",
        "truth": None,
        "error": "b: there is no true mask of that name",
    }
