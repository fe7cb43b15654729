"""Protocol buffers, and what an ONNX file takes from other files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from bmz.predict.backend import WeightsUnreadable

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MORE_FOLLOW = 0x80  # the high bit of a byte of a number
_LONGEST = 10  # bytes of a number of 64 bits
_SMALLEST_KEY = 1 << 3  # fields are numbered from 1, above three bits for their kind
_LARGEST_KEY = 2**32 - 1  # other readers truncate a larger one, and find another field


class ProtobufError(ValueError):
    """The bytes are not a complete message."""

    def __init__(self) -> None:
        super().__init__("it is no whole protocol buffer")


def fields(message: memoryview, *path: int) -> Iterator[memoryview]:
    r"""Yield the content of every field at `path` that is a text or a message.

    A field may occur several times, and a reader with the schema merges them: all are yielded.

    Source: https://protobuf.dev/programming-guides/encoding/

    Parameters
    ----------
    message : the whole message
    path : numbers of fields, each in the message of the one before it

    Raises
    ------
    ProtobufError
        The message, or one on the path, is malformed.

    Examples
    --------
    >>> [bytes(part) for part in fields(memoryview(b"\x0a\x04\x12\x02hi"), 1, 2)]
    [b'hi']
    """
    for number, content in members(message):
        if number == path[0]:
            if path[1:]:
                yield from fields(content, *path[1:])
            else:
                yield content


def texts(message: memoryview, *path: int) -> Iterator[str]:
    """Yield the texts that lie at `path`; see `fields`."""
    for content in fields(message, *path):
        yield bytes(content).decode("utf-8", "backslashreplace")


def members(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of every text and message in a message, one level deep.

    Raises
    ------
    ProtobufError
        It is no message.
    """
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        if not _SMALLEST_KEY <= key <= _LARGEST_KEY:
            raise ProtobufError
        kind = key & 7
        if kind == _VARINT:
            _, at = _number(message, at)
            continue
        if kind == _BYTES:
            size, at = _number(message, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:  # a group, which no schema that is read here has
            raise ProtobufError
        if at + size > len(message):
            raise ProtobufError
        if kind == _BYTES:
            yield key >> 3, message[at : at + size]
        at += size


def _number(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for position in range(_LONGEST):
        if at + position >= len(message):
            break
        byte = message[at + position]
        value |= (byte & 0x7F) << (7 * position)
        if not byte & _MORE_FOLLOW:
            return value, at + position + 1
    raise ProtobufError


_MESSAGES: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}  # fmt: skip
"""Message -> number of a field -> message in it, of those on the way to external data.

Source: https://github.com/onnx/onnx/blob/v1.19.0/onnx/onnx.proto3
"""

_KEY, _VALUE, _LOCATION = 1, 2, b"location"
_OWN_FORMAT = b"ORTM"  # onnxruntime recognises its own files by it, which are no protocol buffers


def refuse_outside(path: Path) -> None:
    """Refuse tensors in files outside the folder, which older versions of onnxruntime would read.

    Parameters
    ----------
    path : path of an ONNX file; onnxruntime itself reports an absent or empty file

    Raises
    ------
    WeightsUnreadable
        A tensor lies outside, also by a link, or the file cannot be read or is malformed.
    """
    try:
        if not path.is_file() or not path.stat().st_size:
            return
        content = memoryview(np.memmap(path, np.uint8, mode="r"))  # type: ignore[arg-type]
        if bytes(content[4:8]) == _OWN_FORMAT:
            raise WeightsUnreadable(path, "onnx", "it is in onnxruntime's own format")
        named = locations(content)
        outside = next((n for n in named if leaves(n) or _leads_out(path, n)), None)
    except (ProtobufError, OSError) as why:
        raise WeightsUnreadable(path, "onnx", str(why)) from why
    if outside is not None:
        raise WeightsUnreadable(path, "onnx", f"it takes a tensor from '{outside}'")


def locations(model: memoryview) -> Iterator[str]:
    """Yield the locations of tensors that are not in the file itself, as they are written.

    Parameters
    ----------
    model : a ``ModelProto``

    Raises
    ------
    ProtobufError
        It is none.
    """
    left = [("Model", model)]  # networks may be nested to any depth
    while left:
        kind, message = left.pop()
        if kind == "Entry":
            entry = [(number, bytes(content)) for number, content in members(message)]
            if (_KEY, _LOCATION) in entry:
                yield from (word.decode("utf-8", "replace") for n, word in entry if n == _VALUE)
            continue
        known = _MESSAGES[kind]
        left += [(known[n], content) for n, content in members(message) if n in known]


def leaves(location: str) -> bool:
    """Tell whether a relative path leaves its folder on any operating system."""
    windows = PureWindowsPath(location)  # it splits at both kinds of slashes
    return bool(windows.anchor) or PurePosixPath(location).is_absolute() or ".." in windows.parts


def _leads_out(model: Path, location: str) -> bool:
    """Tell whether a path is a link out of the folder, or cannot be the path of a file."""
    try:
        return not (model.parent / location).resolve().is_relative_to(model.parent.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL byte, too long, or circular links
        return True
