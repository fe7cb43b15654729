"""Models that were found or ranked: what stands in a cell, in the sum and in the document."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.report.made import ERROR, NOTE, WARNING

from bmz.check.finding import Finding
from bmz.report.fit_text import fit_json, fit_summary, fit_table
from bmz.report.search_text import search_json, search_summary, search_table
from bmz.results.fit import FitView, ModelFit
from bmz.results.search import Card, SearchHit, SearchView
from bmz.spec.made_for import MadeFor

CARD = Card(
    "a-cat",
    "v0",
    "ab" * 32,
    task="denoising",
    dims="2d",
    labels="flows",
    name="A \n cat",
    made_for=MadeFor(("brightfield",), ("nuclei",), "tags: nuclei"),
)
GOOD = ModelFit("a-cat", "v0", "fits", 0.91249)
BAD = ModelFit("b-dog", "v1", "mismatch", 0.3, (NOTE, WARNING, ERROR))
BACKEND = Finding("weights.no-backend", "error", "weights", "no torch", hint="pip install torch")
FILES = Finding("package.missing-file", "error", "package", "no weights")
UNREAD = ModelFit("c-pig", "v0", None, 0.0, status="broken", broken="no answer")


def found(*cards: Card, here: bool = True) -> SearchView:
    models = tuple(SearchHit(card, 1.23456, here) for card in cards)
    return SearchView(models, of=137, fetched_at=86_399.0, stale=False)


def fit(*models: ModelFit, stale: bool = False) -> FitView:
    return FitView(Path("my image.tif"), models, 0.0, stale)


@pytest.mark.parametrize(
    ("card", "here", "cells"),
    [
        (
            CARD,
            True,
            ("a-cat", "nuclei in bright field", "2d", "denoising", "", "yes", "flows", "A cat"),
        ),
        (Card("b", "v0", "", weights=("onnx",)), False, ("b", "", "", "", "onnx", "", "", "")),
        (
            replace(CARD, status="broken", reason="no answer"),
            True,
            ("a-cat", "", "", "broken", "", "", "", "no answer"),
        ),
        (replace(CARD, status="invalid"), True, ("a-cat", "", "", "invalid", "", "", "", "")),
    ],
    ids=["all known", "nothing known", "broken", "no reason"],
)
def test_a_cell_is_empty_where_nothing_is_known(
    card: Card, here: bool, cells: tuple[str, ...]
) -> None:
    assert search_table(found(card, here=here)) == [cells]


def test_the_sum_tells_the_minute_of_the_list_in_utc() -> None:
    assert search_summary(found()) == "0 of 137 models, as listed 1970-01-01 23:59 UTC"


def test_the_document_of_a_search_tells_all_of_a_model_and_a_rounded_score() -> None:
    document = json.loads(search_json(found(CARD)))

    (model,) = document["models"]
    assert (model["score"], model["runs_here"]) == (1.235, True)
    assert (model["name"], model["reason"], model["weights"]) == ("A \n cat", None, [])
    assert model["made_for"] == {
        "modalities": ["brightfield"],
        "structures": ["nuclei"],
        "source": "tags: nuclei",
    }
    assert (document["of"], document["stale"]) == (137, False)
    assert document["listed_at"] == "1970-01-01T23:59:59+00:00"


def test_at_most_two_reasons_are_told_the_worst_first_and_none_that_costs_nothing() -> None:
    flat, cast = replace(WARNING, code="range.flat"), replace(NOTE, code="dtype.cast")

    assert [f.code for f in BAD.reasons] == ["channel.count", "range.flat"]
    assert replace(BAD, findings=(cast,)).reasons == ()
    assert [f.code for f in replace(BAD, findings=(flat, ERROR, FILES)).reasons] == [
        "package.missing-file",
        "channel.count",
    ]


def test_a_line_of_the_ranking_names_short_formats_once_and_the_codes_of_reasons() -> None:
    model = replace(BAD, task="denoising", weights=("keras_v3", "keras_hdf5"), labels="flows")

    assert fit_table([model, UNREAD]) == [
        (
            "b-dog",
            "mismatch",
            "0.30",
            "denoising",
            "keras",
            "flows",
            "channel.count, range.flat",
        ),
        ("c-pig", "", "0.00", "", "", "", ""),
    ]


def test_a_model_with_warnings_does_not_just_fit() -> None:
    warned = replace(GOOD, findings=(WARNING, NOTE))

    cells = [row[1] for row in fit_table([GOOD, warned, replace(warned, verdict="adapts"), BAD])]

    assert cells == ["fits", "fits, with warnings", "adapts, with warnings", "mismatch"]
    counts = [one["warnings"] for one in json.loads(fit_json(fit(GOOD, warned, BAD)))["models"]]
    assert counts == [0, 1, 1]


def test_verdicts_are_counted_and_those_without_any_are_left_out() -> None:
    adapts, no_backend = replace(GOOD, verdict="adapts"), replace(BAD, findings=(BACKEND, FILES))

    warned = replace(GOOD, findings=(WARNING,))

    lines = fit_summary(fit(GOOD, adapts, warned, BAD, no_backend, UNREAD, UNREAD))

    assert lines[0][1].removeprefix("of 7 models ").split(", ") == [
        "1 fit",
        "1 fit with what bmz run adapts",
        "1 fit with warnings",
        "1 would fit but do not run here",
        "1 do not fit",
        "2 cannot be read (see --json)",
    ]
    assert lines[1][1].startswith("bmz check a-cat ")
    assert fit_summary(fit(GOOD)) == [
        ("note", "of 1 models 1 fit"),
        ("hint", "bmz check a-cat 'my image.tif' tells the reasons in full"),
    ]


def test_a_model_with_an_error_of_the_image_does_not_fit_whatever_else_it_lacks() -> None:
    lines = fit_summary(fit(replace(BAD, findings=(BACKEND, ERROR))))

    assert lines[0] == ("note", "of 1 models 1 do not fit")


def test_an_old_list_is_said_to_be_old() -> None:
    (_, words), *_ = fit_summary(fit(GOOD, stale=True))

    assert words == "of 1 models 1 fit (an old list: it could not be read again)"


def test_where_nothing_fits_the_best_is_said_to_be_held_back_by_its_worst_finding() -> None:
    assert fit_summary(fit(BAD))[1:] == [
        ("hint", "the best is held back by: 3 channels, not 1; --channels 0")
    ]
    assert fit_summary(fit(replace(BAD, findings=())))[1:] == []
    assert fit_summary(fit(UNREAD))[1:] == []


@pytest.mark.parametrize(("top", "ids"), [(None, ["a-cat", "c-pig"]), (1, ["a-cat"]), (0, [])])
def test_the_document_holds_so_many_models_and_tells_how_many_there_are(
    top: int | None, ids: list[str]
) -> None:
    document = json.loads(fit_json(fit(GOOD, UNREAD), top))

    assert [model["id"] for model in document["models"]] == ids
    assert (document["of"], document["image"]) == (2, "my image.tif")
    assert document["listed_at"] == "1970-01-01T00:00:00+00:00"


def test_the_document_gives_reasons_in_words_and_the_score_to_four_digits() -> None:
    good, bad, unread = json.loads(fit_json(fit(GOOD, BAD, UNREAD)))["models"]

    assert (good["score"], good["reasons"], good["verdict"]) == (0.9125, [], "fits")
    assert bad["reasons"] == ["3 channels, not 1", "almost no contrast"]
    assert [one["severity"] for one in bad["findings"]] == ["note", "warning", "error"]
    assert (unread["verdict"], unread["status"]) == (None, "broken")
    assert unread["reasons"] == ["no answer"]
