"""ONNX files in OpenVINO: the contract, what it refuses, and which words choose it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.base.computer import available_cpus
from bmz.predict import formats, openvino
from bmz.predict.backend import (
    CPU,
    Backend,
    Device,
    DtypeLossy,
    LoadRequest,
    NetworkFailed,
    NoBackend,
    PrecisionUnsupported,
    TensorCountDiffers,
    WeightsUnreadable,
)
from bmz.predict.confine import means_here
from bmz.predict.confined import open_confined
from bmz.predict.formats import (
    BackendUnknown,
    backends,
    open_backend,
    other_backends,
    processor_name,
    resolve_device,
    runnable,
)
from bmz.testing.backend import BackendContract

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino", reason="OpenVINO is not installed")

Names = tuple[str, ...]


def blur(folder: Path, dtype: str = "FLOAT", *, op: str = "Mul") -> Path:
    """Write a network of inputs a, b and outputs near (3 x 3 mean of a), far (a * b)."""
    kind, shape = getattr(onnx.TensorProto, dtype), ["b", 1, "y", "x"]
    value = onnx.helper.make_tensor_value_info
    kernel = np.full((1, 1, 3, 3), 1 / 9, onnx.helper.tensor_dtype_to_np_dtype(kind))
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [node("Conv", ["a", "kernel"], ["near"], pads=[1] * 4), node(op, ["a", "b"], ["far"])],
        "blur",
        [value(name, kind, shape) for name in ("a", "b")],
        [value(name, kind, shape) for name in ("near", "far")],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.save(model, folder / "weights.onnx")
    return folder / "weights.onnx"


def request(
    path: Path, inputs: Names = ("a", "b"), outputs: Names = ("near", "far")
) -> LoadRequest:
    return LoadRequest(path, inputs, outputs, threads=1, backend="openvino")


def opened(path: Path, *names: Names) -> Backend:
    return open_backend("onnx", request(path, *names))


def pair(dtype: str = "float32") -> list[AnyArray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 99, (2, 1, 16, 24)).astype(dtype) for _ in range(2)]


class TestOpenvino(BackendContract):
    @pytest.fixture(autouse=True)
    def _weights(self, tmp_path: Path) -> None:
        self.path = blur(tmp_path)

    def backend(self) -> Backend:
        return opened(self.path)

    def inputs(self) -> list[AnyArray]:
        return pair()


@pytest.mark.skipif(any(means_here().values()), reason=f"it cannot confine: {means_here()}")
def test_its_threads_compute_where_few_system_calls_are_allowed(tmp_path: Path) -> None:
    path = blur(tmp_path)
    several = LoadRequest(path, ("a", "b"), ("near", "far"), threads=4, backend="openvino")

    with closing(open_confined("onnx", several, [path])) as backend:
        outputs = backend.run(pair())

        assert backend.name.startswith("openvino")
        np.testing.assert_array_equal(outputs, opened(path).run(pair()))


def test_it_gives_what_onnxruntime_gives(tmp_path: Path) -> None:
    path = blur(tmp_path)
    other = open_backend("onnx", LoadRequest(path, ("a", "b"), ("near", "far")))

    outputs, expected = opened(path).run(pair()), other.run(pair())

    assert opened(path).name.startswith("openvino 2")
    for output, reference in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, reference, rtol=1e-5)


def test_tensors_go_by_name_where_the_names_are_the_ids_and_else_by_position(
    tmp_path: Path,
) -> None:
    a, b = pair()
    path = blur(tmp_path)

    far, near = opened(path, ("b", "a"), ("far", "near")).run([b, a])
    (first,) = opened(path, ("raw", "other"), ("mask",)).run([a, b])

    np.testing.assert_array_equal(far, a * b)
    np.testing.assert_array_equal(first, near)


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        (("a",), ("near",), "2 inputs, but its description names 1"),
        (("a", "b"), ("p", "q", "r"), "2 outputs, but its description names 3"),
    ],
)
def test_other_counts_than_the_description_are_refused_at_opening(
    tmp_path: Path, inputs: Names, outputs: Names, words: str
) -> None:
    path = blur(tmp_path)

    with pytest.raises(TensorCountDiffers, match=words):
        opened(path, inputs, outputs)


def test_values_that_would_change_are_refused_and_never_rounded(tmp_path: Path) -> None:
    a, b = pair("float64")
    backend = opened(blur(tmp_path))

    with pytest.raises(DtypeLossy, match="'b'"):
        backend.run([a, b + 1e-12])


def test_tensors_of_64_bits_are_refused_since_it_computes_in_32(tmp_path: Path) -> None:
    path = blur(tmp_path, "DOUBLE")

    with pytest.raises(NoBackend, match="f64 in 32 bits") as raised:
        opened(path)

    assert raised.value.hint == "--backend native"


def test_sizes_that_do_not_go_together_are_refused_and_never_give_the_outputs_of_before(
    tmp_path: Path,
) -> None:
    a, b = pair()
    backend = opened(blur(tmp_path))  # with one thread, where OpenVINO itself says nothing
    before = backend.run([a, b])

    with pytest.raises(NetworkFailed, match="float32 2x1x16x24, float32 2x1x16x23") as raised:
        backend.run([a + 1, b[..., 1:]])

    assert raised.value.code == "predict.network-failed"
    np.testing.assert_array_equal(backend.run([a, b]), before)


def test_an_output_of_another_size_than_the_network_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened(blur(tmp_path))
    monkeypatch.setattr(openvino.ShapeCheck, "outputs", lambda *_: [(2, 1, 16, 23), None])

    with pytest.raises(NetworkFailed, match="output 0 is"):
        backend.run(pair())


def test_a_closed_backend_does_not_run(tmp_path: Path) -> None:
    backend = opened(blur(tmp_path))
    backend.close()

    with pytest.raises(NetworkFailed, match="closed"):
        backend.run(pair())


@pytest.mark.parametrize("content", [b"", b"not a network", None], ids=["empty", "text", "none"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.onnx"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(WeightsUnreadable, match=r"weights\.onnx"):
        opened(path)


def test_an_operator_that_it_lacks_is_named(tmp_path: Path) -> None:
    path = blur(tmp_path, op="NoSuchOperator")

    with pytest.raises(WeightsUnreadable, match=r"openvino: .*NoSuchOperator"):
        opened(path)


def test_tensors_from_outside_the_folder_are_refused(tmp_path: Path) -> None:
    path = blur(tmp_path)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    (tmp_path.parent / "secret").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, "../secret")
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())

    with pytest.raises(WeightsUnreadable, match="secret"):
        opened(path)


def test_threads_are_those_asked_for_or_all_that_the_process_may_use(tmp_path: Path) -> None:
    path = blur(tmp_path)
    free = LoadRequest(path, ("a", "b"), ("near",), backend="openvino")

    threads = []
    for backend in (opened(path), open_backend("onnx", free)):
        assert isinstance(backend, openvino.OpenvinoBackend)
        compiled: Any = backend._request
        compiled = compiled.get_compiled_model()
        threads.append(compiled.get_property("INFERENCE_NUM_THREADS"))
        assert compiled.get_property("ENABLE_CPU_PINNING") is False

    assert threads == [1, available_cpus()]


def test_bfloat16_is_offered_where_the_processor_has_it_and_differs_a_little(
    tmp_path: Path,
) -> None:
    offered = openvino.openvino_precisions(CPU)
    assert offered[0] == "float32"
    assert "float16" not in openvino.weighed_precisions(CPU)
    if "bfloat16" not in offered:
        pytest.skip("this processor does not compute in bfloat16")
    path, (a, b) = blur(tmp_path), pair()
    half = LoadRequest(path, ("a", "b"), ("near",), precision="bfloat16", backend="openvino")

    (low,) = open_backend("onnx", half).run([a / 100, b])
    (whole,) = opened(path, ("a", "b"), ("near",)).run([a / 100, b])

    assert low.dtype == np.float32
    assert 0 < np.abs(low - whole).max() < 0.02


def test_a_precision_that_the_processor_lacks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = SimpleNamespace(get_property=lambda *_: ["FP32", "INT8"])
    monkeypatch.setattr(openvino, "_openvino", lambda: SimpleNamespace(Core=lambda: old))
    half = LoadRequest(blur(tmp_path), ("a", "b"), ("near",), CPU, precision="bfloat16")

    with pytest.raises(PrecisionUnsupported, match=r"openvino .* bfloat16"):
        openvino.open_onnx(half)


def test_the_word_chooses_the_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BMZ_BACKEND", raising=False)

    assert list(backends("onnx", "auto")) == ["", "openvino"]
    assert list(backends("onnx", "native")) == [""]
    assert list(backends("onnx", "openvino")) == ["openvino"]
    assert list(backends("onnx", "auto", Device("cuda"))) == [""]
    assert resolve_device("auto", "onnx", "openvino") == CPU
    with pytest.raises(BackendUnknown, match="'openvino' for keras_hdf5 weights") as raised:
        backends("keras_hdf5", "openvino")
    assert raised.value.exit_status == 2


def test_the_variable_says_what_auto_stands_for_and_a_word_of_the_call_goes_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BMZ_BACKEND", "openvino")

    assert list(backends("onnx", "auto")) == ["openvino"]
    assert list(backends("onnx", "native")) == [""]
    # formats of one framework alone do not mind
    assert list(backends("keras_hdf5", "auto")) == [""]
    monkeypatch.setenv("BMZ_BACKEND", "coreml")
    with pytest.raises(BackendUnknown, match="coreml"):
        backends("onnx", "auto")


def test_without_it_all_else_is_there_and_the_word_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BMZ_BACKEND", raising=False)
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "openvino" else object())

    assert list(backends("onnx", "auto")) == [""]
    assert {(state.framework, state.version) for state in other_backends()} >= {("openvino", None)}
    with pytest.raises(NoBackend, match="openvino is not installed") as raised:
        backends("onnx", "openvino")
    assert "bmz[openvino]" in raised.value.hint


def test_a_broken_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(NoBackend, match="cannot be imported"):
        openvino.openvino_devices()
    monkeypatch.setattr(formats, "find_spec", lambda _: object())
    ours = [state for state in other_backends() if state.framework == "openvino"]
    assert all("cannot be imported" in state.trouble for state in ours)


def test_what_is_measured_on_one_processor_is_not_taken_for_another() -> None:
    assert str(available_cpus()) in processor_name()
    assert runnable("onnx").hardware(CPU) == processor_name()
    assert runnable("onnx").hardware(Device("cuda", 1)) == "cuda:1"


ALONE = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        print(event, arguments)
sys.addaudithook(refuse)
from pathlib import Path
import numpy as np
from bmz.predict.backend import LoadRequest
from bmz.predict.formats import open_backend
request = LoadRequest(Path(sys.argv[1]), ("a", "b"), ("near",), backend="openvino")
open_backend("onnx", request).run([np.ones((1, 1, 8, 8), np.float32)] * 2)
assert "openvino_telemetry" not in sys.modules
"""


