"""Tensors of an ONNX file are looked for wherever they may be, and stay in the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bmz.predict.backend import WeightsUnreadable
from bmz.predict.onnx_files import ProtobufError, leaves, locations, refuse_outside

onnx: Any = pytest.importorskip("onnx")

PLACE = "weights.data"


def tensor(location: str = PLACE, key: str = "location") -> Any:
    found = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4])
    found.external_data.add(key="offset", value="../0")
    found.external_data.add(key=key, value=location)
    return found


def sparse(*, indices: bool) -> Any:
    part = {"indices" if indices else "values": tensor()}
    return onnx.SparseTensorProto(dims=[9], **part)


def graph(*nodes: Any, **parts: Any) -> Any:
    return onnx.GraphProto(name="g", node=nodes, **parts)


def node(**attribute: Any) -> Any:
    return onnx.NodeProto(op_type="Some", attribute=[onnx.AttributeProto(name="a", **attribute)])


def model(**parts: Any) -> bytes:
    content: bytes = onnx.ModelProto(ir_version=8, **parts).SerializeToString()
    return content


def nested(depth: int) -> Any:
    found = graph(initializer=[tensor()])
    for _ in range(depth):
        found = graph(node(g=found))
    return found


PLACES: dict[str, Callable[[], bytes]] = {
    "an initializer": lambda: model(graph=graph(initializer=[tensor()])),
    "values of a sparse one": lambda: model(
        graph=graph(sparse_initializer=[sparse(indices=False)])
    ),
    "indices of a sparse one": lambda: model(
        graph=graph(sparse_initializer=[sparse(indices=True)])
    ),
    "a constant": lambda: model(graph=graph(node(t=tensor()))),
    "one of several constants": lambda: model(graph=graph(node(tensors=[tensor()]))),
    "a sparse constant": lambda: model(graph=graph(node(sparse_tensor=sparse(indices=False)))),
    "sparse constants": lambda: model(graph=graph(node(sparse_tensors=[sparse(indices=True)]))),
    "a branch": lambda: model(graph=graph(node(g=nested(1)))),
    "one of several branches": lambda: model(graph=graph(node(graphs=[nested(0)]))),
    "a deep branch": lambda: model(graph=nested(20)),
    "a function": lambda: model(functions=[onnx.FunctionProto(name="f", node=[node(t=tensor())])]),
    "a default of a function": lambda: model(
        functions=[onnx.FunctionProto(name="f", attribute_proto=[node(t=tensor()).attribute[0]])]
    ),
    "training": lambda: model(training_info=[onnx.TrainingInfoProto(algorithm=nested(0))]),
    "its start": lambda: model(training_info=[onnx.TrainingInfoProto(initialization=nested(0))]),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_tensor_in_another_file_is_found_in(name: str) -> None:
    assert list(locations(memoryview(PLACES[name]()))) == [PLACE]


def test_a_network_that_holds_its_tensors_names_no_file() -> None:
    whole = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[1], float_data=[1.0])

    assert list(locations(memoryview(model(graph=graph(initializer=[whole]))))) == []


def test_other_facts_of_the_data_are_no_places() -> None:
    other = tensor("/etc/passwd", key="checksum")

    assert list(locations(memoryview(model(graph=graph(initializer=[other]))))) == []


def test_of_a_place_that_is_written_twice_both_are_given() -> None:
    twice = tensor("a")
    twice.external_data.add(key="location", value="b")

    found = list(locations(memoryview(model(graph=graph(initializer=[twice])))))

    assert sorted(found) == ["a", "b"]


def test_what_is_no_network_is_told() -> None:
    with pytest.raises(ProtobufError):
        list(locations(memoryview(model(graph=nested(0))[:-3])))


@pytest.mark.parametrize(
    ("location", "wanted"),
    [
        ("weights.data", False),
        ("sub/weights..data", False),
        ("./weights.data", False),
        ("/etc/passwd", True),
        ("../weights.data", True),
        ("sub/../../weights.data", True),
        ("sub\\..\\..\\weights.data", True),
        ("C:\\weights.data", True),
        ("C:weights.data", True),
        ("\\\\host\\share\\weights.data", True),
        ("//host/share/weights.data", True),
    ],
)
def test_a_path_leaves_its_folder_on_one_system_or_the_other(
    location: str, *, wanted: bool
) -> None:
    assert leaves(location) == wanted


def test_a_file_that_takes_a_tensor_from_elsewhere_is_refused_with_the_place(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.onnx"
    path.write_bytes(model(graph=graph(initializer=[tensor(), tensor("../secret")])))

    with pytest.raises(WeightsUnreadable, match=r"it reads a tensor from '\.\./secret'"):
        refuse_outside(path)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.onnx"
    path.write_bytes(b"\xff" * 40)

    with pytest.raises(WeightsUnreadable, match="it is not a complete protocol buffer"):
        refuse_outside(path)


def test_files_that_are_in_order_pass_and_those_that_are_none_are_left_to_the_framework(
    tmp_path: Path,
) -> None:
    (tmp_path / "good.onnx").write_bytes(model(graph=graph(initializer=[tensor()])))
    (tmp_path / "empty.onnx").touch()

    for name in ("good.onnx", "empty.onnx", "absent.onnx", "."):
        refuse_outside(tmp_path / name)


def test_a_graph_under_a_key_of_more_than_32_bits_does_not_hide(tmp_path: Path) -> None:
    inner = graph(initializer=[tensor("/etc/hostname")]).SerializeToString()
    path = tmp_path / "a.onnx"
    path.write_bytes(b"\x08\x08\xba\x80\x80\x80\x10" + bytes([len(inner)]) + inner)

    with pytest.raises(WeightsUnreadable, match="not a complete protocol buffer"):
        refuse_outside(path)


def test_onnxruntime_itself_reads_a_graph_under_such_a_key() -> None:
    runtime = pytest.importorskip("onnxruntime")
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in ("x", "y")]
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:]
    ).SerializeToString()
    around = model(opset_import=[onnx.helper.make_opsetid("", 17)])
    assert len(inner) < 128

    session = runtime.InferenceSession(
        around + b"\xba\x80\x80\x80\x10" + bytes([len(inner)]) + inner
    )

    assert [tensor.name for tensor in session.get_inputs()] == ["x"]


def test_a_link_to_elsewhere_is_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "secret").write_bytes(bytes(16))
    (tmp_path / "net" / PLACE).symlink_to(tmp_path / "secret")
    path = tmp_path / "net" / "a.onnx"
    path.write_bytes(model(graph=graph(initializer=[tensor()])))

    with pytest.raises(WeightsUnreadable, match=r"it reads a tensor from 'weights\.data'"):
        refuse_outside(path)

    (tmp_path / "net" / PLACE).unlink()
    (tmp_path / "net" / "other").write_bytes(bytes(16))
    (tmp_path / "net" / PLACE).symlink_to("other")
    refuse_outside(path)


def test_a_place_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(model(graph=graph(initializer=[tensor("a\0b")])))

    with pytest.raises(WeightsUnreadable, match="it reads a tensor from"):
        refuse_outside(path)


def test_a_file_that_onnxruntime_takes_for_one_of_its_own_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    # a field of three bytes to us, the head of a flat buffer to onnxruntime
    path.write_bytes(b"\x7a\x06\0\0ORTM" + b"\x08\x08")

    with pytest.raises(WeightsUnreadable, match="onnxruntime's own format"):
        refuse_outside(path)
