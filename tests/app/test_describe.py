"""What a description lacks is measured or known, and a new package beside the old one has it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruyaml import YAML

import bmz
from bmz.cli.main import status_of
from bmz.engine.description import _written
from bmz.results.packages import Proposal
from bmz.spec.manifest import write_manifest
from bmz.testing.package import Description, description, sha256_of, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def described(folder: Path) -> Any:
    return YAML(typ="safe").load((folder / "bioimageio.yaml").read_text(encoding="utf-8"))


def put_discs(folder: Path, content: Description) -> None:
    """Let the test tensors hold nine discs of 12 px, of which the network gives back the image."""
    y, x = np.indices((96, 96))
    image = np.zeros((1, 1, 96, 96), np.float32)
    for row in (16, 48, 80):
        for column in (16, 48, 80):
            image[0, 0][np.hypot(y - row, x - column) < 6] = 1
    for kind in ("inputs", "outputs"):
        entry = content[kind][0]["test_tensor"]
        np.save(folder / entry["source"], image)
        entry["sha256"] = sha256_of(folder / entry["source"])
    content["outputs"][0]["postprocessing"] = [{"id": "binarize", "kwargs": {"threshold": 0.5}}]
    content["outputs"][0]["data"] = {"type": "float32"}
    content["tags"] = ["instance-segmentation", "nuclei", "fluorescence-light-microscopy"]


def bare(folder: Path) -> Path:
    write_package(folder, description(), change=lambda content: put_discs(folder, content))
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_a_package_gets_what_is_measured_and_known_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = bare(tmp_path / "net")
    before = hashes(old)
    new = tmp_path / "better"

    status = status_of(["describe", str(old), "-o", str(new), "--pixel-size", "0.5um", "--json"])

    document = json.loads(capsys.readouterr().out)
    block = described(new)["config"]["bmz"]
    spec = bmz.load(new).spec
    assert status == 0
    assert block["object_diameter_px"] == pytest.approx(12, abs=1)
    assert block["made_for"] == {"modality": ["fluorescence"], "structure": ["nuclei"]}
    assert block["recipe"] == {"name": "components"}
    assert [(axis.scale, axis.unit) for axis in spec.inputs[0].axes][2:] == [
        (0.5, "micrometer")
    ] * 2
    assert [(axis.scale, axis.unit) for axis in spec.outputs[0].axes][2:] == [
        (0.5, "micrometer")
    ] * 2
    assert hashes(old) == before
    assert {p["where"] for p in document["proposals"]} >= {"config.bmz.object_diameter_px"}


def test_the_new_package_passes_its_test_and_the_text_tells_every_change(tmp_path: Path) -> None:
    old, new = bare(tmp_path / "net"), tmp_path / "better"
    assert status_of(["describe", str(old), "-o", str(new)]) == 0
    text = (tmp_path / "better.md").read_text(encoding="utf-8")

    assert status_of(["test", str(new)]) == 0
    assert "config.bmz.object_diameter_px" in text
    assert "the median of 9 objects" in text
    assert bmz.load(old).spec.sha256 in text


def test_a_package_that_lacks_nothing_gets_no_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = bare(tmp_path / "net"), tmp_path / "better"
    status_of(["describe", str(old), "-o", str(new)])

    status = status_of(["describe", str(new), "-o", str(tmp_path / "best")])

    assert status == 1
    assert "[describe.nothing]" in capsys.readouterr().err
    assert not (tmp_path / "best").exists()


@pytest.mark.parametrize("name", ["net", "better", "text"])
def test_nothing_is_ever_overwritten(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = bare(tmp_path / "net")
    (tmp_path / "better").mkdir()
    (tmp_path / "text.md").write_text("mine", encoding="utf-8")
    before = hashes(old)

    status = status_of(["describe", str(old), "-o", str(tmp_path / name)])

    assert status == 2
    assert "[describe.exists]" in capsys.readouterr().err
    assert hashes(old) == before
    assert (tmp_path / "text.md").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_is_no_package_is_told_with_status_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net").mkdir()

    status = status_of(["describe", str(tmp_path / "net"), "-o", str(tmp_path / "better")])

    assert status == 3
    assert "hint:" in capsys.readouterr().err
    assert not (tmp_path / "better").exists()


def test_a_proposal_that_makes_the_description_invalid_is_left_out_and_told(
    tmp_path: Path,
) -> None:
    old = bare(tmp_path / "net")
    good = Proposal("config.bmz.object_diameter_px", 12.0, "measured")
    bad = Proposal("outputs: halo", 5000, "measured")

    kept, refused = _written(old / "bioimageio.yaml", tmp_path / "better", (bad, good))

    assert kept == (good,)
    assert [proposal.where for proposal in refused] == ["outputs: halo"]
    assert "would not be valid" in refused[0].why
    assert "halo" not in described(tmp_path / "better")["outputs"][0]["axes"][2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nuclei-broad", "stardist-dsb2018", "cremi-membrane"])
def test_real_packages_get_more_and_stay_valid(name: str, shared: Path, tmp_path: Path) -> None:
    new = tmp_path / "better"

    assert status_of(["describe", str(shared / "models" / name), "-o", str(new)]) == 0

    assert "made_for" in bmz.load(new).spec.ours
    assert status_of(["test", str(new)]) == 0


def without_tests(folder: Path, *kinds: str) -> Path:
    """Take the test tensors of inputs, or of outputs, out of a package of nine discs."""
    bare(folder)
    content = described(folder)
    for kind in kinds:
        for tensor in content[kind]:
            (folder / tensor.pop("test_tensor")["source"]).unlink()
    write_manifest(folder, content)
    return folder


@pytest.mark.parametrize("kinds", [("inputs", "outputs"), ("outputs",)])
def test_test_tensors_that_are_lacking_are_made_and_reproduced(
    kinds: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = without_tests(tmp_path / "net", *kinds), tmp_path / "better"

    status = status_of(["describe", str(old), "-o", str(new), "--json"])

    document = json.loads(capsys.readouterr().out)
    content = described(new)
    places = [p["where"] for p in document["proposals"]]
    drawn = "inputs" in kinds
    assert (status, document["refused"]) == (0, [])
    assert ("image: test tensor" in places) is drawn
    assert "map: test tensor" in places
    assert np.load(new / content["outputs"][0]["test_tensor"]["source"]).max() == 1
    assert status_of(["test", str(new)]) == 0
    assert content["config"]["bmz"]["object_diameter_px"] == pytest.approx(
        16 if drawn else 12, abs=1.5
    )


def test_a_package_whose_weights_do_not_run_gets_no_test_tensors_and_is_told_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = without_tests(tmp_path / "net", "outputs")
    (old / described(old)["weights"]["onnx"]["source"]).write_bytes(b"no network")

    status = status_of(["describe", str(old), "-o", str(tmp_path / "better"), "--json"])

    (refused,) = json.loads(capsys.readouterr().out)["refused"]
    assert status == 0
    assert refused["where"] == "test tensors"
    assert "no weights of" in refused["why"]


def test_a_package_of_format_04_is_brought_to_the_newest_and_passes_its_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = bare(tmp_path / "net"), tmp_path / "better"
    source = described(old)
    tensors = {kind: source[kind][0]["test_tensor"]["source"] for kind in ("inputs", "outputs")}
    shape = list(np.load(old / tensors["inputs"]).shape)
    tensor = {"axes": "bcyx", "data_type": "float32", "data_range": [0.0, 1.0]}
    write_manifest(
        old,
        {
            "format_version": "0.4.10", "type": "model", "name": "nine discs",
            "description": "discs",
            "authors": [{"name": "A. B."}], "cite": [{"text": "A. B.", "doi": "10.1000/x"}],
            "license": "MIT", "documentation": source["documentation"],
            "tags": source["tags"], "timestamp": "2022-01-01T00:00:00",
            "inputs": [tensor | {"name": "image", "shape": shape}],
            "outputs": [tensor | {
                "name": "probability", "shape": shape,
                "postprocessing": [{"name": "binarize", "kwargs": {"threshold": 0.5}}],
            }],
            "test_inputs": [tensors["inputs"]], "test_outputs": [tensors["outputs"]],
            "weights": {"onnx": {
                "source": source["weights"]["onnx"]["source"], "opset_version": 15,
            }},
        },
    )  # fmt: skip

    status = status_of(["describe", str(old), "-o", str(new), "--json"])

    told = capsys.readouterr()
    assert status == 0, told.err
    proposals = json.loads(told.out)["proposals"]
    assert (status, proposals[0]["where"]) == (0, "format_version")
    assert "converted from 0.4.10" in proposals[0]["why"]
    assert described(new)["format_version"].startswith("0.5")
    assert described(old)["format_version"] == "0.4.10"
    assert described(new)["config"]["bmz"]["object_diameter_px"] == pytest.approx(12, abs=1)
    assert status_of(["test", str(new)]) == 0
