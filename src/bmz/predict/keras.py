"""Run Keras weights of versions 2 and 3, whose content is checked before it is loaded."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.predict import tensorflow, torch_network
from bmz.predict.backend import (
    CPU,
    Device,
    LoadRequest,
    NetworkFailed,
    NoBackend,
    OutOfMemory,
    WeightsUnreadable,
    checked_count,
    only_float32,
    shapes_of,
    without_loss,
)
from bmz.predict.frameworks import FRAMEWORKS, quiet
from bmz.predict.graph_code import (
    RAW_LAYERS,
    Config,
    ConfigRefused,
    config_code,
    raw_op_layer,
    read_config,
    write_config,
)
from bmz.predict.output_order import Named, input_order, output_order

RAW_OP = "RawOp"
"""Name of the layer that represents a TensorFlow operation."""

_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
_DROPPED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), ("groups",)),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), ("groups", *_KERNEL)),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), ("groups", *_KERNEL)),
}
"""Arguments that layers of Keras 2 inherited but never used; Keras 3 does not have them."""
_CONSTANT = "_CONSTANT_VALUE"
_SHAPE = "batch_input_shape"
_SOURCE = 3
"""Entries that identify a tensor in Keras 2 (layer, node and output); arguments may follow."""


class TranslationError(ValueError):
    """A layer is used in a way that Keras 3 cannot express."""


def for_keras_3(config: Config) -> Config:
    """Translate the configuration of a network to Keras 3.

    Parameters
    ----------
    config : configuration in the file; it is not changed

    Returns
    -------
    dict
        equal to `config` if there is nothing to translate

    Raises
    ------
    TranslationError
    """
    inner: object = config.get("config")
    if config.get("class_name") == "Sequential":
        inner = _sequence(inner)
    if not isinstance(inner, dict):
        return config
    layers = inner.get("layers")
    if isinstance(layers, list):
        names = {layer.get("name") for layer in layers if isinstance(layer, dict)}
        translated = [_layer(layer, names) for layer in layers]
        return config | {"config": inner | {"layers": translated}}
    if isinstance(inner.get("layer"), dict):  # a wrapper, such as TimeDistributed
        return config | {"config": inner | {"layer": for_keras_3(_without_dropped(inner["layer"]))}}
    return config


def raw_ops_in(config: Config) -> bool:
    """Return whether a translated configuration calls TensorFlow directly."""
    layers = config.get("config", {}).get("layers", [])
    return config.get("class_name") == RAW_OP or any(
        raw_ops_in(layer) for layer in layers if isinstance(layer, dict)
    )


def _sequence(inner: object) -> object:
    # up to Keras 2.2: just a list of layers, the first of which states the shape of the input
    if isinstance(inner, list):
        inner = {"name": "sequential", "layers": inner}
    if not isinstance(inner, dict):
        return inner
    layers = inner.get("layers")
    if not layers or not all(isinstance(layer, dict) for layer in layers):
        return inner
    shape = layers[0].get("config", {}).get(_SHAPE)
    rest = [_without(layer, (_SHAPE,)) for layer in layers[1:]]
    if shape is None or layers[0].get("class_name") == "InputLayer":
        return inner | {"layers": [layers[0], *rest]}
    first = {"class_name": "InputLayer", "config": {_SHAPE: shape, "name": "input"}}
    return inner | {"layers": [first, _without(layers[0], (_SHAPE,)), *rest]}


def _layer(layer: object, names: set[Any]) -> object:
    if not isinstance(layer, dict):
        return layer
    if layer.get("class_name") in RAW_LAYERS:
        return _raw_op(layer, names)
    return for_keras_3(_without_dropped(layer))


def _without_dropped(layer: Config) -> Config:
    return _without(layer, _DROPPED.get(layer.get("class_name", ""), ()))


def _without(layer: Config, dropped: tuple[str, ...]) -> Config:
    inner = layer.get("config")
    if not isinstance(inner, dict) or not set(dropped) & set(inner):
        return layer
    return layer | {"config": {key: v for key, v in inner.items() if key not in dropped}}


def _raw_op(layer: Config, names: set[Any]) -> Config:
    nodes = layer.get("inbound_nodes", [])
    if len(nodes) != 1:
        raise TranslationError(f"'{layer.get('name')}' is used {len(nodes)} times, not once")
    node = nodes[0]
    listed = isinstance(node[0], list)
    entries = node if listed else [node]
    kwargs: Mapping[str, Any] = {}
    if len(entries[0]) > _SOURCE:
        kwargs = entries[0][_SOURCE]
    constant = None if listed or node[0] != _CONSTANT else node[2]
    first = [] if not listed and node[0] == _CONSTANT else [entry[:_SOURCE] for entry in entries]
    named = dict(_tensors(kwargs, names))
    call = {
        "function": layer["config"]["function"],
        "first": len(first),
        "listed": listed,
        "constant": constant,
        "named": list(named),
        "kwargs": {key: value for key, value in kwargs.items() if key not in named},
    }
    inner = {key: layer["config"][key] for key in ("name", "dtype") if key in layer["config"]}
    return {
        "class_name": RAW_OP,
        "name": layer["name"],
        "config": inner | {"call": call},
        "inbound_nodes": [[[*source, {}] for source in (*first, *named.values())]],
    }


def _tensors(kwargs: Mapping[str, Any], names: set[Any]) -> Iterator[tuple[str, list[Any]]]:
    for key, value in kwargs.items():
        shaped = isinstance(value, list) and len(value) == _SOURCE
        if shaped and isinstance(value[0], str) and value[0] in names:
            yield key, value


FORMAT = "keras_hdf5"
INSTALL = FRAMEWORKS[FORMAT].install

_WRAPPED = "Exception encountered: "
_COLOUR = re.compile(r"\x1b\[\d*m")
_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "oom when")


def keras_devices() -> tuple[Device, ...]:
    """List the devices that Keras's backend can use, the CPU first.

    Raises
    ------
    NoBackend
        Keras, or the framework that it computes with, is not installed or is broken.
    """
    backend = _keras().backend.backend()
    listers = {"tensorflow": tensorflow.tensorflow_devices, "torch": torch_network.torch_devices}
    devices = listers[backend]() if backend in listers else (CPU,)
    return tuple(device for device in devices if device.kind != "mps")


def open_keras(request: LoadRequest) -> KerasBackend:
    """Load a ``.keras`` or HDF5 file of Keras 2 or 3.

    Raises
    ------
    NoBackend
        Keras, or the framework that it computes with, is not installed or is broken.
    PrecisionUnsupported
        Keras computes as the file states, and another precision was requested.
    WeightsUnreadable, ArchiveRefused, NoArchitecture
        As in ``bmz.predict.graph_code.read_config``.
    ConfigRefused
        The file contains code, and is not trusted.
    TensorCountDiffers, OutputsUnclear
        The inputs or outputs do not match the description.
    """
    config = read_config(request.path)
    code = config_code(config)
    if code and not request.trusted:
        raise ConfigRefused(request.path, code)
    keras = _keras()
    only_float32(_name(keras), request)
    if keras.backend.backend() == "tensorflow":
        module = tensorflow.import_tensorflow(FORMAT)
        tensorflow.limit_threads(module, request.threads)
        tensorflow.round_nothing(module, request.device)
    elif keras.backend.backend() == "torch":
        torch_network.ready_torch(request)
    network = _loaded(keras, config, request)
    return KerasBackend(keras, network, request)


class KerasTensor(Protocol):
    """An input or output of a network, as described by Keras."""

    @property
    def name(self) -> str:
        """Its name in the network."""

    @property
    def shape(self) -> Sequence[int | None]:
        """The sizes of its axes; None for axes of any size."""

    @property
    def dtype(self) -> object:
        """Its dtype, as named by Keras's backend."""


