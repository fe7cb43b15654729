"""Verify the files of a package before they are used, and identify the code among them."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from bmz.base.errors import CouldNotTell
from bmz.base.files import sha256_of
from bmz.base.values import dataclass
from bmz.spec.model import Architecture, PackagedFile, Weights


class PackageInvalid(CouldNotTell):
    """The manifest is unreadable or violates the specification."""

    def __init__(self, manifest: Path, why: str) -> None:
        super().__init__(
            f"the description '{manifest}' is not valid: {why}",
            hint="tell the authors of the model; bmz needs a description of format 0.4 or 0.5",
            code="package.invalid",
        )
        self.why = why


class PackageUnreadable(PackageInvalid):
    """The manifest is not a readable YAML mapping, so nothing is known about the model."""


class PackageNewer(CouldNotTell):
    """The manifest has a format or names that the installed version does not know."""

    def __init__(self, manifest: Path, why: str) -> None:
        super().__init__(
            f"the description '{manifest}' needs a newer bmz, or a newer bioimageio.spec: {why}",
            hint="update them: pip install --upgrade bmz bioimageio.spec; if the newest versions "
            "do not know it either, tell the authors of the model",
            code="package.newer",
        )
        self.why = why


class LibrariesDoNotMatch(CouldNotTell):
    """The installed bioimageio.spec and pydantic call every model invalid."""

    def __init__(self, spec: str, pydantic: str) -> None:
        super().__init__(
            f"bioimageio.spec {spec} cannot read models with pydantic {pydantic}",
            hint="pip install --upgrade bioimageio.spec, or pip install 'pydantic<2.14' if "
            "bioimageio.core requires that version",
            code="package.libraries",
        )


class PathLeavesPackage(CouldNotTell):
    """A path in the manifest, or a link in the folder, points outside the package."""

    def __init__(self, package: Path, source: str) -> None:
        super().__init__(
            f"the package '{package}' names '{source}', which is outside of it",
            hint="do not use this package: a model must not refer to files outside it",
            code="package.path",
        )


class FileMissing(CouldNotTell):
    """A file that the manifest names is not in the package."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"the package has no file '{path.name}' ({what}); wanted it at '{path}'",
            hint="download the whole package again, or choose available weights with --weights",
            code="package.missing-file",
        )


class HashDiffers(CouldNotTell):
    """A file is not the one that the manifest describes."""

    def __init__(self, path: Path, expected: str, actual: str) -> None:
        super().__init__(
            f"'{path.name}' is not the file described: wanted sha256 {expected[:12]}…, found "
            f"{actual[:12]}…",
            hint="the file is damaged or was changed; download the package again",
            code="package.hash-differs",
        )


KNOWN_LIBRARIES = (
    "careamics.models",
    "monai.networks.nets",
    "segmentation_models_pytorch",
    "torchvision.models",
)
"""Libraries of networks whose classes only build a network when called with plain values. Any other
import that a description requests is treated like code of the package itself."""


@dataclass(frozen=True)
class CodeFile:
    """A file with code, as found on disk or as stated in the manifest.

    Parameters
    ----------
    name : file name
    sha256 : sha256 of the content, or else the stated one; empty if neither is known
    size_bytes : size of the file; None if it is not on disk
    imports : names of the modules that it imports, in order; None if it is not valid Python
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
    weights_format : format of the entry
    what : one line that names the code
    files : files that contain the code
    sha256 : sha256 of everything that determines what is run: the files, the callable, its
        arguments, and the weights, since the code may execute what they contain
    """

    weights_format: str
    what: str
    files: tuple[CodeFile, ...]
    sha256: str


def code_of(weights: Weights, host_calls: Sequence[str] = ()) -> ModelCode | None:
    """Return the code that a weights entry runs; None if it only contains numbers.

    Parameters
    ----------
    weights : weights entry; its files need not exist
    host_calls : operations in the weights that use the computer, such as writing files
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
    return sha256_of(path)


def _code_file(file: PackagedFile, weights: Weights) -> CodeFile:
    name = file.path.name
    sha256 = _sha256_of(file)
    if not file.path.is_file():
        return CodeFile(name, sha256, None, None)
    readable = None if file is weights.file else imports_of(file.path)
    return CodeFile(name, sha256, file.path.stat().st_size, readable)


def imports_of(path: Path) -> tuple[str, ...] | None:
    """Return the top-level names of the modules that a Python file imports anywhere.

    Imports by other means, such as ``__import__``, are not found: the list only informs the user,
    and no decision depends on it.

    Returns
    -------
    tuple
        names in the order of the file; None if it is not valid Python
    """
    try:
        tree = _parsed(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("." * node.level + (node.module or ""))
    return tuple(dict.fromkeys(name.partition(".")[0] or name for name in names))


def _parsed(source: bytes) -> ast.Module:
    try:
        return ast.parse(source)
    except SystemError:
        # CPython 3.11 shares its depth counter among threads; another one compiled meanwhile
        return ast.parse(source)


def verified(file: PackagedFile, what: str, folder: Path) -> PackagedFile:
    """Return `file` if it exists in the package and has the sha256 that the manifest states.

    Parameters
    ----------
    file : a file of the package
    what : role of the file for the message, such as ``"onnx weights"``
    folder : folder of the package; links must not lead out of it

    Raises
    ------
    FileMissing, HashDiffers
        The file does not exist, or has another sha256.
    PathLeavesPackage
        The path of the file contains a link that leads out of the folder.
    """
    if not file.path.is_file():
        raise FileMissing(file.path, what)
    if folder.resolve() not in file.path.resolve().parents:
        raise PathLeavesPackage(folder, str(file.path.resolve()))
    if file.sha256:
        sha256 = sha256_of(file.path)
        if sha256 != file.sha256.lower():
            raise HashDiffers(file.path, file.sha256, sha256)
    return file
