from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from bmz.spec.model import Fixed, LikeAxis
from bmz.spec.read import read_model
from bmz.spec.translate import repaired


def content(**more: Any) -> dict[str, Any]:
    entry = {"name": "raw", "axes": "bcyx", "shape": {"min": [1, 1, 64, 64], "step": [0, 0, 8, 8]}}
    output = {"name": "map", "axes": "bcyx", "shape": [1, 1, 64, 64], "halo": [0, 0, 16, 16]}
    return {"format_version": "0.4.9", "inputs": [entry], "outputs": [output], **more}


def scale_linear(**kwargs: Any) -> dict[str, Any]:
    step = {"name": "scale_linear", "kwargs": kwargs}
    return content(inputs=[{"name": "raw", "preprocessing": [step]}], outputs=[])


def test_needless_axes_of_a_scalar_gain_are_dropped() -> None:
    mended, remarks = repaired(scale_linear(axes="xy", gain=2, offset=-1))

    assert mended["inputs"][0]["preprocessing"][0]["kwargs"] == {"gain": 2, "offset": -1}
    assert len(remarks) == 1
    assert remarks[0].startswith("repaired: scale_linear of 'raw'")


@pytest.mark.parametrize(
    "whole",
    [
        scale_linear(axes="xy", gain=[2, 3], offset=0),
        scale_linear(gain=2, offset=0),
        scale_linear(axes="xy", gain=2) | {"format_version": "0.5.3"},
        content(weights={"onnx": {"dependencies": "conda:environment.yaml"}}, outputs=[]),
        content(weights={"onnx": {}}, outputs=[]),
        content(
            outputs=[{"name": "map", "axes": "bcyx", "shape": [1, 1, 32, 32], "halo": [8] * 4}]
        ),
        content(outputs=[{"name": "map", "axes": "bcyx", "shape": [1, 1, 64, 64]}]),
        content(outputs=["odd"], inputs=["odd"], weights="odd"),
        content(outputs=None, inputs=3),
        {},
    ],
)
def test_what_needs_no_repair_is_left_alone(whole: dict[str, Any]) -> None:
    mended, remarks = repaired(whole)

    assert mended is whole
    assert remarks == ()


def test_dependencies_for_pip_are_left_out() -> None:
    weights = {"onnx": {"source": "a"}, "torchscript": {"dependencies": "pip:./requirements.txt"}}
    given = content(weights=weights, outputs=[])
    before = copy.deepcopy(given)

    mended, remarks = repaired(given)

    assert mended["weights"] == {"onnx": {"source": "a"}, "torchscript": {}}
    assert "requirements.txt" in remarks[0]
    assert given == before


@pytest.mark.parametrize("shape", [{"min": [1, 1, 64, 64], "step": [0, 0, 8, 8]}, [1, 1, 64, 64]])
def test_an_output_with_halo_and_the_size_of_its_input_follows_it(shape: Any) -> None:
    given = content()
    given["inputs"][0]["shape"] = shape

    mended, remarks = repaired(given)

    assert mended["outputs"][0]["shape"] == {
        "reference_tensor": "raw",
        "scale": [1.0, 0.0, 1.0, 1.0],
        "offset": [0, 0.5, 0, 0],
    }
    assert "follow the input" in remarks[0]


@pytest.mark.parametrize(
    ("name", "count"), [("dynamic-t-rex", 1), ("joyful-deer", 2), ("stupendous-sheep", 1)]
)
def test_live_models_are_mended(shared: Path, name: str, count: int) -> None:
    model = read_model(shared / "zoo" / "models" / name / "rdf.yaml")

    assert len([text for text in model.remarks if text.startswith("repaired: ")]) == count


def test_the_mended_output_keeps_channel_and_halo(shared: Path) -> None:
    model = read_model(shared / "zoo" / "models" / "joyful-deer" / "rdf.yaml")

    output = model.outputs[0]
    assert output.channels == 1
    assert [axis.halo for axis in output.axes] == [0, 0, 16, 16, 16]
    assert output.axes[2].size == LikeAxis("input0", "z")
    assert output.axes[1].size == Fixed(1)
