"""Tensors of PyTorch, which is handed in: where they lie, and the one way from there to arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.values import dataclass

if TYPE_CHECKING:
    from torch import Tensor

FREE_SHARE = 0.5
"""Of the free memory of a device, what maps or the work on them may take."""


class LeftToProcessor(Exception):
    """Labels are not made where the tensors lie.

    Parameters
    ----------
    why : a clause without its end
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class TensorDecoder:
    """How a recipe makes labels where tensors lie.

    Parameters
    ----------
    label : ``module:function``, imported when it is used. The function takes a `TensorPlace`, and
        then what the recipe's own takes; the map is a tensor that lies there, or an array. It
        gives the same labels, or raises `LeftToProcessor`
    entry_bytes : memory there that its work takes for each place of the map, beside the map
    """

    label: str
    entry_bytes: int


@dataclass
class Transfers:
    """What was copied to the memory of the host, in whatever thread.

    Parameters
    ----------
    copied_bytes : all of it together
    """

    copied_bytes: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, size: int) -> None:
        """Count some more bytes."""
        with self._lock:
            self.copied_bytes += size


def unnoted() -> None:
    """Note nothing."""


@dataclass(frozen=True)
class MapThere:
    """A map that lies where tensors do, of which parts are copied when they are read.

    Parameters
    ----------
    there : where
    tensor : (c, (z,) y, x)
    read : is called before a part is copied
    """

    there: TensorPlace
    tensor: Tensor
    read: Callable[[], None] = unnoted

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the map."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What is read is of this dtype."""
        return np.dtype(np.float32)

    def __getitem__(self, box: Any, /) -> AnyArray:  # noqa: ANN401
        """Copy a part, float32."""
        self.read()
        return self.there.get(self.tensor[box].float())


@dataclass(frozen=True)
class TensorPlace:
    """Where tensors lie.

    Parameters
    ----------
    torch : PyTorch, as imported by whoever runs the network
    device : such as ``cuda:0``
    transfers : counts what is copied from there
    """

    torch: ModuleType
    device: str
    transfers: Transfers = field(default_factory=Transfers)

    def put(self, array: AnyArray) -> Tensor:
        """Copy an array there."""
        tensor: Tensor = self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        return tensor

    def taken(self, output: AnyArray | Tensor) -> Tensor:
        """Give a map that lies there, or copy it there.

        Raises
        ------
        LeftToProcessor
            It is read as it is needed, or holds no floating-point numbers.
        """
        if isinstance(output, self.torch.Tensor):
            tensor: Tensor = output
        elif isinstance(output, np.ndarray) and output.dtype in (np.float32, np.float64):
            tensor = self.put(output)
        elif isinstance(output, np.ndarray):
            raise LeftToProcessor(f"the map holds {output.dtype}")
        else:
            raise LeftToProcessor("the map is resized to the image as it is read")
        if tensor.dtype not in (self.torch.float32, self.torch.float64):
            raise LeftToProcessor(f"the map holds {str(tensor.dtype).removeprefix('torch.')}")
        return tensor

    def get(self, tensor: Tensor) -> AnyArray:
        """Copy a tensor from there, and count its bytes; nothing else copies one to the host."""
        array: AnyArray = tensor.detach().contiguous().cpu().numpy()
        self.transfers.add(array.nbytes)
        return array

    def float32(self, value: float) -> Tensor:
        """Make a divisor: by a plain number PyTorch multiplies with the reciprocal on a GPU."""
        tensor: Tensor = self.torch.full((), value, device=self.device)
        return tensor

    def limit(self, value: float, of: Tensor) -> Tensor:
        """Make what a tensor is compared with: rounded to its dtype, as NumPy rounds it."""
        tensor: Tensor = self.torch.full((), value, dtype=of.dtype, device=self.device)
        return tensor

    def free_bytes(self) -> int | None:
        """Give the memory that is free there; None where nothing tells."""
        if not self.device.startswith("cuda"):
            return None
        cuda: Any = self.torch.cuda
        unused = cuda.memory_reserved(self.device) - cuda.memory_allocated(self.device)
        return int(cuda.mem_get_info(self.device)[0] + unused)

    def lacks(self, size: int) -> str:
        """Say that there is no room for so many bytes, a clause; empty where there is."""
        free = self.free_bytes()
        if free is None or size <= FREE_SHARE * free:
            return ""
        return (
            f"the memory of {self.device} does not hold their work: "
            f"{size / 1e9:.2g} GB of {free / 1e9:.2g} GB that are free"
        )
