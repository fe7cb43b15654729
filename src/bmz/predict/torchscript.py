"""Run TorchScript weights: check their calls, and load exactly what was checked."""

from __future__ import annotations

import ast
import pickletools
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from bmz.base.errors import CouldNotTell
from bmz.predict.backend import LoadRequest, WeightsUnreadable
from bmz.predict.frameworks import words_of_network
from bmz.predict.torch_network import TorchBackend, ready_torch
from bmz.zoo.archive import damage_told, opened_zip

if TYPE_CHECKING:
    from torch import nn

# of the 1730 `aten` and 100 `prim` operators in PyTorch 2.13, these do more than compute
_HOST_WORDS = frozenset(
    {"from_file", "save", "rpc_async", "rpc_sync", "rpc_remote", "PythonOp", "IgnoredPythonOp"}
)
# none of the other operators has such a word in its name, but one of a later PyTorch may
_HOST_PARTS = re.compile(
    r"(?:^|_)(?:dump|env|exec|file|files|import|load|open|path|pickle|pyobj|read|remote|rpc|save"
    r"|socket|system|url|write)(?:_|$)",
    re.IGNORECASE,
)
_KNOWN_OPS = frozenset(
    {
        "aten", "mkl", "mkldnn", "mkldnn_prepacked", "onednn", "prim", "prims", "profiler",
        "quantized", "_quantized", "sparse", "torchvision",
    }
)  # fmt: skip
_KNOWN_CLASSES = frozenset({"mkldnn", "quantized", "sparse", "xnnpack"})
_CLASS = re.compile(r"\btorch\.classes\.(\w+)")
_SPEAKS = re.compile(rb"\b(?:print|warn)\(")
_OLD = "model.json"
_TEXT = re.compile(rb"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")
# PyTorch writes none of these outside strings, and its compiler and Python read them differently
_STRANGE = re.compile(rb"[^\x20-\x7e\n\x80-\xff]|[#\\`\"]|\w'|''[\"']")
# the opcodes that PyTorch's own pickle reader knows
_KNOWN_OPCODES = frozenset(
    {
        "APPEND", "APPENDS", "BINFLOAT", "BINGET", "BININT", "BININT1", "BININT2", "BINPERSID",
        "BINPUT", "BINUNICODE", "BUILD", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "GLOBAL",
        "LIST", "LONG1", "LONG_BINGET", "LONG_BINPUT", "MARK", "NEWFALSE", "NEWOBJ", "NEWTRUE",
        "NONE", "PROTO", "REDUCE", "SETITEM", "SETITEMS", "STOP", "TUPLE", "TUPLE1", "TUPLE2",
        "TUPLE3",
    }
)  # fmt: skip


def host_calls(path: Path) -> tuple[str, ...]:
    """List what a TorchScript file does with files or the host, or is not known to be harmless.

    Parameters
    ----------
    path : the file

    Returns
    -------
    tuple of str
        such as ``torch.from_file``, sorted; empty for a network that only computes

    Raises
    ------
    OSError, zipfile.BadZipFile
        The file cannot be read, or is not a zip.
    ArchiveRefused
        Its members would be far larger when unpacked, or are not the same for all programs.
    """
    calls: set[str] = set()
    with damage_told(), opened_zip(path) as archive:
        for member in archive.infolist():
            # PyTorch ignores case when looking up a member
            name = member.filename.lower()
            if name.endswith(".py"):
                calls.update(_of_source(archive.read(member), name))
            elif "pkl" in name:
                calls.update(_of_pickle(archive.read(member), name))
            elif name.rpartition("/")[2] == _OLD:
                calls.add(f"source in the layout of PyTorch 1.0 ({name})")
    return tuple(sorted(calls))


def speaks(path: Path) -> bool:
    """Return whether code in a TorchScript file prints or warns; call `host_calls` before."""
    with opened_zip(path) as archive:
        sources = (m for m in archive.infolist() if m.filename.lower().endswith(".py"))
        return any(_SPEAKS.search(archive.read(member)) for member in sources)


def _of_source(content: bytes, name: str) -> Iterator[str]:
    try:
        tree = ast.parse(content.decode())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield f"source that cannot be read ({name})"
        return
    if _STRANGE.search(_TEXT.sub(b"''", content)):
        yield f"source that PyTorch did not write ({name})"
    owners = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield from _of_attribute(node)
        elif isinstance(node, ast.Name) and _is_host(node.id, owner=id(node) in owners):
            yield node.id
        elif isinstance(node, ast.Call) and _is_getattr(node):
            # a string may name the operator, too
            words = (arg.value for arg in node.args if isinstance(arg, ast.Constant))
            yield from (f"getattr {word}" for word in words if word in _HOST_WORDS)


def _is_host(name: str, *, owner: bool) -> bool:
    # an alias of an operator library would hide what is called
    return name in _HOST_WORDS or (name in {"torch", "ops"} and not owner)


def _of_attribute(node: ast.Attribute) -> Iterator[str]:
    if node.attr in _HOST_WORDS:
        yield ast.unparse(node)
    owner = node.value
    # `ops.c10d.barrier`; operators that the authors registered are absent without their code
    if isinstance(owner, ast.Name) and owner.id == "ops" and node.attr not in _KNOWN_OPS:
        yield f"ops.{node.attr}"
    if _HOST_PARTS.search(node.attr) and _is_library(owner):
        yield ast.unparse(node)
    if isinstance(owner, ast.Attribute) and owner.attr == "classes":
        yield from _classes_in(ast.unparse(node))


def _is_library(owner: ast.expr) -> bool:
    if isinstance(owner, ast.Name):
        return owner.id == "torch"
    return (
        isinstance(owner, ast.Attribute)
        and isinstance(owner.value, ast.Name)
        and owner.value.id == "ops"
    )


