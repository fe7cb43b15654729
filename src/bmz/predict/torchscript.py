"""Open networks in TorchScript files."""

from __future__ import annotations

import warnings
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bmz.base.errors import CouldNotTell
from bmz.predict.backend import Weights, WeightsUnreadable
from bmz.predict.quiet import words_of_network
from bmz.predict.script_calls import host_calls, speaks
from bmz.predict.torch_network import TorchBackend, ready_torch
from bmz.predict.zip_copy import plain_copy

_CONVOLUTION_INPUTS = 13  # the last one is `allow_tf32`


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
        Its members would swell beyond measure, or programs differ in what it holds.
    """
    torch = ready_torch(weights)
    try:
        with plain_copy(weights.path) as copy:
            network = _loaded(torch, copy, weights)
            around = words_of_network if speaks(copy) else nullcontext
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError) as why:
        first = str(why).strip().partition("\n")[0]
        raise WeightsUnreadable(weights.path, "torchscript", first) from why
    if weights.device.kind == "cuda":
        round_nothing_in(network)
    return TorchBackend(network.eval(), weights, around)


def _loaded(torch: Any, copy: Path, weights: Weights) -> Any:  # noqa: ANN401  (two of no types)
    # the copy is what is looked at and what is loaded: PyTorch reads a zip by a reader of its own.
    # And before it is loaded, for loading may run its __setstate__
    calls = host_calls(copy)
    if calls and not weights.trusted:
        raise ScriptTouchesHost(weights, calls)
    with warnings.catch_warnings():
        # the zoo has TorchScript files; that PyTorch wants other ones helps nobody here
        warnings.filterwarnings("ignore", r".*torch\.jit\.load.* is deprecated")
        return torch.jit.load(str(copy), map_location=str(weights.device))


def round_nothing_in(network: Any) -> None:  # noqa: ANN401  (a script module)
    """Let convolutions of a traced network compute in float32, and not in TF32.

    A trace keeps PyTorch's default, which is TF32, as the last argument of ``aten::_convolution``:
    the setting of this process is not asked. To be called before the network is first run.
    """
    for module in network.modules():
        for name in module._c._method_names():  # noqa: SLF001  (there is no public way)
            graph = module._c._get_method(name).graph  # noqa: SLF001
            for node in graph.findAllNodes("aten::_convolution", recurse=True):
                if node.inputsSize() == _CONVOLUTION_INPUTS:  # older traces have no such argument
                    allowed = graph.insertConstant(False)  # noqa: FBT003  (it has no name)
                    allowed.node().moveBefore(node)
                    node.replaceInput(_CONVOLUTION_INPUTS - 1, allowed)
