"""Write one network in every weights format that a manifest may name."""

from __future__ import annotations

import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.conformance.network import Network, NoStandIn

Array = NDArray[Any]

ARCHITECTURE = Path(__file__).with_name("architecture.py")


@dataclass(frozen=True)
class ToWrite:
    """What every writer is given.

    Parameters
    ----------
    path : the file to write
    entry : of the manifest, for this format
    network : structure and weights
    module : the same network in torch
    inputs, outputs : the names of the tensors
    example : the prepared test inputs
    """

    path: Path
    entry: Mapping[str, Any]
    network: Network
    module: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: tuple[Array, ...]

    @property
    def only_head(self) -> Mapping[str, Any]:
        """Give the head of a network with one output."""
        (head,) = self.network.kwargs["outputs"]
        return dict(head)


def torch_module(network: Network) -> Any:
    """Build the network in torch."""
    import torch
    from tests.conformance.architecture import StandIn

    module = StandIn(**network.kwargs)
    state = {name: torch.from_numpy(values) for name, values in network.weights.items()}
    module.load_state_dict(state)
    return module.eval()


def run_torch(module: Any, inputs: Sequence[Array]) -> list[Array]:
    """Run the network in torch."""
    import torch

    with torch.inference_mode():
        found = module(*(torch.from_numpy(x) for x in inputs))
    return [y.numpy() for y in (found if isinstance(found, tuple) else (found,))]


def write_state_dict(told: ToWrite) -> None:
    """Write the weights alone; the architecture is a file of its own."""
    import torch

    torch.save(told.module.state_dict(), told.path)


def write_torchscript(told: ToWrite) -> None:
    """Trace the network."""
    import torch

    example = tuple(torch.from_numpy(x) for x in told.example)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fixed sizes are meant to be fixed
        traced = torch.jit.trace(told.module, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, told.path)


