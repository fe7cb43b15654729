"""Run networks in SavedModels with TensorFlow; no other module imports it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.predict.backend import (
    CPU,
    Arrived,
    Device,
    LoadRequest,
    NetworkFailed,
    NoBackend,
    OutOfMemory,
    WeightsUnreadable,
    checked_count,
    handed_on,
    only_float32,
    shapes_of,
    torch_beside,
    without_loss,
)
from bmz.predict.frameworks import FRAMEWORKS, quiet
from bmz.predict.graph_code import refuse_host_ops
from bmz.predict.output_order import FORMAT, Named, input_order, output_order, unpacked_bundle

if TYPE_CHECKING:
    import torch

INSTALL = FRAMEWORKS[FORMAT].install

_SIGNATURES = ("serving_default", "serve")
_INTERNAL = "__saved_model"  # prefix of the names of signatures that initialise
_NOISE = ("Graph execution error", "Detected at node", "  File ", "Node: ", "Traceback", "<stack")


def import_tensorflow(weights_format: str = FORMAT) -> ModuleType:
    """Import TensorFlow without its log messages, and keep it from reserving all GPU memory.

    Raises
    ------
    NoBackend
        TensorFlow is absent or broken.
    """
    try:
        with quiet():
            import tensorflow as tf

            gpus = tf.config.list_physical_devices("GPU")
    except (ImportError, OSError, AttributeError) as why:
        reason = f"tensorflow cannot be imported ({why})"
        raise NoBackend(weights_format, reason, INSTALL) from why
    tf.get_logger().setLevel("ERROR")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, enable=True)
        except RuntimeError:  # the GPU is in use already, with the settings of its first use
            break
    module: ModuleType = tf
    return module


def tensorflow_devices() -> tuple[Device, ...]:
    """List the devices that the installed TensorFlow can use, the CPU first.

    Raises
    ------
    NoBackend
        TensorFlow is absent or broken.
    """
    gpus = import_tensorflow().config.list_physical_devices("GPU")
    return (CPU, *(Device("cuda", i) for i, _ in enumerate(gpus)))


def limit_threads(tensorflow: ModuleType, threads: int | None) -> None:
    """Limit the threads of TensorFlow; this has an effect only before its first run."""
    if threads is None:
        return
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # it has already run, and the number of threads is fixed
        return


def round_nothing(tensorflow: ModuleType, device: Device) -> None:
    """Make TensorFlow compute in float32 instead of TF32 on a GPU."""
    if device.kind == "cuda":
        tensorflow.config.experimental.enable_tensor_float_32_execution(enabled=False)


def open_tensorflow(request: LoadRequest) -> TensorflowBackend:
    """Load a SavedModel; `threads` applies to the whole process, as set by its first network.

    Raises
    ------
    NoBackend
        TensorFlow is absent or broken.
    PrecisionUnsupported
        TensorFlow computes as the file states, and another precision was requested.
    WeightsUnreadable, ArchiveRefused
        The bundle is absent, damaged or unsafe, or has no signature that can be called.
    BundleTouchesHost
        The graph does more than compute, such as reading or writing files, and is not trusted.
    TensorCountDiffers, OutputsUnclear
        The inputs or outputs do not match the description.
    """
    refuse_host_ops(request)
    tensorflow = import_tensorflow()
    only_float32(f"tensorflow {tensorflow.__version__}", request)
    limit_threads(tensorflow, request.threads)
    round_nothing(tensorflow, request.device)
    with unpacked_bundle(request.path) as folder:
        try:
            with quiet(), tensorflow.device(placed(request.device)):
                loaded = tensorflow.saved_model.load(str(folder))
        except tensorflow.errors.ResourceExhaustedError as why:
            raise OutOfMemory(request.device, "its weights alone") from why
        except Exception as why:  # its errors share no other base
            raise WeightsUnreadable(request.path, FORMAT, why_words(why)) from why
    return TensorflowBackend(tensorflow, loaded, request)


class SavedModel(Protocol):
    """The result of ``tensorflow.saved_model.load``."""

    @property
    def signatures(self) -> Mapping[str, Any]:
        """The functions that can be called, by name."""


class TensorSpec(Protocol):
    """An input or output as described by TensorFlow: a ``TensorShape`` and a ``DType``."""

    shape: Any
    dtype: Any


class TensorflowBackend:
    """One signature of a SavedModel.

    Parameters
    ----------
    tensorflow : the module
    loaded : the result of ``tensorflow.saved_model.load``
    request : the request that it was opened with
    """

    def __init__(self, tensorflow: ModuleType, loaded: SavedModel, request: LoadRequest) -> None:
        self.name = f"tensorflow {tensorflow.__version__}"
        self.device = request.device
        self._tensorflow = tensorflow
        self._loaded: SavedModel | None = loaded  # a function does not keep its weights alive
        self._call: Any = loaded.signatures[_signature(list(loaded.signatures), request.path)]
        takes = self._call.structured_input_signature[1]
        self._inputs = [(name, takes[name]) for name in input_order(list(takes), request)]
        gives = self._call.structured_outputs
        named = [Named(name, _shape(tensor)) for name, tensor in gives.items()]
        self._outputs = output_order(named, request)

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once; see `Backend`."""
        with self._failures(inputs):
            return [output.numpy() for output in self._called(inputs)]

    def tensor_library(self) -> ModuleType | None:
        """Return PyTorch if it can use the same CUDA device, else None; see `OnTensors`."""
        return torch_beside(self.device)

    def submit_there(self, inputs: Sequence[AnyArray]) -> Arrived:
        """Run the network once, with its outputs left on the device; see `StaysThere`.

        They are passed to PyTorch via DLPack, which waits until they are computed.
        """
        start = time.perf_counter()
        with self._failures(inputs):
            tensors = [self._tensor(output) for output in self._called(inputs)]
        return Arrived(tensors, time.perf_counter() - start)

    def collect_there(self, ticket: Arrived) -> list[torch.Tensor]:
        """Return the outputs of a run; see `StaysThere`."""
        return ticket.tensors

    def computed_s(self, ticket: Arrived) -> float:
        """Return the seconds of a run, including the transfer to the device; see `StaysThere`."""
        return ticket.took_s

    def _tensor(self, output: Any) -> torch.Tensor:  # noqa: ANN401  (TensorFlow has no types)
        truth, tensorflow = output.dtype == self._tensorflow.bool, self._tensorflow
        plain = tensorflow.cast(output, tensorflow.uint8) if truth else output
        capsule = tensorflow.experimental.dlpack.to_dlpack(plain)
        return handed_on(capsule, truth=truth)

    def _called(self, inputs: Sequence[AnyArray]) -> list[Any]:
        """Return the outputs as TensorFlow tensors, in the order of the description."""
        checked_count("inputs", expected=len(self._inputs), actual=len(inputs))
        if self._call is None:
            raise NetworkFailed(self.name, shapes_of(inputs), "the backend is closed")
        feed = {
            name: self._fed(array, name, takes)
            for array, (name, takes) in zip(inputs, self._inputs, strict=True)
        }
        with self._tensorflow.device(placed(self.device)):
            tensors = {name: self._tensorflow.constant(a) for name, a in feed.items()}
            outputs = self._call(**tensors)
            return [outputs[name] for name in self._outputs]

    @contextmanager
    def _failures(self, inputs: Sequence[AnyArray]) -> Iterator[None]:
        errors = self._tensorflow.errors
        try:
            yield
        except BmzError:
            raise
        except (errors.ResourceExhaustedError, MemoryError) as why:
            raise OutOfMemory(self.device, shapes_of(inputs)) from why
        except (errors.OpError, ValueError, TypeError) as why:
            raise NetworkFailed(self.name, shapes_of(inputs), why_words(why)) from why

    def close(self) -> None:
        """Free the network."""
        self._call = self._loaded = None

    def _fed(self, array: AnyArray, name: str, takes: TensorSpec) -> AnyArray:
        # a wrong number of axes would end the whole process in convolutions of TensorFlow 2.21
        if not takes.shape.is_compatible_with(array.shape):
            why = f"its input '{name}' has the shape {takes.shape}"
            raise NetworkFailed(self.name, shapes_of([array]), why)
        return native(without_loss(array, np.dtype(takes.dtype.as_numpy_dtype), name))


def placed(device: Device) -> str:
    """Return the name of a device in TensorFlow.

    Examples
    --------
    >>> placed(Device("cuda", 1))
    '/GPU:1'
    """
    return f"/GPU:{device.index}" if device.kind == "cuda" else "/CPU:0"


def native(array: AnyArray) -> AnyArray:
    """Return the array in native byte order and contiguous; it is copied only if needed."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def why_words(why: Exception) -> str:
    """Return the line of a TensorFlow error that states the cause, without its traceback."""
    lines = [line for line in str(why).splitlines() if line.strip()]
    telling = [line.strip() for line in lines if not line.startswith(_NOISE)]
    return (telling or [type(why).__name__])[0]


def _signature(names: list[str], path: Path) -> str:
    callable_ = [name for name in names if not name.startswith(_INTERNAL)]
    for name in _SIGNATURES:
        if name in callable_:
            return name
    if len(callable_) != 1:
        shown = ", ".join(sorted(callable_)) or "none"
        raise WeightsUnreadable(
            path, FORMAT, f"none of its signatures ({shown}) is serving_default"
        )
    return callable_[0]


def _shape(tensor: TensorSpec) -> tuple[int | None, ...] | None:
    return None if tensor.shape.rank is None else tuple(tensor.shape)
