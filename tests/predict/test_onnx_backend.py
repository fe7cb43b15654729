"""Networks in ONNX files: by name or position, without silent casts, with clear refusals."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.base.computer import available_cpus
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
from bmz.predict.formats import backends, open_backend, resolve_device
from bmz.predict.onnx import OnnxBackend
from bmz.testing.backend import StaysContract

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Names = tuple[str, ...]


def difference(folder: Path, dtype: str = "FLOAT", *, external: bool = False) -> Path:
    """Write a network of inputs a, b and outputs less (a - b), more (2 a); free sizes."""
    kind, shape = getattr(onnx.TensorProto, dtype), ["b", 1, "y", "x"]
    two = onnx.numpy_helper.from_array(
        np.array([2], onnx.helper.tensor_dtype_to_np_dtype(kind)), "two"
    )
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Sub", ["a", "b"], ["less"]),
            onnx.helper.make_node("Mul", ["a", "two"], ["more"]),
        ],
        "difference",
        [value(name, kind, shape) for name in ("a", "b")],
        [value(name, kind, shape) for name in ("less", "more")],
        [two],
    )
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    path = folder / "weights.onnx"
    onnx.save(model, path, save_as_external_data=external, location="weights.data",
              size_threshold=0)  # fmt: skip
    return path


def identity(folder: Path, dtype: str) -> Path:
    """Write a network that gives its input back; older onnxruntimes calculate with few dtypes."""
    kind, shape = getattr(onnx.TensorProto, dtype), ["b", 1, "y", "x"]
    a, b = (onnx.helper.make_tensor_value_info(name, kind, shape) for name in "ab")
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    graph = onnx.helper.make_graph([node], "identity", [a], [b])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / "i.onnx")
    return folder / "i.onnx"


def opened(path: Path, inputs: Names = ("a", "b"), outputs: Names = ("less", "more")) -> Backend:
    return open_backend("onnx", LoadRequest(path, tuple(inputs), tuple(outputs), threads=1))


def pair(dtype: str = "float32") -> list[AnyArray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 99, (2, 1, 6, 8)).astype(dtype) for _ in range(2)]


class TestOnnxBackend(StaysContract):
    @pytest.fixture(autouse=True)
    def _weights(self, tmp_path: Path) -> None:
        self.path = difference(tmp_path)

    def backend(self) -> Backend:
        return opened(self.path)

    def inputs(self) -> list[AnyArray]:
        return pair()


def test_tensors_go_by_name_where_the_names_are_the_ids(tmp_path: Path) -> None:
    a, b = pair()

    more, less = opened(difference(tmp_path), ("b", "a"), ("more", "less")).run([b, a])

    np.testing.assert_array_equal(less, a - b)
    np.testing.assert_array_equal(more, 2 * a)


def test_tensors_go_by_position_where_the_names_are_others(tmp_path: Path) -> None:
    a, b = pair()

    (found,) = opened(difference(tmp_path), ("raw", "b"), ("mask",)).run([a, b])

    np.testing.assert_array_equal(found, a - b)


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        (("a",), ("less",), "2 inputs, but its description names 1"),
        (("a", "b"), ("p", "q", "r"), "2 outputs, but its description names 3"),
    ],
)
def test_other_counts_than_the_description_are_refused_at_opening(
    tmp_path: Path, inputs: Names, outputs: Names, words: str
) -> None:
    path = difference(tmp_path)

    with pytest.raises(TensorCountDiffers, match=words):
        opened(path, inputs, outputs)


def test_external_data_lie_beside_the_file(tmp_path: Path) -> None:
    a, b = pair()

    more = opened(difference(tmp_path, external=True)).run([a, b])[1]

    assert (tmp_path / "weights.data").is_file()
    np.testing.assert_array_equal(more, 2 * a)


@pytest.mark.parametrize("dtype", ["uint16", "float64", "int64"])
def test_values_that_stay_the_same_are_cast(tmp_path: Path, dtype: str) -> None:
    a, b = pair(dtype)

    found = opened(difference(tmp_path)).run([a, b])[0]

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, a.astype(float) - b.astype(float))


@pytest.mark.parametrize("value", [300.0, 0.5, -1.0, np.nan])
def test_values_that_would_change_are_refused_and_never_wrapped(
    tmp_path: Path, value: float
) -> None:
    backend = opened(identity(tmp_path, "INT8" if value > 0 else "UINT8"), ("a",), ("b",))
    wrong = np.full((1, 1, 4, 4), value, np.float32)

    with pytest.raises(DtypeLossy, match="float32 values change") as raised:
        backend.run([wrong])

    assert raised.value.code == "predict.dtype-lossy"


def test_a_size_that_the_network_cannot_take_is_reported_with_its_shape(tmp_path: Path) -> None:
    a, b = pair()
    backend = opened(difference(tmp_path))

    with pytest.raises(NetworkFailed, match="float32 2x1x6x8, float32 2x1x6x7") as raised:
        backend.run([a, b[..., 1:]])

    assert raised.value.code == "predict.network-failed"


def test_a_closed_backend_does_not_run(tmp_path: Path) -> None:
    backend = opened(difference(tmp_path))
    backend.close()

    with pytest.raises(NetworkFailed, match="closed"):
        backend.run(pair())


@pytest.mark.parametrize("content", [b"", b"not a network", None], ids=["empty", "text", "none"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.onnx"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(WeightsUnreadable, match=r"weights\.onnx") as raised:
        opened(path)

    assert raised.value.code == "package.weights-unreadable"


def test_a_truncated_file_is_unreadable(tmp_path: Path) -> None:
    path = difference(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(WeightsUnreadable):
        opened(path)


def test_cuda_is_not_named_on_a_cpu_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    backend = opened(difference(tmp_path))

    backend.run(pair())

    assert isinstance(backend, OnnxBackend)
    assert backend._session.get_providers() == ["CPUExecutionProvider"]
    assert capfd.readouterr() == ("", "")


def test_threads_are_those_asked_for_or_all_that_the_process_may_use(tmp_path: Path) -> None:
    path = difference(tmp_path)
    free = open_backend("onnx", LoadRequest(path, ("a", "b"), ("less",)))

    threads = [
        backend._session.get_session_options().intra_op_num_threads
        for backend in (opened(path), free)
        if isinstance(backend, OnnxBackend)
    ]

    assert threads == [1, available_cpus()]
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)


def test_threads_that_wait_leave_the_processor_to_others(tmp_path: Path) -> None:
    backend = opened(difference(tmp_path))

    assert isinstance(backend, OnnxBackend)
    options = backend._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


CUDA, PLAIN = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("built_for", "started", "words"),
    [([PLAIN], [PLAIN], "cannot use cuda:1"), ([CUDA, PLAIN], [PLAIN], "CUDA libraries")],
    ids=["cpu-build", "no-libraries"],
)
def test_a_gpu_asked_for_is_never_replaced_by_the_cpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built_for: list[str],
    started: list[str],
    words: str,
) -> None:
    import onnxruntime

    session = SimpleNamespace(get_providers=lambda: started)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: built_for)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
    weights = LoadRequest(difference(tmp_path), ("a", "b"), ("less",), Device("cuda", 1))

    with pytest.raises(NoBackend, match=words) as raised:
        open_backend("onnx", weights)

    assert "bmz[gpu]" in raised.value.hint


TENSORRT, GPU = "TensorrtExecutionProvider", Device("cuda", 1)


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand in for TensorRT on two GPUs; gives the providers with which sessions are opened."""
    import onnxruntime

    asked: list[Any] = []
    here = onnxruntime.InferenceSession

    def session(path: str, options: object, providers: list[Any], **more: object) -> object:
        asked.append(providers)
        opened = here(path, options, providers=[PLAIN], **more)
        monkeypatch.setattr(opened, "get_providers", lambda: [TENSORRT, CUDA, PLAIN])
        return opened

    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.9"))
    monkeypatch.setattr("bmz.predict.formats.find_spec", lambda _: object())
    monkeypatch.setattr("bmz.predict.onnx.nvidia_device_count", lambda: 2)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, PLAIN])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.delenv("BMZ_BACKEND", raising=False)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")  # so that it is put back at the end
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    return asked


