from __future__ import annotations

import json
from pathlib import Path

from bmz.report.model_text import facts_rows, facts_values, made_for_words
from bmz.spec.made_for import made_for
from bmz.spec.model import AxisSpec, Fixed, ModelSpec, TensorSpec


def model(alias: str, um: float | None = None) -> ModelSpec:
    unit = None if um is None else "micrometer"
    axes = tuple(AxisSpec(a, "space", Fixed(64), scale=um or 1.0, unit=unit) for a in "zyx")
    tensor = TensorSpec("raw", axes, "float32")
    return ModelSpec("m", "M", Path(), "", "0.5.4", (tensor,), (), (), alias=alias)


def test_curated_facts_are_shown_with_their_source() -> None:
    rows = dict(facts_rows(model("passionate-t-rex")))

    assert rows["pixels"].startswith("z 0.235 um, y 0.15 um, x 0.15 um; manifest: description")
    assert rows["objects"].startswith("bright compared with their surroundings; manifest: ")
    assert rows["images"].startswith("cell boundaries, confocal; manifest: ")
    assert rows["maps"].startswith("boundary; manifest: ")


def test_what_a_model_is_made_for_is_told_with_the_sentence_that_says_so() -> None:
    words = made_for_words(made_for(model("passionate-t-rex")))

    assert words.startswith("membranes in confocal fluorescence; manifest: description: ")
    assert "predict the cell boundaries in confocal stacks" in words
    assert made_for_words(made_for(model(""))) == "not stated"


def test_a_declared_pixel_size_is_shown_alone() -> None:
    assert dict(facts_rows(model("passionate-t-rex", 0.5)))["pixels"] == (
        "z 0.5 um, y 0.5 um, x 0.5 um"
    )


def test_of_many_channels_the_first_and_the_last_are_named() -> None:
    rows = dict(facts_rows(model("fearless-crab")))

    assert rows["maps"].startswith("object probability, distance along a ray, ..., distance")


def test_a_model_without_facts_has_but_the_row_of_its_pixels() -> None:
    assert dict(facts_rows(model(""))) == {"pixels": "no pixel size declared"}
    assert facts_values(model("")) == {}


def test_facts_as_json_keep_value_and_source() -> None:
    values = json.loads(json.dumps(facts_values(model("passionate-t-rex"))))

    assert values["pixel_um"]["value"] == {"z": 0.235, "y": 0.15, "x": 0.15}
    assert values["pixel_um"]["source"].startswith("manifest: description")
    assert values["recipe"]["value"]["name"] == "gasp"
    assert "object_diameter_px" not in values