class KerasModel(Protocol):
    """The part of a ``keras.Model`` that is used here."""

    @property
    def inputs(self) -> Sequence[KerasTensor]:
        """The inputs, in Keras's order."""

    @property
    def outputs(self) -> Sequence[KerasTensor]:
        """The outputs, in the order that the authors chose."""

    @property
    def input(self) -> object:
        """The inputs, nested as in the authors' code."""

    def predict_on_batch(self, x: object) -> object:
        """Run the network once."""


class KerasBackend:
    """One model of Keras.

    Parameters
    ----------
    keras : the module
    network : a ``keras.Model``
    request : the request that it was opened with
    """

    def __init__(self, keras: ModuleType, network: KerasModel, request: LoadRequest) -> None:
        self.name = _name(keras)
        self.device = request.device
        self._keras = keras
        self._network: KerasModel | None = network
        self._takes = list(network.inputs)
        names = [tensor.name for tensor in self._takes]
        checked_count("inputs", expected=len(request.input_ids), actual=len(names))
        # Keras states the order of its inputs, so they need not be sorted
        by_name = set(names) == set(request.input_ids)
        order = input_order(names, request) if by_name else names
        self._positions = [order.index(name) for name in names]
        outputs = list(zip(_output_names(network), network.outputs, strict=True))
        self._outputs = _positions(outputs, request)

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run the network once; see `Backend`."""
        checked_count("inputs", expected=len(self._positions), actual=len(inputs))
        if self._network is None:
            raise NetworkFailed(self.name, shapes_of(inputs), "the backend is closed")
        feed = [
            self._fed(inputs[position], tensor)
            for position, tensor in zip(self._positions, self._takes, strict=True)
        ]
        try:
            with _on(self._keras, self.device):
                result = self._network.predict_on_batch(self._packed(self._network, feed))
        except Exception as why:  # each of its backends raises its own errors
            words = str(why).lower()
            if isinstance(why, MemoryError) or any(word in words for word in _MEMORY_WORDS):
                raise OutOfMemory(self.device, shapes_of(inputs)) from why
            raise NetworkFailed(self.name, shapes_of(inputs), _words(why)) from why
        flat = self._keras.tree.flatten(result)
        return [np.asarray(flat[position]) for position in self._outputs]

    def close(self) -> None:
        """Free the network."""
        self._network = None

    def _packed(self, network: KerasModel, feed: list[AnyArray]) -> object:
        """Nest the inputs as in the authors' code."""
        if isinstance(network, self._keras.Sequential):
            return feed[0]
        nested: object = self._keras.tree.pack_sequence_as(network.input, feed)
        return nested

    def _fed(self, array: AnyArray, tensor: KerasTensor) -> AnyArray:
        # a wrong number of axes ends the whole process in TensorFlow 2.21
        if len(tensor.shape) != array.ndim:
            why = f"its input '{tensor.name}' has {len(tensor.shape)} axes"
            raise NetworkFailed(self.name, shapes_of([array]), why)
        dtype = np.dtype(self._keras.backend.standardize_dtype(tensor.dtype))
        # a copy, since networks on PyTorch may work in place
        return tensorflow.native(without_loss(array, dtype, tensor.name)).copy()


