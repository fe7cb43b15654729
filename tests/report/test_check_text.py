"""What a person at a terminal, and a workflow of GitHub, are told of a check."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.report.examples import EMPTY, ERROR, NOT_UTF8, NOTE, WARNING, checked, summary

from bmz.check.codes import CODES
from bmz.check.finding import Finding
from bmz.check.kind import ImageKind
from bmz.process.quality import Quality
from bmz.report.check_text import (
    MANY,
    check_github,
    check_json,
    check_lines,
    explanation_rows,
    trial_words,
)
from bmz.results.images import Cure, ImageCheck, ImageTrial, TriedCrop
from bmz.spec.made_for import StatedKind

FITS, ADAPTS, NOT = checked("a.tif"), checked("b.tif", NOTE), checked("d.tif", ERROR)
UNKNOWN = checked("c.tif", error=EMPTY)


@pytest.mark.parametrize(
    ("images", "status"),
    [
        ((), 0),
        ((FITS, ADAPTS), 0),
        ((checked("w.tif", WARNING),), 0),
        ((FITS, UNKNOWN), 3),
        ((UNKNOWN, NOT), 1),
    ],
    ids=["none", "fit", "warned", "unread", "unread and not"],
)
def test_an_image_that_does_not_fit_outweighs_one_that_could_not_be_read(
    images: tuple[ImageCheck, ...], status: int
) -> None:
    assert summary(*images).exit_status == status


def test_one_image_is_told_with_the_worst_first_and_without_a_sum() -> None:
    lines = check_lines(summary(checked("a.tif", NOTE, WARNING, ERROR)), verbosity=1)

    assert lines == [
        ("answer", "a.tif: does not fit"),
        ("error", "3 channels, not 1 [channel.count]"),
        ("hint", "--channels 0"),
        ("warning", "almost no contrast [range.flat]"),
        ("hint", "stain again"),
        ("note", "uint8 is cast [dtype.cast]"),
    ]


def test_a_better_scale_is_told_of_a_mask_that_is_likely_good_where_no_finding_tells_it() -> None:
    good, better = Quality(0.8, 0.6, 0.9, "likely good"), Quality(0.95, 0.8, 1.0, "likely good")
    doubtful = Quality(0.6, 0.2, 0.8, "look closely")
    cure = Cure("--scale 0.5", better)
    trial = ImageTrial((TriedCrop({}, 3, good),), good, None, cure)

    told = "; with --scale 0.5 likely good, F1 about 0.95 (0.80 to 1.00)"
    assert trial_words(trial).endswith(told)
    assert "--scale" not in trial_words(replace(trial, quality=doubtful))
    assert "--scale" not in trial_words(replace(trial, cure=None))


def test_notes_are_left_out_where_nobody_asks_for_them() -> None:
    lines = check_lines(summary(checked("a.tif", NOTE), checked("b.tif", NOTE, WARNING)))

    assert lines[:4] == [
        ("answer", "a.tif: fits: bmz run will adapt it (-v shows how)"),
        ("answer", "b.tif: fits, with warnings: bmz run will adapt it (-v shows how)"),
        ("warning", "almost no contrast [range.flat]"),
        ("hint", "stain again"),
    ]


def test_a_quiet_check_names_only_images_with_warnings_or_errors() -> None:
    images = summary(FITS, checked("w.tif", WARNING), checked("e.tif", ERROR), ADAPTS)

    answers = [text for kind, text in check_lines(images, verbosity=-1) if kind == "answer"]

    assert answers == ["w.tif: fits, with warnings", "e.tif: does not fit"]


def test_a_finding_without_a_hint_has_no_line_for_it() -> None:
    lines = check_lines(summary(checked("a.tif", replace(ERROR, hint=""))))

    assert lines[1:] == [("error", "3 channels, not 1 [channel.count]")]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (FITS, "a.tif: fits as it is"),
        (ADAPTS, "b.tif: fits: bmz run will adapt it (-v shows how)"),
        (checked("w.tif", WARNING), "w.tif: fits, with warnings"),
        (
            checked("w.tif", WARNING, NOTE),
            "w.tif: fits, with warnings: bmz run will adapt it (-v shows how)",
        ),
        (checked("w.tif", WARNING, ERROR), "w.tif: does not fit"),
        (replace(FITS, series=0), "a.tif[0]: fits as it is"),
        (UNKNOWN, "c.tif: could not be checked"),
        (replace(NOT, error=EMPTY), "d.tif: could not be checked"),
    ],
    ids=[
        "fits",
        "adapts",
        "warned",
        "warned and adapts",
        "warned and not",
        "series 0",
        "unread",
        "read in part",
    ],
)
def test_the_verdict_of_an_image_is_a_sentence(image: ImageCheck, words: str) -> None:
    assert check_lines(summary(image))[0] == ("answer", words)


def test_an_image_that_cannot_be_read_is_told_with_the_next_step() -> None:
    assert check_lines(summary(UNKNOWN))[1:] == [
        ("error", "'c.tif' is empty [image.empty]"),
        ("hint", "copy it again"),
    ]


def test_no_image_at_all_is_told_by_no_line() -> None:
    assert check_lines(summary()) == []


def test_a_table_begins_above_eight_images_and_not_before() -> None:
    few, many = [FITS] * MANY, [FITS] * (MANY + 1)

    assert check_lines(summary(*few)) == [
        *[("answer", "a.tif: fits as it is")] * 8,
        ("answer", "8 images: 8 fit as they are"),
    ]
    assert check_lines(summary(*many)) == [
        *[("answer", "a.tif  fits")] * 9,
        ("answer", "9 images: 9 fit as they are"),
    ]


def test_the_rows_of_a_table_are_as_wide_as_the_longest_name() -> None:
    images = [checked("a.tif", WARNING), replace(UNKNOWN, series=12), *[NOT] * 7]

    rows = [text for _, text in check_lines(summary(*images))[:3]]

    assert rows == [
        "a.tif      fits, with warnings  warning: almost no contrast [range.flat]",
        "c.tif[12]  unknown              'c.tif' is empty [image.empty]",
        "d.tif      does not fit         error: 3 channels, not 1 [channel.count]",
    ]


def test_a_finding_counts_once_an_image_and_the_commonest_of_its_kind_comes_first() -> None:
    twice = replace(WARNING, code="range.outlier"), replace(WARNING, code="range.outlier")
    images = (checked("a.tif", WARNING), checked("b.tif", *twice), checked("c.tif", *twice, ERROR))

    lines = check_lines(summary(*images))

    assert lines[-4:] == [
        ("answer", "3 images: 2 fit with warnings, 1 does not fit"),
        ("answer", "      1 x error   channel.count"),
        ("answer", "      2 x warning range.outlier"),
        ("answer", "      1 x warning range.flat"),
    ]


def test_the_sum_parts_what_fits_from_what_fits_with_warnings() -> None:
    images = [FITS, ADAPTS, checked("w.tif", WARNING), checked("x.tif", WARNING, NOTE), UNKNOWN]

    (told,) = [text for _, text in check_lines(summary(*images)) if text.startswith("5 images")]

    assert told == (
        "5 images: 1 fits as it is, 1 fits once adapted, 2 fit with warnings, "
        "1 could not be checked"
    )


def test_findings_that_are_equally_common_stand_in_the_order_in_which_they_came() -> None:
    codes = [f"axes.{letter}" for letter in "qwertyuiop"]
    image = checked("a.tif", *(replace(NOTE, code=code) for code in codes))

    lines = check_lines(summary(image, image))

    counted = [text.split()[-1] for _, text in lines if " x note " in text]
    assert counted == codes


def test_json_and_github_count_the_warnings_beside_the_verdict() -> None:
    told = summary(FITS, checked("w.tif", WARNING, WARNING), checked("x.tif", WARNING, ERROR))

    images = json.loads(check_json(told))["images"]

    assert [(one["verdict"], one["warnings"]) for one in images] == [
        ("fits", 0), ("fits", 2), ("mismatch", 1),
    ]  # fmt: skip
    assert check_github(told).splitlines()[-1] == "1 of 3 images: fits, with warnings"
    assert "with warnings" not in check_github(summary(FITS, ADAPTS, NOT))


EM = ImageKind({"electron": 0.97123, "fluorescence": 0.02877}, {"neurites": 0.8, "cells": 0.2})
UNCLEAR = ImageKind({"electron": 0.4, "fluorescence": 0.4}, {})


def shows(image: ImageCheck, kind: ImageKind) -> ImageCheck:
    return replace(image, report=replace(image.report, kind=kind))


def test_what_an_image_shows_is_told_below_its_verdict() -> None:
    lines = check_lines(summary(shows(FITS, EM)))

    assert lines == [
        ("answer", "a.tif: fits as it is"),
        ("answer", "  shows electron microscopy (97 %) of neurites (80 %)"),
    ]


@pytest.mark.parametrize("stated", [None, StatedKind("em", "neurites")])
def test_of_several_images_the_kinds_are_counted(stated: StatedKind | None) -> None:
    images = (shows(FITS, UNCLEAR), shows(FITS, EM), shows(NOT, EM), FITS, UNKNOWN)
    told = replace(summary(*images), stated=stated)

    lines = [text for _, text in check_lines(told)]
    document = json.loads(check_json(told))

    word = "recognised" if stated is None else "stated"
    assert lines[-3:] == [
        f"kinds of images, as {word}:",
        "      2 x electron microscopy of neurites",
        "      1 x unknown",
    ]
    assert document["kinds"] == [
        {"kind": "electron microscopy of neurites", "images": 2},
        {"kind": "unknown", "images": 1},
    ]
    assert document["stated_kind"] == (None if stated is None else "em,neurites")
    assert document["images"][1]["kind"] == {
        "title": "electron microscopy of neurites",
        "families": {"electron": 0.9712, "fluorescence": 0.0288},
        "structures": {"neurites": 0.8, "cells": 0.2},
    }


def test_images_of_which_no_kind_is_known_have_no_table() -> None:
    told = summary(FITS, UNKNOWN)

    assert "kinds of images" not in "".join(text for _, text in check_lines(told))
    assert json.loads(check_json(told))["kinds"] == []


def test_json_tells_the_series_and_which_images_have_no_verdict() -> None:
    document = json.loads(check_json(summary(replace(FITS, series=1), UNKNOWN)))

    assert document["images"] == [
        {
            "image": "a.tif",
            "series": 1,
            "step": None,
            "verdict": "fits",
            "warnings": 0,
            "findings": [],
            "kind": None,
            "error": None,
            "trial": None,
        },
        {
            "image": "c.tif",
            "series": None,
            "step": None,
            "verdict": None,
            "warnings": 0,
            "findings": [],
            "kind": None,
            "error": {
                "code": "image.empty",
                "message": "'c.tif' is empty",
                "hint": "copy it again",
            },
            "trial": None,
        },
    ]


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (ERROR, "::error file=a.tif,title=channel.count::3 channels, not 1 (--channels 0)"),
        (WARNING, "::warning file=a.tif,title=range.flat::almost no contrast (stain again)"),
        (
            replace(WARNING, message="100%\r\nof: it,", hint=""),
            "::warning file=a.tif,title=range.flat::100%25%0D%0Aof: it,",
        ),
        (replace(WARNING, message="%0A", hint=""), "::warning file=a.tif,title=range.flat::%250A"),
    ],
    ids=["error", "warning", "line ends", "an escape"],
)
def test_a_finding_is_one_line_of_a_workflow(finding: Finding, line: str) -> None:
    assert check_github(summary(checked("a.tif", finding))).split("\n")[0] == line


def test_a_name_cannot_end_the_command_of_a_workflow() -> None:
    told = check_github(summary(checked("a::b,c\n%.tif", error=EMPTY)))

    wanted = "::error file=a%3A%3Ab%2Cc%0A%25.tif,title=image.empty::'c.tif' is empty"
    assert told == f"{wanted} ({EMPTY.hint})"


def test_a_name_that_is_no_text_is_told_to_a_workflow_all_the_same() -> None:
    told = check_github(summary(checked(NOT_UTF8, WARNING)))

    assert told.encode().startswith(b"::warning file=a?.tif,")


def test_images_that_fit_are_no_annotations() -> None:
    assert check_github(summary(FITS, FITS)) == ""


def test_an_explanation_tells_the_code_with_its_severity() -> None:
    page = CODES["scale.far"]

    assert explanation_rows("scale.far", page) == [
        ("code", "scale.far (error)"),
        ("cause", page.cause),
        ("fix", page.cure),
        ("example", page.example),
    ]
