"""Open networks whose weights are a PyTorch state dict, and which the model's code builds."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from bmz.base.errors import CouldNotTell
from bmz.predict.backend import LoadRequest, NoBackend, OutOfMemory, WeightsUnreadable
from bmz.predict.torch_network import TorchBackend, held_networks, last_line, ready_torch
from bmz.predict.torchscript import plain_copy
from bmz.spec.model import Architecture

if TYPE_CHECKING:
    import torch


FORMAT = "pytorch_state_dict"

_numbers = itertools.count()
# foreign code may raise anything, including SystemExit
_ANYTHING = (Exception, SystemExit)


class ArchitectureFailed(CouldNotTell):
    """The code that should build the network of a state dict failed."""

    def __init__(self, architecture: Architecture, why: str) -> None:
        where = architecture.library or (architecture.code.path.name if architecture.code else "?")
        super().__init__(
            f"'{architecture.callable}' in '{where}' does not build a network: {why}",
            hint="the package is at fault, or was made for another version of a library; tell "
            "the model's authors, or choose other --weights",
            code="weights.architecture",
        )


def build_network(architecture: Architecture) -> object:
    """Import the code of an architecture and call it. This runs the model's code.

    Raises
    ------
    NoBackend
        A library that the code needs is not installed.
    ArchitectureFailed
        The code cannot be imported, lacks the callable, or fails.
    """
    try:
        module = _imported(architecture)
    except ModuleNotFoundError as why:
        raise _library_absent(architecture, why) from why
    except _ANYTHING as why:
        raise ArchitectureFailed(architecture, f"importing it fails: {_words(why)}") from why
    builder = getattr(module, architecture.callable, None)
    if not callable(builder):
        raise ArchitectureFailed(architecture, f"it has no callable '{architecture.callable}'")
    kwargs = dict(architecture.kwargs)
    _refuse_kwargs(architecture, builder, kwargs)
    try:
        return builder(**kwargs)
    except ModuleNotFoundError as why:
        raise _library_absent(architecture, why) from why
    except _ANYTHING as why:
        raise ArchitectureFailed(architecture, f"it stops with {_words(why)}") from why


def _imported(architecture: Architecture) -> ModuleType:
    if architecture.code is None:
        return importlib.import_module(architecture.library)
    return _imported_file(architecture.code.path)


def _imported_file(path: Path) -> ModuleType:
    name = f"bmz_architecture_{next(_numbers)}_{path.stem}"
    loader = _SourceOnly(name, str(path))
    spec = ModuleSpec(name, loader, origin=str(path))
    spec.has_location = True  # the module has a __file__
    module = importlib.util.module_from_spec(spec)
    # before it runs, and permanently: dataclasses, pickle and TorchScript look up classes there
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _SourceOnly(SourceFileLoader):
    """Compile the source itself, since existing bytecode may differ from it; write no bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.get_filename(fullname))


def _refuse_kwargs(
    architecture: Architecture,
    builder: Callable[..., object],
    kwargs: dict[str, Any],
) -> None:
    try:
        signature = inspect.signature(builder)
    except (TypeError, ValueError):
        return  # written in C: the call itself reports wrong arguments
    try:
        signature.bind(**kwargs)
    except TypeError as why:
        names = ", ".join(kwargs) or "none"
        raise ArchitectureFailed(architecture, f"{why} (given: {names})") from why


def _library_absent(architecture: Architecture, why: ModuleNotFoundError) -> NoBackend:
    library = (why.name or architecture.library).partition(".")[0]
    return NoBackend(
        FORMAT,
        f"the code of '{architecture.callable}' needs the library '{library}', which is not "
        "installed",
        f"if you trust that library, pip install {library}; else choose other --weights",
    )


def _words(why: BaseException) -> str:
    last = str(why).strip().rpartition("\n")[2]
    return f"{type(why).__name__}: {last}" if last else type(why).__name__


_EXTRA = "_extra_state"  # PyTorch's name for what a module stores in addition to its tensors
_LOADING = (RuntimeError, ValueError, TypeError, KeyError, EOFError, OSError)
_NAMED = 3  # number of keys listed in a message; networks have hundreds


class StateDiffers(CouldNotTell):
    """The tensors of a state dict do not match those of the network."""

    def __init__(self, request: LoadRequest, why: str) -> None:
        super().__init__(
            f"the state dict '{request.path.name}' does not match its network: {why}",
            hint="the description names other code or other arguments than the weights were "
            "trained with; tell the model's authors, or choose other --weights",
            code="weights.state-differs",
        )


class RunsOwnCode(CouldNotTell):
    """The network of a state dict is built by code that has not been allowed to run."""

    def __init__(self, request: LoadRequest) -> None:
        super().__init__(
            f"the state dict '{request.path.name}' needs Python code that builds its network",
            hint="allow it to run with --trust, but only if you trust its authors; else choose "
            "other --weights",
            code="package.runs-code",
        )


