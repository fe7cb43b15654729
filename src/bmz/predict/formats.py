"""Weights formats and devices: which framework runs each, and which device an option names."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from bmz.base.computer import available_cpus, version_of
from bmz.base.errors import CouldNotTell, WrongUsage
from bmz.base.values import dataclass
from bmz.check.kind_network import LayersRunner
from bmz.predict import openvino
from bmz.predict.backend import CPU, Backend, Device, LoadRequest, NoBackend, Precision
from bmz.predict.core import CORE, open_core
from bmz.predict.frameworks import (
    AUTO,
    BACKEND_WORDS,
    FRAMEWORKS,
    NATIVE,
    OTHER_FRAMEWORKS,
    Framework,
    wished_backend,
)


def _float32_alone(_device: Device) -> tuple[Precision, ...]:
    return ("float32",)


@cache
def processor_name() -> str:
    """Name the processor, with a digest of what it can compute, and how many of it may be used."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # another system
        text = ""
    facts = dict(line.partition(":")[::2] for line in reversed(text.splitlines()))
    known = {key.strip(): value.strip() for key, value in facts.items()}
    name = known.get("model name") or platform.processor() or platform.machine()
    digest = hashlib.sha256(known.get("flags", "").encode()).hexdigest()[:8]
    return f"{name} {digest} x {available_cpus()}"


def hardware_of(device: Device) -> str:
    """Return the name of the processor, or the word for another device."""
    return processor_name() if device.kind == "cpu" else str(device)


@dataclass(frozen=True)
class WeightsFormat:
    """One weights format, and one framework that runs it.

    Parameters
    ----------
    name : as in model descriptions
    module : of the framework, as imported
    distributions : the names under which the framework may be installed
    install : the command that installs it
    devices : lists the devices that the framework sees, the CPU first
    open : loads the weights
    precisions : lists the precisions of the framework on a device, float32 first
    weighed : lists those among which ``--precision auto`` chooses, float32 first
    translates : it reads what belongs to another framework, and the test tensors of a model have
        to show that it gives the same
    kinds : of devices that bmz runs it on
    hardware : returns the name that the maker of a device gives it
    layers : makes what runs the layers through which the check looks at images; None where it
        takes no less time than NumPy
    """

    name: str
    module: str
    distributions: tuple[str, ...]
    install: str
    devices: Callable[[], tuple[Device, ...]]
    open: Callable[[LoadRequest], Backend]
    precisions: Callable[[Device], tuple[Precision, ...]] = _float32_alone
    weighed: Callable[[Device], tuple[Precision, ...]] = _float32_alone
    translates: bool = False
    kinds: frozenset[str] = frozenset({"cpu", "cuda", "mps"})
    hardware: Callable[[Device], str] = hardware_of
    layers: Callable[[], LayersRunner] | None = None


def _format(
    name: str, devices: Callable[[], tuple[Device, ...]], opener: Callable[[LoadRequest], Backend]
) -> WeightsFormat:
    return _run_by(FRAMEWORKS[name], name, devices, opener)


def _run_by(
    needed: Framework,
    name: str,
    devices: Callable[[], tuple[Device, ...]],
    opener: Callable[[LoadRequest], Backend],
) -> WeightsFormat:
    return WeightsFormat(name, needed.module, needed.distributions, needed.install, devices, opener)


def _onnx() -> WeightsFormat:
    from bmz.predict import onnx

    entry = _format("onnx", onnx.onnx_devices, onnx.open_onnx)
    return replace(entry, hardware=_nvidia_or_processor, layers=onnx.LayersInOnnxruntime)


def _nvidia_or_processor(device: Device) -> str:
    from bmz.predict.onnx import nvidia_device_name

    named = device.kind == "cuda" and nvidia_device_name(device.index)
    return named or hardware_of(device)


def _tensorrt() -> WeightsFormat:
    return replace(
        _run_by(OTHER_FRAMEWORKS["onnx"]["tensorrt"], "onnx", _tensorrt_devices, _open_tensorrt),
        precisions=_float32_and_16,
        weighed=_float32_and_16,
        kinds=frozenset({"cuda"}),
        hardware=_nvidia_or_processor,
    )


def _tensorrt_devices() -> tuple[Device, ...]:
    from bmz.predict.onnx import tensorrt_devices

    return tensorrt_devices()


def _open_tensorrt(request: LoadRequest) -> Backend:
    from bmz.predict.onnx import open_onnx

    return open_onnx(request)


def _float32_and_16(_device: Device) -> tuple[Precision, ...]:
    return ("float32", "float16")


