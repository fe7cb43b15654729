"""A model in rows, as a card, and as HTML: sizes, steps and licences in plain words, escaped."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.report.examples import NOTE, WARNING, model, tensor

from bmz.base.axes import Step
from bmz.base.errors import CouldNotTell
from bmz.plan.channel_names import RecipeChoice
from bmz.plan.recipe_settings import Setting
from bmz.report.html import TEXT_COLOURS, findings_html, model_html, result_html
from bmz.report.model_text import model_json, model_rows, step_words
from bmz.report.tested_text import card_text
from bmz.results.models import (
    CardView,
    ModelCheck,
    ModelTestResult,
    ModelView,
    ObjectSizes,
    Speed,
    ToolReport,
    WeightsView,
)
from bmz.spec.model import AnySize, AxisSpec, Citation, Fixed, LikeAxis, ModelSpec

FLOWS = RecipeChoice("flows", "tags", "map")
NO_RECIPE = CouldNotTell("nothing tells a recipe", hint="--recipe NAME", code="recipe.unknown")


def view(spec: ModelSpec | None = None, **changes: Any) -> ModelView:
    return replace(ModelView(spec or model(), FLOWS, (), ()), **changes)


def rows_of(spec: ModelSpec | None = None, **changes: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    heading = ""
    for name, text in model_rows(view(spec, **changes)):
        heading = name or heading
        found.setdefault(heading, []).append(text)
    return found


def test_a_model_that_states_little_has_no_empty_rows() -> None:
    assert rows_of() == {
        "model": ["shark - A shark"],
        "made for": ["not stated"],
        "task": ["2d"],
        "input": ["raw: byx, float32", "y 16 + 8n; x 64"],
        "output": ["map: byx, float32", "y 60, halo 2; x 64"],
        "pixels": ["no pixel size declared"],
        "labels": ["recipe flows: tags"],
        "runs code": ["no: weights and numbers only"],
        "licence": ["not stated"],
        "files": [str(Path("/cache/shark"))],
        "identity": [f"sha256 {'ab' * 32} (format 0.5.4)"],
    }


def test_what_a_model_says_of_itself_is_told_on_one_line() -> None:
    spec = model(
        name="A\n shark",
        description="It bites.\n\nOften.",
        tags=("denoising", "cat"),
        license="MIT",
        cite=(Citation("A paper", "10.1/x"), Citation("A talk")),
    )

    rows = rows_of(spec, version="v3", defects=("a hole", "a tear"), code=("net.py", "b.py"))

    assert rows["model"] == ["shark v3 - A shark"]
    assert rows["what"] == ["It bites. Often."]
    assert rows["task"] == ["denoising, 2d"]
    assert rows["tags"] == ["denoising, cat"]
    assert rows["cite"] == ["A paper 10.1/x", "A talk"]
    assert (rows["licence"], rows["defects"]) == (["MIT"], ["a hole", "a tear"])
    assert rows["runs code"] == ["net.py", "b.py"]


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        (AxisSpec("c", "channel", Fixed(2), names=("dna", "actin")), "c 2 (dna, actin)"),
        (AxisSpec("c", "channel", Fixed(4), names=tuple("abcd")), "c 4 (a, b, c, d)"),
        (AxisSpec("c", "channel", Fixed(5), names=tuple("abcde")), "c 5 (a, b, ..., e)"),
        (AxisSpec("x", "space", LikeAxis("raw", "x", -4), halo=8), "x as raw.x -4, halo 8"),
        (AxisSpec("t", "time", AnySize()), "t any"),
    ],
    ids=["two names", "four", "five", "halo", "any"],
)
def test_an_axis_tells_size_names_and_halo(axis: AxisSpec, words: str) -> None:
    rows = rows_of(model(inputs=(tensor("raw", (axis,), optional=True),)))

    assert rows["input"] == [f"raw: {axis.letter}, float32, optional", words]


def test_a_cast_is_told_only_where_it_is_all_that_is_done() -> None:
    cast, squash = Step("ensure_dtype", {"dtype": "float32"}), Step("sigmoid", {})
    inputs = (tensor("a", (), steps=(cast, squash, cast)), tensor("b", (), steps=(cast,)))

    rows = rows_of(model(inputs=inputs))

    assert rows["input"] == [
        "a: , float32",
        "- sigmoid: logits to probabilities",
        "b: , float32",
        "- cast to float32",
    ]


def test_labels_are_told_with_every_value_and_who_states_it() -> None:
    settings = (
        Setting("a", 1, "package"),
        Setting("b", value=False, source="default"),
        Setting("c", 0.5, "fact"),
        Setting("d", "", "default"),
        Setting("e", "auto", "fact"),
    )

    rows = rows_of(settings=settings)

    assert rows["labels"] == [
        "recipe flows: tags",
        "from the description: a=1",
        "from the curated facts: c=0.5, e=auto",
        "by default: b=false, d=''",
    ]


def test_labels_that_cannot_be_had_are_told_with_the_next_step() -> None:
    assert rows_of(recipe=NO_RECIPE)["labels"] == ["nothing tells a recipe", "--recipe NAME"]


def test_weights_are_told_with_size_and_whether_they_are_here() -> None:
    entries = (
        WeightsView("onnx", 55_250_000, fetched=True, state="runs here"),
        WeightsView("keras_v3", None, fetched=False, state="no keras"),
    )

    assert rows_of(weights=entries)["weights"] == [
        "onnx, 55.2 MB: runs here",
        "keras_v3, size unknown, not fetched: no keras",
    ]


@pytest.mark.parametrize(
    ("reports", "version", "told"),
    [
        (None, "v0", ["the reports of other tools could not be downloaded"]),
        ((), "v0", ["no other tool has reported on it"]),
        ((), "", None),
        (
            (
                ToolReport("c", "3", "failed"),
                ToolReport("a", "1", "passed"),
                ToolReport("d", "4", "not-applicable"),
                ToolReport("b", "2", "passed"),
            ),
            "v0",
            ["passed by a 1, b 2; failed by c 3; not for d 4"],
        ),
    ],
    ids=["no answer", "none", "not of the zoo", "some"],
)
def test_other_tools_are_told_by_what_they_found(
    reports: tuple[ToolReport, ...] | None, version: str, told: list[str] | None
) -> None:
    assert rows_of(reports=reports, version=version).get("tools") == told


def test_the_document_tells_tensors_as_plain_values() -> None:
    steps = (Step("clip", {"min": 0}),)
    axes = (
        AxisSpec("c", "channel", Fixed(1), names=("dna",)),
        AxisSpec("x", "space", Fixed(64), halo=2),
    )
    spec = model(inputs=(tensor("raw", axes, steps=steps, value_range=(0.0, None)),))

    document = json.loads(model_json(view(spec, recipe=NO_RECIPE, reports=None)))

    assert document["inputs"] == [
        {
            "id": "raw",
            "axes": "cx",
            "sizes": {"c": "1", "x": "64"},
            "halo": {"x": 2},
            "channels": ["dna"],
            "dtype": "float32",
            "range": [0.0, None],
            "steps": [{"name": "clip", "kwargs": {"min": 0}}],
            "optional": False,
        }
    ]
    assert document["reports"] is None
    assert document["recipe"] == {
        "name": None, "why": "nothing tells a recipe", "code": "recipe.unknown", "parameters": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Step("binarize", {"threshold": 0.5}), "1 above 0.5, else 0"),
        (
            Step("binarize", {"threshold": [0.5, 1], "axis": "c"}),
            "1 above [0.5, 1], else 0 along channel",
        ),
        (Step("clip", {"min": 0, "max": 1.0}), "cut to 0 to 1.0"),
        (Step("clip", {"max": 255}), "cut to -inf to 255"),
        (Step("clip", {"min": 0}), "cut to 0 to inf"),
        (Step("clip", {"min_percentile": 0}), "cut to percentiles 0 to inf"),
        (Step("clip", {"max_percentile": 99.9}), "cut to percentiles -inf to 99.9"),
        (Step("scale_linear", {}), "multiply by 1, add 0"),
        (Step("scale_linear", {"gain": 2, "offset": -1}), "multiply by 2, add -1"),
        (
            Step("scale_range", {}),
            "normalise: percentiles 0 to 100 become 0 to 1, over the whole tensor",
        ),
        (
            Step("zero_mean_unit_variance", {"axes": ("c", "y")}),
            "subtract the mean, divide by the standard deviation, over channel, y together",
        ),
        (Step("softmax", {"axis": "c"}), "softmax along channel: logits to probabilities"),
        (Step("of_tomorrow", {"a": 1}), "of_tomorrow(a=1)"),
    ],
    ids=str,
)
def test_a_step_says_what_it_does_with_its_bounds_and_axes(step: Step, words: str) -> None:
    assert step_words(step) == words


def card(**changes: Any) -> str:
    tested = ModelTestResult("shark", (ModelCheck("onnx.reproduces", "passed", "a|b\n1 < 2"),))
    made = CardView(view(), tested, (), None, "2026-01-02", {"bmz": "1", "numpy": "2"})
    return card_text(replace(made, **changes))


def test_a_card_of_a_model_of_which_little_is_known_has_no_empty_section() -> None:
    assert re.findall(r"^## (.+)$", card(), re.MULTILINE) == [
        "Inputs",
        "Outputs",
        "Requirements",
        "Licence and citation",
        "Identity",
        "Measured",
    ]
    assert card().startswith(
        "# Model card: shark\n\nA shark\n\n## Inputs\n\n- made for: not stated\n- raw: byx"
    )
    assert card().endswith("Measured on 2026-01-02 by `bmz card` with bmz 1, numpy 2.\n")


def test_a_table_of_a_card_keeps_its_columns_whatever_a_check_says() -> None:
    (row,) = re.findall(r"^\| `onnx.*$", card(), re.MULTILINE)

    assert row == r"| `onnx.reproduces` | passed | a\|b 1 &lt; 2 |"


def test_a_card_tells_speeds_to_a_hundredth_and_diameters_to_a_tenth() -> None:
    text = card(
        speeds=(Speed("onnx", "onnxruntime 1.20", "cpu", 1.23456),),
        sizes=ObjectSizes("flows", 1, 10.04, 12.25, 20.96),
        view=view(defects=("a hole",)),
    )

    assert "\n| `onnx` | onnxruntime 1.20 | cpu | 1.23 |\n" in text
    assert "the recipe `flows`: 1, with diameters of 10.0 to 21.0 px" in text
    assert "median 12.2 px." in text
    assert "\n## Known defects\n\n- a hole\n" in text


def test_what_a_model_or_a_finding_says_is_no_html() -> None:
    spec = model(name="<script>", description='a & "b"')
    odd = replace(WARNING, message="1 < 2 & <b>", hint="<i>")

    shown, told = model_html(view(spec)), findings_html("<verdict>", [odd])

    assert "shark - &lt;script&gt;</td>" in shown
    assert "a &amp; &quot;b&quot;</td>" in shown
    assert told.startswith("<p><b>&lt;verdict&gt;</b></p>")
    assert "1 &lt; 2 &amp; &lt;b&gt; [range.flat]</li>" in told
    assert set(re.findall(r"<([a-z]+)", shown + told)) == {
        "table", "tr", "th", "td", "p", "b", "ul", "li",
    }  # fmt: skip


def test_findings_are_items_with_their_severity_and_a_hint_has_none() -> None:
    items = re.findall(r"<li[^>]*>(.*?)</li>", findings_html("h", [NOTE, WARNING]))

    assert items == [
        "<b>warning</b> almost no contrast [range.flat]",
        "stain again",
        "<b>note</b> uint8 is cast [dtype.cast]",
    ]


def test_a_result_shows_the_very_picture_and_its_words() -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)

    html = result_html(['3 "cells"', "took 1 s"], picture, [])

    ((alt, data),) = re.findall(r'<img alt="(.*?)" src="data:image/png;base64,(.*?)"/>', html)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    np.testing.assert_array_equal(shown, picture)
    assert alt == "3 &quot;cells&quot;"
    assert "<p>took 1 s</p><p><b>3 &quot;cells&quot;</b></p>" in html
    assert "<img" not in result_html(["no labels"], None, [])


@pytest.mark.parametrize("kind", TEXT_COLOURS)
def test_text_stands_out_from_a_white_ground(kind: str) -> None:
    shares = [int(TEXT_COLOURS[kind][at : at + 2], 16) / 255 for at in (1, 3, 5)]

    # WCAG 2.1: relative luminance, and the contrast ratio with white
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert 1.05 / (luminance + 0.05) >= 4.5
