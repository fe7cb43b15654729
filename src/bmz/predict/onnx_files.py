"""Read from ONNX files which other files they use, and write convolutions as an ONNX file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from bmz.base.arrays import FloatArray
from bmz.check.kind_network import TOP, Block, Layers
from bmz.predict.backend import WeightsUnreadable

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_MORE_FOLLOW = 0x80  # the high bit of a byte of a number
_LONGEST = 10  # bytes that a 64-bit number takes at most
_SMALLEST_KEY = 1 << 3  # field numbers start at 1, above three bits for the kind
_LARGEST_KEY = 2**32 - 1  # other readers would truncate a larger key to that of another field


class ProtobufError(ValueError):
    """The bytes are not a complete message."""

    def __init__(self) -> None:
        super().__init__("it is not a complete protocol buffer")


def fields(message: memoryview, *path: int) -> Iterator[memoryview]:
    r"""Yield the content of every field at `path` that is a text or a message.

    A field may occur several times, since readers that know the schema merge them: all are yielded.

    Source: https://protobuf.dev/programming-guides/encoding/

    Parameters
    ----------
    message : the whole message
    path : field numbers, each in the message of the previous one

    Raises
    ------
    ProtobufError
        The message, or a message on the path, is malformed.

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
    """Yield the texts at `path`; see `fields`."""
    for content in fields(message, *path):
        yield bytes(content).decode("utf-8", "backslashreplace")


