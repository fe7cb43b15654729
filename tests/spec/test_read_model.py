from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bmz.spec import read
from bmz.spec.model import Fixed, LikeAxis, ModelSpec, PackagedFile, Stepped, Tolerance
from bmz.spec.package_files import (
    FileMissing,
    HashDiffers,
    LibrariesDoNotMatch,
    PackageInvalid,
    PathLeavesPackage,
    verified,
)
from bmz.spec.read import read_model
from bmz.testing.package import description, sha256_of, write_package

pytest.importorskip("onnx")

INVALID_IN_THE_ZOO = {
    # name -> what is wrong with it
    "modest-spider": "axis id",
    "independent-mouse": "not YAML",
}


def test_a_description_of_format_0_5_is_translated(tmp_path: Path) -> None:
    model = read_model(write_package(tmp_path, description(channels=2, halo=4)))

    entry, output = model.inputs[0], model.outputs[0]
    assert entry.letters == "bcyx"
    assert entry.channels == 2
    assert entry.axes[2].size == Stepped(16, 8)
    assert output.axes[3].size == LikeAxis("image", "x")
    assert output.axes[3].halo == 4
    assert output.value_range == (0.0, 1.0)
    assert model.sha256 == sha256_of(tmp_path / "bioimageio.yaml")
    assert model.weights[0].file.sha256 == sha256_of(tmp_path / "weights.onnx")


def test_axes_of_steps_become_letters(tmp_path: Path) -> None:
    described = description()
    kwargs = {"axes": ["channel", "y", "x"]}
    described["inputs"][0]["preprocessing"] = [{"id": "zero_mean_unit_variance", "kwargs": kwargs}]

    steps = read_model(write_package(tmp_path, described)).inputs[0].steps

    declared = next(step for step in steps if step.name == "zero_mean_unit_variance")
    assert declared.kwargs == {"axes": ("c", "y", "x"), "eps": 1e-6}


def test_a_description_of_format_0_4_keeps_its_hashes(shared: Path) -> None:
    model = read_model(shared / "models" / "psc-keras" / "rdf.yaml")

    hashes = {weights.format: weights.file.sha256 for weights in model.weights}
    assert model.format_version == "0.4.5"
    assert model.inputs[0].letters == "byxc"
    assert hashes["keras_hdf5"] == (
        "d31fd8c4e764ae4b315a33f9ee9cc17e94764a93f2097542a80d0337327e872b"
    )


def test_placeholder_names_of_channels_are_no_names(shared: Path) -> None:
    model = read_model(shared / "models" / "multi-tensor" / "bioimageio.yaml")

    assert model.inputs[0].axes[1].names == ()


def test_every_live_description_is_read_or_is_known_to_be_invalid(
    live_descriptions: Mapping[str, ModelSpec | PackageInvalid],
) -> None:
    invalid = set()
    for alias, model in live_descriptions.items():
        if isinstance(model, PackageInvalid):
            invalid.add(alias)
        else:
            assert model.inputs
            assert model.weights

    assert len(live_descriptions) == 137
    assert invalid == set(INVALID_IN_THE_ZOO)


def test_the_tolerance_is_that_of_the_output_and_format(tmp_path: Path) -> None:
    described = description()
    wide = {"absolute_tolerance": 0.01, "relative_tolerance": 0.005, "weights_formats": ["onnx"]}
    described["config"] = {"bioimageio": {"reproducibility_tolerance": [wide]}}

    model = read_model(write_package(tmp_path, described))

    assert model.tolerance_for("map", "onnx").absolute == 0.01
    assert model.tolerance_for("map", "torchscript") == Tolerance(output_kind="continuous")


def test_the_tolerance_of_older_models_is_read_and_gives_way_to_the_declared_one(
    tmp_path: Path,
) -> None:
    described = description()
    older = {"onnx": {"decimal": 2}, "torchscript": {"decimal": 1}, "keras_hdf5": {"decimals": 2}}
    strict = {"absolute_tolerance": 1e-4, "weights_formats": ["torchscript"]}
    told = {"test_kwargs": older, "reproducibility_tolerance": [strict]}
    described["config"] = {"bioimageio": told}

    model = read_model(write_package(tmp_path, described))

    decimal = model.tolerance_for("map", "onnx")
    assert decimal.absolute == pytest.approx(0.015)
    assert (decimal.relative, decimal.mismatched_per_million) == (0, 0)
    assert model.tolerance_for("map", "torchscript").absolute == 1e-4
    assert model.tolerance_for("map", "keras_hdf5").absolute == Tolerance().absolute


@pytest.mark.parametrize("source", ["../secret.npy", "/etc/hostname", "a/../../b.npy", "C:\\x.npy"])
def test_a_file_outside_the_package_is_refused(tmp_path: Path, source: str) -> None:
    def change(content: dict[str, Any]) -> None:
        content["inputs"][0]["test_tensor"] = {"source": source}

    with pytest.raises((PathLeavesPackage, PackageInvalid)):
        read_model(write_package(tmp_path, change=change))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [1, 2", "not YAML"),
        ("{a: 1}: 2", "not YAML"),
        ("? [1, [2]]\n: 3", "not YAML"),
        ("a: !!bool x", "not YAML"),
        ("a: !!int ''", "not YAML"),
        ("a: 0001-01-01T00:00:00+23:59", "not YAML"),
        ("- 1\n- 2", "wanted a mapping"),
        ("type: dataset\nname: x", "describes a dataset"),
        ("type: model\nformat_version: 0.5.4\nname: x", "name: Value should have"),
        ("\xff\xfe", "valid"),
    ],
)
def test_what_is_no_description_says_why(tmp_path: Path, text: str, why: str) -> None:
    manifest = tmp_path / "bioimageio.yaml"
    manifest.write_text(text, encoding="latin-1")

    with pytest.raises(PackageInvalid, match=why) as caught:
        read_model(manifest)

    assert caught.value.exit_status == 3


def test_a_fixed_size_stays_a_number(tmp_path: Path) -> None:
    model = read_model(write_package(tmp_path, description(size=64)))

    assert model.inputs[0].axes[2].size == Fixed(64)


def test_a_missing_file_and_another_file_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "weights.onnx"
    with pytest.raises(FileMissing):
        verified(PackagedFile(path, None), "onnx weights", tmp_path)
    path.write_bytes(b"x")
    with pytest.raises(HashDiffers):
        verified(PackagedFile(path, "0" * 64), "onnx weights", tmp_path)

    assert (
        verified(PackagedFile(path, sha256_of(path).upper()), "onnx weights", tmp_path).path == path
    )


@pytest.mark.parametrize(
    ("spec", "pydantic", "refused"),
    [
        ("0.5.12.0", "2.14.4", True),
        ("0.5.14.2", "2.14.0", True),
        ("0.5.14.3", "2.14.4", False),
        ("0.5.12.0", "2.13.5", False),
        ("0.6.0a1", "2.15.0b2", False),
        ("0.5.15", "3", False),
    ],
)
def test_libraries_that_call_every_model_invalid_are_told_apart_from_a_faulty_model(
    spec: str, pydantic: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"bioimageio.spec": spec, "pydantic": pydantic}
    monkeypatch.setattr(read, "version_of", versions.get)
    content = description()
    del content["name"]
    manifest = write_package(tmp_path / "net", description())
    manifest.write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(LibrariesDoNotMatch if refused else PackageInvalid):
        read_model(manifest)
