"""Networks in ONNX files, run by onnxruntime, which no other module imports, and their files."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path, PurePosixPath, PureWindowsPath
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
from bmz.predict.frameworks import FRAMEWORKS, OTHER_FRAMEWORKS


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


def nvidia_device_name(index: int) -> str:
    """Return the maker's name of a device; empty without a driver or such a device.

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
"""The name for ``--backend`` of what compiles a network for the GPU at hand."""

MOST_ENGINES = 16
"""Compiled networks that are kept of a package: one for each size of tile and each precision."""

_CUDA, _TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_NAME_BYTES = 256
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


def tensorrt_devices() -> tuple[Device, ...]:
    """List the devices on which onnxruntime can use TensorRT.

    Raises
    ------
    NoBackend
        onnxruntime or TensorRT is absent, broken or not made for the other, or there is no GPU.
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
    """Import TensorRT, which loads what onnxruntime looks for, and keeps float32 from being TF32.

    Raises
    ------
    NoBackend
        It is absent or broken.
    """
    # for the whole process: onnxruntime has no option for it (its issue 26029)
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    try:
        module = import_module(TENSORRT)
    except (ImportError, OSError) as why:
        install = OTHER_FRAMEWORKS["onnx"][TENSORRT].install
        raise NoBackend("onnx", f"tensorrt does not import ({why})", install) from why
    return module


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
        Another precision than float32 is wanted: an ONNX file fixes its own. TensorRT also takes
        float16.
    """
    compiles = weights.backend == TENSORRT
    if not (compiles and weights.precision == "float16"):
        only_float32(weights.backend or "onnxruntime", weights)
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = weights.threads or available_cpus()
    # threads that wait for each other, or for the next tile, would keep their processors busy
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
        raise NoBackend("onnx", "onnxruntime does not find the libraries of TensorRT", install)
    if weights.device.kind == "cuda" and _CUDA not in started:
        raise NoBackend("onnx", "onnxruntime does not find the CUDA libraries", GPU_INSTALL)
    by = f" with tensorrt {import_tensorrt().__version__}" if compiles else ""
    return OnnxBackend(session, weights, f"onnxruntime {runtime.__version__}{by}")


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


