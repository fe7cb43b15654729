"""What Keras 2 wrote into its files, in words that Keras 3 reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bmz.predict.keras_files import Config
from bmz.predict.raw_ops import RAW_LAYERS

RAW_OP = "RawOp"
"""Name of the layer that stands for an operation of TensorFlow."""

_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
_DROPPED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), ("groups",)),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), ("groups", *_KERNEL)),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), ("groups", *_KERNEL)),
}
"""Arguments that Keras 2 kept of its base classes and never used: Keras 3 has none of them."""
_CONSTANT = "_CONSTANT_VALUE"
_SHAPE = "batch_input_shape"


class NotTranslated(ValueError):  # noqa: N818  (its caller tells which file)
    """A layer is used in a way that has no words in Keras 3."""


def for_keras_3(config: Config) -> Config:
    """Translate the configuration of a network.

    Parameters
    ----------
    config : as in the file; left as it is

    Returns
    -------
    dict
        equal to `config` where there is nothing to translate

    Raises
    ------
    NotTranslated
    """
    inner = config.get("config")
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
    """Say whether a translated configuration calls TensorFlow itself."""
    layers = config.get("config", {}).get("layers", [])
    return config.get("class_name") == RAW_OP or any(
        raw_ops_in(layer) for layer in layers if isinstance(layer, dict)
    )


def _sequence(inner: Any) -> Any:  # noqa: ANN401  (any JSON)
    # until Keras 2.2 a list of layers alone, of which the first knew the shape of the input
    inner = {"name": "sequential", "layers": inner} if isinstance(inner, list) else inner
    layers = inner.get("layers") if isinstance(inner, dict) else None
    if not layers or not all(isinstance(layer, dict) for layer in layers):
        return inner
    shape = layers[0].get("config", {}).get(_SHAPE)
    rest = [_without(layer, (_SHAPE,)) for layer in layers[1:]]
    if shape is None or layers[0].get("class_name") == "InputLayer":
        return inner | {"layers": [layers[0], *rest]}
    first = {"class_name": "InputLayer", "config": {_SHAPE: shape, "name": "input"}}
    return inner | {"layers": [first, _without(layers[0], (_SHAPE,)), *rest]}


def _layer(layer: Any, names: set[Any]) -> Any:  # noqa: ANN401  (any JSON)
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
        raise NotTranslated(f"'{layer.get('name')}' is used {len(nodes)} times, not once")
    node = nodes[0]
    listed = isinstance(node[0], list)
    entries = node if listed else [node]
    kwargs: Mapping[str, Any] = entries[0][3] if len(entries[0]) > 3 else {}  # noqa: PLR2004
    constant = None if listed or node[0] != _CONSTANT else node[2]
    first = [] if not listed and node[0] == _CONSTANT else [entry[:3] for entry in entries]
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
        shaped = isinstance(value, list) and len(value) == 3  # noqa: PLR2004  (layer, node, output)
        if shaped and isinstance(value[0], str) and value[0] in names:
            yield key, value
