"""What a TorchScript file would do beside computing, read from its source without PyTorch.

A TorchScript file is a zip. Its source, in ``code/``, is compiled when it is loaded, and knows no
Python functions, but it knows operators that read and write files.
"""

from __future__ import annotations

import ast
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from bmz.zoo.archive import refuse_unsafe

# of the 1730 operators of `aten` and 100 of `prim` in PyTorch 2.13 these leave the tensors alone
_HOST_WORDS = frozenset(
    {"from_file", "save", "rpc_async", "rpc_sync", "rpc_remote", "PythonOp", "IgnoredPythonOp"}
)
_KNOWN_OPS = frozenset(
    {
        "aten", "mkl", "mkldnn", "mkldnn_prepacked", "onednn", "prim", "prims", "profiler",
        "quantized", "_quantized", "sparse", "torchvision",
    }
)  # fmt: skip
_KNOWN_CLASSES = frozenset({"mkldnn", "quantized", "sparse", "xnnpack"})
_CLASS = re.compile(rb"torch\.classes\.(\w+)")
_OLD = "model.json"


def host_calls(path: Path) -> tuple[str, ...]:
    """Name what in a TorchScript file touches files or the host, or is not known to be harmless.

    Parameters
    ----------
    path : the file

    Returns
    -------
    tuple of str
        such as ``torch.from_file``, sorted; empty for a network that computes only

    Raises
    ------
    OSError, zipfile.BadZipFile
        The file cannot be read, or is no zip.
    ArchiveRefused
        Its members would swell beyond measure.
    """
    found: set[str] = set()
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            refuse_unsafe(path, members)
            for member in members:
                name = member.filename
                # by the entry, not its name: a name may stand twice
                if name.endswith(".py"):
                    found.update(_of_source(archive.read(member), name))
                elif name.endswith(".pkl"):
                    found.update(_of_classes(archive.read(member)))
                elif name.rpartition("/")[2] == _OLD:
                    found.add(f"source in the layout of PyTorch 1.0 ({name})")
    except (zlib.error, EOFError, NotImplementedError, RuntimeError) as why:
        raise zipfile.BadZipFile(str(why)) from why
    return tuple(sorted(found))


def _of_source(content: bytes, name: str) -> Iterator[str]:
    try:
        tree = ast.parse(content.decode())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield f"source that cannot be read ({name})"
        return
    yield from _of_classes(content)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield from _of_attribute(node)
        elif isinstance(node, ast.Name) and node.id in _HOST_WORDS:
            yield node.id
        elif isinstance(node, ast.Call) and _is_getattr(node):
            # the operator can be named by a text as well
            words = (arg.value for arg in node.args if isinstance(arg, ast.Constant))
            yield from (f"getattr {word}" for word in words if word in _HOST_WORDS)


def _of_attribute(node: ast.Attribute) -> Iterator[str]:
    if node.attr in _HOST_WORDS:
        yield ast.unparse(node)
    owner = node.value
    # `ops.c10d.barrier`; what the authors registered themselves is not there without their code
    if isinstance(owner, ast.Name) and owner.id == "ops" and node.attr not in _KNOWN_OPS:
        yield f"ops.{node.attr}"


def _is_getattr(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "getattr"


def _of_classes(content: bytes) -> Iterator[str]:
    for match in _CLASS.finditer(content):
        name = match[1].decode()
        if name not in _KNOWN_CLASSES:
            yield f"torch.classes.{name}"
