"""Open networks in TorchScript files."""

from __future__ import annotations

import warnings
import zipfile

from bmz.base.errors import CouldNotTell
from bmz.predict.backend import Weights, WeightsUnreadable
from bmz.predict.script_calls import host_calls
from bmz.predict.torch_network import TorchBackend, ready_torch


class ScriptTouchesHost(CouldNotTell):
    """A TorchScript network would do more than compute."""

    def __init__(self, weights: Weights, calls: tuple[str, ...]) -> None:
        super().__init__(
            f"the network in '{weights.path.name}' does more than compute: {', '.join(calls)}",
            hint="only if you trust its authors: allow it to run its own code with --trust",
            code="package.runs-code",
        )


def open_torchscript(weights: Weights) -> TorchBackend:
    """Load a TorchScript file; `threads` is then a setting of the whole process, as in PyTorch.

    Raises
    ------
    NoBackend
        PyTorch is absent or broken.
    PrecisionUnsupported
        PyTorch does not compute in the precision on the device.
    WeightsUnreadable
        The file is absent, corrupt or no TorchScript file.
    ScriptTouchesHost
        It reads or writes files and the like, and is not trusted.
    ArchiveRefused
        Its members would swell beyond measure.
    """
    torch = ready_torch(weights)
    try:
        # before it is loaded, for loading may run its __setstate__
        calls = host_calls(weights.path)
    except (OSError, zipfile.BadZipFile) as why:
        raise WeightsUnreadable(weights.path, "torchscript", str(why)) from why
    if calls and not weights.trusted:
        raise ScriptTouchesHost(weights, calls)
    try:
        with warnings.catch_warnings():
            # the zoo has TorchScript files; that PyTorch wants other ones helps nobody here
            warnings.filterwarnings("ignore", r".*torch\.jit\.load.* is deprecated")
            network = torch.jit.load(str(weights.path), map_location=str(weights.device))
    except (RuntimeError, ValueError, OSError) as why:
        first = str(why).strip().partition("\n")[0]
        raise WeightsUnreadable(weights.path, "torchscript", first) from why
    return TorchBackend(network.eval(), weights)
