"""Networks in TorchScript files, run by PyTorch; the only module that imports it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.predict.backend import (
    CPU,
    Device,
    NetworkFailed,
    NoBackend,
    OutOfMemory,
    TensorCountDiffers,
    Weights,
    WeightsUnreadable,
    checked_count,
    shapes_of,
)
from bmz.predict.frameworks import FRAMEWORKS

if TYPE_CHECKING:
    import torch

INSTALL = FRAMEWORKS["torchscript"].install

_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed")
_IMAGES = 4  # axes of a batch of images with channels
_LAYOUT_WORDS = "view size is not compatible"


def torch_devices() -> tuple[Device, ...]:
    """List the devices that the installed PyTorch can use, the CPU first.

    Raises
    ------
    NoBackend
        PyTorch is absent or broken.
    """
    torch = _torch()
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = (Device("mps"),) if torch.backends.mps.is_available() else ()
    return (CPU, *(Device("cuda", i) for i in range(cuda)), *mps)


def open_torchscript(weights: Weights) -> TorchBackend:
    """Load a TorchScript file; `threads` is then a setting of the whole process, as in PyTorch.

    Raises
    ------
    NoBackend
        PyTorch is absent or broken.
    WeightsUnreadable
        The file is absent, corrupt or no TorchScript file.
    """
    torch = _torch()
    if weights.threads is not None:
        torch.set_num_threads(weights.threads)
    try:
        with warnings.catch_warnings():
            # the zoo has TorchScript files; that PyTorch wants other ones helps nobody here
            warnings.filterwarnings("ignore", r".*torch\.jit\.load.* is deprecated")
            network = torch.jit.load(str(weights.path), map_location=str(weights.device))
    except (RuntimeError, ValueError, OSError) as why:
        raise WeightsUnreadable(weights.path, "torchscript", _first_line(why)) from why
    return TorchBackend(network.eval(), weights)


class TorchBackend:
    """One PyTorch network in evaluation mode.

    On a CPU, images (four axes) and weights are laid out channels-last, which is 1.4 to 1.6 times
    faster; a network that cannot take it gets them as they are.

    Parameters
    ----------
    network : on its device
    weights : what it was opened with
    """

    def __init__(self, network: torch.nn.Module, weights: Weights) -> None:
        self._torch = _torch()
        self.name = f"torch {self._torch.__version__}"
        self.device = weights.device
        on_cpu = weights.device.kind == "cpu"
        self._layout = self._torch.channels_last if on_cpu else self._torch.contiguous_format
        self._network: torch.nn.Module | None = network
        self._lay_out(network)
        self._input_count, self._output_ids = len(weights.input_ids), weights.output_ids

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once; see `Backend`."""
        checked_count("inputs", wanted=self._input_count, found=len(inputs))
        try:
            found = self._run(inputs)
        except (RuntimeError, TypeError, ValueError) as why:
            if any(word in str(why).lower() for word in _MEMORY_WORDS):
                self._let_go()
                raise OutOfMemory(self.device, shapes_of(inputs)) from why
            raise NetworkFailed(self.name, shapes_of(inputs), _last_line(why)) from why
        if len(found) < len(self._output_ids):
            raise TensorCountDiffers("outputs", wanted=len(self._output_ids), found=len(found))
        return found[: len(self._output_ids)]

    def close(self) -> None:
        """Let go of the network."""
        self._network = None
        self._let_go()

    def _run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
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
        # not network.to(memory_format=...), which stops at the weights of 3-D convolutions
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.ndim == _IMAGES:
                tensor.data = tensor.data.contiguous(memory_format=self._layout)

    def _forward(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        if self._network is None:
            raise RuntimeError("the backend is closed")
        with self._torch.inference_mode():
            tensors = [self._tensor(array) for array in inputs]
            return [_array(t) for t in self._flat(self._network(*tensors))]

    def _tensor(self, array: AnyArray) -> torch.Tensor:
        # a copy: networks may work in place, and PyTorch takes neither foreign byte order nor
        # negative strides
        native = np.array(array, array.dtype.newbyteorder("="), order="C")
        tensor: torch.Tensor = self._torch.from_numpy(native).to(str(self.device))
        return tensor.contiguous(memory_format=self._layout) if tensor.ndim == _IMAGES else tensor

    def _flat(self, found: Any) -> list[torch.Tensor]:  # noqa: ANN401  (whatever a network returns)
        if isinstance(found, self._torch.Tensor):
            return [found]
        if isinstance(found, dict):
            named = set(self._output_ids) <= set(found)
            found = [found[key] for key in (self._output_ids if named else found)]
        if isinstance(found, list | tuple):
            return [tensor for part in found for tensor in self._flat(part)]
        raise TypeError(f"an output is a {type(found).__name__} and no tensor")

    def _let_go(self) -> None:
        if self.device.kind == "cuda":
            self._torch.cuda.empty_cache()


def _torch() -> Any:  # noqa: ANN401  (a module)
    try:
        import torch
    except (ImportError, OSError) as why:
        raise NoBackend("torchscript", f"torch does not import ({why})", INSTALL) from why
    return torch


def _array(tensor: torch.Tensor) -> AnyArray:
    half = str(tensor.dtype) == "torch.bfloat16"  # NumPy has none
    array: AnyArray = (tensor.float() if half else tensor).cpu().numpy()
    return array


def _first_line(why: Exception) -> str:
    return str(why).strip().partition("\n")[0]


def _last_line(why: Exception) -> str:
    # the first lines are the source of the network
    return str(why).strip().rpartition("\n")[2]
