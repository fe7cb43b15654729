"""Run networks in ONNX files with onnxruntime; no other module imports it."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.computer import available_cpus
from bmz.check.kind_network import layers_of
from bmz.predict.backend import (
    CPU,
    Arrived,
    Device,
    LoadRequest,
    NetworkFailed,
    NoBackend,
    OutOfMemory,
    TensorCountDiffers,
    WeightsUnreadable,
    checked_count,
    handed_on,
    only_float32,
    shapes_of,
    torch_beside,
    without_loss,
)
from bmz.predict.frameworks import FRAMEWORKS, OTHER_FRAMEWORKS
from bmz.predict.onnx_files import IMAGE, refuse_outside, written_layers

if TYPE_CHECKING:
    import torch


def nvidia_device_count() -> int:
    """Return the number of devices that the CUDA driver reports; 0 without a driver.

    It respects ``CUDA_VISIBLE_DEVICES``. Source: CUDA driver API, ``cuInit``,
    ``cuDeviceGetCount``.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


def nvidia_device_name(index: int) -> str:
    """Return the manufacturer's name of a device; empty without a driver or such a device.

    Source: CUDA driver API, ``cuDeviceGet``, ``cuDeviceGetName``.
    """
    if index >= nvidia_device_count():
        return ""
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    failed = driver.cuDeviceGet(ctypes.byref(device), index) or driver.cuDeviceGetName(
        name, len(name), device
    )
    return "" if failed else name.value.decode(errors="replace")


INSTALL = FRAMEWORKS["onnx"].install
GPU_INSTALL = "pip uninstall onnxruntime; pip install 'bmz[gpu]'"

TENSORRT = "tensorrt"
"""Value of ``--backend`` for TensorRT, which compiles a network for the GPU in use."""

MOST_ENGINES = 16
"""Maximum number of compiled networks cached per package: one per tile size and precision."""

_CUDA, _TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_NAME_BYTES = 256
_FATAL = 4  # errors are raised as exceptions, so only fatal messages need to be printed
_MEMORY_WORDS = ("failed to allocate memory", "bad_alloc", "out of memory", "alloc_failed")
_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
}  # fmt: skip


def onnx_devices() -> tuple[Device, ...]:
    """List the devices that the installed onnxruntime can use, the CPU first.

    Its providers state what it was built for; the driver states whether there is a GPU.

    Raises
    ------
    NoBackend
        onnxruntime is absent or broken.
    """
    built_for_cuda = _CUDA in _onnxruntime().get_available_providers()
    count = nvidia_device_count() if built_for_cuda else 0
    return (CPU, *(Device("cuda", i) for i in range(count)))


def tensorrt_devices() -> tuple[Device, ...]:
    """List the devices on which onnxruntime can use TensorRT.

    Raises
    ------
    NoBackend
        onnxruntime or TensorRT is absent or broken, they do not work together, or there is no GPU.
    """
    install = OTHER_FRAMEWORKS["onnx"][TENSORRT].install
    if _TENSORRT not in _onnxruntime().get_available_providers():
        raise NoBackend("onnx", "this onnxruntime cannot use TensorRT", install)
    import_tensorrt()
    count = nvidia_device_count()
    if not count:
        raise NoBackend("onnx", "TensorRT finds no NVIDIA GPU", "--backend native")
    return tuple(Device("cuda", i) for i in range(count))


def import_tensorrt() -> ModuleType:
    """Import TensorRT, which loads the libraries that onnxruntime needs, and switch off TF32.

    Raises
    ------
    NoBackend
        TensorRT is absent or broken.
    """
    # for the whole process: onnxruntime has no option for it (its issue 26029)
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    try:
        module = import_module(TENSORRT)
    except (ImportError, OSError) as why:
        install = OTHER_FRAMEWORKS["onnx"][TENSORRT].install
        raise NoBackend("onnx", f"tensorrt cannot be imported ({why})", install) from why
    return module


