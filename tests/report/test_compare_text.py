"""Results side by side: names, ranks and reasons; what failed is told with its next step."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.report.examples import EMPTY, NOT_UTF8, NOTE, WARNING

from bmz.image.pixels import Pixels
from bmz.process.consensus import Plausibility
from bmz.process.matching import MaskError, Matching
from bmz.process.quality import Quality
from bmz.report.compare_text import (
    WITH_TRUTH,
    WITHOUT,
    as_csv,
    as_json,
    headings,
    lines,
    rows,
    table,
    tied,
    why_first,
)
from bmz.report.comparison_page import comparison_page
from bmz.results.compare import Comparison, ImageComparison, ResultQuality, SettingResult

LABELS = Pixels(np.array([[1, 1, 0, 0], [1, 1, 0, 2]], np.uint8), ("y", "x"))
TABLE = {
    "label": np.array([1, 2]),
    "centroid_y_px": np.array([0.5, 1.0]),
    "centroid_x_px": np.array([0.5, 3.0]),
    "area_px": np.array([4, 1]),
    "equivalent_diameter_area_px": np.array([2.256758, 1.128379]),
    "solidity": np.array([1.0, np.nan]),
}
HALF = Matching(1, 1, 1, 0.5, 0.5, 0.5, 1 / 3, 0.4, 0.8)
NEVER = Matching(0, 2, 2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
KNOWN = ResultQuality({0.5: HALF, 0.75: NEVER}, (MaskError("missed", 3, (1.0, 2.0), 9),) * 2)
PREDICTED = Quality(0.7, 0.4, 0.9, "look closely")
GUESSED = ResultQuality(
    agreement=0.5, stability=0.98, plausible=Plausibility(8, 0.25, 0.5), predicted=PREDICTED
)
MADE = SettingResult("m", {"scale": "2"}, "bmz run m", LABELS, TABLE, "flows", {}, 1.23456, 0.005)
FAILED = SettingResult("n", {}, "bmz run n", error=EMPTY, findings=(NOTE, WARNING))


def compared(*results: SettingResult, name: str = "d/a.tif", **changes: Any) -> ImageComparison:
    pixels = Pixels(np.arange(8, dtype=np.float32).reshape(2, 4), ("y", "x"))
    return replace(ImageComparison(Path(name), pixels, None, results), **changes)


def comparison(*images: ImageComparison) -> Comparison:
    return Comparison("bmz compare", images, versions={"bmz": "1"})


def data_of(html: str) -> Any:
    (text,) = re.findall(r'id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(text)


@pytest.mark.parametrize(
    ("model", "settings", "name"),
    [
        ("shark", {}, "shark"),
        ("shark/v0", {"scale": "2", "tile": "64"}, "shark/v0 scale=2 tile=64"),
        ("/models/net", {}, "net"),
        ("../models/net", {"scale": "2"}, "net scale=2"),
    ],
)
def test_a_result_is_named_by_its_model_or_its_folder_and_the_settings(
    model: str, settings: dict[str, str], name: str
) -> None:
    assert replace(MADE, model=model, settings=settings).name == name


def test_the_mean_ap_is_over_thresholds_and_f1_that_at_a_half() -> None:
    assert KNOWN.f1 == 0.5
    assert KNOWN.mean_ap == pytest.approx(1 / 6)
    assert (ResultQuality().f1, ResultQuality().mean_ap) == (None, None)
    assert ResultQuality({0.75: NEVER}).f1 is None


@pytest.mark.parametrize(
    ("quality", "guess"),
    [
        (ResultQuality(), 0.0),
        (ResultQuality(agreement=0.0), 0.0),
        (ResultQuality(stability=0.25, consensus=1.0), 0.0),
        (ResultQuality(predicted=PREDICTED), 0.7),
        (GUESSED, 0.7),
    ],
    ids=["nothing", "none agree", "no word", "predicted", "beside others"],
)
def test_the_guess_is_the_prediction(quality: ResultQuality, guess: float) -> None:
    assert quality.guess == pytest.approx(guess)


@pytest.mark.parametrize(
    ("results", "status"),
    [((), 0), ((MADE, MADE), 0), ((MADE, FAILED), 1), ((FAILED, FAILED), 3)],
)
def test_the_status_tells_all_some_or_none(results: tuple[SettingResult, ...], status: int) -> None:
    assert comparison(compared(*results[:1]), compared(*results[1:])).exit_status == status


def test_against_the_truth_a_line_counts_each_kind_of_error() -> None:
    image = compared(replace(MADE, quality=KNOWN), FAILED, truth=np.asarray(LABELS))

    (line,) = table(image)

    assert headings(image) == tuple(name for name in WITH_TRUTH if name != "judged")
    assert dict(zip(headings(image), line, strict=True)) == {
        "result": "m scale=2", "objects": "2", "F1": "0.500", "AP": "0.167", "split": "0",
        "merged": "0", "missed": "2", "false": "0", "network": "1.23 s", "labels": "0.01 s",
    }  # fmt: skip


def test_without_the_truth_what_is_not_known_is_an_empty_cell_or_no_column() -> None:
    alone = replace(MADE, quality=replace(GUESSED, stability=None, agreement=None))
    image = compared(replace(MADE, quality=replace(GUESSED, stability=None)), alone)

    line, second = table(image)

    assert dict(zip(headings(image), line, strict=True)) == {
        "result": "m scale=2", "objects": "2", "predicted": "0.700", "agrees": "0.500",
        "guess": "0.700", "network": "1.23 s", "labels": "0.01 s",
    }  # fmt: skip
    assert headings(image) == tuple(name for name in WITHOUT if name in headings(image))
    assert second[headings(image).index("agrees")] == ""


def test_with_the_truth_the_first_is_the_nearest_to_it() -> None:
    assert why_first(compared(replace(MADE, quality=KNOWN), truth=LABELS.array)) == (
        "closest to the ground truth, mean AP 0.167 (F1 0.500 at IoU 0.5)"
    )


@pytest.mark.parametrize(
    ("quality", "reasons"),
    [
        (
            GUESSED,
            [
                "F1 about 0.70 (0.40 to 0.90) is predicted",
                "it agrees with the others (F1 0.50)",
                "it is stable under small changes of the image (F1 0.98)",
            ],
        ),
        (ResultQuality(agreement=1.0), ["it agrees with the others (F1 1.00)"]),
    ],
    ids=["three", "one"],
)
def test_without_the_truth_the_first_is_a_guess_with_reasons(
    quality: ResultQuality, reasons: list[str]
) -> None:
    assert why_first(compared(replace(MADE, quality=quality))) == (
        f"estimated without ground truth: {', '.join(reasons)}; look at it before you trust it"
    )


def test_what_failed_and_what_the_check_found_are_told_once_before_the_answer() -> None:
    image = compared(replace(MADE, quality=ResultQuality(agreement=1.0)), FAILED, replace(FAILED))

    told = lines(image)

    failure = [("error", "n: 'c.tif' is empty [image.empty]"), ("hint", "copy it again")]
    assert told == [
        *failure,
        ("warning", "n: almost no contrast [range.flat]"),
        ("hint", "stain again"),
        *failure,
        ("answer", f"m scale=2: {why_first(image)}"),
    ]
    assert lines(compared(FAILED))[-1] == ("hint", "stain again")


def test_each_result_is_a_row_and_only_those_with_labels_have_a_rank() -> None:
    images = compared(replace(MADE, quality=KNOWN), FAILED), compared(FAILED, name="b.tif")

    first, second, third = rows(comparison(*images))

    assert [one["rank"] for one in (first, second, third)] == [1, None, None]
    assert [one["scale"] for one in (first, second, third)] == ["2", None, None]
    assert (first["f1_iou_0.5"], first["f1_iou_0.75"], "f1_iou_0.5" in second) == (0.5, 0.0, False)
    assert (first["network_s"], first["objects"], first["plausible"]) == (1.2346, 2, None)
    assert (third["image"], third["error"]) == ("b.tif", "'c.tif' is empty [image.empty]")


def test_csv_quotes_what_would_break_it_and_leaves_unknown_cells_empty() -> None:
    odd = replace(MADE, model='a, "b"\nc', settings={}, quality=replace(KNOWN, errors=()))

    text = as_csv(comparison(compared(odd, FAILED)))

    first, second = csv.DictReader(io.StringIO(text))
    assert first["model"] == 'a, "b"\nc'
    assert (first["f1"], first["agreement"], first["error"]) == ("0.5", "", "")
    assert (second["rank"], second["f1_iou_0.5"], second["objects"]) == ("", "", "")
    assert "\r" not in text


def test_a_result_that_failed_is_in_the_document_with_its_next_step() -> None:
    known = compared(truth=LABELS.array)

    document = json.loads(as_json(comparison(compared(FAILED), known)))

    (result,), _ = [image["results"] for image in document["images"]]
    assert [image["truth"] for image in document["images"]] == [False, True]
    assert result["error"] == {
        "code": "image.empty",
        "message": "'c.tif' is empty [image.empty]",
        "hint": "copy it again",
    }
    assert (result["objects"], result["plausible"], result["matchings"]) == (None, None, {})


def test_a_name_that_is_no_text_is_written_all_the_same() -> None:
    told = comparison(compared(MADE, name=NOT_UTF8))

    assert b"\na?.tif,1," in as_csv(told).encode("utf-8")
    assert b"<title>bmz compare: a?.tif</title>" in comparison_page(told).encode("utf-8")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("@DATA@.tif", "@DATA@.tif"),
        ("@STYLE@@SCRIPT@", "@STYLE@@SCRIPT@"),
        ("a&b<c>.tif", "a&amp;b&lt;c&gt;.tif"),
        (r"\1\g<0>", r"\1\g&lt;0&gt;"),
    ],
)
def test_the_page_shows_the_name_of_an_image_as_it_is(name: str, title: str) -> None:
    html = comparison_page(comparison(compared(MADE, name=name)))

    assert f"<title>bmz compare: {title}</title>" in html
    assert data_of(html)["images"][0]["name"] == name


def test_the_title_of_the_page_names_three_images() -> None:
    html = comparison_page(comparison(*(compared(MADE, name=f"{letter}.tif") for letter in "abcd")))

    assert "<title>bmz compare: a.tif, b.tif, c.tif and 1 more</title>" in html


def test_an_image_without_any_result_is_told_in_the_page_as_failed() -> None:
    data = data_of(
        comparison_page(comparison(compared(FAILED, name="d/b.tif"), compared(MADE, FAILED)))
    )

    assert data["failed"] == ["b.tif: n: 'c.tif' is empty [image.empty]"]
    (image,) = data["images"]
    assert image["warnings"] == ["n: almost no contrast [range.flat] stain again"]
    assert image["results"][1] == {
        "name": "n",
        "model": "n",
        "title": "n",
        "settings": {},
        "command": "bmz run n",
        "masks": None,
        "error": "'c.tif' is empty [image.empty]",
    }


def test_the_page_tells_places_and_measures_and_null_for_what_is_not_finite() -> None:
    data = data_of(comparison_page(comparison(compared(MADE))))

    (image,) = data["images"]
    (result,) = image["results"]
    assert (image["width"], image["height"], image["unit"]) == (4, 2, "px")
    assert (result["figure"], result["counted"], result["objects"]) == (
        "guess 0.00",
        "2 objects",
        2,
    )
    assert result["places"] == [[0.5, 3.0], [0.5, 1.0], [1.1284, 0.56419]]
    assert result["sizes"] == [2.2568, 1.1284]
    assert result["table"] == {
        "names": ["label", "area_px", "equivalent_diameter_area_px", "solidity"],
        "columns": [[1, 2], [4, 1], [2.2568, 1.1284], [1.0, None]],
    }
    assert (image["known"], image["truth"], result["errors"]) == (False, None, [])
    (channel,) = image["channels"]
    assert (channel["colour"], channel["limits"], len(channel["uris"])) == (
        "#ffffff", [0.007, 6.993], 1,
    )  # fmt: skip


def test_with_lengths_in_um_the_page_leaves_out_those_in_px() -> None:
    known = {"area_um2": np.array([1.0, 0.25]), "equivalent_diameter_area_um": np.array([1.1, 0.5])}
    one = replace(MADE, table={**TABLE, **known, "intensity_mean_c0": np.array([3.0, 4.0])})

    (image,) = data_of(comparison_page(comparison(compared(one))))["images"]

    (result,) = image["results"]
    assert image["unit"] == "um"
    assert result["sizes"] == [1.1, 0.5]
    assert result["table"]["names"] == [
        "label",
        "area_um2",
        "equivalent_diameter_area_um",
        "solidity",
        "intensity_mean_c0",
    ]


def test_the_page_tells_how_many_other_results_share_an_object() -> None:
    alone = {name: column[:1] for name, column in TABLE.items()}
    other = replace(
        MADE, labels=replace(LABELS, array=(LABELS.array == 1).astype(np.uint8)), table=alone
    )

    first, second = data_of(comparison_page(comparison(compared(MADE, other))))["images"][0][
        "results"
    ]

    assert first["table"]["names"][-1] == "shared_by"
    assert first["table"]["columns"][-1] == [1.0, 0.0]
    assert second["table"]["columns"][-1] == [1.0]


def test_errors_against_the_truth_are_places_in_the_page() -> None:
    image = compared(replace(MADE, quality=KNOWN), truth=LABELS.array)

    (told,) = data_of(comparison_page(comparison(image)))["images"]

    (result,) = told["results"]
    # a circle of 9 px has a radius of sqrt(9 / pi) = 1.69 px
    missed = {"what": "missed, 9 px", "label": 3, "true": True, "y": 1.0, "x": 2.0, "r": 1.7}
    assert result["errors"] == [missed] * 2
    assert (result["figure"], told["sorted_by"], told["known"]) == ("AP 0.17", "AP", True)


def test_the_page_of_a_stack_has_each_plane_and_its_place() -> None:
    stack = np.zeros((3, 2, 4), np.uint8)
    stack[1] = LABELS.array
    made = replace(MADE, labels=Pixels(stack, ("z", "y", "x")))
    pixels = Pixels(np.arange(24, dtype=np.float32).reshape(3, 2, 4), ("z", "y", "x"), {"x": 0.5})

    (image,) = data_of(comparison_page(comparison(compared(made, pixels=pixels))))["images"]

    assert (image["at"], image["sizes"], image["start"]) == ({"z": [0, 1, 2]}, {"z": 3}, {"z": 1})
    assert [len(set(image["results"][0]["masks"])), len(image["channels"][0]["uris"])] == [2, 3]
    assert (image["um"], image["factor"]) == (0.5, 1)


def test_the_largest_objects_have_a_row_where_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bmz.report.comparison_page.MOST_ROWS", 1)

    (image,) = data_of(comparison_page(comparison(compared(MADE))))["images"]

    (result,) = image["results"]
    assert result["table"]["columns"][0] == [1]
    assert result["without_row"] == 1


def test_several_images_are_told_together_with_the_worst_of_them() -> None:
    quality = ResultQuality(predicted=replace(PREDICTED, f1=0.4))
    bad = compared(replace(MADE, quality=quality), name="b.tif")
    good = compared(replace(MADE, quality=ResultQuality(predicted=PREDICTED)))

    over = data_of(comparison_page(comparison(good, bad)))["over"]

    assert over["headings"] == ["result", "images", "first in", "guess", "least", "in"]
    assert over["rows"] == [["m scale=2", "2", "2", "0.550", "0.400", "b.tif"]]
    assert over["worst"] == [1]
    assert data_of(comparison_page(comparison(good)))["over"] is None


def test_results_that_hardly_differ_from_the_first_are_a_tie() -> None:
    others = [
        replace(
            MADE, model=name, quality=ResultQuality(predicted=Quality(f1, 0.0, 1.0, "look closely"))
        )
        for name, f1 in (("near", 0.66), ("far", 0.64))
    ]
    image = compared(replace(MADE, quality=ResultQuality(predicted=PREDICTED)), *others)

    assert tied(image) == ("near scale=2",)
    assert "it is a tie with near scale=2" in why_first(image)
    assert tied(replace(image, truth=np.asarray(LABELS))) == ()