def _tensorrt_provider(weights: LoadRequest) -> tuple[str, Mapping[str, object]]:
    """Give the options of TensorRT, which keeps what it compiles: that takes minutes.

    Source: onnxruntime, TensorRT execution provider; it tells apart in the names of what it keeps
    the graph, the precision and the kind of GPU.
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
    """Leave room for one more among the engines that are kept of a package; the oldest go."""
    engines = sorted(folder.glob("*.engine"), key=lambda engine: engine.stat().st_mtime)
    for old in engines[: max(len(engines) - MOST_ENGINES + 1, 0)]:
        old.unlink(missing_ok=True)
        old.with_suffix(".profile").unlink(missing_ok=True)


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


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MORE_FOLLOW = 0x80  # the high bit of a byte of a number
_LONGEST = 10  # bytes of a number of 64 bits
_SMALLEST_KEY = 1 << 3  # fields are numbered from 1, above three bits for their kind
_LARGEST_KEY = 2**32 - 1  # other readers truncate a larger one, and find another field


class ProtobufError(ValueError):
    """The bytes are not a complete message."""

    def __init__(self) -> None:
        super().__init__("it is no whole protocol buffer")


def fields(message: memoryview, *path: int) -> Iterator[memoryview]:
    r"""Yield the content of every field at `path` that is a text or a message.

    A field may occur several times, and a reader with the schema merges them: all are yielded.

    Source: https://protobuf.dev/programming-guides/encoding/

    Parameters
    ----------
    message : the whole message
    path : numbers of fields, each in the message of the one before it

    Raises
    ------
    ProtobufError
        The message, or one on the path, is malformed.

    Examples
    --------
    >>> [bytes(part) for part in fields(memoryview(b"\x0a\x04\x12\x02hi"), 1, 2)]
    [b'hi']
    """
    for number, content in members(message):
        if number == path[0]:
            if path[1:]:
                yield from fields(content, *path[1:])
            else:
                yield content


def texts(message: memoryview, *path: int) -> Iterator[str]:
    """Yield the texts that lie at `path`; see `fields`."""
    for content in fields(message, *path):
        yield bytes(content).decode("utf-8", "backslashreplace")


def members(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of every text and message in a message, one level deep.

    Raises
    ------
    ProtobufError
        It is no message.
    """
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        if not _SMALLEST_KEY <= key <= _LARGEST_KEY:
            raise ProtobufError
        kind = key & 7
        if kind == _VARINT:
            _, at = _number(message, at)
            continue
        if kind == _BYTES:
            size, at = _number(message, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:  # a group, which no schema that is read here has
            raise ProtobufError
        if at + size > len(message):
            raise ProtobufError
        if kind == _BYTES:
            yield key >> 3, message[at : at + size]
        at += size


def _number(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for position in range(_LONGEST):
        if at + position >= len(message):
            break
        byte = message[at + position]
        value |= (byte & 0x7F) << (7 * position)
        if not byte & _MORE_FOLLOW:
            return value, at + position + 1
    raise ProtobufError


_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}  # fmt: skip
"""Message -> number of a field -> message in it, of those on the way to external data.

Source: https://github.com/onnx/onnx/blob/v1.19.0/onnx/onnx.proto3
"""

_KEY, _VALUE, _LOCATION = 1, 2, b"location"
_OWN_FORMAT = b"ORTM"  # onnxruntime recognises its own files by it, which are no protocol buffers


def refuse_outside(path: Path) -> None:
    """Refuse tensors in files outside the folder, which older versions of onnxruntime would read.

    Parameters
    ----------
    path : path of an ONNX file; onnxruntime itself reports an absent or empty file

    Raises
    ------
    WeightsUnreadable
        A tensor lies outside, also by a link, or the file cannot be read or is malformed.
    """
    try:
        if not path.is_file() or not path.stat().st_size:
            return
        content = memoryview(np.memmap(path, np.uint8, mode="r"))  # type: ignore[arg-type]
        if bytes(content[4:8]) == _OWN_FORMAT:
            raise WeightsUnreadable(path, "onnx", "it is in onnxruntime's own format")
        named = locations(content)
        outside = next((n for n in named if leaves(n) or _leads_out(path, n)), None)
    except (ProtobufError, OSError) as why:
        raise WeightsUnreadable(path, "onnx", str(why)) from why
    if outside is not None:
        raise WeightsUnreadable(path, "onnx", f"it takes a tensor from '{outside}'")


def locations(model: memoryview) -> Iterator[str]:
    """Yield the locations of tensors that are not in the file itself, as they are written.

    Parameters
    ----------
    model : a ``ModelProto``

    Raises
    ------
    ProtobufError
        It is none.
    """
    left = [("Model", model)]  # networks may be nested to any depth
    while left:
        kind, message = left.pop()
        if kind == "Entry":
            entry = [(number, bytes(content)) for number, content in members(message)]
            if (_KEY, _LOCATION) in entry:
                yield from (word.decode("utf-8", "replace") for n, word in entry if n == _VALUE)
            continue
        known = _MESSAGES[kind]
        left += [(known[n], content) for n, content in members(message) if n in known]


def leaves(location: str) -> bool:
    """Tell whether a relative path leaves its folder on any operating system."""
    windows = PureWindowsPath(location)  # it splits at both kinds of slashes
    return bool(windows.anchor) or PurePosixPath(location).is_absolute() or ".." in windows.parts


def _leads_out(model: Path, location: str) -> bool:
    """Tell whether a path is a link out of the folder, or cannot be the path of a file."""
    try:
        return not (model.parent / location).resolve().is_relative_to(model.parent.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL byte, too long, or circular links
        return True