def open_onnx(weights: LoadRequest) -> OnnxBackend:
    """Load an ONNX file and its external data, if any.

    Raises
    ------
    NoBackend
        onnxruntime is absent or broken, or cannot use the device although it is present.
    WeightsUnreadable
        The file is absent, corrupt or not an ONNX file, or takes tensors from outside its folder.
    TensorCountDiffers
        It has a different number of inputs, or fewer outputs, than the description.
    PrecisionUnsupported
        A precision other than float32 was requested: an ONNX file fixes its own. TensorRT also
        takes float16.
    """
    compiles = weights.backend == TENSORRT
    if not (compiles and weights.precision == "float16"):
        only_float32(weights.backend or "onnxruntime", weights)
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = weights.threads or available_cpus()
    # threads that wait for each other, or for the next tile, would otherwise keep their CPUs busy
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(runtime, weights.device)
    if compiles:
        providers = [_tensorrt_provider(weights), *providers]
    refuse_outside(weights.path)
    try:
        session = runtime.InferenceSession(
            str(weights.path), options, providers=providers, enable_fallback=0
        )
    except Exception as why:  # its errors share no other base
        raise WeightsUnreadable(weights.path, "onnx", _reason(why)) from why
    started = session.get_providers()
    if compiles and started[0] != _TENSORRT:
        install = OTHER_FRAMEWORKS["onnx"][TENSORRT].install
        raise NoBackend("onnx", "onnxruntime cannot find the TensorRT libraries", install)
    if weights.device.kind == "cuda" and _CUDA not in started:
        raise NoBackend("onnx", "onnxruntime cannot find the CUDA libraries", GPU_INSTALL)
    by = f" with tensorrt {import_tensorrt().__version__}" if compiles else ""
    # older versions were built without it
    kind = DlpackOnnxBackend if hasattr(runtime.OrtValue, "__dlpack__") else OnnxBackend
    return kind(session, weights, f"onnxruntime {runtime.__version__}{by}")


class LayersInOnnxruntime:
    """The layers through which the check analyses images, for one colour channel or three.

    It may be called in several threads at once, each of which computes on its own.

    Raises
    ------
    NoBackend
        onnxruntime is absent or broken.
    """

    def __init__(self) -> None:
        self._runtime: Any = _onnxruntime()
        self._sessions: dict[int, Any] = {}
        self._lock = Lock()

    def __call__(self, image: FloatArray) -> list[FloatArray]:
        """Run the layers; see `bmz.check.kind_network.LayersRunner`."""
        colours = image.shape[-1]
        with self._lock:
            if colours not in self._sessions:
                self._sessions[colours] = self._opened(colours)
        planes = np.ascontiguousarray(np.moveaxis(image, -1, 0))[np.newaxis]
        return [told[0] for told in self._sessions[colours].run(None, {IMAGE: planes})]

    def _opened(self, colours: int) -> Session:
        options = self._runtime.SessionOptions()
        options.log_severity_level = _FATAL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session: Session = self._runtime.InferenceSession(
            written_layers(layers_of(colours)), options, providers=["CPUExecutionProvider"]
        )
        return session


class Tensor(Protocol):
    """An input or output of a session."""

    name: str
    type: str


class Session(Protocol):
    """The part of an ``onnxruntime.InferenceSession`` used here; onnxruntime has no types."""

    def get_inputs(self) -> Sequence[Tensor]:
        """List the inputs of the network."""

    def get_outputs(self) -> Sequence[Tensor]:
        """List the outputs of the network."""

    def run(self, outputs: Sequence[str], feed: Mapping[str, AnyArray]) -> Sequence[AnyArray]:
        """Run the network."""


