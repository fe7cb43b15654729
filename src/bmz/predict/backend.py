"""What a backend is: one network in one framework on one device, from arrays to arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.spec.model import Architecture

_WORDS = 300  # of a framework's own message; some print their whole graph


class OutOfMemory(CouldNotTell):
    """The memory of the device does not hold what the network needs for one run."""

    def __init__(self, device: Device, shapes: str) -> None:
        super().__init__(
            f"the memory of {device} does not hold the network's work on {shapes}",
            hint="a smaller tile (--tile), a smaller batch (--batch) or another --device",
            code="predict.out-of-memory",
        )


class NetworkFailed(CouldNotTell):
    """The framework stopped while it ran the network."""

    def __init__(self, backend: str, shapes: str, why: str) -> None:
        super().__init__(
            f"the network failed in {backend} on {shapes}: {why[:_WORDS]}",
            hint="'bmz test MODEL' tells whether it runs on its own test input",
            code="predict.network-failed",
        )


class TensorCountDiffers(CouldNotTell):
    """The network has another number of inputs or outputs than its description."""

    def __init__(self, which: str, *, wanted: int, found: int) -> None:
        super().__init__(
            f"the network has {found} {which}, but its description names {wanted}",
            hint="the description is at fault; tell the model's authors",
            code="predict.tensor-count",
        )


class DtypeLossy(CouldNotTell):
    """An input cannot become the dtype that the network takes without a change of its values."""

    def __init__(self, tensor: str, found: np.dtype[Any], wanted: np.dtype[Any]) -> None:
        super().__init__(
            f"the network takes {wanted} as input '{tensor}', and its {found} values change when "
            f"cast to it",
            hint="the description must cast on purpose (ensure_dtype); tell the model's authors",
            code="predict.dtype-lossy",
        )


class WeightsUnreadable(CouldNotTell):
    """A file of weights is absent, corrupt or not of its format."""

    def __init__(self, path: Path, weights_format: str, why: str) -> None:
        super().__init__(
            f"'{path}' cannot be read as {weights_format} weights: {why[:_WORDS]}",
            hint="'bmz cache verify' finds damaged files; else choose other --weights",
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
    """The framework does not compute in the wanted precision on the device."""

    def __init__(self, framework: str, device: Device, wanted: Precision) -> None:
        super().__init__(
            f"{framework} does not run this network in {wanted} on {device}",
            hint="--precision auto or float32, or weights of another format",
            code="precision.unsupported",
        )


@dataclass(frozen=True)
class Device:
    """Where a network runs.

    Parameters
    ----------
    kind : ``mps`` is the GPU of an Apple computer
    index : which of several CUDA devices
    """

    kind: Literal["cpu", "cuda", "mps"]
    index: int = 0

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind


CPU = Device("cpu")

Precision = Literal["float32", "bfloat16", "float16"]
"""Of the arithmetic inside a network."""


@dataclass(frozen=True)
class LoadRequest:
    """What a backend is opened with.

    Parameters
    ----------
    path : the file; files that belong to it lie beside it
    input_ids, output_ids : the tensors of the description, in its order
    device : where to run
    threads : on a CPU, how many at most; None for as many as the process may use
    precision : of the arithmetic; inputs and outputs keep their dtype
    architecture : what builds the network of a state dict
    strict : every tensor of a state dict must have its place in the network, and the reverse
    output_axes : letters of the axes of each output; empty where they are not known
    output_channels : size of the axis ``c`` of each output; None where it is not fixed
    trusted : the user lets this model run code of its own
    output_names : the network's own names of the outputs, where they are known to be other ones
        than `output_ids` and which is which was found out; empty where not
    manifest, weights_format : for a runtime that reads the description itself
    """

    path: Path
    input_ids: tuple[str, ...]
    output_ids: tuple[str, ...]
    device: Device = CPU
    threads: int | None = None
    precision: Precision = "float32"
    architecture: Architecture | None = None
    strict: bool = True
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
        """Give the name of the framework and its version."""

    @property
    def device(self) -> Device:
        """Give the device that it runs on."""

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once.

        Parameters
        ----------
        inputs : one array for each input of the description, in its order; left as they are

        Returns
        -------
        list
            One array for each output of the description, in its order. Outputs that the network
            has beyond these are left out.

        Raises
        ------
        OutOfMemory, NetworkFailed, TensorCountDiffers, DtypeLossy
        """

    def close(self) -> None:
        """Let go of the memory; a second time does nothing."""


Ticket = TypeVar("Ticket")


@runtime_checkable
class Overlapping(Protocol[Ticket]):
    """A backend that can compute while the next inputs are prepared; its `run` is both halves."""

    def submit(self, inputs: Sequence[AnyArray]) -> Ticket:
        """Start what `run` does, and give a ticket for its outputs."""

    def collect(self, ticket: Ticket) -> list[AnyArray]:
        """Wait for the outputs of a ticket; each ticket is collected once, in any order."""


def only_float32(framework: str, request: LoadRequest) -> None:
    """Refuse another precision, for a framework that computes as the file says.

    Raises
    ------
    PrecisionUnsupported
    """
    if request.precision != "float32":
        raise PrecisionUnsupported(framework, request.device, request.precision)


def shapes_of(arrays: Sequence[AnyArray]) -> str:
    """Word the shapes of arrays for a message.

    Examples
    --------
    >>> shapes_of([np.zeros((1, 2, 8, 8), np.float32)])
    'float32 1x2x8x8'
    """
    return ", ".join(f"{a.dtype} {'x'.join(map(str, a.shape))}" for a in arrays)


def without_loss(array: AnyArray, wanted: np.dtype[Any], tensor: str) -> AnyArray:
    """Cast `array` to the dtype `wanted`, when that changes none of its values.

    Parameters
    ----------
    array : any shape and dtype
    wanted : what the network takes
    tensor : the id of the input, for the message

    Raises
    ------
    DtypeLossy
        A value would change.
    """
    if array.dtype == wanted:
        return array
    with np.errstate(all="ignore"):
        cast = array.astype(wanted)
        if np.can_cast(array.dtype, wanted):
            return cast
        back = cast.astype(array.dtype)
    # the way back alone would let int8 -1 pass as uint8 255
    if not all(np.array_equal(other, array, equal_nan=True) for other in (cast, back)):
        raise DtypeLossy(tensor, array.dtype, wanted)
    return cast


def checked_count(which: str, *, wanted: int, found: int) -> None:
    """Refuse a count of tensors other than the description's.

    Raises
    ------
    TensorCountDiffers
    """
    if wanted != found:
        raise TensorCountDiffers(which, wanted=wanted, found=found)