def for_tensorrt(path: Path, **more: Any) -> LoadRequest:
    words: dict[str, Any] = {"device": GPU, "backend": "tensorrt"} | more
    return LoadRequest(path, ("a", "b"), ("less",), threads=1, **words)


def test_tensorrt_comes_before_cuda_keeps_its_engines_and_rounds_nothing(
    tensorrt: list[Any], tmp_path: Path
) -> None:
    kept = tmp_path / "notes" / "compiled.1a"
    path = difference(tmp_path)

    backend = open_backend("onnx", for_tensorrt(path, kept=kept, precision="float16"))

    (first, second, last) = tensorrt[0]
    assert (first[0], second[0], last) == (TENSORRT, CUDA, PLAIN)
    assert first[1]["device_id"] == second[1]["device_id"] == 1
    assert first[1]["trt_fp16_enable"] == "True"
    assert first[1]["trt_engine_cache_path"] == str(kept.parent)
    assert first[1]["trt_engine_cache_prefix"] == kept.name
    assert kept.parent.is_dir()
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    assert "with tensorrt 10.9" in backend.name
    open_backend("onnx", for_tensorrt(path))
    assert tensorrt[1][0][1]["trt_fp16_enable"] == "False"
    assert "trt_engine_cache_enable" not in tensorrt[1][0][1]