def _torchscript() -> WeightsFormat:
    from bmz.predict import torchscript

    return _of_torch("torchscript", torchscript.open_torchscript)


def _state_dict() -> WeightsFormat:
    from bmz.predict import state_dict

    return _of_torch("pytorch_state_dict", state_dict.open_state_dict)


def _of_torch(name: str, opener: Callable[[LoadRequest], Backend]) -> WeightsFormat:
    from bmz.predict import torch_network

    return replace(
        _format(name, torch_network.torch_devices, opener),
        precisions=torch_network.torch_precisions,
        weighed=torch_network.weighed_precisions,
        hardware=torch_network.torch_hardware,
    )


def _tensorflow() -> WeightsFormat:
    from bmz.predict import tensorflow

    name, devices = "tensorflow_saved_model_bundle", tensorflow.tensorflow_devices
    return _format(name, devices, tensorflow.open_tensorflow)


def _keras(name: str) -> WeightsFormat:
    from bmz.predict import keras

    return _format(name, keras.keras_devices, keras.open_keras)


_ENTRIES: Mapping[str, Callable[[], WeightsFormat]] = {
    "onnx": _onnx,
    "torchscript": _torchscript,
    "pytorch_state_dict": _state_dict,
    "tensorflow_saved_model_bundle": _tensorflow,
    "keras_v3": partial(_keras, "keras_v3"),
    "keras_hdf5": partial(_keras, "keras_hdf5"),
}


class _Formats(Mapping[str, WeightsFormat]):
    """Imports what runs a format when it is asked for: all of it takes as long as a small image."""

    def __getitem__(self, name: str) -> WeightsFormat:
        return _entry(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_ENTRIES)

    def __len__(self) -> int:
        return len(_ENTRIES)

    def __contains__(self, name: object) -> bool:
        return name in _ENTRIES


@cache
def _entry(name: str) -> WeightsFormat:
    return _ENTRIES[name]()


FORMATS: Mapping[str, WeightsFormat] = _Formats()
"""By the name in model descriptions."""


def _openvino(name: str, opener: Callable[[LoadRequest], Backend]) -> WeightsFormat:
    needed = OTHER_FRAMEWORKS[name][openvino.NAME]
    return replace(
        _run_by(needed, name, openvino.openvino_devices, opener),
        precisions=openvino.openvino_precisions,
        weighed=openvino.weighed_precisions,
        translates=name != "onnx",
        kinds=frozenset({"cpu"}),
    )


OTHERS: Mapping[str, Mapping[str, WeightsFormat]] = {
    "onnx": {openvino.NAME: _openvino("onnx", openvino.open_onnx), "tensorrt": _tensorrt()},
    "tensorflow_saved_model_bundle": {
        openvino.NAME: _openvino("tensorflow_saved_model_bundle", openvino.open_bundle)
    },
    "torchscript": {openvino.NAME: _openvino("torchscript", openvino.open_script)},
}
"""Entries of `OTHER_FRAMEWORKS`."""


class BackendUnknown(WrongUsage):
    """The option names no framework that runs the weights."""

    def __init__(self, name: str, weights_format: str) -> None:
        names = ", ".join((AUTO, NATIVE, *OTHERS.get(weights_format, {})))
        super().__init__(
            f"there is no backend '{name}' for {weights_format} weights",
            hint=f"--backend (or BMZ_BACKEND) {names}",
            code="backend.unknown",
        )


def backends(weights_format: str, choice: str, device: Device = CPU) -> dict[str, WeightsFormat]:
    """List the frameworks that may run weights, without importing any.

    Parameters
    ----------
    choice : the user's: ``auto`` for all that are installed and run on the device (or what the
        variable ``BMZ_BACKEND`` says), ``native`` for the one of the format, or a name

    Returns
    -------
    dict
        name for `LoadRequest` -> entry; the one of the format, with an empty name, comes first

    Raises
    ------
    BackendUnknown
        None has that name.
    NoBackend
        bmz has no backend for the format, or the framework is not installed.
    """
    wish = wished_backend(choice)
    others = OTHERS.get(weights_format, {})
    if wish in others:
        return {wish: runnable(weights_format, wish)}
    # the variable is a wish for all formats, of which some have one framework alone
    is_general = choice == AUTO and wish in BACKEND_WORDS
    if wish == NATIVE or (is_general and wish != AUTO):
        return {"": runnable(weights_format)}
    if wish != AUTO:
        raise BackendUnknown(wish, weights_format)
    here = {n: e for n, e in others.items() if device.kind in e.kinds and find_spec(e.module)}
    return {"": runnable(weights_format), **here}


