"""The packages that tests make are such as bioimageio.spec and ONNX Runtime take."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bmz.testing.package import (
    Description,
    description,
    put_state_dict,
    sha256_of,
    write_identity,
    write_package,
)

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# bioimageio.spec leaves the files that it checks to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


def spec_says(manifest: Path) -> Any:
    """Ask bioimageio.spec, with the files of the package."""
    from bioimageio.spec import load_description

    return load_description(manifest, perform_io_checks=True)


def outputs_of(folder: Path) -> list[Any]:
    session = onnxruntime.InferenceSession(folder / "weights.onnx")
    names = [entry.name for entry in session.get_inputs()]
    given = {name: np.load(folder / f"test_inputs_{n}.npy") for n, name in enumerate(names)}
    return list(session.run(None, given))


@pytest.mark.parametrize("space", ["yx", "zyx"])
@pytest.mark.parametrize("size", [None, 40, {"min": 24, "step": 4}], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("halo", [0, 4])
def test_every_package_is_valid_and_reproduces_its_test_output(
    space: str, size: int | dict[str, int] | None, channels: int, halo: int, tmp_path: Path
) -> None:
    least = {"None": 16, "40": 40}.get(str(size), 24)

    manifest = write_package(
        tmp_path, description(space=space, size=size, channels=channels, halo=halo)
    )

    model = spec_says(manifest)
    assert (model.type, model.validation_summary.status) == ("model", "valid-format")
    assert [axis.id for axis in model.inputs[0].axes] == ["batch", "channel", *space]
    wanted = np.load(tmp_path / "test_outputs_0.npy")
    assert wanted.shape == (1, channels, *[least] * len(space))
    assert wanted.dtype == np.float32
    (found,) = outputs_of(tmp_path)
    np.testing.assert_array_equal(found, wanted)


def test_the_sizes_channels_and_halo_are_those_that_were_asked_for(tmp_path: Path) -> None:
    model = spec_says(write_package(tmp_path, description(space="zyx", channels=2, halo=3)))

    (taken,), (given,) = model.inputs, model.outputs
    assert [(a.size.min, a.size.step) for a in taken.axes[2:]] == [(16, 8)] * 3
    assert taken.axes[1].channel_names == ["stain 0", "stain 1"]
    assert [(a.id, a.halo, a.size.tensor_id) for a in given.axes[2:]] == [
        (axis, 3, "image") for axis in "zyx"
    ]


def test_the_files_of_a_package_are_those_that_its_manifest_hashes(tmp_path: Path) -> None:
    manifest = write_package(tmp_path / "deep" / "model")

    content = json.loads(manifest.read_text(encoding="utf-8"))
    hashed = [content["weights"]["onnx"]]
    hashed += [content[kind][0]["test_tensor"] for kind in ("inputs", "outputs")]
    assert manifest == tmp_path / "deep" / "model" / "bioimageio.yaml"
    assert yaml.safe_load(manifest.read_text(encoding="utf-8")) == content
    assert {path.name for path in manifest.parent.iterdir()} == {
        "bioimageio.yaml", "README.md", *(one["source"] for one in hashed),
    }  # fmt: skip
    for one in hashed:
        content = (manifest.parent / one["source"]).read_bytes()
        assert one["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_package_that_was_changed_afterwards_is_no_longer_valid(tmp_path: Path) -> None:
    manifest = write_package(tmp_path)
    np.save(tmp_path / "test_inputs_0.npy", np.zeros((1, 1, 16, 16), np.float32))

    assert spec_says(manifest).validation_summary.status == "failed"


def test_a_change_has_the_last_word_and_sees_the_hashes(tmp_path: Path) -> None:
    seen: list[str] = []

    def change(content: Description) -> None:
        seen.append(content["weights"]["onnx"]["sha256"])
        content["name"] = "Another name"

    model = spec_says(write_package(tmp_path, change=change))

    assert seen == [sha256_of(tmp_path / "weights.onnx")]
    assert model.name == "Another name"


def two_tensors() -> Description:
    """Describe a model of two inputs of different sizes, each of which has its output."""
    described = description(size=24)
    mask = {"id": "mask", "data": {"type": "float32"}}
    axes = [{"type": "batch"}, {"type": "channel", "channel_names": ["a"]}]
    axes += [{"type": "space", "id": axis, "size": 40} for axis in "yx"]
    described["inputs"].append(mask | {"axes": axes})
    like = [{"type": "space", "id": a, "size": {"tensor_id": "mask", "axis_id": a}} for a in "yx"]
    described["outputs"].append(mask | {"id": "grown", "axes": [*axes[:2], *like]})
    return described


def test_a_package_may_have_several_inputs_of_different_sizes(tmp_path: Path) -> None:
    model = spec_says(write_package(tmp_path, two_tensors()))

    assert model.validation_summary.status == "valid-format"
    found = outputs_of(tmp_path)
    assert [output.shape for output in found] == [(1, 1, 24, 24), (1, 1, 40, 40)]
    for number, output in enumerate(found):
        np.testing.assert_array_equal(output, np.load(tmp_path / f"test_outputs_{number}.npy"))


def test_a_description_is_added_to_and_serves_for_the_next_package_too(tmp_path: Path) -> None:
    described = description(channels=2)

    first, second = (write_package(tmp_path / name, described) for name in "ab")

    assert json.loads(first.read_text(encoding="utf-8")) == described
    assert first.read_bytes() == second.read_bytes()
    assert described["inputs"][0]["test_tensor"]["sha256"] == (
        sha256_of(tmp_path / "a" / "test_inputs_0.npy")
    )


@pytest.mark.parametrize("shape", [(1, 1), (2, 3, 5), (1, 2, 3, 4, 5)])
def test_the_identity_network_takes_any_size(shape: tuple[int, ...], tmp_path: Path) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)

    write_identity(tmp_path / "net.onnx", [1, len(shape)])

    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    small, same = session.run(None, {"in0": np.ones(7, np.float32), "in1": x})
    np.testing.assert_array_equal(small, np.ones(7, np.float32))
    np.testing.assert_array_equal(same, x)


def test_a_hash_is_that_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")

    # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


CODE = """
import torch

class Net(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return self.factor * x
"""


def test_a_state_dict_takes_the_place_of_the_other_weights(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    state, kwargs = {"factor": torch.tensor(3.0)}, {"factor": 1.0}

    manifest = write_package(
        tmp_path, change=lambda content: put_state_dict(tmp_path, content, CODE, state, kwargs)
    )

    model = spec_says(manifest)
    weights = model.weights.pytorch_state_dict
    assert model.validation_summary.status == "valid-format"
    assert model.weights.onnx is None
    assert (weights.architecture.callable, weights.architecture.kwargs) == ("Net", kwargs)
    assert (tmp_path / "net.py").read_text(encoding="utf-8") == CODE
    assert not (tmp_path / "weights.onnx").exists()
    loaded = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert {name: float(value) for name, value in loaded.items()} == {"factor": 3.0}
