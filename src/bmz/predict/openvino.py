"""Run networks in three formats with OpenVINO on a CPU; no other module imports it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.computer import available_cpus
from bmz.base.files import seal, sealed_content
from bmz.predict.backend import (
    CPU,
    Device,
    LoadRequest,
    NetworkFailed,
    NoBackend,
    OutOfMemory,
    Precision,
    PrecisionUnsupported,
    TensorCountDiffers,
    WeightsUnreadable,
    checked_count,
    shapes_of,
    without_loss,
)
from bmz.predict.frameworks import OTHER_FRAMEWORKS
from bmz.predict.onnx_files import refuse_outside

NAME = "openvino"

MOST_KEPT = 4
"""Maximum number of compiled networks cached per package: two precisions, one or all threads."""

MOST_BYTES = 2**29
"""Maximum size of a cached compiled network: larger ones take long to hash and fill disks."""

_BLOB = ".openvino"

_ONNX = "onnx"
_INSTALL = OTHER_FRAMEWORKS[_ONNX][NAME].install
_CPU = "CPU"
_HINTS: Mapping[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES: Mapping[Precision, str] = {"bfloat16": "BF16", "float16": "FP16"}
_NARROWED = ("f64", "i64", "u64")
"""Element types of inputs that OpenVINO computes in 32 bits on a CPU."""

_CONVERTERS = ("openvino.tools.ovc", "openvino_telemetry")
"""Modules not needed here: they take a third of the import time, and one sends telemetry."""

_MEMORY_WORDS = ("bad_alloc", "out of memory", "cannot allocate", "could not allocate")
_NOISE = ("Exception from", "Check '", "While validating")


def openvino_devices() -> tuple[Device, ...]:
    """List the devices on which bmz uses OpenVINO: the CPU.

    Raises
    ------
    NoBackend
        OpenVINO is absent or broken.
    """
    _openvino()
    return (CPU,)


def openvino_precisions(_device: Device) -> tuple[Precision, ...]:
    """List the precisions in which OpenVINO computes on this processor, float32 first.

    Raises
    ------
    NoBackend
        OpenVINO is absent or broken.
    """
    capabilities = _openvino().Core().get_property(_CPU, "OPTIMIZATION_CAPABILITIES")
    return ("float32", *(name for name, word in _CAPABILITIES.items() if word in capabilities))


def weighed_precisions(device: Device) -> tuple[Precision, ...]:
    """List the precisions to choose from: all but float16, whose range values may exceed.

    Raises
    ------
    NoBackend
        OpenVINO is absent or broken.
    """
    return tuple(name for name in openvino_precisions(device) if name != "float16")


def open_onnx(request: LoadRequest) -> OpenvinoBackend:
    """Load an ONNX file and its external data, if any.

    Raises
    ------
    NoBackend
        OpenVINO is absent or broken, or computes 64-bit tensors in 32 bits.
    WeightsUnreadable
        The file is absent, corrupt or not an ONNX file, takes tensors from outside its folder, or
        has an operator that OpenVINO lacks.
    TensorCountDiffers
        It has a different number of inputs, or fewer outputs, than the description.
    PrecisionUnsupported
        The processor does not compute in the requested precision.
    """
    openvino = _ready(request)
    refuse_outside(request.path)
    return _opened(openvino, request, _read(request.path), _Kind(_ONNX, _onnx_places))


def open_bundle(request: LoadRequest) -> OpenvinoBackend:
    """Load a SavedModel; TensorFlow is not needed.

    Raises
    ------
    NoBackend, PrecisionUnsupported
        As in `open_onnx`.
    WeightsUnreadable, ArchiveRefused
        The bundle is absent, damaged or unsafe, or has an operation that OpenVINO lacks.
    BundleTouchesHost
        The graph does more than compute, such as reading or writing files, and is not trusted.
    TensorCountDiffers, OutputsUnclear
        The inputs or outputs do not match the description.
    """
    from bmz.predict.graph_code import refuse_host_ops  # here: most models are ONNX
    from bmz.predict.output_order import FORMAT, unpacked_bundle

    refuse_host_ops(request)
    openvino = _ready(request)
    with unpacked_bundle(request.path) as folder:
        return _opened(openvino, request, _read(folder), _Kind(FORMAT, _bundle_places))


def open_script(request: LoadRequest) -> OpenvinoBackend:
    """Load a TorchScript file; PyTorch reads the file but does not run it.

    Raises
    ------
    NoBackend, PrecisionUnsupported, TensorCountDiffers
        As in `open_onnx`, or PyTorch is not installed.
    WeightsUnreadable, ScriptTouchesHost, ArchiveRefused
        As in `bmz.predict.torchscript.open_torchscript`, or OpenVINO lacks an operator.
    """
    from bmz.predict.torchscript import load_script  # as above

    openvino = _ready(request)
    script, _ = load_script(request)
    read = partial(_of_script, script, request.input_axes)
    return _opened(openvino, request, read, _Kind("torchscript", _onnx_places))


def _of_script(script: object, input_axes: Sequence[str], _core: Core) -> Network:
    """Convert a script, which need not state the rank and type of its inputs."""
    from openvino import PartialShape, Type
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(script)  # the network refers to it until it is converted
    network = frontend.convert(frontend.load(decoder))
    for port, axes in zip(network.inputs, input_axes, strict=False):
        if port.partial_shape.rank.is_dynamic:
            port.get_node().set_partial_shape(PartialShape.dynamic(len(axes)))
        if port.element_type.is_dynamic():
            port.get_node().set_element_type(Type.f32)
    network.validate_nodes_and_infer_types()
    converted: Network = network
    return converted


def _read(path: Path) -> Callable[[Core], Network]:
    return lambda core: core.read_model(str(path))


def _ready(request: LoadRequest) -> ModuleType:
    openvino = _openvino()
    if request.precision not in openvino_precisions(request.device):
        raise PrecisionUnsupported(NAME, request.device, request.precision)
    return openvino


class _Kind(NamedTuple):
    """A weights format that OpenVINO reads.

    Parameters
    ----------
    name : name in model descriptions
    places : returns the positions of inputs and outputs in the order of the description
    """

    name: str
    places: Callable[[Compiled, LoadRequest], tuple[Sequence[int], Sequence[int]]]


def _opened(
    openvino: ModuleType, request: LoadRequest, read: Callable[[Core], Network], kind: _Kind
) -> OpenvinoBackend:
    settings: Settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[request.precision],
        "INFERENCE_NUM_THREADS": request.threads or available_cpus(),
        "NUM_STREAMS": 1,
        # threads that are pinned to CPUs cannot share them with another process
        "ENABLE_CPU_PINNING": False,
    }
    core: Core = openvino.Core()
    version = str(openvino.__version__)
    try:
        network = read(core)
        compiled = _compiled(core, network, settings, _kept_path(request, settings, version))
    except Exception as why:  # its errors share no other base
        raise WeightsUnreadable(request.path, kind.name, f"{NAME}: {_reason(why)}") from why
    _refuse_narrowed(compiled, kind.name)
    name = f"{NAME} {version.partition('-')[0]}"
    places = kind.places(compiled, request)
    return OpenvinoBackend(compiled, ShapeCheck(network), request, name, places)


Settings = Mapping[str, str | int | bool]


def _kept_path(request: LoadRequest, settings: Settings, version: str) -> Path | None:
    if request.kept is None:
        return None
    words = json.dumps([settings, version], sort_keys=True)
    digest = hashlib.sha256(words.encode()).hexdigest()[:16]
    return request.kept.with_name(f"{request.kept.name}.{digest}{_BLOB}")


def _compiled(core: Core, network: Network, settings: Settings, kept: Path | None) -> Compiled:
    """Compile a network, or load it as compiled by an earlier process.

    Parameters
    ----------
    kept : cache file of the compiled network, which is rebuilt if absent or damaged; None for none
    """
    content = b"" if kept is None else sealed_content(kept)
    if content:
        try:
            return core.import_model(BytesIO(content), _CPU, settings)
        except RuntimeError:
            content = b""  # it is compiled again below
    compiled = core.compile_model(network, _CPU, settings)
    if kept is not None:
        _keep(kept, compiled.export_model().getvalue())
    return compiled


def _keep(path: Path, content: bytes) -> None:
    """Cache a compiled network and its SHA-256, if possible; remove old ones of the package."""
    if len(content) > MOST_BYTES:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        seal(path, content)
        others = sorted(path.parent.glob(f"*{_BLOB}"), key=lambda other: other.stat().st_mtime)
        for old in others[:-MOST_KEPT]:
            old.unlink(missing_ok=True)


class InferRequest(Protocol):
    """The part of an ``openvino.InferRequest`` used here."""

    def infer(self, inputs: Mapping[int, AnyArray], *, share_inputs: bool) -> object:
        """Run the network."""

    def get_output_tensor(self, index: int) -> Any:  # noqa: ANN401  (it has no types)
        """Return an output of the last run."""


class Port(Protocol):
    """An input or output of a network: its names in the file, and its OpenVINO types."""

    names: set[str]
    element_type: Any
    partial_shape: Any


class Compiled(Protocol):
    """The part of an ``openvino.CompiledModel`` used here; OpenVINO has no types."""

    @property
    def inputs(self) -> Sequence[Port]:
        """List the inputs of the network."""

    @property
    def outputs(self) -> Sequence[Port]:
        """List the outputs of the network."""

    def export_model(self) -> BytesIO:
        """Return the compiled network as bytes."""

    def create_infer_request(self) -> InferRequest:
        """Return an object that runs the network."""


class Core(Protocol):
    """The part of an ``openvino.Core`` used here."""

    def read_model(self, path: str) -> Network:
        """Read a network."""

    def compile_model(self, network: Network, device: str, settings: Settings) -> Compiled:
        """Compile a network."""

    def import_model(self, stream: BytesIO, device: str, settings: Settings) -> Compiled:
        """Read what ``export_model`` returned."""


class Network(Protocol):
    """The part of an ``openvino.Model`` used here."""

    @property
    def outputs(self) -> Sequence[Port]:
        """List the outputs of the network."""

    def reshape(self, sizes: Mapping[int, Sequence[int]]) -> None:
        """Infer all sizes from those of the inputs; raise an error if they are inconsistent."""


class ShapeCheck:
    """Infers the sizes of the outputs before the network runs.

    If the inputs are inconsistent, a compiled network with variable sizes and one thread raises no
    error: it returns the outputs of the previous run (OpenVINO 2026.4).

    Parameters
    ----------
    network : an ``openvino.Model``
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._known: dict[tuple[tuple[int, ...], ...], list[tuple[int, ...] | None]] = {}

    def outputs(self, inputs: Mapping[int, AnyArray]) -> list[tuple[int, ...] | None]:
        """Return the shape of each output; None if it depends on the values.

        Raises
        ------
        RuntimeError
            The inputs do not match each other or the network.
        """
        shapes = {number: array.shape for number, array in inputs.items()}
        key = tuple(shapes.values())
        if key not in self._known:
            self._network.reshape(shapes)
            found = [port.partial_shape for port in self._network.outputs]
            self._known[key] = [tuple(s.to_shape()) if s.is_static else None for s in found]
        return self._known[key]


