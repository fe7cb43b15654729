"""Check TensorFlow and Keras files for code, without importing these frameworks."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Protocol

from bmz.base.errors import CouldNotTell
from bmz.base.values import dataclass
from bmz.predict.backend import LoadRequest, NoBackend, WeightsUnreadable
from bmz.predict.frameworks import FRAMEWORKS
from bmz.predict.onnx_files import ProtobufError, fields, texts
from bmz.predict.output_order import FORMAT, read_graph
from bmz.zoo.archive import opened_zip

# Parts of the names of operations, as TensorFlow 2.21 registers them. A test compares this list
# with every registered operation that takes a file, an address or a program.
_HOST = re.compile(
    r"Abort|BigQuery|Checkpoint|Cloud|Collective|Coordinat|CustomCall|Dataset|Debug|Descriptor"
    r"|DecodeProto|DistributedSave|Dump|EncodeProto|Files?(?![a-z])|FromTextFile|Heartbeat|Host"
    r"|ImmutableConst|ImportEvent|Infeed|Iterator|Kafka|LMDB|LoadAndRemap|Minibatch|Mlir|Nccl"
    r"|Outfeed|PrintV|PyFunc|Reader|Record|Remote|Restore|Rpc|Save|Server|Session|ShardedFile"
    r"|Skipgram|Sleep|Snapshot|Sql|Summary|TPU|TRT|Tpu|UnigramCandidate|Vocab|Xla(?!Sharding)"
    r"|^_?(?:Send|Recv)$|^Copy(?:Host)?$|^[^A-Z_]|[^A-Za-z0-9_]"
)
_HARMLESS = frozenset(
    {
        "AudioSummary", "AudioSummaryV2", "HistogramSummary", "ImageSummary", "MergeSummary",
        "ScalarSummary", "TensorSummary", "TensorSummaryV2",
    }
)  # fmt: skip
"""Operations that only compute a summary as a value; others write it."""
_SAVERS = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"})
"""Operations that every bundle contains, in a part of the graph that is never run."""
_RESTORERS = frozenset({"RestoreV2", "ShardedFilename"})

# numbers of fields: saved_model.proto, meta_graph.proto, graph.proto, function.proto,
# node_def.proto, saver.proto, saved_object_graph.proto
_META_GRAPHS = 2
_GRAPH_DEF, _SAVER, _COLLECTIONS, _SIGNATURES, _OBJECTS = 2, 3, 4, 5, 7
_NODES, _FUNCTIONS = (1,), (2, 1)
_NAME, _OP, _INPUTS, _ATTRIBUTES = 1, 2, 3, 5
_VALUE, _CALLED = 2, 10


@dataclass(frozen=True)
class _Node:
    name: str
    op: str
    inputs: tuple[str, ...]
    calls: tuple[str, ...]


def host_ops(bundle: Path) -> tuple[str, ...]:
    """List the operations of a SavedModel that access files, Python, the network or the process.

    Parameters
    ----------
    bundle : a zip or a folder

    Returns
    -------
    tuple of str
        such as ``WriteFile``, sorted; empty for a network that only computes

    Raises
    ------
    WeightsUnreadable
        The bundle is absent, damaged, or not a SavedModel.
    ArchiveRefused
        Its members would be unpacked outside the folder, or be far larger when unpacked.
    """
    message = memoryview(read_graph(bundle))
    try:
        ops = {op for graph in fields(message, _META_GRAPHS) for op in _of_graph(graph)}
    except ProtobufError as why:
        raise WeightsUnreadable(bundle, FORMAT, str(why)) from why
    return tuple(sorted(ops))


class BundleTouchesHost(CouldNotTell):
    """The graph of a SavedModel does more than compute."""

    def __init__(self, request: LoadRequest, ops: tuple[str, ...]) -> None:
        super().__init__(
            f"the network in '{request.path.name}' does more than compute: {', '.join(ops)}",
            hint="allow it to run its own code with --trust, but only if you trust its authors",
            code="package.runs-code",
        )


def refuse_host_ops(request: LoadRequest) -> None:
    """Raise an error for a SavedModel that does more than compute, unless its model is trusted.

    Raises
    ------
    BundleTouchesHost
        The SavedModel reads or writes files, for example.
    WeightsUnreadable, ArchiveRefused
        As in `host_ops`.
    """
    ops = host_ops(request.path)
    if ops and not request.trusted:
        raise BundleTouchesHost(request, ops)


def reaches_host(op: str) -> bool:
    """Return whether an operation does more than compute, judged by its name.

    Examples
    --------
    >>> [op for op in ("Conv2D", "WriteFile", "Fingerprint", "PyFunc") if reaches_host(op)]
    ['WriteFile', 'PyFunc']
    """
    return op not in _HARMLESS and _HOST.search(op) is not None


def _of_graph(meta: memoryview) -> Iterator[str]:
    graphs = list(fields(meta, _GRAPH_DEF))
    top = [_node(node) for graph in graphs for node in fields(graph, *_NODES)]
    functions = {
        name: tuple(_node(node) for node in fields(function, 3))
        for graph in graphs
        for function in fields(graph, *_FUNCTIONS)
        for name in texts(function, 1, 1)
    }
    everywhere = [*top, *(node for body in functions.values() for node in body)]
    yield from (node.op for node in everywhere if reaches_host(node.op) and node.op not in _SAVERS)
    graph = _Graph({node.name: node for node in top}, functions)
    yield from graph.reached(_started(meta), texts(meta, _OBJECTS, 2, 1)) & _SAVERS
    # restoring reads the weights, and must not write
    yield from (graph.reached(texts(meta, _SAVER, 3)) & _SAVERS) - _RESTORERS


def _started(meta: memoryview) -> Iterator[str]:
    """Yield the names of the nodes at which a run may start."""
    yield from texts(meta, _SIGNATURES, 2, 2, 2, 1)  # outputs of signatures
    yield from texts(meta, _SIGNATURES, 2, 1, 2, 1)  # inputs, which need not be placeholders
    yield from texts(meta, _COLLECTIONS, 2, 1, 1)  # the initialisers are among them


def _node(message: memoryview) -> _Node:
    op = "".join(texts(message, _OP))
    values = fields(message, _ATTRIBUTES, _VALUE)
    called = (name for value in values for name in _functions_in(value))
    # an operation may call the function of the same name
    return _Node("".join(texts(message, _NAME)), op, tuple(texts(message, _INPUTS)), (op, *called))


def _functions_in(value: memoryview) -> Iterator[str]:
    for function in (*fields(value, _CALLED), *fields(value, 1, 9)):
        yield from texts(function, 1)
        for bound in fields(function, 2, _VALUE):
            yield from _functions_in(bound)


@dataclass(frozen=True)
class _Graph:
    nodes: Mapping[str, _Node]
    functions: Mapping[str, tuple[_Node, ...]]

    def reached(self, nodes: Iterable[str], functions: Iterable[str] = ()) -> set[str]:
        """Return the operations that run if the nodes and functions of these names run."""
        names, called = deque(map(_plain, nodes)), deque(functions)
        seen_nodes, seen_functions, ops = set[str](), set[str](), set[str]()
        while names or called:
            reached: tuple[_Node, ...] = ()
            if names:
                name = names.popleft()
                if name in self.nodes and name not in seen_nodes:
                    reached = (self.nodes[name],)
                    names.extend(map(_plain, self.nodes[name].inputs))
                seen_nodes.add(name)
            else:
                name = called.popleft()
                if name not in seen_functions:
                    reached = self.functions.get(name, ())
                seen_functions.add(name)
            ops.update(node.op for node in reached)
            called.extend(function for node in reached for function in node.calls)
        return ops


def _plain(name: str) -> str:
    # "^name" is a control input, "name:1" the second output
    return name.removeprefix("^").partition(":")[0]


RAW_LAYERS = frozenset({"TFOpLambda", "SlicingOpLambda"})

_TOP_LEVEL = frozenset(
    {
        "abs", "acos", "add", "add_n", "argmax", "argmin", "asin", "atan", "boolean_mask",
        "broadcast_to", "cast", "ceil", "clip_by_norm", "clip_by_value", "complex", "concat",
        "constant", "convert_to_tensor", "cos", "cosh", "cumsum", "divide", "einsum", "equal",
        "exp", "expand_dims", "eye", "fill", "floor", "gather", "gather_nd", "greater",
        "greater_equal", "identity", "less", "less_equal", "linspace", "logical_and",
        "logical_not", "logical_or", "matmul", "maximum", "meshgrid", "minimum", "multiply",
        "negative", "norm", "not_equal", "one_hot", "ones", "ones_like", "pad", "pow", "range",
        "rank", "realdiv", "reduce_all", "reduce_any", "reduce_logsumexp", "reduce_max",
        "reduce_mean", "reduce_min", "reduce_prod", "reduce_sum", "repeat", "reshape", "reverse",
        "roll", "round", "rsqrt", "scatter_nd", "shape", "sigmoid", "sign", "sin", "sinh", "size",
        "slice", "sort", "split", "sqrt", "square", "squeeze", "stack", "stop_gradient",
        "strided_slice", "subtract", "tan", "tanh", "tensordot", "tile", "transpose", "truediv",
        "unstack", "where", "zeros", "zeros_like",
    }
)  # fmt: skip
_OPERATORS = {
    "add": "math.add", "eq": "math.equal", "ne": "math.not_equal", "getitem": "",
}  # fmt: skip
_GROUPED = re.compile(r"(math|nn|linalg|signal|image)\.(?!decode|\w*sampler|encode)[a-z]\w*")


def is_plain_op(function: object) -> bool:
    """Return whether a TensorFlow function only computes.

    Examples
    --------
    >>> [is_plain_op(name) for name in ("math.add", "concat", "io.write_file", "py_function")]
    [True, True, False, False]
    """
    if not isinstance(function, str):
        return False
    name = function.removeprefix("compat.v1.")
    owner, _, operator = name.partition(".")
    if owner == "__operators__":
        return operator in _OPERATORS
    return name in _TOP_LEVEL or _GROUPED.fullmatch(name) is not None


class _RawOp(Protocol):
    """A layer that stores which function it calls, and how."""

    how: dict[str, Any]


def raw_op_layer(keras: ModuleType, tensorflow: ModuleType) -> type:
    """Create the layer class that calls a TensorFlow function as ``bmz.predict.keras`` states it.

    Parameters
    ----------
    keras, tensorflow : the modules; Keras with its TensorFlow backend
    """

    def init(self: _RawOp, call: Mapping[str, Any], **kwargs: object) -> None:
        keras.layers.Layer.__init__(self, **kwargs)
        self.how = dict(call)

    def call(self: _RawOp, inputs: object) -> object:
        return call_op(tensorflow, self.how, inputs)

    return type("RawOp", (keras.layers.Layer,), {"__init__": init, "call": call})


def call_op(tensorflow: object, how: Mapping[str, Any], inputs: object) -> object:
    """Call a TensorFlow function.

    Parameters
    ----------
    tensorflow : the module
    how : ``function``, its name; ``first``, the number of inputs that form its first argument (as
        a list if ``listed``), 0 if that is ``constant``; ``named``, the names of the arguments
        that take the remaining inputs; ``kwargs``, the other arguments
    inputs : a tensor, or a list of tensors
    """
    tensors: list[Any] = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    count = how["first"]
    first: Any = tensors[:count] if how["listed"] else tensors[0] if count else how["constant"]
    kwargs = dict(how["kwargs"]) | dict(zip(how["named"], tensors[count:], strict=True))
    if how["function"] == "__operators__.getitem":
        part: object = first[_slices(kwargs["slice_spec"])]
        return part
    name = how["function"]
    if name.startswith("__operators__."):
        name = _OPERATORS[name.removeprefix("__operators__.")]
    function: Any = reduce(getattr, name.split("."), tensorflow)
    result: object = function(first, **kwargs)
    return result


def _slices(words: object) -> object:
    if isinstance(words, list):
        return tuple(_slices(word) for word in words)
    if isinstance(words, dict) and words.get("class_name") == "__ellipsis__":
        return ...
    if isinstance(words, dict):
        return slice(words.get("start"), words.get("stop"), words.get("step"))
    return words


Config = dict[str, Any]
"""The architecture as the file states it, in plain values."""

_ZIP_CONFIG, _ZIP_WEIGHTS = "config.json", "model.weights.h5"
_DAMAGE = (OSError, RuntimeError, KeyError, TypeError, ValueError)  # raised by h5py
_MOST_CONFIG = 2**28  # bytes; the largest networks need less than 2**24
_MOST_RATIO, _SMALL = 200, 2**28  # as for zips; an array that was never written takes no space
# modules of Keras that networks consist of; without `keras.utils`, `keras.saving`, `keras.config`,
# whose functions open files and switch off the safe mode
_PARTS = re.compile(
    r"(builtins|keras(\.src)?(\.(activations|constraints|dtype_policies|initializers|layers|losses"
    r"|metrics|models|ops|optimizers|quantizers|regularizers)(\.\w+)*)?)"
)
_CODE = re.compile(
    r"__lambda__|Lambda|\w*(Torch|TFSM|Flax|Jax|JAX)\w*|\w*Lookup|TextVectorization|get_file|load_\w+"
)


class ConfigRefused(CouldNotTell):
    """The configuration of a network contains code, or something that opens other files."""

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        super().__init__(
            f"the network in '{path.name}' does more than compute: {', '.join(names)}",
            hint="allow it to run its own code with --trust, but only if you trust its authors",
            code="package.runs-code",
        )


class NoArchitecture(CouldNotTell):
    """The file has weights, but no architecture for them."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"'{path.name}' cannot be loaded: this file contains weights without an architecture",
            hint="choose other --weights; the model's authors must save the whole model instead",
            code="weights.architecture",
        )


