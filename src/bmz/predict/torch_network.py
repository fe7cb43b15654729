"""Run networks with PyTorch, however they were loaded."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import IMAGE_AXES
from bmz.base.errors import BmzError, not_none
from bmz.base.values import dataclass
from bmz.predict.backend import (
    CPU,
    Device,
    LoadRequest,
    NetworkFailed,
    NoBackend,
    OutOfMemory,
    Precision,
    PrecisionUnsupported,
    TensorCountDiffers,
    checked_count,
    shapes_of,
)
from bmz.predict.frameworks import FRAMEWORKS

if TYPE_CHECKING:
    import torch

INSTALL = FRAMEWORKS["torchscript"].install

_MEMORY_WORDS = (
    "can't allocate memory", "not enough memory", "out of memory", "alloc_failed",
    "unable to find a valid cudnn algorithm",  # none whose workspace fits
)  # fmt: skip
_IMAGES = 4  # axes of a batch of images with channels
_LAYOUT_WORDS = "view size is not compatible"


def import_torch() -> ModuleType:
    """Import PyTorch.

    Raises
    ------
    NoBackend
        PyTorch is not installed or is broken.
    """
    try:
        import torch
    except (ImportError, OSError) as why:
        raise NoBackend("torchscript", f"torch cannot be imported ({why})", INSTALL) from why
    return torch


def torch_devices() -> tuple[Device, ...]:
    """List the devices that the installed PyTorch can use, the CPU first.

    Raises
    ------
    NoBackend
        PyTorch is not installed or is broken.
    """
    torch = import_torch()
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = (Device("mps"),) if torch.backends.mps.is_available() else ()
    return (CPU, *(Device("cuda", i) for i in range(cuda)), *mps)


def torch_precisions(device: Device) -> tuple[Precision, ...]:
    """List the precisions in which PyTorch computes on a device, float32 first."""
    if device.kind == "cuda":
        with import_torch().cuda.device(device.index):
            # an older GPU emulates bfloat16, which is slower than float32
            if not import_torch().cuda.is_bf16_supported(including_emulation=False):
                return ("float32", "float16")
    return ("float32", "bfloat16", "float16")


def weighed_precisions(device: Device) -> tuple[Precision, ...]:
    """List the precisions to choose from: on a CPU only float32, as bfloat16 gains little there."""
    return ("float32",) if device.kind == "cpu" else torch_precisions(device)


def torch_hardware(device: Device) -> str:
    """Return the manufacturer's name of a CUDA device, or the kind of any other device."""
    if device.kind != "cuda":
        return str(device)
    name: str = import_torch().cuda.get_device_name(device.index)
    return name


def ready_torch(request: LoadRequest) -> ModuleType:
    """Import PyTorch, and set the number of threads and true float32 for the whole process.

    Raises
    ------
    NoBackend, PrecisionUnsupported
    """
    torch = import_torch()
    if request.precision not in torch_precisions(request.device):
        raise PrecisionUnsupported("torch", request.device, request.precision)
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    round_nothing(torch, request.device)
    return torch


def round_nothing(torch: ModuleType, device: Device) -> None:
    """Make PyTorch compute in float32 on CUDA instead of TF32, which has a 10-bit fraction."""
    if device.kind == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


@dataclass(frozen=True)
class CudaTimes:
    """Positions in the queue of a CUDA device: before a run, after it, and after its transfer."""

    began: torch.cuda.Event
    computed: torch.cuda.Event
    arrived: torch.cuda.Event


@dataclass
class Ticket:
    """Outputs that may still be in transfer to host memory.

    Parameters
    ----------
    took_s : seconds for which this process has waited for them
    times : events of a CUDA device, which measures by itself how long it computed
    """

    shapes: str
    tensors: list[torch.Tensor]
    took_s: float = 0.0
    times: CudaTimes | None = None