def write_onnx(told: ToWrite) -> None:
    """Export the network with the opset of the manifest."""
    import torch

    example = tuple(torch.from_numpy(x) for x in told.example)
    told_inputs, told_outputs = (told.network.kwargs[key] for key in ("inputs", "outputs"))
    names = (*told.inputs, *told.outputs)
    batched = {
        name: {0: "batch"}
        for name, tensor in zip(names, (*told_inputs, *told_outputs), strict=True)
        if tensor["axes"][0] == "batch"
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above; and the exporter is deprecated
        torch.onnx.export(
            told.module, example, str(told.path), dynamo=False, dynamic_axes=batched,
            input_names=list(told.inputs), output_names=list(told.outputs),
            opset_version=told.entry["opset_version"],
        )  # fmt: skip


def write_saved_model(told: ToWrite) -> None:
    """Zip a SavedModel: a session graph for TensorFlow 1.x, functions for 2.x."""
    import tensorflow as tf

    old = str(told.entry.get("tensorflow_version", "")).startswith("1.")
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "saved"
        (_save_graph if old else _save_functions)(tf, told, saved)
        with zipfile.ZipFile(told.path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in saved.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(saved))


def _save_graph(tf: Any, told: ToWrite, folder: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        taken = v1.placeholder(tf.float32, [None] * told.example[0].ndim, name="taken")
        given = _in_tensorflow(
            tf, told, taken, lambda name, w: v1.get_variable(name, initializer=w)
        )
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def(
            {told.inputs[0]: taken}, dict(zip(told.outputs, given, strict=True))
        )
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session, [v1.saved_model.tag_constants.SERVING], {"serving_default": signature}
        )
        builder.save()


def _save_functions(tf: Any, told: ToWrite, folder: Path) -> None:
    module = tf.Module()
    module.kept = {name: tf.Variable(values) for name, values in told.network.weights.items()}

    def serve(taken: Any) -> dict[str, Any]:
        given = _in_tensorflow(tf, told, taken, lambda name, _: module.kept[name])
        return dict(zip(told.outputs, given, strict=True))

    shape = [None] * told.example[0].ndim
    traced = tf.function(serve).get_concrete_function(
        tf.TensorSpec(shape, tf.float32, name=told.inputs[0])
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": traced})


def _in_tensorflow(
    tf: Any, told: ToWrite, taken: Any, variable: Callable[[str, Array], Any]
) -> list[Any]:
    """Compute what ``architecture.StandIn`` does, for one image and outputs of its size."""
    kwargs, weights = told.network.kwargs, told.network.weights
    (told_input,) = kwargs["inputs"]
    axes = told_input["axes"]
    space = [axis for axis in axes if axis in ("z", "y", "x")]
    laid = ["batch", *space, "channel"]
    last = tf.transpose(taken, [axes.index(axis) for axis in laid])
    kernel = variable("mix.weight", weights["mix.weight"])
    kernel = tf.transpose(kernel, [*range(2, 2 + len(space)), 1, 0])
    bias = variable("mix.bias", weights["mix.bias"])
    hidden = tf.tanh(tf.nn.convolution(last, kernel, padding="SAME") + bias)
    given = []
    for number, head in enumerate(kwargs["outputs"]):
        _only_channels(head)
        weight, more = (f"heads.{number}.linear.{part}" for part in ("weight", "bias"))
        matrix = tf.transpose(variable(weight, weights[weight]))
        found = tf.tensordot(hidden, matrix, 1) + variable(more, weights[more])
        if head["ending"] == "sigmoid":
            found = tf.sigmoid(found)
        given.append(tf.transpose(found, [laid.index(axis) for axis in head["axes"]]))
    return given


def _only_channels(head: Mapping[str, Any]) -> None:
    if head["gone"] or head["every"] or head["sized"] or set(head["own"]) != {"channel"}:
        raise NoStandIn("only outputs of the size of the image are made in TensorFlow and Keras")


def write_keras_hdf5(told: ToWrite) -> None:
    """Write the file that Keras 2 would: its configuration and its layout of weights."""
    import h5py

    (entry,), head = told.network.kwargs["inputs"], told.only_head
    _only_channels(head)
    if entry["axes"][-1] != "channel" or head["axes"] != entry["axes"]:
        raise NoStandIn("Keras wants the channels last")
    weights = told.network.weights
    mix, mixed = weights["mix.weight"], weights["mix.bias"]
    dims = mix.ndim - 2
    linear = weights["heads.0.linear.weight"]
    layers = {
        "mix": {"kernel:0": mix.transpose(*range(2, 2 + dims), 1, 0), "bias:0": mixed},
        "head": {
            "kernel:0": linear.T.reshape((1,) * dims + linear.T.shape),
            "bias:0": weights["heads.0.linear.bias"],
        },
    }
    config = _keras_2_config(told, dims, len(linear))
    with h5py.File(told.path, "w") as file:
        file.attrs["keras_version"] = "2.3.1"
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(config)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"taken", *(name.encode() for name in layers)]
        group.attrs["keras_version"], group.attrs["backend"] = "2.3.1", "tensorflow"
        group.create_group("taken").attrs["weight_names"] = np.zeros(0, "S1")
        for name, arrays in layers.items():
            layer = group.create_group(name)
            layer.attrs["weight_names"] = [f"{name}/{part}".encode() for part in arrays]
            for part, values in arrays.items():
                layer.create_dataset(f"{name}/{part}", data=values)


def _keras_2_config(told: ToWrite, dims: int, channels: int) -> dict[str, Any]:
    ending = "sigmoid" if told.only_head["ending"] == "sigmoid" else "linear"
    taken = {"batch_input_shape": [None] * (dims + 1) + [told.example[0].shape[-1]]}
    mix = _keras_2_convolution("mix", dims, (len(told.network.weights["mix.bias"]), 3), "tanh")
    head = _keras_2_convolution("head", dims, (channels, 1), ending)
    layers = [
        {"class_name": "InputLayer", "name": "taken", "inbound_nodes": [],
         "config": taken | {"dtype": "float32", "sparse": False, "name": "taken"}},
        mix | {"inbound_nodes": [[["taken", 0, 0, {}]]]},
        head | {"inbound_nodes": [[["mix", 0, 0, {}]]]},
    ]  # fmt: skip
    ends = {"input_layers": [["taken", 0, 0]], "output_layers": [["head", 0, 0]]}
    return {"class_name": "Model", "config": {"name": "standin", "layers": layers} | ends}


def _keras_2_convolution(
    name: str, dims: int, size: tuple[int, int], activation: str
) -> dict[str, Any]:
    filters, kernel = size
    zeros = {"class_name": "Zeros", "config": {}}
    config = {
        "name": name, "trainable": True, "dtype": "float32", "filters": filters,
        "kernel_size": [kernel] * dims, "strides": [1] * dims, "padding": "same",
        "data_format": "channels_last", "dilation_rate": [1] * dims, "activation": activation,
        "use_bias": True, "kernel_initializer": zeros, "bias_initializer": zeros,
        "kernel_regularizer": None, "bias_regularizer": None, "activity_regularizer": None,
        "kernel_constraint": None, "bias_constraint": None,
    }  # fmt: skip
    return {"class_name": f"Conv{dims}D", "name": name, "config": config}


def write_tensorflow_js(told: ToWrite) -> None:
    """Write a file that says what it is; nobody here runs TensorFlow.js."""
    told.path.write_text(json.dumps({"format": "graph-model", "weightsManifest": []}))


WRITERS: Mapping[str, Callable[[ToWrite], None]] = {
    "keras_hdf5": write_keras_hdf5,
    "onnx": write_onnx,
    "pytorch_state_dict": write_state_dict,
    "tensorflow_js": write_tensorflow_js,
    "tensorflow_saved_model_bundle": write_saved_model,
    "torchscript": write_torchscript,
}
