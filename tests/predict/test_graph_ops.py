"""A graph that touches files, Python or the network is seen before it is loaded; no other is."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.predict.backend import WeightsUnreadable
from bmz.predict.graph_code import host_ops, reaches_host
from bmz.predict.onnx_files import ProtobufError, fields
from bmz.predict.output_order import read_graph, unpacked_bundle
from bmz.zoo.errors import ArchiveRefused

Message = bytes

WORDS = re.compile(r"file|path|url|address|descriptor|host|server|python|token", re.IGNORECASE)


def number(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def field(key: int, content: bytes | str) -> Message:
    content = content.encode() if isinstance(content, str) else content
    return number(key << 3 | 2) + number(len(content)) + content


def node(name: str, op: str, *inputs: str, calls: str = "") -> Message:
    attribute = field(5, field(1, "f") + field(2, field(10, field(1, calls)))) if calls else b""
    return (
        field(1, name) + field(2, op) + b"".join(field(3, source) for source in inputs) + attribute
    )


def function(name: str, *nodes: Message) -> Message:
    body = b"".join(field(3, part) for part in nodes)
    return field(2, field(1, field(1, field(1, name)) + body))


def bundle(
    folder: Path,
    *nodes: Message,
    functions: bytes = b"",
    output: str = "out:0",
    restore: str = "restore",
    more: bytes = b"",
) -> Path:
    """Write a graph whose signature gives `output`."""
    graph = b"".join(field(1, part) for part in nodes) + functions
    signature = field(2, field(1, "y") + field(2, field(1, output)))
    signatures = field(5, field(1, "serving_default") + field(2, signature))
    meta = field(2, graph) + field(3, field(3, restore)) + signatures + more
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x08\x01" + field(2, meta))
    return folder


# an attribute that is a list of functions, of which the first has an attribute that is one
BOUND = field(
    5, field(2, field(1, field(9, field(1, "g") + field(2, field(2, field(10, field(1, "f")))))))
)
OUT = node("out", "Conv2D", "in", "kernel")


def test_a_network_that_computes_does_nothing_else(tmp_path: Path) -> None:
    assert host_ops(bundle(tmp_path / "b", OUT)) == ()


@pytest.mark.parametrize(
    "op",
    ["ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc",
     "LMDBReader", "TFRecordReaderV2", "TFRecordDataset", "PrintV2", "DebugIdentityV3", "Abort",
     "RpcCall", "XlaCustomCallV2", "InitializeTableFromTextFileV2", "IO>VideoReader"],
)  # fmt: skip
@pytest.mark.parametrize("within", [False, True], ids=["graph", "function"])
def test_an_operation_that_does_more_is_named_wherever_it_stands(
    tmp_path: Path, op: str, *, within: bool
) -> None:
    evil = node("evil", op)
    parts = (OUT,) if within else (OUT, evil)

    path = bundle(tmp_path / "b", *parts, functions=function("f", evil) if within else b"")

    assert host_ops(path) == (op,)


def test_the_saver_of_every_bundle_is_none(tmp_path: Path) -> None:
    saver = (node("save", "SaveV2"), node("restore", "RestoreV2"), node("n", "ShardedFilename"))

    path = bundle(tmp_path / "b", OUT, *saver, functions=function("saves", node("x", "SaveV2")))

    assert host_ops(path) == ()


def test_a_node_and_an_operation_of_one_name_are_two_things(tmp_path: Path) -> None:
    parts = (node("out", "Call", calls="f"), node("Call", "Call", calls="saves"))
    functions = function("f", OUT) + function("saves", node("s", "SaveV2"))

    assert host_ops(bundle(tmp_path / "b", *parts, functions=functions)) == ()


@pytest.mark.parametrize(
    ("parts", "functions"),
    [
        ((node("out", "Identity", "in", "^save"), node("save", "SaveV2")), b""),
        (
            (node("out", "Identity", "mid:1"), node("mid", "Add", "save"), node("save", "SaveV2")),
            b"",
        ),
        ((node("out", "PartitionedCall", calls="f"),), function("f", node("s", "SaveV2"))),
        (
            (node("out", "PartitionedCall", calls="f"),),
            function("f", node("c", "StatefulPartitionedCall", calls="g"))
            + function("g", node("s", "SaveV2")),
        ),
        ((node("out", "Fn"),), function("Fn", node("s", "SaveV2"))),
        ((node("out", "If") + BOUND,), function("f", node("s", "SaveV2"))),
    ],
    ids=["control", "through", "function", "nested", "by-op", "bound"],
)
def test_a_saver_that_the_network_reaches_is_named(
    tmp_path: Path, parts: tuple[Message, ...], functions: bytes
) -> None:
    assert host_ops(bundle(tmp_path / "b", *parts, functions=functions)) == ("SaveV2",)


@pytest.mark.parametrize(
    "more",
    [
        field(4, field(1, "saved_model_main_op") + field(2, field(1, field(1, "save")))),
        field(7, field(2, field(1, "saves"))),
    ],
    ids=["initialiser", "object"],
)
def test_a_saver_that_runs_when_the_bundle_is_loaded_is_named(tmp_path: Path, more: bytes) -> None:
    saver = node("save", "SaveV2")
    path = bundle(tmp_path / "b", OUT, saver, functions=function("saves", saver), more=more)

    assert host_ops(path) == ("SaveV2",)


def test_restoring_reads_and_must_not_write(tmp_path: Path) -> None:
    reads, writes = node("restore", "RestoreV2"), node("restore", "RestoreV2", "^save")

    plain = bundle(tmp_path / "plain", OUT, reads)
    evil = bundle(tmp_path / "evil", OUT, writes, node("save", "SaveV2"))

    assert (host_ops(plain), host_ops(evil)) == ((), ("SaveV2",))


def test_a_second_graph_in_the_same_file_is_looked_at(tmp_path: Path) -> None:
    path = bundle(tmp_path / "b", OUT) / "saved_model.pb"
    path.write_bytes(path.read_bytes() + field(2, field(2, field(1, node("x", "WriteFile")))))

    assert host_ops(path.parent) == ("WriteFile",)


def test_every_operation_that_takes_a_file_an_address_or_a_program_counts() -> None:
    pytest.importorskip("tensorflow")
    from bmz.predict.tensorflow import import_tensorflow

    import_tensorflow()
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    listed: Any = op_def_pb2.OpList()
    listed.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    harmless = re.compile("Cudnn|RiscSort")  # `direction`
    string = 7
    missed = [
        op.name
        for op in listed.op
        if not reaches_host(op.name) and not harmless.match(op.name)
        and (any(arg.type == string and WORDS.search(arg.name) for arg in op.input_arg)
             or any("string" in a.type and WORDS.search(a.name) for a in op.attr))
    ]  # fmt: skip

    assert len(listed.op) > 1000
    assert missed == []


@pytest.mark.parametrize(
    "op",
    ["Conv2D", "ReadVariableOp", "TensorArrayReadV3", "Fingerprint", "DecodePng", "ScalarSummary",
     "StatefulPartitionedCall", "FusedBatchNormV3", "ResizeBilinear", "While", "Assert",
     "DisableCopyOnRead", "_FusedConv2D", "XlaSharding", "DeepCopy"],
)  # fmt: skip
def test_what_networks_are_made_of_is_none(op: str) -> None:
    assert not reaches_host(op)


def test_the_bundles_of_real_models_only_compute(shared: Path) -> None:
    found = {path: host_ops(path) for path in (shared / "models").glob("*/*saved_model*.zip")}

    assert len(found) == 2
    assert set(found.values()) == {()}


@given(st.binary(max_size=40))
def test_bytes_that_are_no_message_are_refused_or_read_within_bounds(content: bytes) -> None:
    try:
        found = list(fields(memoryview(content), 1))
    except ProtobufError:
        return

    assert sum(map(len, found)) <= len(content)


@given(st.lists(st.tuples(st.integers(1, 20), st.binary(max_size=300)), max_size=5))
def test_every_field_is_found_again(parts: list[tuple[int, bytes]]) -> None:
    message = memoryview(b"".join(field(key, content) for key, content in parts))

    for wanted in {key for key, _ in parts}:
        found = [bytes(content) for content in fields(message, wanted)]
        assert found == [content for key, content in parts if key == wanted]


def _link(archive: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("variables/link")
    entry.external_attr = 0o120777 << 16
    archive.writestr(entry, "/")


def _swollen(archive: zipfile.ZipFile) -> None:
    with archive.open("variables/zeros", "w") as member:
        for _ in range(300):
            member.write(bytes(2**20))


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (lambda archive: archive.writestr("../out", "x"), "leaves its folder"),
        (lambda archive: archive.writestr("/out", "x"), "leaves its folder"),
        (_link, "is a link"),
        (_swollen, "would unpack to"),
    ],
    ids=["above", "root", "link", "bomb"],
)
def test_an_unsafe_zip_is_refused_and_leaves_nothing(
    tmp_path: Path, add: Callable[[zipfile.ZipFile], None], words: str
) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("saved_model.pb", b"")
        add(archive)

    with pytest.raises(ArchiveRefused, match=words), unpacked_bundle(path):
        pytest.fail("it was unpacked")
    with pytest.raises(ArchiveRefused, match=words):
        host_ops(path)

    assert [entry.name for entry in tmp_path.iterdir()] == ["b.zip"]


@pytest.mark.parametrize("content", [b"", b"no zip", None], ids=["empty", "text", "none"])
def test_what_is_no_bundle_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.zip"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(WeightsUnreadable, match=r"weights\.zip"):
        read_graph(path)


def test_two_bundles_in_one_zip_are_not_guessed_between(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one/saved_model.pb", b"")
        archive.writestr("two/saved_model.pb", b"")

    with pytest.raises(WeightsUnreadable, match=r"2 files called saved_model\.pb"):
        read_graph(path)