def read_config(path: Path) -> Config:
    """Read the configuration of a ``.keras`` or HDF5 file, and check the rest of the file.

    Raises
    ------
    WeightsUnreadable
        The file is absent, damaged, in another format, or refers to other files.
    ArchiveRefused
        Members of the zip would be unpacked outside the folder, are links, would be far larger
        when unpacked, or are not the same for all programs.
    NoArchitecture
        The file holds only weights.
    NoBackend
        h5py is not installed.
    """
    try:
        if zipfile.is_zipfile(path):
            return _of_zip(path)
        with path.open("rb") as stream:
            text = _of_hdf5(stream, path)
    except EOFError as why:  # the exception has no message
        raise WeightsUnreadable(path, "keras", "it ends inside a member") from why
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as why:
        words = str(why).replace("\n", " ")
        raise WeightsUnreadable(path, "keras", words) from why
    if text is None:
        raise NoArchitecture(path)
    return _config(text, path)


def config_code(config: Config) -> tuple[str, ...]:
    """List the code that a configuration would run, apart from the layers of Keras.

    Examples
    --------
    >>> config_code({"class_name": "Lambda", "config": {"name": "twice"}})
    ('Lambda',)
    """
    return tuple(sorted(set(_code_in(config))))


def keras_code(path: Path) -> tuple[str, ...]:
    """List the parts of a Keras file that are code or open other files; see `read_config`."""
    try:
        return config_code(read_config(path))
    except NoArchitecture:
        return ()  # it contains nothing that could run