def test_few_engines_are_kept_the_oldest_go(tensorrt: list[Any], tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    for number in range(20):
        for ending in ("engine", "profile"):
            file = tmp_path / f"notes/compiled.{number:02}.{ending}"
            file.touch()
            os.utime(file, (number, number))

    open_backend("onnx", for_tensorrt(difference(tmp_path), kept=tmp_path / "notes/compiled.1a"))

    left = sorted(path.stem for path in (tmp_path / "notes").glob("*.engine"))
    assert left == [f"compiled.{number:02}" for number in range(5, 20)]
    assert sorted(path.stem for path in (tmp_path / "notes").glob("*.profile")) == left
    assert tensorrt


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_is_weighed_on_a_gpu_alone() -> None:
    assert list(backends("onnx", "auto", GPU)) == ["", "tensorrt"]
    assert "tensorrt" not in backends("onnx", "auto")
    assert resolve_device("auto", "onnx", "tensorrt") == Device("cuda", 0)
    entry = backends("onnx", "auto", GPU)["tensorrt"]
    assert entry.weighed(GPU) == ("float32", "float16")


def test_tensorrt_that_is_absent_or_finds_no_gpu_is_told(
    tensorrt: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    path = difference(tmp_path)
    with pytest.raises(NoBackend, match="does not run on cpu"):
        open_backend("onnx", for_tensorrt(path, device=CPU))
    with pytest.raises(PrecisionUnsupported, match=r"tensorrt cannot run .* bfloat16"):
        open_backend("onnx", for_tensorrt(path, precision="bfloat16"))
    monkeypatch.setattr("bmz.predict.onnx.nvidia_device_count", lambda: 0)
    with pytest.raises(NoBackend, match="no NVIDIA GPU"):
        resolve_device("auto", "onnx", "tensorrt")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, PLAIN])
    with pytest.raises(NoBackend, match="cannot use TensorRT"):
        open_backend("onnx", for_tensorrt(path))
    monkeypatch.setattr("bmz.predict.formats.find_spec", lambda name: name != "tensorrt" or None)
    with pytest.raises(NoBackend, match="tensorrt is not installed") as absent:
        backends("onnx", "tensorrt")
    assert "pip install 'bmz[gpu]' tensorrt" in absent.value.hint
    assert not tensorrt


def test_another_precision_than_that_of_the_file_is_refused(tmp_path: Path) -> None:
    weights = LoadRequest(difference(tmp_path), ("a", "b"), ("less",), precision="float16")

    with pytest.raises(PrecisionUnsupported, match=r"onnxruntime .* float16 on cpu") as raised:
        open_backend("onnx", weights)

    assert "float32" in raised.value.hint