class OpenvinoBackend:
    """One compiled network.

    Parameters
    ----------
    compiled : an ``openvino.CompiledModel``
    shapes : shape check of the same network
    request : request that it was opened with
    name : name and version of the framework
    places : positions of its inputs and outputs, in the order of the description
    """

    def __init__(
        self,
        compiled: Compiled,
        shapes: ShapeCheck,
        request: LoadRequest,
        name: str,
        places: tuple[Sequence[int], Sequence[int]],
    ) -> None:
        self.name, self.device, self._shapes = name, request.device, shapes
        inputs, self._outputs = places
        dtypes = [port.element_type.to_dtype() for port in compiled.inputs]
        self._inputs = [(number, dtypes[number]) for number in inputs]
        self._input_ids = request.input_ids
        self._request: InferRequest | None = compiled.create_infer_request()

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once; see `Backend`."""
        checked_count("inputs", expected=len(self._inputs), actual=len(inputs))
        if self._request is None:
            raise NetworkFailed(self.name, shapes_of(inputs), "the backend is closed")
        named = zip(inputs, self._inputs, self._input_ids, strict=True)
        feed = {number: _fed(array, dtype, name) for array, (number, dtype), name in named}
        try:
            expected = self._shapes.outputs(feed)
            self._request.infer(feed, share_inputs=True)
            # the next run reuses this memory
            outputs = [self._request.get_output_tensor(n).data.copy() for n in self._outputs]
        except Exception as why:  # its errors share no other base
            if any(word in str(why).lower() for word in _MEMORY_WORDS):
                raise OutOfMemory(self.device, shapes_of(inputs)) from why
            raise NetworkFailed(self.name, shapes_of(inputs), _reason(why)) from why
        for number, array in zip(self._outputs, outputs, strict=True):
            if expected[number] not in (None, array.shape):
                why_words = f"output {number} is {array.shape}, not {expected[number]}"
                raise NetworkFailed(self.name, shapes_of(inputs), why_words)
        return outputs

    def close(self) -> None:
        """Free the network."""
        self._request = None


@contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Make modules that are not imported yet unavailable to imports in the block."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: not to be imported
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def _openvino() -> ModuleType:
    try:
        with _hidden(_CONVERTERS):
            import openvino
    except (ImportError, OSError) as why:
        raise NoBackend(_ONNX, f"{NAME} cannot be imported ({why})", _INSTALL) from why
    if not hasattr(openvino, "Core"):  # a folder of that name, or the remains of an installation
        raise NoBackend(_ONNX, f"the installation of {NAME} is empty", _INSTALL)
    module: ModuleType = openvino
    return module


def _refuse_narrowed(compiled: Compiled, weights_format: str) -> None:
    for port in (*compiled.inputs, *compiled.outputs):
        kind = port.element_type.get_type_name()
        if kind in _NARROWED:
            reason = f"{NAME} computes its tensors of type {kind} in 32 bits"
            raise NoBackend(weights_format, reason, "--backend native")


def _fed(array: AnyArray, dtype: np.dtype[Any], name: str) -> AnyArray:
    native = np.dtype(dtype).newbyteorder("=")
    return np.ascontiguousarray(without_loss(array, native, name))


def _onnx_places(compiled: Compiled, request: LoadRequest) -> tuple[Sequence[int], Sequence[int]]:
    """Find tensors by name if the names are the ids, else by position."""
    inputs, outputs = compiled.inputs, compiled.outputs
    checked_count("inputs", expected=len(request.input_ids), actual=len(inputs))
    if len(outputs) < len(request.output_ids):
        count = len(request.output_ids)
        raise TensorCountDiffers("outputs", expected=count, actual=len(outputs))
    return _order(inputs, request.input_ids), _order(outputs, request.output_ids)


def _order(ports: Sequence[Port], ids: Sequence[str]) -> Sequence[int]:
    places = {name: number for number, port in enumerate(ports) for name in port.names}
    return [places[name] for name in ids] if set(ids) <= set(places) else range(len(ids))


def _bundle_places(compiled: Compiled, request: LoadRequest) -> tuple[Sequence[int], Sequence[int]]:
    """Find tensors as for TensorFlow, whose signatures have names but no order."""
    from bmz.predict.output_order import Named, input_order, output_order  # as above

    taken = [_name(port, request.input_ids) for port in compiled.inputs]
    ids = (*request.output_names, *request.output_ids)
    given = [Named(_name(port, ids, taken), _sizes(port)) for port in compiled.outputs]
    names = [output.name for output in given]
    return (
        [taken.index(name) for name in input_order(taken, request)],
        [names.index(name) for name in output_order(given, request)],
    )


def _name(port: Port, ids: Sequence[str], others: Sequence[str] = ()) -> str:
    """Return the name of a port that is an id, else its first name that is not in `others`."""
    own = port.names.difference(others)  # an input that is passed through keeps its name
    return next((name for name in ids if name in port.names), min(own or port.names, default=""))


def _sizes(port: Port) -> tuple[int | None, ...] | None:
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return None
    return tuple(size.get_length() if size.is_static else None for size in shape)


def _reason(why: Exception) -> str:
    """Return the lines of an error that state the cause, joined; the others name source files."""
    lines = [line.strip() for line in str(why).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_NOISE)]
    return " ".join(telling or lines) or type(why).__name__