def _positions(outputs: Sequence[tuple[str, KerasTensor]], request: LoadRequest) -> list[int]:
    names = [name for name, _ in outputs]
    ids = request.output_names or request.output_ids
    if set(ids) <= set(names) and len(set(names)) == len(names):
        return [names.index(name) for name in ids]
    # Keras keeps the authors' order, which is that of the description if the shapes match
    numbered = [Named(f"output_{i}", tuple(t.shape)) for i, (_, t) in enumerate(outputs)]
    return [int(name.removeprefix("output_")) for name in output_order(numbered, request)]


def _output_names(network: KerasModel) -> list[str]:
    names = getattr(network, "output_names", None)
    return list(names) if names else [tensor.name for tensor in network.outputs]


def _keras() -> ModuleType:
    if sys.modules.get("keras") is None and "KERAS_BACKEND" not in os.environ:
        # a process cannot change its backend; a choice made by the user is kept
        backend = "tensorflow" if find_spec("tensorflow") else "torch"
        os.environ["KERAS_BACKEND"] = backend
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow" and find_spec("tensorflow"):
        tensorflow.import_tensorflow(FORMAT)  # before Keras does, and quietly
    try:
        with quiet():  # on any backend it imports TensorFlow if that is installed
            import keras

        keras.backend.backend()
    except (ImportError, OSError, AttributeError) as why:
        raise NoBackend(FORMAT, f"keras cannot be imported ({why})", INSTALL) from why
    module: ModuleType = keras
    return module


def _name(keras: ModuleType) -> str:
    return f"keras {keras.__version__} on {keras.backend.backend()}"


def _loaded(keras: ModuleType, config: Config, request: LoadRequest) -> KerasModel:
    try:
        translated = for_keras_3(config)
    except TranslationError as why:
        raise WeightsUnreadable(request.path, FORMAT, str(why)) from why
    objects = _own_layers(keras, translated)
    try:
        with (
            quiet(),
            _for_loading(request.path, config, translated) as path,
            _on(keras, request.device),
        ):
            network: KerasModel = keras.models.load_model(
                str(path), custom_objects=objects, compile=False, safe_mode=not request.trusted
            )
    except Exception as why:  # a layer may raise any error about its configuration
        raise WeightsUnreadable(request.path, FORMAT, _words(why)) from why
    return network


def _own_layers(keras: ModuleType, config: Config) -> dict[str, type]:
    if not raw_ops_in(config):
        return {}
    if keras.backend.backend() != "tensorflow":
        raise NoBackend(
            FORMAT,
            f"the network calls TensorFlow directly, but keras runs on {keras.backend.backend()}",
            FRAMEWORKS["tensorflow_saved_model_bundle"].install,
        )
    return {RAW_OP: raw_op_layer(keras, tensorflow.import_tensorflow(FORMAT))}


@contextmanager
def _for_loading(path: Path, config: Config, translated: Config) -> Iterator[Path]:
    """Yield a file that has a suffix known to Keras and the translated configuration."""
    zipped = zipfile.is_zipfile(path)
    suffixes = (".keras",) if zipped else (".h5", ".hdf5")
    if translated == config and path.name.endswith(suffixes):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="bmz-keras-") as folder:
        copy = Path(folder) / f"network{suffixes[0]}"
        shutil.copyfile(path, copy)
        if translated != config:
            write_config(copy, translated)
        yield copy


@contextmanager
def _on(keras: ModuleType, device: Device) -> Iterator[None]:
    with warnings.catch_warnings(), keras.device(_placed(device)):
        # its PyTorch backend converts tensors in a way that NumPy 2 deprecates
        warnings.filterwarnings("ignore", r"__array__ implementation doesn't accept a copy")
        yield


def _placed(device: Device) -> str:
    # not cpu:0: PyTorch would not copy a parameter that it moves there
    return f"gpu:{device.index}" if device.kind == "cuda" else "cpu"


def _words(why: Exception) -> str:
    """Return the line of a Keras error that states the cause; Keras wraps the errors of others."""
    plain = _COLOUR.sub("", str(why))
    _, wrapped, inner = plain.rpartition(_WRAPPED)
    if wrapped:
        return inner.strip().partition("\n")[0]
    lines = [line for line in plain.splitlines() if not line.startswith("Exception encountered")]
    return tensorflow.why_words(ValueError("\n".join(lines)))
