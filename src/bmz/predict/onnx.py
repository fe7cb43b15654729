"""Networks in ONNX files, run by onnxruntime; the only module that imports it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.computer import available_cpus
from bmz.predict.backend import (
    CPU,
    Device,
    LoadRequest,
    NetworkFailed,
    NoBackend,
    OutOfMemory,
    TensorCountDiffers,
    WeightsUnreadable,
    checked_count,
    only_float32,
    shapes_of,
    without_loss,
)
from bmz.predict.frameworks import FRAMEWORKS
from bmz.predict.onnx_data import refuse_outside


def nvidia_device_count() -> int:
    """Return the number of devices that the CUDA driver shows; 0 without a driver.

    It obeys ``CUDA_VISIBLE_DEVICES``. Source: CUDA driver API, ``cuInit``, ``cuDeviceGetCount``.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


INSTALL = FRAMEWORKS["onnx"].install
GPU_INSTALL = "pip uninstall onnxruntime; pip install 'bmz[gpu]'"

_CUDA = "CUDAExecutionProvider"
_FATAL = 4  # errors come as exceptions; what is less than fatal need not be printed as well
_MEMORY_WORDS = ("failed to allocate memory", "bad_alloc", "out of memory", "alloc_failed")
_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bool": "bool",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
}  # fmt: skip


def onnx_devices() -> tuple[Device, ...]:
    """List the devices that the installed onnxruntime can use, the CPU first.

    Its list of providers says what it was built for; whether there is a GPU, the driver says.

    Raises
    ------
    NoBackend
        onnxruntime is absent or broken.
    """
    built_for_cuda = _CUDA in _onnxruntime().get_available_providers()
    count = nvidia_device_count() if built_for_cuda else 0
    return (CPU, *(Device("cuda", i) for i in range(count)))


def open_onnx(weights: LoadRequest) -> OnnxBackend:
    """Load an ONNX file, with its external data where it has some.

    Raises
    ------
    NoBackend
        onnxruntime is absent or broken, or cannot use the device although it is there.
    WeightsUnreadable
        The file is absent, corrupt or no ONNX file, or takes tensors from outside its folder.
    TensorCountDiffers
        It has other inputs, or fewer outputs, than the description.
    PrecisionUnsupported
        Another precision than float32 is wanted: an ONNX file fixes its own.
    """
    only_float32("onnxruntime", weights)
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = weights.threads or available_cpus()
    # threads that wait for each other, or for the next tile, would keep their processors busy
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(runtime, weights.device)
    refuse_outside(weights.path)
    try:
        session = runtime.InferenceSession(
            str(weights.path), options, providers=providers, enable_fallback=0
        )
    except Exception as why:  # its errors share no other base
        raise WeightsUnreadable(weights.path, "onnx", _reason(why)) from why
    if weights.device.kind == "cuda" and session.get_providers()[0] != _CUDA:
        raise NoBackend("onnx", "onnxruntime does not find the CUDA libraries", GPU_INSTALL)
    return OnnxBackend(session, weights, f"onnxruntime {runtime.__version__}")


class Tensor(Protocol):
    """An input or output of a session."""

    name: str
    type: str


class Session(Protocol):
    """What is used of an ``onnxruntime.InferenceSession``, which has no types."""

    def get_inputs(self) -> Sequence[Tensor]:
        """List the inputs of the network."""

    def get_outputs(self) -> Sequence[Tensor]:
        """List its outputs."""

    def run(self, outputs: Sequence[str], feed: Mapping[str, AnyArray]) -> Sequence[AnyArray]:
        """Run the network."""


class OnnxBackend:
    """One session of onnxruntime.

    Parameters
    ----------
    session : an ``onnxruntime.InferenceSession``
    weights : what it was opened with; tensors go by name where the session has names equal to
        the ids of the description, else by position
    name : the framework and its version
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
        checked_count("inputs", expected=len(self._inputs), actual=len(inputs))
        if self._session is None:
            raise NetworkFailed(self.name, shapes_of(inputs), "the backend is closed")
        feed = {
            name: without_loss(array, dtype or array.dtype, name)
            for array, (name, dtype) in zip(inputs, self._inputs, strict=True)
        }
        try:
            return list(self._session.run(self._outputs, feed))
        except Exception as why:  # its errors share no other base
            if any(word in str(why).lower() for word in _MEMORY_WORDS):
                raise OutOfMemory(self.device, shapes_of(inputs)) from why
            raise NetworkFailed(self.name, shapes_of(inputs), _reason(why)) from why

    def close(self) -> None:
        """Let go of the session."""
        self._session = None


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except (ImportError, OSError) as why:
        raise NoBackend("onnx", f"onnxruntime does not import ({why})", INSTALL) from why
    # what is left when onnxruntime or onnxruntime-gpu is removed beside the other
    if not hasattr(onnxruntime, "InferenceSession"):
        reason = "onnxruntime is an empty shell"
        raise NoBackend("onnx", reason, "pip install --force-reinstall onnxruntime")
    onnxruntime.set_default_logger_severity(_FATAL)
    runtime: ModuleType = onnxruntime
    return runtime


def _providers(runtime: ModuleType, device: Device) -> list[str | tuple[str, Mapping[str, object]]]:
    # CUDA is never named on a CPU: it would print banners of errors, then fall back
    if device.kind != "cuda":
        return ["CPUExecutionProvider"]
    if _CUDA not in runtime.get_available_providers():
        raise NoBackend("onnx", f"this onnxruntime cannot use {device}", GPU_INSTALL)
    if hasattr(runtime, "preload_dlls"):
        with redirect_stdout(StringIO()):  # it prints what it does not find
            runtime.preload_dlls()
    # TF32 rounds float32 to 10 bits, and is on unless told otherwise
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
