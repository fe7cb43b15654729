"""The table of weights formats: which framework runs each, and how to install it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from bmz.predict import onnx, torchscript
from bmz.predict.backend import Backend, Device, NoBackend, Weights
from bmz.predict.frameworks import FRAMEWORKS


@dataclass(frozen=True)
class WeightsFormat:
    """One weights format that bmz can run.

    Parameters
    ----------
    name : as in model descriptions
    module : of the framework, as imported
    distributions : the names under which the framework may be installed
    install : the line that installs it
    devices : lists the devices that the framework sees, the CPU first
    open : loads weights
    """

    name: str
    module: str
    distributions: tuple[str, ...]
    install: str
    devices: Callable[[], tuple[Device, ...]]
    open: Callable[[Weights], Backend]


def _format(
    name: str, devices: Callable[[], tuple[Device, ...]], opener: Callable[[Weights], Backend]
) -> WeightsFormat:
    needed = FRAMEWORKS[name]
    return WeightsFormat(name, needed.module, needed.distributions, needed.install, devices, opener)


FORMATS: Mapping[str, WeightsFormat] = {
    entry.name: entry
    for entry in (
        _format("onnx", onnx.onnx_devices, onnx.open_onnx),
        _format("torchscript", torchscript.torch_devices, torchscript.open_torchscript),
    )
}


def runnable(weights_format: str) -> WeightsFormat:
    """Look a format up and see that its framework is installed, without importing it.

    Raises
    ------
    NoBackend
        bmz has no backend for the format, or the framework is absent.
    """
    entry = FORMATS.get(weights_format)
    if entry is None:
        known = ", ".join(FORMATS)
        raise NoBackend(weights_format, f"bmz runs {known}", f"choose --weights of {known}")
    if find_spec(entry.module) is None:
        raise NoBackend(weights_format, f"{entry.module} is not installed", entry.install)
    return entry
