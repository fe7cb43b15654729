"""The test tensors of a model: read as described, prepared as declared, or named as wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.app.small_models import mapped, model, tensor

from bmz.base.arrays import AnyArray
from bmz.base.axes import Step
from bmz.base.errors import BmzError
from bmz.engine.test_tensors import (
    NoTestTensor,
    TensorWrong,
    as_maps,
    finished,
    given_inputs,
    read_test_tensors,
)
from bmz.spec.model import PackagedFile

DOUBLE = Step("scale_linear", {"gain": 2.0, "offset": 0.0})
MORE = Step("scale_linear", {"gain": 1.0, "offset": 1.0})


def kept(folder: Path, name: str, array: AnyArray) -> PackagedFile:
    np.save(folder / f"{name}.npy", array)
    return PackagedFile(folder / f"{name}.npy")


def test_inputs_are_prepared_and_outputs_are_left_as_they_are(tmp_path: Path) -> None:
    image, mask = np.array([[1.0, 2.0]], np.float32), np.array([[5.0, 6.0]], np.float32)
    takes = tensor("yx", DOUBLE, MORE, test=kept(tmp_path, "in", image))
    gives = mapped("yx", DOUBLE, test=kept(tmp_path, "out", mask))

    own = read_test_tensors(model([takes], [gives], tmp_path))

    assert own.taken["image"][0].tolist() == [[1, 2]]
    assert own.taken["image"][1] == "yx"
    assert [(one.array.tolist(), one.axes) for one in own.inputs] == [([[3, 5]], "yx")]
    assert [array.tolist() for array in own.expected] == [[[5, 6]]]


def test_an_input_is_rounded_and_cut_to_its_declared_dtype(tmp_path: Path) -> None:
    file = kept(tmp_path, "in", np.array([[-2.0, 1.6, 300.0]]))
    takes = tensor("yx", dtype="uint8", test=file)

    own = read_test_tensors(model([takes], [mapped("yx", test=file)], tmp_path))

    assert own.inputs[0].array.dtype == np.uint8
    assert own.inputs[0].array.tolist() == [[0, 2, 255]]
    assert own.expected[0].tolist() == [[-2.0, 1.6, 300.0]]


def test_an_optional_input_is_given_where_it_has_a_tensor(tmp_path: Path) -> None:
    file = kept(tmp_path, "in", np.zeros((1, 1)))
    needed = tensor("yx", test=file)
    without = tensor("yx", id_="prompt", optional=True)
    with_one = tensor("yx", id_="points", optional=True, test=file)
    net = model([needed, without, with_one], [mapped("yx", test=file)], tmp_path)

    assert [one.id for one in given_inputs(net)] == ["image", "points"]
    assert list(read_test_tensors(net).taken) == ["image", "points"]


@pytest.mark.parametrize("which", ["image", "map"])
def test_a_tensor_that_is_not_described_is_named(which: str, tmp_path: Path) -> None:
    file = kept(tmp_path, "in", np.zeros((1, 1)))
    takes, gives = tensor("yx", test=file), mapped("yx", test=file)
    bare = [replace(one, test=None) if one.id == which else one for one in (takes, gives)]

    with pytest.raises(NoTestTensor) as caught:
        read_test_tensors(model(bare[:1], bare[1:], tmp_path))

    assert caught.value.message == f"the description names no test tensor for '{which}'"
    assert (caught.value.code, caught.value.exit_status) == ("test.no-tensor", 3)


def written(path: Path, content: str) -> None:
    if content == "pickled":
        np.save(path, np.array([{}], object), allow_pickle=True)
    elif content == "text":
        path.write_text("no array")
    elif content == "empty":
        path.write_bytes(b"")
    else:
        np.save(path, np.zeros((2, 3, 4)))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("flat", "3 axes, but the description says yx"),
        ("pickled", "Python objects in dtype"),
        ("text", "pickle"),
        ("empty", "No data left in file"),
    ],
)
def test_a_file_that_is_no_such_array_is_wrong(content: str, told: str, tmp_path: Path) -> None:
    written(tmp_path / "in.npy", content)
    takes = tensor("yx", test=PackagedFile(tmp_path / "in.npy"))

    with pytest.raises(TensorWrong) as caught:
        read_test_tensors(model([takes], folder=tmp_path))

    assert caught.value.message.startswith("the test tensor of 'image' is wrong: ")
    assert told in caught.value.message
    assert (caught.value.code, caught.value.exit_status) == ("test.tensor", 1)


@pytest.mark.parametrize(
    ("sha256", "name", "code"),
    [("0" * 64, "in.npy", "package.hash-differs"), (None, "gone.npy", "package.missing-file")],
)
def test_another_file_or_none_is_told_before_it_is_read(
    sha256: str | None, name: str, code: str, tmp_path: Path
) -> None:
    kept(tmp_path, "in", np.zeros((1, 1)))
    takes = tensor("yx", test=PackagedFile(tmp_path / name, sha256))

    with pytest.raises(BmzError) as caught:
        read_test_tensors(model([takes], folder=tmp_path))

    assert caught.value.code == code
    assert f"{name}'" in caught.value.message


def test_each_output_is_finished_by_its_own_steps_in_the_order_of_the_description() -> None:
    outputs = [
        mapped("yx", DOUBLE, MORE),
        mapped("yx", MORE, DOUBLE, id_="other"),
        mapped("yx", id_="third"),
    ]
    net = model([tensor("yx")], outputs)
    arrays = [np.full((1, 1), value, np.float32) for value in (1, 2, 3)]

    found = finished(net, arrays, {})

    assert [array.item() for array in found] == [3, 6, 3]
    assert [array.item() for array in arrays] == [1, 2, 3]


def test_of_the_steps_of_a_map_those_that_make_labels_are_left_out() -> None:
    flows = Step("cellpose_flow_dynamics", {})
    net = model([tensor("yx")], [mapped("yx", DOUBLE, flows, MORE)])

    (found,) = as_maps(net, {}, [np.ones((1, 1), np.float32)])

    assert found.item() == 2