class TorchBackend:
    """One PyTorch network in evaluation mode.

    Images (four axes) and weights are laid out channels-last, which is 1.4 to 1.6 times faster on a
    CPU, and 1.1 times on CUDA in lower precision. In float32 on CUDA, where it is 1.8 times slower
    (H200), and for networks that cannot use this layout, they are contiguous instead. On CUDA,
    arrays are transferred through pinned memory while the processor continues.

    Parameters
    ----------
    network : the network, on its device
    request : the request that it was opened with
    around : returns the context manager in which the network computes
    """

    def __init__(
        self,
        network: torch.nn.Module,
        request: LoadRequest,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._around = around
        self._torch = import_torch()
        self.name = f"torch {self._torch.__version__}"
        self.device, self.precision = request.device, request.precision
        kind = request.device.kind
        self._cuda = kind == "cuda"
        plain = kind == "mps" or (self._cuda and request.precision == "float32")
        layouts = self._torch.contiguous_format, self._torch.channels_last
        self._layout = layouts[0] if plain else layouts[1]
        self._network: torch.nn.Module | None = network
        self._lay_out(network)
        self._input_count, self._output_ids = len(request.input_ids), request.output_ids
        self._gives_objects = any(set(axes) - {"b", *IMAGE_AXES} for axes in request.output_axes)

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once; see `Backend`."""
        return self.collect(self.submit(inputs))

    def submit(self, inputs: Sequence[AnyArray]) -> Ticket:
        """Start the network; see `Overlapping`."""
        return self._begun(inputs, stays=False)

    def submit_there(self, inputs: Sequence[AnyArray]) -> Ticket:
        """Start the network, whose outputs stay on its device; see `StaysThere`."""
        return self._begun(inputs, stays=True)

    def _begun(self, inputs: Sequence[AnyArray], *, stays: bool) -> Ticket:
        checked_count("inputs", expected=self._input_count, actual=len(inputs))
        shapes, start = shapes_of(inputs), time.perf_counter()
        with self._failures(shapes):
            began = self._event()
            outputs = self._run(inputs)
            if len(outputs) < len(self._output_ids):
                expected = len(self._output_ids)
                raise TensorCountDiffers("outputs", expected=expected, actual=len(outputs))
            outputs = outputs[: len(self._output_ids)]
            ticket = self._ticket(shapes, outputs, began, stays=stays)
        ticket.took_s = time.perf_counter() - start
        return ticket

    def collect(self, ticket: Ticket) -> list[AnyArray]:
        """Wait for outputs; see `Overlapping`."""
        with self._failures(ticket.shapes):
            return [tensor.cpu().numpy() for tensor in self.collect_there(ticket)]

    def collect_there(self, ticket: Ticket) -> list[torch.Tensor]:
        """Wait for outputs, on whichever device they are; see `StaysThere`."""
        start = time.perf_counter()
        with self._failures(ticket.shapes):
            if ticket.times is not None:
                ticket.times.arrived.synchronize()
        ticket.took_s += time.perf_counter() - start
        return ticket.tensors

    def computed_s(self, ticket: Ticket) -> float:
        """Return the seconds of a run, on CUDA as measured by the device; see `Overlapping`."""
        if ticket.times is None:
            return ticket.took_s
        took_ms: float = ticket.times.began.elapsed_time(ticket.times.computed)
        return took_ms / 1000

    def tensor_library(self) -> ModuleType | None:
        """Return PyTorch on a CUDA device; see `OnTensors`."""
        return self._torch if self._cuda else None

    def close(self) -> None:
        """Free the network."""
        self._network = None
        self._let_go()

    @contextmanager
    def _failures(self, shapes: str) -> Iterator[None]:
        try:
            yield
        except BmzError:
            raise
        except Exception as why:  # the code of a state dict may raise anything
            words = str(why).lower()
            if isinstance(why, MemoryError) or any(word in words for word in _MEMORY_WORDS):
                self._let_go()
                raise OutOfMemory(self.device, shapes) from why
            raise NetworkFailed(self.name, shapes, last_line(why)) from why

    def _run(self, inputs: Sequence[AnyArray]) -> list[torch.Tensor]:
        try:
            return self._forward(inputs)
        except RuntimeError as why:
            if self._layout == self._torch.contiguous_format or _LAYOUT_WORDS not in str(why):
                raise
        self._layout = self._torch.contiguous_format
        if self._network is not None:
            self._lay_out(self._network)
        return self._forward(inputs)

    def _lay_out(self, network: torch.nn.Module) -> None:
        # not network.to(memory_format=...), which fails on the weights of 3-D convolutions; and not
        # contiguous(), which keeps tensors of one channel as they are, 12 % slower in convolutions
        for tensor in tensors_of(network):
            if tensor.ndim == _IMAGES:
                tensor.data = tensor.data.to(memory_format=self._layout)

    def _forward(self, inputs: Sequence[AnyArray]) -> list[torch.Tensor]:
        if self._network is None:
            raise RuntimeError("the backend is closed")
        lower = self.precision != "float32"
        dtype = getattr(self._torch, self.precision) if lower else None
        with (
            self._around(),
            self._torch.inference_mode(),
            self._torch.autocast(self.device.kind, dtype, enabled=lower),
        ):
            again = self._gives_objects or not all(array.size for array in inputs)
            network = unused_copy(self._network) if again else self._network
            return self._flat(network(*[self._tensor(array) for array in inputs]))

    def _tensor(self, array: AnyArray) -> torch.Tensor | None:
        if not array.size:
            return None
        # a copy: networks may work in place, and PyTorch accepts neither foreign byte order nor
        # negative strides
        if self._cuda:
            dtype = getattr(self._torch, array.dtype.name)
            host: torch.Tensor = self._torch.empty(array.shape, dtype=dtype, pin_memory=True)
            np.copyto(host.numpy(), array)
            tensor = host.to(str(self.device), non_blocking=True)
        else:
            native = np.array(array, array.dtype.newbyteorder("="), order="C")
            tensor = self._torch.from_numpy(native).to(str(self.device))
        return tensor.to(memory_format=self._layout) if tensor.ndim == _IMAGES else tensor

    def _ticket(
        self,
        shapes: str,
        outputs: list[torch.Tensor],
        began: torch.cuda.Event | None,
        *,
        stays: bool,
    ) -> Ticket:
        halves = (
            self._torch.bfloat16,
            self._torch.float16,
        )  # NumPy has no bfloat16, and float16 overflows
        with self._torch.inference_mode():
            whole = [t.float() if t.dtype in halves else t for t in outputs]
            computed = self._event()
            if began is None or computed is None:
                return Ticket(shapes, whole)
            if stays:
                return Ticket(shapes, whole, times=CudaTimes(began, computed, computed))
            tensors = [self._on_host(tensor.contiguous()) for tensor in whole]
        arrived = not_none(self._event())
        return Ticket(shapes, tensors, times=CudaTimes(began, computed, arrived))

    def _event(self) -> torch.cuda.Event | None:
        """Record the position in the queue of a CUDA device; return None for other devices."""
        if not self._cuda:
            return None
        event: torch.cuda.Event = self._torch.cuda.Event(enable_timing=True)
        event.record(self._torch.cuda.current_stream(self.device.index))
        return event

    def _on_host(self, tensor: torch.Tensor) -> torch.Tensor:
        host = self._torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        filled: torch.Tensor = host.copy_(tensor, non_blocking=True)
        return filled

    def _flat(self, result: object) -> list[torch.Tensor]:
        if isinstance(result, self._torch.Tensor):
            return [result]
        if isinstance(result, dict):
            named = set(self._output_ids) <= set(result)
            result = [result[key] for key in (self._output_ids if named else result)]
        if isinstance(result, list | tuple):
            return [tensor for part in result for tensor in self._flat(part)]
        raise TypeError(f"an output is a {type(result).__name__}, not a tensor")

    def _let_go(self) -> None:
        if self._cuda:
            self._torch.cuda.empty_cache()


def unused_copy(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a network that has never run; it shares the tensors.

    A network that returns objects, or one that is not given all its inputs, may remember earlier
    inputs: micro-sam's ``PredictorAdaptor`` stores its result for the first image, and uses it for
    all others.
    """
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors_of(network)})