def _is_getattr(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "getattr"


def _of_pickle(content: bytes, name: str) -> Iterator[str]:
    """Yield the library classes that a pickle would create, and anything that could hide them."""
    try:
        for opcode, value, _ in pickletools.genops(BytesIO(content)):
            if opcode.name not in _KNOWN_OPCODES:
                yield f"pickle that PyTorch did not write ({name})"
                return
            if isinstance(value, str):
                # a GLOBAL consists of a module and a name in it
                yield from _classes_in(value.replace(" ", "."))
    except (ValueError, UnicodeDecodeError):
        yield f"pickle that cannot be read ({name})"


def _classes_in(text: str) -> Iterator[str]:
    known = list(_CLASS.finditer(text))
    for match in known:
        if match[1] not in _KNOWN_CLASSES:
            yield f"torch.classes.{match[1]}"
    if "classes" in _CLASS.sub("", text) and "torch" in text:
        yield f"the type {text!r}"


_PIECE = 2**20  # bytes


@contextmanager
def plain_copy(path: Path, suffix: str = "") -> Iterator[Path]:
    """Copy the members of a zip uncompressed to a new zip, which is removed afterwards.

    Parameters
    ----------
    path : path of the zip
    suffix : suffix of the copy, such as ``.keras``

    Raises
    ------
    zipfile.BadZipFile
        The file is damaged or not a zip.
    ArchiveRefused
        As in ``bmz.zoo.archive.opened_zip``.
    OSError
        The file cannot be read, or the copy cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="bmz-weights-") as folder:
        copy = Path(folder) / f"weights{suffix}"
        with damage_told(), opened_zip(path) as old, zipfile.ZipFile(copy, "w") as new:
            for member in old.infolist():
                if not member.is_dir():
                    _add(old, member, new)
        yield copy


def _add(old: zipfile.ZipFile, member: zipfile.ZipInfo, new: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo(member.filename)  # with a constant time: nothing else is copied
    entry.file_size = member.file_size  # so that large members get headers for large sizes
    with old.open(member) as source, new.open(entry, "w") as target:
        shutil.copyfileobj(source, target, _PIECE)


_CONVOLUTION_INPUTS = 13  # the last one is `allow_tf32`
_EXACT = False  # its required value


class ScriptTouchesHost(CouldNotTell):
    """A TorchScript network does more than compute."""

    def __init__(self, request: LoadRequest, calls: tuple[str, ...]) -> None:
        super().__init__(
            f"the network in '{request.path.name}' does more than compute: {', '.join(calls)}",
            hint="allow it to run its own code with --trust, but only if you trust its authors",
            code="package.runs-code",
        )


def open_torchscript(request: LoadRequest) -> TorchBackend:
    """Load a TorchScript file; `threads` applies to the whole process, as in PyTorch.

    Raises
    ------
    NoBackend
        PyTorch is not installed or is broken.
    PrecisionUnsupported
        PyTorch does not compute in this precision on the device.
    WeightsUnreadable
        The file is absent, corrupt, or not a TorchScript file.
    ScriptTouchesHost
        It does more than compute, such as reading or writing files, and is not trusted.
    ArchiveRefused
        Its members would be far larger when unpacked, or are not the same for all programs.
    """
    network, prints = load_script(request)
    if request.device.kind == "cuda":
        round_nothing_in(network)
    return TorchBackend(network, request, words_of_network if prints else nullcontext)


def load_script(request: LoadRequest) -> tuple[nn.Module, bool]:
    """Load a TorchScript file in evaluation mode, and return whether it prints or warns.

    Raises
    ------
    BmzError
        As in `open_torchscript`.
    """
    torch = ready_torch(request)
    try:
        with plain_copy(request.path) as copy:
            return _loaded(torch, copy, request).eval(), speaks(copy)
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError) as why:
        first = str(why).strip().partition("\n")[0]
        raise WeightsUnreadable(request.path, "torchscript", first) from why


def _loaded(torch: ModuleType, copy: Path, request: LoadRequest) -> nn.Module:
    # the copy is both checked and loaded, since PyTorch reads zips with its own reader. It is
    # checked before it is loaded, since loading may run its __setstate__
    calls = host_calls(copy)
    if calls and not request.trusted:
        raise ScriptTouchesHost(request, calls)
    with warnings.catch_warnings():
        # the zoo has TorchScript files; a warning that PyTorch prefers other formats is no help
        warnings.filterwarnings("ignore", r".*torch\.jit\.load.* is deprecated")
        network: nn.Module = torch.jit.load(str(copy), map_location=str(request.device))
    return network


class ScriptModule(Protocol):
    """The part of a ``torch.jit.ScriptModule`` used to inspect its graphs."""

    def modules(self) -> Iterable[Any]:
        """Return the module itself and all modules in it."""


def round_nothing_in(network: ScriptModule) -> None:
    """Make the convolutions of a traced network compute in float32 instead of TF32.

    A trace stores PyTorch's default, TF32, as the last argument of ``aten::_convolution``, and
    ignores the setting of the process. Call this before the network runs for the first time.
    """
    for module in network.modules():
        graphs = [module._c._get_method(n).graph for n in module._c._method_names()]  # noqa: SLF001  (there is no public way)
        for graph in graphs:
            for node in graph.findAllNodes("aten::_convolution", recurse=True):
                if node.inputsSize() == _CONVOLUTION_INPUTS:  # older traces have no such argument
                    tf32_allowed = graph.insertConstant(_EXACT)
                    tf32_allowed.node().moveBefore(node)
                    node.replaceInput(_CONVOLUTION_INPUTS - 1, tf32_allowed)
