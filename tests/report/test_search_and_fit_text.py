"""Models that were found or ranked: what stands in a cell, in the sum and in the document."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.report.examples import ERROR, NOTE, WARNING

from bmz.check.finding import Finding, Verdict
from bmz.check.fit_score import Content
from bmz.check.kind import ImageKind
from bmz.report.zoo_text import (
    fit_json,
    fit_summary,
    fit_table,
    run_lines,
    search_json,
    search_summary,
    search_table,
    seen_words,
)
from bmz.results.fit import AboutModel, ImageFit, ModelFit, Ranking, SeenImage
from bmz.results.models import Card, SearchHit, SearchView
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
MADE_FOR = MadeFor(("fluorescence",), ("nuclei",), "manifest: name")
ABOUT = AboutModel("A \n cat", "denoising", "flows", made_for=MADE_FOR)
BACKEND = Finding(
    "weights.no-backend", "error", "weights", "no torch", hint="pip install 'bmz[torch]'"
)
TRUST = Finding("package.runs-code", "error", "model", "its code", hint="read it, then --trust")


UNSEEN = SeenImage("my image.tif")


def fits(*findings: Finding, verdict: Verdict = "fits", **more: Any) -> ImageFit:
    return ImageFit("my image.tif", verdict, 0.91249, findings=findings, **more)


GOOD = ModelFit("a-cat", "v0", (fits(),), ABOUT)
BAD = ModelFit("b-dog", "v1", (fits(NOTE, WARNING, ERROR, verdict="mismatch"),))
UNREAD = ModelFit("c-pig", "v0", status="broken", broken="no answer")


def found(*cards: Card, here: bool = True) -> SearchView:
    models = tuple(SearchHit(card, 1.23456, here) for card in cards)
    return SearchView(models, of=137, fetched_at=86_399.0, stale=False)


def fit(*models: ModelFit, stale: bool = False, seen: SeenImage = UNSEEN) -> Ranking:
    return Ranking((seen,), models, stale=stale)


@pytest.mark.parametrize(
    ("card", "here", "cells"),
    [
        (
            CARD,
            True,
            ("a-cat", "nuclei in bright field", "2d denoising", "", "yes", "flows", "A cat"),
        ),
        (Card("b", "v0", "", weights=("onnx",)), False, ("b", "", "", "onnx", "", "", "")),
        (
            replace(CARD, status="broken", reason="no answer"),
            True,
            ("a-cat", "no answer", "broken", "", "", "", ""),
        ),
        (replace(CARD, status="invalid"), True, ("a-cat", "", "invalid", "", "", "", "")),
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

    assert [f.code for f in BAD.images[0].reasons] == ["channel.count", "range.flat"]
    assert fits(cast).reasons == ()
    assert [f.code for f in fits(flat, ERROR, BACKEND).reasons] == [
        "channel.count",
        "weights.no-backend",
    ]


def test_a_line_of_the_ranking_says_what_a_model_is_made_for_and_how_to_run_it() -> None:
    best = fits(channels=(1, -1), scale=0.493, resized=True)

    (cells,) = fit_table(fit(replace(GOOD, images=(best,))))

    words = "1", "a-cat", "A cat", "nuclei in fluorescence", "fits", "1,none", "0.49", "yes"
    assert cells == words


EXTRA = Finding("axes.extra", "note", "image.z", "each of the 5 planes is segmented on its own")


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (fits(), "fits"),
        (fits(EXTRA, verdict="adapts"), "adapts, plane by plane"),
        (fits(WARNING, NOTE), "fits, with warnings"),
        (fits(WARNING, verdict="adapts"), "adapts, with warnings"),
        (fits(ERROR, verdict="mismatch"), "other channels"),
        (
            fits(verdict="mismatch", content=Content(0.1, 0.5, is_another=True)),
            "made for fluorescence",
        ),
    ],
    ids=["fits", "planes", "warned", "adapted", "mismatch", "another kind"],
)
def test_the_verdict_says_in_short_what_is_wrong(one: ImageFit, words: str) -> None:
    (cells,) = fit_table(fit(replace(GOOD, images=(one,))))

    assert cells[4] == words


def test_a_model_without_facts_is_made_for_nothing_that_is_stated() -> None:
    (cells,) = fit_table(fit(replace(GOOD, about=AboutModel())))

    assert cells[3] == "not stated"


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (AboutModel(), "yes"),
        (AboutModel(download_bytes=95_300_000), "yes, 95.3 MB to fetch"),
        (AboutModel(needs=(BACKEND,)), "needs torch"),
        (AboutModel(needs=(TRUST,), download_bytes=95_300_000), "with --trust, 95.3 MB to fetch"),
        (AboutModel(needs=(replace(TRUST, hint="take another model"),)), "no"),
    ],
    ids=["at once", "fetched", "framework", "trust", "never"],
)
def test_what_a_model_needs_stands_beside_the_verdict(about: AboutModel, words: str) -> None:
    (cells,) = fit_table(fit(replace(GOOD, about=about)))

    assert cells[4:] == ("fits", "", "", words)


def test_of_several_images_the_worst_is_named_where_they_differ() -> None:
    other = replace(fits(ERROR, verdict="mismatch"), image="b.tif")

    (cells,) = fit_table(fit(replace(GOOD, images=(fits(), other))), 1)
    several = fit_table(
        Ranking((UNSEEN, SeenImage("b.tif")), (replace(GOOD, images=(fits(), other)),))
    )

    assert cells[4] == "other channels"
    assert several[0][4] == "other channels (b.tif)"


def test_verdicts_are_counted_and_those_without_any_are_left_out() -> None:
    adapts = replace(GOOD, images=(fits(verdict="adapts"),))
    warned = replace(GOOD, images=(fits(WARNING),))
    another = fits(verdict="mismatch", content=Content(0.1, 0.5, is_another=True))
    restoring = replace(GOOD, about=replace(ABOUT, only_restores=True))

    view = fit(
        GOOD, adapts, warned, BAD, replace(GOOD, images=(another,)), restoring, UNREAD, UNREAD
    )

    assert fit_summary(view)[1][1].removeprefix("of 8 models ").split(", ") == [
        "1 fit",
        "1 fit once bmz run has adapted the image",
        "1 fit with warnings",
        "1 are made for another kind of image",
        "1 do not fit",
        "1 make no label mask and are ranked last",
        "2 cannot be read (see --json)",
    ]
    assert fit_summary(fit(GOOD))[-1] == ("hint", "bmz run a-cat 'my image.tif' -o out")


def test_no_command_is_given_for_a_structure_that_is_unlikely() -> None:
    cells = MadeFor(("fluorescence",), ("cells",), "manifest: name")
    other = ModelFit("d-cow", "v0", (replace(fits(), score=0.4),), replace(ABOUT, made_for=cells))
    likely = replace(other, images=(replace(fits(), score=0.6),))

    assert len(list(run_lines(fit(GOOD, other)))) == 1
    assert len(list(run_lines(fit(GOOD, likely)))) == 2


def test_a_framework_is_installed_before_the_model_is_run() -> None:
    model = replace(GOOD, about=replace(ABOUT, needs=(BACKEND,)))

    assert list(run_lines(fit(model))) == [
        "first, pip install 'bmz[torch]'",
        "bmz run a-cat 'my image.tif' -o out",
    ]


def test_an_old_list_is_said_to_be_old() -> None:
    words = [text for _, text in fit_summary(fit(GOOD, stale=True))]

    assert "of 1 models 1 fit (the list is old: it could not be refreshed)" in words


def test_where_nothing_fits_that_is_said_and_what_holds_the_best_back() -> None:
    assert fit_summary(fit(BAD))[-2:] == [
        ("note", "no model in the zoo is made for this"),
        ("hint", "the score of the best model is lowered by: 3 channels, not 1; --channels 0"),
    ]
    another = fits(ERROR, verdict="mismatch", content=Content(0.1, 0.5, is_another=True))
    assert fit_summary(fit(replace(GOOD, images=(another,))))[-1] == (
        "hint",
        "if the pixels mislead, state what the image shows: --kind MODALITY,STRUCTURE",
    )
    assert fit_summary(fit(UNREAD))[-1] == ("note", "no model in the zoo is made for this")


def test_what_was_seen_is_said_with_its_probability_and_what_is_not_clear_is_said_to_be_so() -> (
    None
):
    nuclei = ImageKind({"fluorescence": 0.95}, {"nuclei": 0.9})
    cells = ImageKind({"fluorescence": 0.95}, {"cells": 0.4, "membranes": 0.35})
    unclear = ImageKind({"fluorescence": 0.4, "electron": 0.3}, {"nuclei": 0.4})

    def words(whole: ImageKind | None, *channels: ImageKind) -> str:
        return next(seen_words([SeenImage("a.tif", whole, dict(enumerate(channels)))]))

    assert words(nuclei, nuclei) == ("a.tif looks like fluorescence (95 %); it shows nuclei (90 %)")
    assert words(nuclei, cells, nuclei) == (
        "a.tif looks like fluorescence (95 %); what channel 0 shows is not clear (cells (40 %) or "
        "membranes (35 %)), channel 1 shows nuclei (90 %)"
    )
    assert words(unclear, unclear) == (
        "the kind of image a.tif is not clear (fluorescence (40 %) or electron microscopy "
        "(30 %)): state it with --kind"
    )
    assert words(None) == "a.tif shows nothing that identifies its kind"


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

    assert (good["rank"], good["score"], good["reasons"], good["verdict"]) == (
        1,
        0.9125,
        [],
        "fits",
    )
    assert good["made_for"]["structures"] == ["nuclei"]
    assert bad["reasons"] == ["3 channels, not 1", "almost no contrast"]
    assert [one["severity"] for one in bad["findings"]] == ["note", "warning", "error"]
    assert (unread["verdict"], unread["status"]) == (None, "broken")
    assert unread["reasons"] == ["no answer"]