class OnnxBackend:
    """One session of onnxruntime.

    Parameters
    ----------
    session : an ``onnxruntime.InferenceSession``
    weights : request that it was opened with; tensors are matched by name if the session's names
        equal the ids of the description, else by position
    name : name and version of the framework
    """

    def __init__(self, session: Session, weights: LoadRequest, name: str) -> None:
        self.name = name
        self.device = weights.device
        self._session: Any = session
        taken = {tensor.name: _dtype(tensor.type) for tensor in session.get_inputs()}
        checked_count("inputs", expected=len(weights.input_ids), actual=len(taken))
        by_name = set(taken) == set(weights.input_ids)
        order = weights.input_ids if by_name else tuple(taken)
        self._inputs = [(name, taken[name]) for name in order]
        self._outputs = _outputs([t.name for t in session.get_outputs()], weights.output_ids)

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once; see `Backend`."""
        feed = self._feed(inputs)
        with self._failures(inputs):
            return list(self._session.run(self._outputs, feed))

    def tensor_library(self) -> ModuleType | None:
        """Return PyTorch if it can use the same CUDA device, else None; see `OnTensors`."""
        return torch_beside(self.device)

    def _feed(self, inputs: Sequence[AnyArray]) -> dict[str, AnyArray]:
        checked_count("inputs", expected=len(self._inputs), actual=len(inputs))
        if self._session is None:
            raise NetworkFailed(self.name, shapes_of(inputs), "the backend is closed")
        return {
            name: without_loss(array, dtype or array.dtype, name)
            for array, (name, dtype) in zip(inputs, self._inputs, strict=True)
        }

    @contextmanager
    def _failures(self, inputs: Sequence[AnyArray]) -> Iterator[None]:
        try:
            yield
        except Exception as why:  # its errors share no other base
            if any(word in str(why).lower() for word in _MEMORY_WORDS):
                raise OutOfMemory(self.device, shapes_of(inputs)) from why
            raise NetworkFailed(self.name, shapes_of(inputs), _reason(why)) from why

    def close(self) -> None:
        """Release the session."""
        self._session = None


class DlpackOnnxBackend(OnnxBackend):
    """A session whose outputs can be passed to PyTorch without leaving the device."""

    def submit_there(self, inputs: Sequence[AnyArray]) -> Arrived:
        """Run the network once, with its outputs left on the device; see `StaysThere`.

        They are bound to the device, and copied to PyTorch tensors there.
        """
        start, feed = time.perf_counter(), self._feed(inputs)
        with self._failures(inputs):
            binding = self._session.io_binding()
            for name, array in feed.items():
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
            for name in self._outputs:
                binding.bind_output(name, self.device.kind, self.device.index)
            binding.synchronize_inputs()
            self._session.run_with_iobinding(binding)
            # PyTorch reads the outputs in another queue of the device
            binding.synchronize_outputs()
            # onnxruntime passes Boolean values as bytes through DLPack
            tensors = [
                handed_on(value, truth=value.data_type() == "tensor(bool)")
                for value in binding.get_outputs()
            ]
        return Arrived(tensors, time.perf_counter() - start)

    def collect_there(self, ticket: Arrived) -> list[torch.Tensor]:
        """Return the outputs of a run; see `StaysThere`."""
        return ticket.tensors

    def computed_s(self, ticket: Arrived) -> float:
        """Return the seconds of a run, including the transfer to the device; see `StaysThere`."""
        return ticket.took_s


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except (ImportError, OSError) as why:
        raise NoBackend("onnx", f"onnxruntime cannot be imported ({why})", INSTALL) from why
    # remains if both onnxruntime and onnxruntime-gpu were installed and one was removed
    if not hasattr(onnxruntime, "InferenceSession"):
        reason = "the installation of onnxruntime is empty"
        raise NoBackend("onnx", reason, "pip install --force-reinstall onnxruntime")
    onnxruntime.set_default_logger_severity(_FATAL)
    runtime: ModuleType = onnxruntime
    return runtime


def _tensorrt_provider(weights: LoadRequest) -> tuple[str, Mapping[str, object]]:
    """Return the TensorRT provider and its options, with a cache, since compiling takes minutes.

    Source: onnxruntime, TensorRT execution provider. The names of its cache files depend on the
    graph, the precision and the kind of GPU.
    """
    if weights.device not in tensorrt_devices():
        raise NoBackend("onnx", f"TensorRT does not run on {weights.device}", "--backend native")
    options: dict[str, object] = {
        "device_id": weights.device.index,
        "trt_fp16_enable": str(weights.precision == "float16"),
    }
    if weights.kept is not None:
        folder = weights.kept.parent
        folder.mkdir(parents=True, exist_ok=True)
        _forget_engines(folder)
        options |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(folder),
            "trt_engine_cache_prefix": weights.kept.name,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(folder),
        }
    return _TENSORRT, options


def _forget_engines(folder: Path) -> None:
    """Remove the oldest cached engines of a package, to make room for one more."""
    engines = sorted(folder.glob("*.engine"), key=lambda engine: engine.stat().st_mtime)
    for old in engines[: max(len(engines) - MOST_ENGINES + 1, 0)]:
        old.unlink(missing_ok=True)
        old.with_suffix(".profile").unlink(missing_ok=True)


def _providers(runtime: ModuleType, device: Device) -> list[str | tuple[str, Mapping[str, object]]]:
    # CUDA is not requested on a CPU: it would print error banners and then fall back
    if device.kind != "cuda":
        return ["CPUExecutionProvider"]
    if _CUDA not in runtime.get_available_providers():
        raise NoBackend("onnx", f"this onnxruntime cannot use {device}", GPU_INSTALL)
    if hasattr(runtime, "preload_dlls"):
        with redirect_stdout(StringIO()):  # it prints which libraries it does not find
            runtime.preload_dlls()
    # TF32, which rounds float32 to 10 bits, is on by default
    return [(_CUDA, {"device_id": device.index, "use_tf32": "0"}), "CPUExecutionProvider"]


def _outputs(names: list[str], ids: tuple[str, ...]) -> list[str]:
    if set(ids) <= set(names):
        return list(ids)
    if len(names) < len(ids):
        raise TensorCountDiffers("outputs", expected=len(ids), actual=len(names))
    return names[: len(ids)]


def _dtype(tensor_type: str) -> np.dtype[Any] | None:
    word = _DTYPES.get(tensor_type.removeprefix("tensor(").removesuffix(")"))
    return None if word is None else np.dtype(word)


def _reason(why: Exception) -> str:
    return str(why).strip().replace("\n", " ")
