"""How far an output may be off is what the manifest says, for labels and maps apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.app.model_test import ModelTestRequest, check_models
from bmz.spec.model import ModelSpec, Tolerance
from bmz.spec.read import from_plain, read_model, to_plain
from bmz.testing.package import Description, description, sha256_of, write_package

pytest.importorskip("onnx")

CONTINUOUS = {
    "output_ids": "any_continuous_output", "relative_tolerance": 1e-3,
    "absolute_tolerance": 1e-3, "mismatched_elements_per_million": 100, "weights_formats": [],
}  # fmt: skip
DISCRETE = {
    "output_ids": "any_discrete_output", "relative_tolerance": 0,
    "absolute_tolerance": 0, "mismatched_elements_per_million": 1000, "weights_formats": [],
}  # fmt: skip
"""As bioimageio.spec 0.5.13 and newer write them into every manifest."""


def two_outputs(*entries: dict[str, Any], **more: Any) -> Description:
    """Describe a model of a map and of labels."""
    described = description(size=64)
    mapped = described["outputs"][0] | {"id": "y", "data": {"type": "float32"}}
    labels = described["outputs"][0] | {"id": "cells", "data": {"type": "uint16"}}
    described["outputs"] = [mapped, labels]
    ours = {"reproducibility_tolerance": list(entries)} if entries else {}
    described["config"] = {"bioimageio": ours | more}
    return described


def read(folder: Path, *entries: dict[str, Any], **more: Any) -> ModelSpec:
    return read_model(write_package(folder / "m", two_outputs(*entries, **more)))


def limits(tolerance: Tolerance) -> tuple[float, float, int]:
    return tolerance.absolute, tolerance.relative, tolerance.mismatched_per_million


MAP, CELLS = (1e-3, 1e-3, 100), (0, 0, 1000)


@pytest.mark.parametrize("entries", [(), (CONTINUOUS, DISCRETE), (DISCRETE, CONTINUOUS)])
def test_labels_and_maps_have_limits_of_their_own_also_where_nothing_is_said(
    entries: tuple[dict[str, Any], ...], tmp_path: Path
) -> None:
    model = read(tmp_path, *entries)

    assert limits(model.tolerance_for("y", "onnx")) == MAP
    assert limits(model.tolerance_for("cells", "onnx")) == CELLS


def test_what_is_said_of_a_kind_of_output_holds_for_that_kind_alone(tmp_path: Path) -> None:
    model = read(
        tmp_path,
        CONTINUOUS | {"absolute_tolerance": 5e-3, "mismatched_elements_per_million": 777},
        DISCRETE | {"mismatched_elements_per_million": 888},
    )

    assert limits(model.tolerance_for("y", "onnx")) == (5e-3, 1e-3, 777)
    assert limits(model.tolerance_for("cells", "onnx")) == (0, 0, 888)


def test_an_entry_for_one_format_leaves_the_others_to_the_next(tmp_path: Path) -> None:
    wide = CONTINUOUS | {"absolute_tolerance": 5e-3, "weights_formats": ["torchscript"]}

    model = read(tmp_path, wide, CONTINUOUS, DISCRETE)

    assert model.tolerance_for("y", "torchscript").absolute == 5e-3
    assert model.tolerance_for("y", "onnx").absolute == 1e-3


def test_the_first_entry_that_applies_holds_also_before_one_with_a_name(tmp_path: Path) -> None:
    named = {"output_ids": ["y"], "absolute_tolerance": 4e-3}

    first, second = (
        read(tmp_path / str(number), *entries)
        for number, entries in enumerate([(named, CONTINUOUS), (CONTINUOUS, named)])
    )

    assert first.tolerance_for("y", "onnx").absolute == 4e-3
    assert second.tolerance_for("y", "onnx").absolute == 1e-3


OLDER = {"onnx": {"absolute_tolerance": 0.04}, "torchscript": {"decimal": 2}}


@pytest.mark.parametrize("entries", [(), (CONTINUOUS, DISCRETE)], ids=["none", "of the writer"])
def test_what_older_models_say_goes_before_entries_that_nobody_chose(
    entries: tuple[dict[str, Any], ...], tmp_path: Path
) -> None:
    model = read(tmp_path, *entries, test_kwargs=OLDER)

    assert model.tolerance_for("y", "onnx").absolute == 0.04
    assert model.tolerance_for("y", "torchscript").absolute == pytest.approx(0.015)
    assert limits(model.tolerance_for("y", "keras_v3")) == MAP


def test_what_older_models_say_gives_way_to_what_their_authors_chose_since(
    tmp_path: Path,
) -> None:
    chosen = CONTINUOUS | {"absolute_tolerance": 2e-3}

    model = read(tmp_path, chosen, DISCRETE, test_kwargs=OLDER)

    assert model.tolerance_for("y", "onnx").absolute == 2e-3


def test_the_words_survive_being_kept(tmp_path: Path) -> None:
    model = read(tmp_path, CONTINUOUS | {"absolute_tolerance": 5e-3}, DISCRETE)

    again = from_plain(to_plain(model), model.folder)

    assert again.tolerances == model.tolerances
    assert again.tolerances[0].output_kind == "continuous"


def wrong_pixels(folder: Path, output: str, count: int, by: float) -> None:
    """Let the test output of a written package differ in some of its pixels."""

    def change(described: Description) -> None:
        names = [one["id"] for one in described["outputs"]]
        x = np.load(folder / "test_inputs_0.npy")
        for number, name in enumerate(names):
            tensor = described["outputs"][number]
            wanted = x.astype(tensor["data"]["type"])
            if name == output:
                wanted.reshape(-1)[:count] += np.asarray(by, wanted.dtype)
            path = folder / tensor["test_tensor"]["source"]
            np.save(path, wanted)
            tensor["test_tensor"]["sha256"] = sha256_of(path)

    described = two_outputs(CONTINUOUS, DISCRETE)
    del described["outputs"][1 if output == "y" else 0]
    described["outputs"][0]["postprocessing"] = [
        {"id": "ensure_dtype", "kwargs": {"dtype": described["outputs"][0]["data"]["type"]}}
    ]
    write_package(folder, described, change=change)


@pytest.mark.parametrize(
    ("output", "count", "by", "status"),
    [
        ("y", 0, 1, "passed"),
        ("y", 4096, 5e-4, "passed"),  # within both limits
        ("y", 1, 1, "failed"),  # 244 of 100 ppm
        ("cells", 4, 1, "passed"),  # 977 of 1000 ppm
        ("cells", 5, 1, "failed"),
    ],
)
def test_a_test_of_a_model_judges_labels_and_maps_by_their_own_limits(
    output: str, count: int, by: float, status: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    wrong_pixels(tmp_path / "m", output, count, by)

    (tested,) = check_models(ModelTestRequest((str(tmp_path / "m"),)))

    (check,) = [check for check in tested.checks if check.name == "onnx.reproduces"]
    assert check.status == status, check.detail


@pytest.mark.parametrize(
    "said",
    [
        {"onnx": {"absolute_tolerance": "wide"}}, {"onnx": {"decimal": "4"}}, {"onnx": [1]}, "x",
        {"onnx": {"decimal": -10**6}}, {"onnx": {"absolute_tolerance": None}},
        {"onnx": {"decimal": True}},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_was_written_for_older_versions_the_model_is_read(
    said: object, tmp_path: Path
) -> None:
    model = read(tmp_path, test_kwargs=said)

    assert limits(model.tolerance_for("y", "onnx")) == MAP


def test_a_kind_of_output_that_is_not_known_here_is_left_to_the_usual_limits(
    tmp_path: Path,
) -> None:
    model = read(tmp_path, CONTINUOUS | {"output_ids": "any_complex_output"})

    assert model.tolerances == ()