def test_it_asks_no_server_and_leaves_nothing_at_home(tmp_path: Path) -> None:
    path, home = blur(tmp_path), tmp_path / "home"
    home.mkdir()

    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(path)],
        capture_output=True, text=True, check=True, env={"HOME": str(home)},
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("", "")
    assert list(home.iterdir()) == []


def kept(folder: Path, number: int = 0) -> LoadRequest:
    path = folder / "weights.onnx"
    start = folder / "notes" / f"compiled.{number}"
    return LoadRequest(path, ("a", "b"), ("near", "far"), backend="openvino", kept=start)


def test_a_compiled_network_is_kept_for_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blur(tmp_path)
    first = open_backend("onnx", kept(tmp_path)).run(pair())

    monkeypatch.setattr(sys.modules["openvino"].Core, "compile_model", None)
    second = open_backend("onnx", kept(tmp_path)).run(pair())

    np.testing.assert_array_equal(first, second)
    assert len(list((tmp_path / "notes").iterdir())) == 1


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None], ids=["empty", "other", "a-byte"])
def test_a_damaged_one_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    blur(tmp_path)
    first = open_backend("onnx", kept(tmp_path)).run(pair())
    (file,) = (tmp_path / "notes").iterdir()
    whole = file.read_bytes()
    changed = whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:]
    file.write_bytes(changed if damage is None else damage)

    again = open_backend("onnx", kept(tmp_path)).run(pair())

    np.testing.assert_array_equal(first, again)
    assert file.read_bytes() not in (changed, damage)


def test_few_are_kept_and_the_one_used_last_stays_longest(tmp_path: Path) -> None:
    blur(tmp_path)
    notes = tmp_path / "notes"

    for number in range(openvino.MOST_KEPT):
        open_backend("onnx", kept(tmp_path, number))
        (file,) = notes.glob(f"compiled.{number}.*")
        os.utime(file, (number, number))
    open_backend("onnx", kept(tmp_path, 0))  # used again
    open_backend("onnx", kept(tmp_path, 99))

    left = {file.name.split(".")[1] for file in notes.iterdir()}
    assert left == {"0", "2", "3", "99"}


def test_where_nothing_can_be_written_it_runs_all_the_same(tmp_path: Path) -> None:
    blur(tmp_path)
    (tmp_path / "notes").write_text("no folder")

    assert open_backend("onnx", kept(tmp_path)).run(pair())[0].shape == (2, 1, 16, 24)