class ArchitectureNotNamed(CouldNotTell):
    """The description does not state what builds the network."""

    def __init__(self, request: LoadRequest) -> None:
        super().__init__(
            f"the description names no architecture for the state dict '{request.path.name}'",
            hint="the description is at fault; choose other --weights, or tell its authors",
            code="weights.architecture",
        )


def open_state_dict(request: LoadRequest) -> TorchBackend:
    """Build the network with its code, and load its weights. This runs the model's code.

    ``request.trusted`` states whether the code may run, as decided earlier. The weights file is
    unpickled with ``weights_only``: it may hold tensors and plain values, but no code.

    Raises
    ------
    NoBackend
        PyTorch, or a library that the code needs, is not installed.
    PrecisionUnsupported
        PyTorch does not compute in this precision on the device.
    WeightsUnreadable, ArchiveRefused
        The file is absent, corrupt, not a plain state dict, or far larger when unpacked.
    RunsOwnCode
        The code is not allowed to run.
    ArchitectureNotNamed, ArchitectureFailed
        No code for the network is stated, or it fails.
    StateDiffers
        The weights do not match the network.
    """
    if request.architecture is None:
        raise ArchitectureNotNamed(request)
    if not request.trusted:
        raise RunsOwnCode(request)
    torch = ready_torch(request)
    state = read_state(torch, request.path, str(request.device))
    network = build_network(request.architecture)
    if not isinstance(network, torch.nn.Module):
        raise ArchitectureFailed(request.architecture, _instead(network))
    parts = [network, *held_networks(network)]
    try:
        for part in parts:
            part.to(str(request.device))
    except torch.OutOfMemoryError as why:
        raise OutOfMemory(request.device, "its weights alone") from why
    _fill(network, state, request, request.architecture)
    for part in parts:
        part.eval()
    return TorchBackend(network, request)


def read_state(torch: ModuleType, path: Path, device: str = "cpu") -> Mapping[str, Any]:
    """Read a state dict, which holds names and tensors, but no code.

    Raises
    ------
    WeightsUnreadable, ArchiveRefused
        The file is absent, corrupt, not a plain state dict, or far larger when unpacked.
    """
    try:
        # before PyTorch 1.6 the file is not a zip; PyTorch reads a zip with its own reader
        zipped = zipfile.is_zipfile(path)
        with plain_copy(path) if zipped else nullcontext(path) as file:
            state = torch.load(str(file), map_location=device, weights_only=True)
    except pickle.UnpicklingError as why:
        raise WeightsUnreadable(path, FORMAT, _unpickling_words(why)) from why
    except (*_LOADING, zipfile.BadZipFile) as why:
        raise WeightsUnreadable(path, FORMAT, last_line(why)) from why
    if not isinstance(state, Mapping):
        raise WeightsUnreadable(path, FORMAT, f"it contains a {type(state).__name__}")
    strange = [
        str(key)
        for key, value in state.items()
        if not isinstance(value, torch.Tensor) and not str(key).endswith(_EXTRA)
    ]
    if strange:
        wrapped = f"its entries {_some(strange)} are not tensors"
        raise WeightsUnreadable(
            path, FORMAT, f"a state dict consists of names and tensors, but {wrapped}"
        )
    return state


def _fill(
    network: torch.nn.Module,
    state: Mapping[str, Any],
    request: LoadRequest,
    architecture: Architecture,
) -> None:
    try:
        missing, unexpected = _loaded(network, state)
    except RuntimeError as why:  # sizes must match in any case
        raise StateDiffers(request, last_line(why)) from why
    except Exception as why:  # the class may have a method of its own
        raise ArchitectureFailed(architecture, f"its load_state_dict: {last_line(why)}") from why
    parts = ((missing, "the file lacks"), (unexpected, "the network lacks"))
    wrong = [f"{what} {_some(keys)}" for keys, what in parts if keys]
    if wrong and (request.strict or not set(state) & set(network.state_dict())):
        raise StateDiffers(request, "; ".join(wrong))


def _loaded(
    network: torch.nn.Module, state: Mapping[str, Any]
) -> tuple[Sequence[str], Sequence[str]]:
    """Load a state with the network's own method; return the missing and the unexpected keys.

    A custom ``load_state_dict`` need not take ``strict`` or report the keys. That of micro-sam's
    ``PredictorAdaptor`` does neither, and PyTorch raises an error if tensors do not match.
    """
    takes = inspect.signature(network.load_state_dict).parameters.values()
    lenient = any(one.name == "strict" or one.kind == one.VAR_KEYWORD for one in takes)
    found = network.load_state_dict(state, **({"strict": False} if lenient else {}))
    return ([], []) if found is None else (found[0], found[1])


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(f"'{key}'" for key in keys[:_NAMED]) + more


def _instead(network: object) -> str:
    return f"it returns a {type(network).__name__}, not a torch.nn.Module"


def _unpickling_words(why: Exception) -> str:
    # PyTorch advises to load the file without weights_only, which would run code in it
    problem = str(why).partition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
    return f"it contains more than tensors: {problem or last_line(why)}"