def tensors_of(network: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Yield all parameters and buffers, including those of the networks in `held_networks`."""
    for part in (network, *held_networks(network)):
        yield from part.parameters()
        yield from part.buffers()


def held_networks(network: torch.nn.Module) -> tuple[torch.nn.Module, ...]:
    """Return the networks that plain objects in a network hold, which PyTorch does not register.

    For example, micro-sam's ``PredictorAdaptor`` holds its network in a ``SamPredictor``: PyTorch
    does not count its parameters among those of the whole, nor move it to a device.
    """
    module = import_torch().nn.Module
    own = set(map(id, network.modules()))
    held: list[torch.nn.Module] = []
    seen, rest = set(own), [value for part in network.modules() for value in vars(part).values()]
    while rest:
        value = rest.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, module):
            held.append(value)
            seen |= set(map(id, value.modules()))
        elif isinstance(value, list | tuple | set):
            rest += value
        elif isinstance(value, dict):
            rest += value.values()
        elif not isinstance(value, type | ModuleType) and hasattr(value, "__dict__"):
            rest += vars(value).values()
    return tuple(held)


def last_line(why: BaseException) -> str:
    """Return the last line of an error; earlier lines may be source code of the network."""
    return str(why).strip().rpartition("\n")[2] or type(why).__name__
