"""Build a network by the Python code that its description names."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from bmz.base.errors import CouldNotTell
from bmz.predict.backend import NoBackend
from bmz.spec.model import Architecture

FORMAT = "pytorch_state_dict"

_numbers = itertools.count()
# foreign code may raise anything, sys.exit included
_ANYTHING = (Exception, SystemExit)


class ArchitectureFailed(CouldNotTell):
    """The code that should build the network of a state dict fails."""

    def __init__(self, architecture: Architecture, why: str) -> None:
        where = architecture.library or (architecture.code.path.name if architecture.code else "?")
        super().__init__(
            f"'{architecture.callable}' of '{where}' builds no network: {why}",
            hint="the package is at fault, or made for another version of a library; tell the "
            "model's authors, or choose other --weights",
            code="weights.architecture",
        )


def build_network(architecture: Architecture) -> object:
    """Import the code of an architecture and call it. This runs the code of the model.

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
    # before it runs, and permanently: dataclasses, pickle and TorchScript look classes up there
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _SourceOnly(SourceFileLoader):
    """Compile the source itself, since bytecode beside it may be of other code; none is written."""

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
        given = ", ".join(kwargs) or "none"
        raise ArchitectureFailed(architecture, f"{why} (given: {given})") from why


def _library_absent(architecture: Architecture, why: ModuleNotFoundError) -> NoBackend:
    library = (why.name or architecture.library).partition(".")[0]
    return NoBackend(
        FORMAT,
        f"the code of '{architecture.callable}' needs the library '{library}', "
        "which is not installed",
        f"if you know that library: pip install {library}; else choose other --weights",
    )


def _words(why: BaseException) -> str:
    last = str(why).strip().rpartition("\n")[2]
    return f"{type(why).__name__}: {last}" if last else type(why).__name__
