"""Files of a package, verified before they are used, and the code among them."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bmz.spec.errors import FileMissing, HashDiffers, PathLeavesPackage
from bmz.spec.model import Architecture, PackagedFile, Weights

KNOWN_LIBRARIES = (
    "careamics.models",
    "monai.networks.nets",
    "segmentation_models_pytorch",
    "torchvision.models",
)
"""Libraries of networks. A class of theirs, called with values, builds a network and does nothing
else; every other import that a description asks for is code like that of the package itself."""


@dataclass(frozen=True)
class CodeFile:
    """A file with code, as it lies here or as the manifest states it.

    Parameters
    ----------
    name : its path within the package
    sha256 : of its content here, else as stated; empty where neither is known
    size_bytes : None where it is not here
    imports : names of the modules that it imports, in order; None where it is no readable Python
    """

    name: str
    sha256: str
    size_bytes: int | None
    imports: tuple[str, ...] | None


@dataclass(frozen=True)
class ModelCode:
    """The code that loading a weights entry runs.

    Parameters
    ----------
    weights_format : of the entry
    what : one line that names it
    files : that hold it
    sha256 : of all that decides what is run: the files, what is called and with what, and the
        weights, since code may run what it finds in them
    """

    weights_format: str
    what: str
    files: tuple[CodeFile, ...]
    sha256: str


def code_of(weights: Weights, host_calls: Sequence[str] = ()) -> ModelCode | None:
    """Say what code an entry runs; None when it holds numbers only.

    Parameters
    ----------
    weights : the entry; its files need not be here
    host_calls : operations within the weights that reach the computer, such as to write files
    """
    if weights.architecture is not None and not _is_known(weights.architecture):
        return _of_architecture(weights, weights.architecture)
    if host_calls:
        file = _code_file(weights.file, weights)
        what = f"the {weights.format} weights call {', '.join(host_calls)}"
        return ModelCode(weights.format, what, (file,), _identity([what, file.sha256]))
    return None


def _is_known(architecture: Architecture) -> bool:
    library = architecture.library
    plain = architecture.callable.isidentifier() and not architecture.callable.startswith("_")
    listed = any(library == known or library.startswith(f"{known}.") for known in KNOWN_LIBRARIES)
    return architecture.code is None and plain and listed


def _of_architecture(weights: Weights, architecture: Architecture) -> ModelCode:
    files = () if architecture.code is None else (_code_file(architecture.code, weights),)
    where = files[0].name if files else f"the library {architecture.library}"
    parts = [
        architecture.callable,
        architecture.library,
        json.dumps(architecture.kwargs, sort_keys=True, default=str),
        *(file.sha256 for file in files),
        _sha256_of(weights.file),
    ]
    what = f"{architecture.callable} of {where} builds the network"
    return ModelCode(weights.format, what, files, _identity(parts))


def _identity(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


def _sha256_of(file: PackagedFile) -> str:
    if not file.path.is_file():
        return file.sha256 or ""
    state = file.path.stat()
    return _content_sha256(file.path, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@lru_cache(maxsize=64)
def _content_sha256(path: Path, *_state: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _code_file(file: PackagedFile, weights: Weights) -> CodeFile:
    name = file.path.name
    found = _sha256_of(file)
    if not file.path.is_file():
        return CodeFile(name, found, None, None)
    readable = None if file is weights.file else imports_of(file.path)
    return CodeFile(name, found, file.path.stat().st_size, readable)


def imports_of(path: Path) -> tuple[str, ...] | None:
    """Give the top-level names of the modules that a Python file imports anywhere in it.

    What it imports by other means, such as ``__import__``, is not seen: this is told to the
    user, and nothing is decided by it.

    Returns
    -------
    tuple
        in the order of the file; None when it is no Python that parses
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append("." * node.level + (node.module or ""))
    return tuple(dict.fromkeys(name.partition(".")[0] or name for name in found))


def verified(file: PackagedFile, what: str, folder: Path) -> PackagedFile:
    """Give `file` back when it is there, inside, and has the sha256 that the manifest states.

    Parameters
    ----------
    file : of the package
    what : its part, for the message, such as ``"onnx weights"``
    folder : of the package, out of which no link may lead

    Raises
    ------
    FileMissing, HashDiffers
        It is not there, or is another file.
    PathLeavesPackage
        It is a link, or lies behind one, that leads out of the folder.
    """
    if not file.path.is_file():
        raise FileMissing(file.path, what)
    if folder.resolve() not in file.path.resolve().parents:
        raise PathLeavesPackage(folder, str(file.path.resolve()))
    if file.sha256:
        with file.path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != file.sha256.lower():
            raise HashDiffers(file.path, file.sha256, found)
    return file
