"""Documents in rare states hold to their schema, and a schema refuses what is no such document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from tests.report.examples import EMPTY, ERROR, NOTE, checked, model, planned, summary

from bmz.check.kind import ImageKind
from bmz.plan.channel_names import RecipeChoice
from bmz.plan.plan import Estimate
from bmz.process.consensus import Plausibility
from bmz.process.matching import MaskError, Matching, WorstObject
from bmz.report import tested_text
from bmz.report.check_text import check_json
from bmz.report.compare_text import as_json, score_json
from bmz.report.computer_text import (
    cache_json,
    carried_json,
    doctor_json,
    fetch_json,
    removed_json,
    verify_json,
)
from bmz.report.model_text import model_json, trust_json
from bmz.report.reference import DOCUMENTS, file_of, schema_of, schemas_page
from bmz.report.run_text import plan_json, run_json
from bmz.report.zoo_text import fit_json, search_json
from bmz.results.compare import (
    Comparison,
    ImageComparison,
    MaskPair,
    PairFailed,
    PairScore,
    ResultQuality,
    ScoreSummary,
    SettingResult,
)
from bmz.results.fit import AboutModel, ImageFit, ModelFit, Ranking, SeenImage
from bmz.results.images import ImageFailure, RunSummary
from bmz.results.model_documents import ComparedModel
from bmz.results.models import (
    Card,
    CheckChange,
    DoctorView,
    FetchFailure,
    FetchSummary,
    FormatView,
    ModelCheck,
    ModelFetch,
    ModelTestResult,
    ModelView,
    SearchHit,
    SearchView,
    ToolReport,
    WeightsView,
)
from bmz.spec.model import Citation
from bmz.zoo.cache import CachedPackage, CarriedPackages, FileState, RemovedPackages
from bmz.zoo.fetch import FetchedFile
from bmz.zoo.settings import TrustedCode

PACKAGE = CachedPackage("cat", "v0", "ab", Path("/c"), 2, 9, read_only=False)
MATCHING = Matching(1, 0, 0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
MISSED = MaskError("missed", 1, (1.0, 2.0), 9)
PAIR = MaskPair("a", Path("a"), None)
FOUND = SearchHit(Card("cat", "v0", "ab", ("doi",)), 0, runs_here=False)
KIND = ImageKind({"other": 0.5}, {"cells": 0.5})
RANKED = ModelFit(
    "cat",
    "v0",
    (ImageFit("a.tif", "mismatch", 0.0, findings=(ERROR,)),),
    AboutModel(weights=("onnx",), needs=(ERROR,)),
)
FILE = FetchedFile("w.onnx", "downloaded", 9, "ab")


def doctor() -> str:
    missing = FormatView("keras_v3", "keras", None, (), "no keras", "pip install keras")
    return doctor_json(
        DoctorView({"bmz": "1"}, "Linux", 2, None, "/c", 0, (missing,), ("nuclei",), {"files": ""})
    )


def comparison() -> str:
    stack = Plausibility(3, 0.0, None)
    quality = ResultQuality({0.5: MATCHING}, (MISSED,), 0.5, 0.5, 0.5, stack)
    failed = SettingResult("shark", {"scale": "2"}, "bmz run", findings=(ERROR,), error=EMPTY)
    image = ImageComparison(
        Path("a.tif"), None, None, (SettingResult("m", {}, "", quality=quality), failed)
    )
    model: ComparedModel = {"name": "shark", "title": "A shark", "sha256": "ab"}
    return as_json(Comparison("bmz compare", (image,), (model,)))


def scores() -> str:
    worst = WorstObject("missed", None, 1, 0.0, (1.0, 2.0), 9)
    scored = PairScore(PAIR, (0.5,), (MATCHING,), (MISSED,), (worst,))
    return score_json(ScoreSummary("f", "t", (scored, PairFailed(PAIR, EMPTY))))


def shown() -> str:
    weights = WeightsView("onnx", None, fetched=False, state="runs here")
    view = ModelView(
        model(cite=(Citation("text"),), authors=("me",), tags=("cat",), remarks=("odd",)),
        RecipeChoice("flows", "tags", "map"), (weights,), ("net.py",), "v0", ("a hole",),
        (ToolReport("tool", "1", "passed"),),
    )  # fmt: skip
    return model_json(view)


def checks_of_a_model() -> str:
    checks = (ModelCheck("onnx.loads", "skipped", "no framework"),)
    return tested_text.model_tests_json(
        [ModelTestResult("m", checks)], [CheckChange("m", "onnx.loads", None, "skipped", "why")]
    )


MADE: dict[str, str] = {
    "bmz.search/1": search_json(SearchView((FOUND,), of=1, fetched_at=0.0, stale=False)),
    "bmz.show/1": shown(),
    "bmz.fetch/1": fetch_json(
        FetchSummary((ModelFetch("cat", "/c", ("onnx",), (FILE,)), FetchFailure("dog", EMPTY)))
    ),
    "bmz.cache/1": cache_json([PACKAGE]),
    "bmz.cache-verify/1": verify_json([FileState("cat", "x", "unknown", None, "ab")]),
    "bmz.cache-remove/1": removed_json(RemovedPackages((PACKAGE,), 9)),
    "bmz.cache-archive/1": carried_json(CarriedPackages(Path("m.zip"), ("ab",), 1, 9)),
    "bmz.check/1": check_json(summary(checked("a.tif", NOTE), checked("c.tif", error=EMPTY))),
    "bmz.fit/1": fit_json(
        Ranking(
            (SeenImage("a.tif", KIND, {0: KIND}), SeenImage("b.tif")),
            (RANKED, ModelFit("dog", "v0", status="broken", broken="why")),
            {"ex-net": "why"},
        )
    ),
    "bmz.plan/1": plan_json(
        "shark",
        [
            planned(findings=(NOTE,), estimate=Estimate(0.1, 1.0, 9, None, 9, 9, 1)),
            ImageFailure(Path("c.tif"), EMPTY),
        ],
    ),
    "bmz.runs/1": run_json(RunSummary((ImageFailure(Path("c.tif"), EMPTY),))),
    "bmz.score/1": scores(),
    "bmz.test/2": checks_of_a_model(),
    "bmz.compare/1": comparison(),
    "bmz.doctor/1": doctor(),
    "bmz.trust/1": trust_json([TrustedCode("ab", "cat", "onnx", "Net", "2026-01-02")]),
}

OPTIONAL = {
    "bmz.show/1": {"recipe.output", "recipe.settings"},
    "bmz.fetch/1": {"models.folder", "models.weights", "models.files"},
    "bmz.score/1": {"pairs.scores", "pairs.worst", "pairs.errors", "pairs.error"},
    "bmz.test/2": {"changes"},
}
"""Fields that may be left out."""

MAPS = {
    "by_channel", "confinement", "families", "halo", "joined_over", "left_out", "link", "loop",
    "matchings", "objects_in", "overlap", "padding", "pixel_um", "settings", "shape", "sizes",
    "structures", "tile", "versions",
}  # fmt: skip
"""Fields with names that are not known beforehand, such as axes."""


def validator(name: str) -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    return jsonschema.Draft202012Validator(schema_of(name))


def places(node: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    found = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in found:
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from places(value, (*at, key))


def field_of(place: tuple[str | int, ...]) -> str:
    return ".".join(key for key in place if isinstance(key, str))


def parent_of(document: Any, place: tuple[str | int, ...]) -> Any:
    for key in place[:-1]:
        document = document[key]
    return document


@pytest.mark.parametrize("name", MADE)
def test_a_document_in_a_rare_state_holds_to_its_schema_and_to_no_other(name: str) -> None:
    document = json.loads(MADE[name])

    wrong = [error.message for error in validator(name).iter_errors(document)]

    assert wrong == []
    assert [one for one in DOCUMENTS if validator(one).is_valid(document)] == [name]


@pytest.mark.parametrize("name", MADE)
def test_no_field_takes_what_it_cannot_mean(name: str) -> None:
    document, schema = json.loads(MADE[name]), validator(name)
    taken = set()

    for place in places(document):
        changed = deepcopy(document)
        parent_of(changed, place)[place[-1]] = [[["odd"]]]
        if schema.is_valid(changed):
            taken.add(field_of(place))

    assert taken == set()


@pytest.mark.parametrize("name", MADE)
def test_only_fields_that_are_said_to_be_optional_may_be_left_out(name: str) -> None:
    document, schema = json.loads(MADE[name]), validator(name)
    spared = set()

    for place in places(document):
        changed = deepcopy(document)
        parent_of(changed, place).pop(place[-1])
        names = [key for key in place[:-1] if isinstance(key, str)]
        known = not isinstance(place[-1], int) and not MAPS & set(names)
        if known and schema.is_valid(changed):
            spared.add(field_of(place))

    assert spared == OPTIONAL.get(name, set())


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("bmz.check/1", ("images", 0, "findings", 0, "severity"), "fatal"),
        ("bmz.check/1", ("images", 0, "findings", 0, "evidence"), "guessed"),
        ("bmz.check/1", ("images", 0, "findings", 0, "hint"), None),
        ("bmz.check/1", ("images", 0, "series"), 0.5),
        ("bmz.check/1", ("images",), {}),
        ("bmz.cache-verify/1", ("files", 0, "status"), "ok"),
        ("bmz.cache/1", ("packages", 0, "files"), "2"),
        ("bmz.cache/1", ("packages", 0, "read_only"), 0),
        ("bmz.search/1", ("models", 0, "status"), "fine"),
        ("bmz.search/1", ("models", 0, "score"), None),
        ("bmz.test/2", ("models", 0, "checks", 0, "status"), "not-applicable"),
        ("bmz.test/2", ("models", 0, "status"), "skipped"),
        ("bmz.plan/1", ("plans", 0, "plan", "padding", "y"), 3),
        ("bmz.plan/1", ("plans", 0, "plan", "channels", 0), 0),
        ("bmz.doctor/1", ("versions", "bmz"), None),
    ],
)
def test_a_value_near_the_right_one_is_refused(
    name: str, place: tuple[str | int, ...], value: object
) -> None:
    document = json.loads(MADE[name])
    parent_of(document, place)[place[-1]] = value

    assert [list(error.path) for error in validator(name).iter_errors(document)] == [list(place)]


@pytest.mark.parametrize("name", MADE)
def test_a_field_more_is_allowed_everywhere(name: str) -> None:
    document = json.loads(MADE[name])
    for place in [*places(document), ()]:
        node = parent_of(document, (*place, ""))
        if isinstance(node, dict) and not (place and place[-1] in MAPS):
            node["new"] = "as the text of the documents says"

    assert validator(name).is_valid(document)


def test_there_is_no_schema_of_an_unknown_document() -> None:
    with pytest.raises(KeyError):
        schema_of("bmz.check/2")


def test_a_file_is_named_as_its_document_without_a_slash() -> None:
    assert file_of("bmz.cache-verify/1").name == "bmz.cache-verify.1.json"
    assert [file_of(name).is_file() for name in DOCUMENTS] == [True] * len(DOCUMENTS)


def test_the_page_tells_null_choices_maps_and_parts_in_a_row_each() -> None:
    rows = schemas_page().splitlines()

    assert "| `series` | `int?` | number of the image in a file with several; else null |" in rows
    assert "| `error` | [Failure?](#failure) | why there is no verdict |" in rows
    assert "| `status` | `ok\\|broken\\|invalid` | whether the description can be used |" in rows
    assert (
        "| `padding` | any name → list of `int` | padding before and after the image, px |" in rows
    )
    assert rows.count("## bmz.check/1") == rows.count("## Finding") == 1
