"""The test tensors of a model tell which output is which, once; else nobody guesses."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.base.notes import sealed
from bmz.engine.load import load_model
from bmz.engine.network_choice import open_network
from bmz.engine.test_tensors import OUTPUTS, open_by_test
from bmz.predict.backend import Backend, LoadRequest
from bmz.predict.output_order import Named, OutputsUnclear, output_order
from bmz.spec.model import ModelSpec
from bmz.testing.backend import FakeBackend
from bmz.testing.package import description, sha256_of, write_package

pytest.importorskip("onnx")


def two_outputs(folder: Path, second: Callable[[AnyArray], AnyArray]) -> ModelSpec:
    """Write a model whose outputs are its input, and `second` of it."""
    described = description(size=16)
    first = described["outputs"][0]
    described["outputs"] = [first, first | {"id": "other"}]
    manifest = write_package(folder, described, change=lambda d: _tensors(d, folder, second))
    return load_model(str(manifest.parent))


def _tensors(
    described: dict[str, Any], folder: Path, second: Callable[[AnyArray], AnyArray]
) -> None:
    x = np.load(folder / "test_inputs_0.npy")
    for tensor, array in zip(described["outputs"], (x, second(x)), strict=True):
        path = folder / tensor["test_tensor"]["source"]
        np.save(path, array)
        tensor["test_tensor"]["sha256"] = sha256_of(path)


class Opener:
    """Open a network of the outputs zeta (its input) and alpha (twice that), and count."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, ...]] = []

    def __call__(self, _format: str, weights: LoadRequest) -> Backend:
        order = output_order([Named("zeta", None), Named("alpha", None)], weights)
        self.opened.append(order)

        def network(inputs: Sequence[AnyArray]) -> list[AnyArray]:
            values = {"zeta": inputs[0], "alpha": 2 * inputs[0]}
            return [values[name] for name in order]

        return FakeBackend(network)


WEIGHTS = LoadRequest(Path("none"), ("image",), ("map", "other"))


def test_the_assignment_that_gives_the_test_outputs_is_found_and_kept(tmp_path: Path) -> None:
    model, opener = two_outputs(tmp_path / "m", lambda x: 2 * x), Opener()
    notes, wanted = tmp_path / "notes", ("zeta", "alpha")

    open_by_test(model, "onnx", WEIGHTS, opener, lambda: (notes,))
    tried = len(opener.opened)
    open_by_test(model, "onnx", WEIGHTS, opener, lambda: (notes,))

    assert OUTPUTS.find([notes], "onnx") == ("zeta", "alpha")
    assert opener.opened[tried - 1] == wanted
    assert opener.opened[tried:] == [wanted]


@pytest.mark.parametrize("second", [lambda x: x, lambda x: 5 * x], ids=["alike", "neither"])
def test_test_tensors_that_do_not_decide_leave_it_unclear(
    tmp_path: Path, second: Callable[[AnyArray], AnyArray]
) -> None:
    model, notes = two_outputs(tmp_path / "m", second), tmp_path / "notes"

    with pytest.raises(OutputsUnclear, match="alpha, zeta"):
        open_by_test(model, "onnx", WEIGHTS, Opener(), lambda: (notes,))

    assert not notes.exists()


def test_test_tensors_that_are_others_than_described_do_not_count(tmp_path: Path) -> None:
    model = two_outputs(tmp_path / "m", lambda x: 2 * x)
    np.save(tmp_path / "m" / "test_outputs_1.npy", np.zeros(3))

    with pytest.raises(OutputsUnclear):
        open_by_test(model, "onnx", WEIGHTS, Opener(), lambda: (tmp_path / "notes",))


@pytest.mark.parametrize("names", [["alpha", "gamma"], [3], "alpha", None])
def test_a_note_that_means_nothing_is_found_out_anew(tmp_path: Path, names: object) -> None:
    model, opener = two_outputs(tmp_path / "m", lambda x: 2 * x), Opener()
    note = sealed({"key": "onnx", "value": names})
    (tmp_path / OUTPUTS.file("onnx")).write_text(note)

    open_by_test(model, "onnx", WEIGHTS, opener, lambda: (tmp_path,))

    assert opener.opened[-1] == ("zeta", "alpha")


def test_notes_that_cannot_be_written_are_no_obstacle(tmp_path: Path) -> None:
    model, opener = two_outputs(tmp_path / "m", lambda x: 2 * x), Opener()
    (tmp_path / "file").touch()

    open_by_test(model, "onnx", WEIGHTS, opener, lambda: (tmp_path / "file",))

    assert opener.opened[-1] == ("zeta", "alpha")


def test_outputs_that_are_clear_ask_no_test_tensor(tmp_path: Path) -> None:
    model, opener = two_outputs(tmp_path / "m", lambda x: 2 * x), Opener()
    named = LoadRequest(Path("none"), ("image",), ("alpha", "zeta"))

    open_by_test(model, "onnx", named, opener, lambda: (tmp_path / "notes",))

    assert opener.opened == [("alpha", "zeta")]


def test_a_bundle_of_two_outputs_is_opened_by_its_test_tensors(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from bmz.predict.tensorflow import import_tensorflow

    tf = import_tensorflow()

    def bundle(described: dict[str, Any]) -> None:
        _tensors(described, tmp_path / "m", lambda x: 2 * x)
        module = tf.Module()
        module.two = tf.Variable(2.0)
        call = tf.function(lambda x: {"zeta": x, "alpha": x * module.two}, autograph=False)
        concrete = call.get_concrete_function(x=tf.TensorSpec((None,) * 4, tf.float32))
        tf.saved_model.save(module, str(tmp_path / "b"), signatures=concrete)
        zipped = tmp_path / "m" / "bundle.zip"
        _zip(tmp_path / "b", zipped)
        described["weights"] = {
            "tensorflow_saved_model_bundle": {
                "source": zipped.name, "sha256": sha256_of(zipped), "tensorflow_version": "2.18.0",
            }
        }  # fmt: skip

    described = description(size=16)
    first = described["outputs"][0]
    described["outputs"] = [first, first | {"id": "other"}]
    model = load_model(str(write_package(tmp_path / "m", described, change=bundle).parent))
    x = np.random.default_rng(1).random((1, 1, 16, 16), np.float32)

    once, twice = open_network(model, model.weights[0]).run([x])

    np.testing.assert_array_equal(once, x)
    np.testing.assert_array_equal(twice, 2 * x)


def _zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
