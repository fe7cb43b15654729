"""Weights formats: which framework runs each, and how its network is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec

from bmz.predict import keras, onnx, state_dict, tensorflow, torch_network, torchscript
from bmz.predict.backend import Backend, Device, LoadRequest, NoBackend, Precision
from bmz.predict.core import CORE, open_core
from bmz.predict.frameworks import FRAMEWORKS


def _float32_alone(_device: Device) -> tuple[Precision, ...]:
    return ("float32",)


@dataclass(frozen=True)
class WeightsFormat:
    """One weights format that bmz can run.

    Parameters
    ----------
    name : as in model descriptions
    module : of the framework, as imported
    distributions : the names under which the framework may be installed
    install : the command that installs it
    devices : lists the devices that the framework sees, the CPU first
    open : loads the weights
    precisions : lists the precisions of the framework on a device, float32 first
    hardware : returns the name that the maker of a device gives it
    """

    name: str
    module: str
    distributions: tuple[str, ...]
    install: str
    devices: Callable[[], tuple[Device, ...]]
    open: Callable[[LoadRequest], Backend]
    precisions: Callable[[Device], tuple[Precision, ...]] = _float32_alone
    hardware: Callable[[Device], str] = str


def _format(
    name: str, devices: Callable[[], tuple[Device, ...]], opener: Callable[[LoadRequest], Backend]
) -> WeightsFormat:
    needed = FRAMEWORKS[name]
    return WeightsFormat(name, needed.module, needed.distributions, needed.install, devices, opener)


def _of_torch(name: str, opener: Callable[[LoadRequest], Backend]) -> WeightsFormat:
    return replace(
        _format(name, torch_network.torch_devices, opener),
        precisions=torch_network.torch_precisions,
        hardware=torch_network.torch_hardware,
    )


FORMATS: Mapping[str, WeightsFormat] = {
    entry.name: entry
    for entry in (
        _format("onnx", onnx.onnx_devices, onnx.open_onnx),
        _of_torch("torchscript", torchscript.open_torchscript),
        _of_torch("pytorch_state_dict", state_dict.open_state_dict),
        _format(
            "tensorflow_saved_model_bundle",
            tensorflow.tensorflow_devices,
            tensorflow.open_tensorflow,
        ),
        _format("keras_v3", keras.keras_devices, keras.open_keras),
        _format("keras_hdf5", keras.keras_devices, keras.open_keras),
    )
}


def runnable(weights_format: str) -> WeightsFormat:
    """Look up a format and check that its framework is installed, without importing it.

    Raises
    ------
    NoBackend
        bmz has no backend for the format, or the framework is not installed.
    """
    entry = FORMATS.get(weights_format)
    if entry is None:
        known = ", ".join(FORMATS)
        raise NoBackend(weights_format, f"bmz runs {known}", f"choose --weights of {known}")
    if find_spec(entry.module) is None:
        raise NoBackend(weights_format, f"{entry.module} is not installed", entry.install)
    return entry


def open_backend(weights_format: str, request: LoadRequest) -> Backend:
    """Load weights into the framework of their format.

    Parameters
    ----------
    weights_format : as in model descriptions, such as ``onnx``; or `CORE`, which runs the whole
        pipeline of a model
    request : the file, and what the description states about it

    Raises
    ------
    NoBackend
        The framework is not installed; the hint is the command that installs it.
    WeightsUnreadable
        The file is absent, corrupt, or in another format.
    TensorCountDiffers
        The network has another number of inputs, or fewer outputs, than the description.
    """
    if weights_format == CORE:
        return open_core(request)
    return runnable(weights_format).open(request)