def write_config(path: Path, config: Config) -> None:
    """Replace the configuration in a file, in place."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (members | {_ZIP_CONFIG: json.dumps(config)}).items():
                archive.writestr(name, content)
        return
    import h5py

    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)


def _of_zip(path: Path) -> Config:
    with opened_zip(path) as archive:
        names = archive.namelist()
        if _ZIP_CONFIG not in names:
            raise NoArchitecture(path)
        for name in names:
            if name.endswith((".h5", ".hdf5")):
                _of_hdf5(BytesIO(archive.read(name)), path)
        if archive.getinfo(_ZIP_CONFIG).file_size > _MOST_CONFIG:
            raise WeightsUnreadable(path, "keras", f"its {_ZIP_CONFIG} is too large")
        return _config(archive.read(_ZIP_CONFIG), path)


def _of_hdf5(stream: BinaryIO, path: Path) -> str | bytes | None:
    try:
        import h5py
    except ImportError as why:
        reason = f"h5py cannot be imported ({why})"
        raise NoBackend("keras_hdf5", reason, FRAMEWORKS["keras_hdf5"].install) from why
    with h5py.File(stream, "r") as file:
        for fault in _faults(file, h5py):
            raise WeightsUnreadable(path, "keras", fault)
        text: str | bytes | None = file.attrs.get("model_config")
        return text


def _faults(file: Mapping[str, Any], h5py: ModuleType) -> Iterator[str]:
    held = stored = 0
    waiting, addresses = [file["/"]], set[int]()
    while waiting:
        group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"its '{name}' is in another file ('{link.filename}')"
                continue
            if isinstance(link, h5py.SoftLink):
                continue  # its target is checked in its own group
            part = group[name]
            address = h5py.h5o.get_info(part.id).addr
            if address in addresses:
                continue
            addresses.add(address)
            if isinstance(part, h5py.Group):
                waiting.append(part)
            elif isinstance(part, h5py.Dataset):
                if part.external or part.is_virtual:
                    yield f"its '{name}' takes its values from other files"
                held += part.nbytes
                stored += part.id.get_storage_size()
    if held > _SMALL and held > _MOST_RATIO * stored:
        yield f"{stored} bytes would unpack to {held}"


def _config(text: str | bytes, path: Path) -> Config:
    try:
        config = json.loads(text)
    except (TypeError, ValueError, RecursionError) as why:
        raise WeightsUnreadable(path, "keras", f"its configuration is not JSON ({why})") from why
    if not isinstance(config, dict):
        raise WeightsUnreadable(path, "keras", "its configuration is not a mapping")
    return config


def _code_in(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        if isinstance(part, dict):
            yield from _code_of(part)
            waiting.extend(part.values())


def _code_of(part: Config) -> Iterator[str]:
    name, module, registered = (part.get(k) for k in ("class_name", "module", "registered_name"))
    if not isinstance(name, str):
        return
    if _CODE.fullmatch(name):
        yield name
    if name in RAW_LAYERS:
        config = part.get("config")
        function = config.get("function") if isinstance(config, dict) else None
        if not is_plain_op(function):
            yield f"{name} {function}"
    if module is not None and not (isinstance(module, str) and _PARTS.fullmatch(module)):
        yield f"{module}.{name}"
    if name == "function" and module == "builtins" and isinstance(registered, str):
        called = part.get("config")
        if isinstance(called, str) and _CODE.fullmatch(called):
            yield called