def members(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the field number and content of every text and message in a message, one level deep.

    Raises
    ------
    ProtobufError
        The bytes are not a message.
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
        else:  # a group, which no schema read here contains
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
"""Message -> field number -> message in that field, along all paths to external data.

Source: https://github.com/onnx/onnx/blob/v1.19.0/onnx/onnx.proto3
"""

_KEY, _VALUE, _LOCATION = 1, 2, b"location"
_OWN_FORMAT = b"ORTM"  # marks files in onnxruntime's own format, which are not protocol buffers


def refuse_outside(path: Path) -> None:
    """Raise an error for tensors outside the folder, which older onnxruntime versions would read.

    Parameters
    ----------
    path : path of an ONNX file; onnxruntime itself reports an absent or empty file

    Raises
    ------
    WeightsUnreadable
        A tensor is outside the folder, possibly via a link, or the file is unreadable or malformed.
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
        raise WeightsUnreadable(path, "onnx", f"it reads a tensor from '{outside}'")


def locations(model: memoryview) -> Iterator[str]:
    """Yield the locations of tensors stored outside the file, as written in the file.

    Parameters
    ----------
    model : a ``ModelProto``

    Raises
    ------
    ProtobufError
        `model` is not a ``ModelProto``.
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
    """Return whether a path leaves its folder on any operating system."""
    windows = PureWindowsPath(location)  # it splits at slashes and backslashes
    return bool(windows.anchor) or PurePosixPath(location).is_absolute() or ".." in windows.parts


def _leads_out(model: Path, location: str) -> bool:
    """Return whether a path is a link out of the folder, or is not a valid path."""
    try:
        return not (model.parent / location).resolve().is_relative_to(model.parent.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL byte, too long, or circular links
        return True


_IR, _OPSET = 8, 13  # versions that onnxruntime reads since 1.10
_FLOAT, _AS_INT, _AS_TEXT, _AS_INTS = 1, 2, 3, 7
IMAGE = "image"
"""Name of the input of `written_layers`: (1, colours, y, x) float32."""


def written_layers(layers: Layers) -> bytes:
    """Write the layers through which the check analyses an image as an ONNX file.

    Its outputs, in order, are those of the blocks with `is_told`, each (1, c, y, x).

    Source: https://github.com/onnx/onnx/blob/v1.19.0/onnx/onnx.proto3
    """
    graph = _Graph()
    weights, offsets = layers.stem
    kernel = weights.reshape(3, 3, -1, weights.shape[-1])
    values = graph.cut(graph.convolved(IMAGE, kernel, offsets, stride=2))
    told = []
    for block in layers.blocks:
        values = graph.block(values, block)
        if block.is_told:
            told.append(values)
    return graph.model(kernel.shape[2], told)


class _Graph:
    """The nodes and the weights of a network that is being written."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._numbers: list[bytes] = []
        limits = (np.array(limit, np.float32) for limit in (0, TOP))
        self._limits = [self._kept(limit) for limit in limits]

    def model(self, colours: int, told: Sequence[str]) -> bytes:
        """Return the network as a ``ModelProto``."""
        dims = [_field(1, 1), _field(1, colours), _field(2, b"y"), _field(2, b"x")]
        sides = b"".join(_field(1, dim) for dim in dims)
        taken = _field(1, IMAGE.encode()) + _field(
            2, _field(1, _field(1, _FLOAT) + _field(2, sides))
        )
        given = (_field(12, _field(1, name.encode()) + _field(2, _FLOATS)) for name in told)
        nodes = (_field(1, node) for node in self._nodes)
        numbers = (_field(5, tensor) for tensor in self._numbers)
        graph = b"".join([*nodes, _field(2, b"layers"), *numbers, _field(11, taken), *given])
        return _field(1, _IR) + _field(7, graph) + _field(8, _field(2, _OPSET))

    def block(self, values: str, block: Block) -> str:
        """Add an inverted residual block, and return the name of its output."""
        inner = values
        if block.expand is not None:
            weights, offsets = block.expand
            inner = self.cut(self.convolved(values, weights[None, None], offsets))
        deep, offsets = block.depthwise
        inner = self.convolved(inner, deep[:, :, None], offsets, block.stride, len(offsets))
        weights, offsets = block.project
        out = self.convolved(self.cut(inner), weights[None, None], offsets)
        return self._node("Add", [out, values]) if block.adds_input else out

    def convolved(
        self, values: str, kernel: FloatArray, offsets: FloatArray, stride: int = 1, groups: int = 1
    ) -> str:
        """Add a convolution with a (y, x, inputs, outputs) kernel; return its output's name."""
        weights = self._kept(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        attributes = (
            _named(b"auto_pad", _AS_TEXT, _field(4, b"SAME_UPPER")),
            _named(b"strides", _AS_INTS, _field(8, stride) * 2),
            _named(b"group", _AS_INT, _field(3, groups)),
        )
        return self._node("Conv", [values, weights, self._kept(offsets)], b"".join(attributes))

    def cut(self, values: str) -> str:
        """Add a node that clips values to between 0 and `TOP`, and return its output's name."""
        return self._node("Clip", [values, *self._limits])

    def _node(self, operator: str, inputs: Sequence[str], attributes: bytes = b"") -> str:
        output = f"values{len(self._nodes)}"
        taken = b"".join(_field(1, name.encode()) for name in inputs)
        given = _field(2, output.encode()) + _field(4, operator.encode())
        self._nodes.append(taken + given + attributes)
        return output

    def _kept(self, numbers: FloatArray) -> str:
        name = f"numbers{len(self._numbers)}"
        sides = b"".join(_field(1, side) for side in numbers.shape)
        content = np.asarray(numbers, "<f4").tobytes()
        self._numbers.append(
            sides + _field(2, _FLOAT) + _field(8, name.encode()) + _field(9, content)
        )
        return name


def _named(name: bytes, kind: int, value: bytes) -> bytes:
    """Encode an attribute of a node."""
    return _field(5, _field(1, name) + value + _field(20, kind))


def _field(number: int, content: bytes | int) -> bytes:
    """Encode a field of a message: a non-negative number, a text or a message."""
    if isinstance(content, int):
        return _written(number << 3 | _VARINT) + _written(content)
    return _written(number << 3 | _BYTES) + _written(len(content)) + content


def _written(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F)
    return bytes([*(group | _MORE_FOLLOW for group in groups[:-1]), groups[-1]])


_FLOATS = _field(1, _field(1, _FLOAT))
"""The type of a tensor of any shape."""