def runnable(weights_format: str, backend: str = "") -> WeightsFormat:
    """Look up a format and check that its framework is installed, without importing it.

    Parameters
    ----------
    backend : one of `OTHERS`; empty for the framework of the format

    Raises
    ------
    NoBackend
        bmz has no backend for the format, or the framework is not installed.
    """
    entry = OTHERS[weights_format][backend] if backend else FORMATS.get(weights_format)
    if entry is None:
        known = ", ".join(FORMATS)
        raise NoBackend(weights_format, f"bmz runs {known}", f"choose other --weights: {known}")
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
    return runnable(weights_format, request.backend).open(request)


_WORD = re.compile(r"auto|cpu|mps|cuda(?::(?P<index>\d+))?")
_PREFERENCE = ("cuda", "mps", "cpu")


class DeviceUnknown(WrongUsage):
    """The option names no device."""

    def __init__(self, device: str) -> None:
        super().__init__(
            f"there is no kind of device called '{device}'",
            hint="use --device auto, cpu, cuda, cuda:N or mps",
            code="device.unknown",
        )


class DeviceAbsent(CouldNotTell):
    """The framework does not see this device."""

    def __init__(self, device: str, entry: WeightsFormat, available: Sequence[Device]) -> None:
        super().__init__(
            f"device {device} is not available for {entry.name} weights: "
            f"{entry.module} sees {', '.join(map(str, available))}",
            hint="--device auto takes the best device; 'bmz doctor' lists devices by framework",
            code="device.absent",
        )


@dataclass(frozen=True)
class BackendState:
    """Whether one weights format can run here.

    Parameters
    ----------
    weights_format : as in model descriptions
    framework : the name of the framework that runs it
    version : of the framework; None where it is not installed
    install : the command that installs it
    devices : those that the framework sees; none where it cannot be imported
    trouble : what is wrong with the installation; empty if nothing is
    """

    weights_format: str
    framework: str
    version: str | None
    install: str
    devices: tuple[Device, ...] = ()
    trouble: str = ""


def resolve_device(name: str, weights_format: str, backend: str = AUTO) -> Device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` into an available device.

    ``auto`` is the first CUDA device, else Apple's GPU, else the CPU, as far as the framework
    of the format sees them.

    Parameters
    ----------
    backend : see `backends`

    Raises
    ------
    DeviceUnknown
        The word is none of these.
    DeviceAbsent
        The framework does not see that device.
    NoBackend
        The framework of the format is not installed.
    """
    match = _WORD.fullmatch(name)
    if match is None:
        raise DeviceUnknown(name)
    if name == "cpu":
        return CPU
    entry = next(iter(backends(weights_format, backend).values()))
    available = entry.devices()
    if name == "auto":
        return min(available, key=lambda device: (_PREFERENCE.index(device.kind), device.index))
    index = int(match["index"] or 0)
    matching = [d for d in available if name.startswith(d.kind) and d.index == index]
    if not matching:
        raise DeviceAbsent(name, entry, available)
    return matching[0]


def framework_version(entry: WeightsFormat) -> str:
    """Name the framework of an entry with its version, such as ``torch 2.13.0``."""
    versions = (number for name in entry.distributions if (number := version_of(name)))
    return f"{entry.module} {next(versions, 'of unknown version')}"


def available_backends() -> tuple[BackendState, ...]:
    """State for each weights format whether it can run here; only installed ones are imported."""
    return tuple(_state(entry) for entry in FORMATS.values())


def other_backends() -> tuple[BackendState, ...]:
    """State the same of the frameworks that run a format as well."""
    return tuple(_state(entry) for entries in OTHERS.values() for entry in entries.values())


def _state(entry: WeightsFormat) -> BackendState:
    installed = {name: number for name in entry.distributions if (number := version_of(name))}
    number = next(iter(installed.values()), None)
    if find_spec(entry.module) is None:
        return BackendState(entry.name, entry.module, None, entry.install)
    try:
        devices, trouble = entry.devices(), _clash(installed)
    except NoBackend as why:
        devices, trouble = (), _clash(installed) or why.message
    return BackendState(entry.name, entry.module, number, entry.install, devices, trouble)


def _clash(installed: dict[str, str]) -> str:
    # both use one folder: the later one silently replaces the other, and removing either breaks it
    if len(installed) <= 1:
        return ""
    both = " and ".join(installed)
    return f"{both} are both installed in one folder; uninstall both, then install one of them"
