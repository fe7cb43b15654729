"""Define a backend: one network in one framework on one device, from arrays to arrays."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.base.values import dataclass
from bmz.spec.model import Architecture

if TYPE_CHECKING:
    from torch import Tensor

_WORDS = 300  # maximum length of a framework's own message; some print their whole graph


class OutOfMemory(CouldNotTell):
    """The memory of the device is too small for one run of the network."""

    def __init__(self, device: Device, shapes: str) -> None:
        super().__init__(
            f"{device} does not have enough memory to run the network on {shapes}",
            hint="use a smaller tile (--tile), a smaller batch (--batch) or another --device",
            code="predict.out-of-memory",
        )


class NetworkFailed(CouldNotTell):
    """The framework stopped while it ran the network."""

    def __init__(self, backend: str, shapes: str, why: str) -> None:
        super().__init__(
            f"the network failed in {backend} on {shapes}: {why[:_WORDS]}",
            hint="'bmz test MODEL' shows whether it runs on its own test input",
            code="predict.network-failed",
        )


class TensorCountDiffers(CouldNotTell):
    """The network and its description have different numbers of inputs or outputs."""

    def __init__(self, which: str, *, expected: int, actual: int) -> None:
        super().__init__(
            f"the network has {actual} {which}, but its description names {expected}",
            hint="the description is at fault; tell the model's authors",
            code="predict.tensor-count",
        )


class DtypeLossy(CouldNotTell):
    """An input cannot be cast to the dtype that the network takes without changing its values."""

    def __init__(self, tensor: str, actual: np.dtype[Any], expected: np.dtype[Any]) -> None:
        super().__init__(
            f"the network takes {expected} as input '{tensor}', but the {actual} values change "
            "when cast to it",
            hint="the description must cast explicitly (ensure_dtype); tell the model's authors",
            code="predict.dtype-lossy",
        )


class WeightsUnreadable(CouldNotTell):
    """A weights file is absent, corrupt, or not in the format that it should have."""

    def __init__(self, path: Path, weights_format: str, why: str) -> None:
        super().__init__(
            f"'{path}' cannot be read as {weights_format} weights: {why[:_WORDS]}",
            hint="check for damaged files with 'bmz cache verify', or choose other --weights",
            code="package.weights-unreadable",
        )


class NoBackend(CouldNotTell):
    """The framework that a weights format needs is not installed, or does not import."""

    def __init__(self, weights_format: str, why: str, install: str) -> None:
        super().__init__(
            f"{weights_format} weights cannot run here: {why}",
            hint=install,
            code="weights.no-backend",
        )


class PrecisionUnsupported(CouldNotTell):
    """The framework cannot compute in the requested precision on the device."""

    def __init__(self, framework: str, device: Device, precision: Precision) -> None:
        super().__init__(
            f"{framework} cannot run this network in {precision} on {device}",
            hint="use --precision auto or float32, or weights in another format",
            code="precision.unsupported",
        )


@dataclass(frozen=True)
class Device:
    """Where a network runs.

    Parameters
    ----------
    kind : ``mps`` is the GPU of an Apple computer
    index : number of the CUDA device, where there are several
    """

    kind: Literal["cpu", "cuda", "mps"]
    index: int = 0

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind


CPU = Device("cpu")

Precision = Literal["float32", "bfloat16", "float16"]
"""Precision of the arithmetic inside a network."""


@dataclass(frozen=True)
class LoadRequest:
    """Everything that a backend needs to open a network.

    Parameters
    ----------
    path : the weights file; files that belong to it are in the same folder
    input_ids, output_ids : ids of the tensors in the description, in its order
    device : where the network runs
    threads : largest number of threads on a CPU; None for all that the process may use
    precision : precision of the arithmetic; inputs and outputs keep their dtype
    backend : the framework; empty for the one to which the format of the weights belongs
    kept : path prefix of the files in which a framework may cache what it builds from the weights
        for later processes; None to cache nothing
    architecture : the code that builds the network of a state dict
    strict : every tensor of a state dict must match one of the network, and vice versa
    input_axes, output_axes : letters of the axes of each input and output; empty if they are not
        known
    output_channels : size of the axis ``c`` of each output; None if it is not fixed
    trusted : the user allows this model to run its own code
    output_names : the network's own names of the outputs, in the order of `output_ids`, if they
        differ from the ids and were matched to them; otherwise empty
    manifest, weights_format : for a runtime that reads the model description itself
    """

    path: Path
    input_ids: tuple[str, ...]
    output_ids: tuple[str, ...]
    device: Device = CPU
    threads: int | None = None
    precision: Precision = "float32"
    backend: str = ""
    kept: Path | None = None
    architecture: Architecture | None = None
    strict: bool = True
    input_axes: tuple[str, ...] = ()
    output_axes: tuple[str, ...] = ()
    output_channels: tuple[int | None, ...] = ()
    trusted: bool = False
    output_names: tuple[str, ...] = ()
    manifest: Path | None = None
    weights_format: str = ""


class Backend(Protocol):
    """One loaded network."""

    @property
    def name(self) -> str:
        """Return the name of the framework and its version."""

    @property
    def device(self) -> Device:
        """Return the device that the network runs on."""

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once.

        Parameters
        ----------
        inputs : one array per input of the description, in its order; they are not changed

        Returns
        -------
        list
            One array per output of the description, in its order. Further outputs of the network
            are omitted.

        Raises
        ------
        OutOfMemory, NetworkFailed, TensorCountDiffers, DtypeLossy
        """

    def close(self) -> None:
        """Free the memory; a second call does nothing."""


Ticket = TypeVar("Ticket")


@runtime_checkable
class Overlapping(Protocol[Ticket]):
    """A backend that can compute while the next inputs are prepared; `run` does both steps."""

    def submit(self, inputs: Sequence[AnyArray]) -> Ticket:
        """Start a run, and return a ticket for its outputs."""

    def collect(self, ticket: Ticket) -> list[AnyArray]:
        """Wait for the outputs of a ticket; each ticket is collected once, in any order."""

    def computed_s(self, ticket: Ticket) -> float:
        """Return the seconds in which the device computed for a ticket that was collected."""


@runtime_checkable
class OnTensors(Protocol):
    """A backend that lets PyTorch do other work on the GPU that runs the network."""

    def tensor_library(self) -> ModuleType | None:
        """Return PyTorch if it can use the CUDA device that runs the network, else None."""


@runtime_checkable
class StaysThere(Protocol[Ticket]):
    """A backend whose outputs can stay on its device, as PyTorch tensors."""

    def submit_there(self, inputs: Sequence[AnyArray]) -> Ticket:
        """Start a run, and return a ticket for its outputs."""

    def collect_there(self, ticket: Ticket) -> list[Tensor]:
        """Wait for the outputs of a ticket, which stay on the device of the backend."""

    def computed_s(self, ticket: Ticket) -> float:
        """Return the seconds in which the device computed for a ticket that was collected."""


@dataclass(frozen=True)
class Arrived:
    """Outputs of a finished run; see `StaysThere`.

    Parameters
    ----------
    tensors : one per output
    took_s : seconds from the inputs to the outputs
    """

    tensors: list[Tensor]
    took_s: float


def torch_beside(device: Device) -> ModuleType | None:
    """Return PyTorch if it is installed and can use another framework's CUDA device, else None."""
    if device.kind != "cuda" or find_spec("torch") is None:
        return None
    torch = import_module("torch")
    usable = torch.cuda.is_available() and device.index < torch.cuda.device_count()
    return torch if usable else None


def handed_on(value: Any, *, truth: bool = False) -> Tensor:  # noqa: ANN401  (of any framework)
    """Copy a tensor of another framework, via DLPack, to a PyTorch tensor that owns its memory.

    The other framework may reclaim its memory at any time, even while a copy waits in PyTorch's
    queue. The tensor is therefore copied within device memory, and the copy is awaited.

    Parameters
    ----------
    value : the tensor, or its DLPack capsule
    truth : whether the bytes are Boolean values
    """
    torch = import_module("torch")
    tensor: Tensor = torch.utils.dlpack.from_dlpack(value).clone()
    if tensor.is_cuda:
        torch.cuda.current_stream(tensor.device).synchronize()
    return tensor.bool() if truth else tensor


def only_float32(framework: str, request: LoadRequest) -> None:
    """Raise an error for any precision but float32, for frameworks that compute as the file says.

    Raises
    ------
    PrecisionUnsupported
    """
    if request.precision != "float32":
        raise PrecisionUnsupported(framework, request.device, request.precision)


def shapes_of(arrays: Sequence[AnyArray]) -> str:
    """Format the dtypes and shapes of arrays for a message.

    Examples
    --------
    >>> shapes_of([np.zeros((1, 2, 8, 8), np.float32)])
    'float32 1x2x8x8'
    """
    return ", ".join(f"{a.dtype} {'x'.join(map(str, a.shape))}" for a in arrays)


def without_loss(array: AnyArray, dtype: np.dtype[Any], tensor: str) -> AnyArray:
    """Cast `array` to `dtype` if this changes none of its values.

    Parameters
    ----------
    array : any shape and dtype
    dtype : dtype that the network takes
    tensor : id of the input, for the error message

    Raises
    ------
    DtypeLossy
        A value would change.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
        if np.can_cast(array.dtype, dtype):
            return cast
        back = cast.astype(array.dtype)
    # casting back alone would accept int8 -1 as uint8 255
    if not all(np.array_equal(other, array, equal_nan=True) for other in (cast, back)):
        raise DtypeLossy(tensor, array.dtype, dtype)
    return cast


def checked_count(which: str, *, expected: int, actual: int) -> None:
    """Raise an error unless the number of tensors matches the description.

    Raises
    ------
    TensorCountDiffers
    """
    if expected != actual:
        raise TensorCountDiffers(which, expected=expected, actual=actual)
