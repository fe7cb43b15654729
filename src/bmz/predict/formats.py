"""Weights formats and devices: the frameworks of each format, and the device of an option."""

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
    """Return the processor's name, a digest of its feature flags, and the number of usable CPUs."""
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
    """Return the name of the processor for the CPU, or the device as text for any other device."""
    return processor_name() if device.kind == "cpu" else str(device)


@dataclass(frozen=True)
class WeightsFormat:
    """One weights format, and one framework that runs it.

    Parameters
    ----------
    name : name of the format in model descriptions
    module : name under which the framework is imported
    distributions : names under which the framework may be installed
    install : command that installs the framework
    devices : returns the devices that the framework sees, the CPU first
    open : loads the weights
    precisions : returns the precisions of the framework on a device, float32 first
    weighed : returns the precisions among which ``--precision auto`` chooses, float32 first
    translates : the framework reads the format of another one, and a model's test tensors must
        show that the outputs are the same
    kinds : kinds of devices on which bmz uses the framework
    hardware : returns the manufacturer's name of a device
    layers : creates the runner of the layers through which the check analyses images; None if the
        framework is not faster at this than NumPy
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
    """Imports the module of a format on first use: importing all takes as long as a small image."""

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
"""Weights formats by their names in model descriptions."""


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
"""Entries for `OTHER_FRAMEWORKS`, by the format and the name for ``--backend``."""


class BackendUnknown(WrongUsage):
    """The option does not name a framework that runs the weights."""

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
    choice : the user's choice: ``auto`` for all frameworks that are installed and run on the
        device (or the value of the variable ``BMZ_BACKEND``), ``native`` for the format's own
        framework, or the name of a framework

    Returns
    -------
    dict
        name for `LoadRequest` -> entry; the format's own framework comes first, without a name

    Raises
    ------
    BackendUnknown
        No framework has that name.
    NoBackend
        bmz has no backend for the format, or the framework is not installed.
    """
    wish = wished_backend(choice)
    others = OTHERS.get(weights_format, {})
    if wish in others:
        return {wish: runnable(weights_format, wish)}
    # the variable applies to all formats, some of which have only one framework
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
    backend : name in `OTHERS`; empty for the format's own framework

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
    weights_format : name in model descriptions, such as ``onnx``; or `CORE`, which runs the
        whole pipeline of a model
    request : the weights file, and what the description states about it

    Raises
    ------
    NoBackend
        The framework is not installed; the hint is the command that installs it.
    WeightsUnreadable
        The file is absent, corrupt, or in another format.
    TensorCountDiffers
        The network has a different number of inputs, or fewer outputs, than the description.
    """
    if weights_format == CORE:
        return open_core(request)
    return runnable(weights_format, request.backend).open(request)


_WORD = re.compile(r"auto|cpu|mps|cuda(?::(?P<index>\d+))?")
_PREFERENCE = ("cuda", "mps", "cpu")


class DeviceUnknown(WrongUsage):
    """The option does not name a device."""

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
    weights_format : name in model descriptions
    framework : name of the framework that runs the format
    version : version of the framework; None if it is not installed
    install : command that installs the framework
    devices : devices that the framework sees; empty if it cannot be imported
    trouble : problem with the installation; empty if there is none
    """

    weights_format: str
    framework: str
    version: str | None
    install: str
    devices: tuple[Device, ...] = ()
    trouble: str = ""


def resolve_device(name: str, weights_format: str, backend: str = AUTO) -> Device:
    """Convert ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` to an available device.

    ``auto`` is the first CUDA device, else Apple's GPU, else the CPU, provided that the framework
    of the format sees it.

    Parameters
    ----------
    backend : the user's choice, as in `backends`

    Raises
    ------
    DeviceUnknown
        The name is none of these.
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
    """Return the name and version of an entry's framework, such as ``torch 2.13.0``."""
    versions = (number for name in entry.distributions if (number := version_of(name)))
    return f"{entry.module} {next(versions, 'of unknown version')}"


def available_backends() -> tuple[BackendState, ...]:
    """Return whether each weights format can run here; imports only installed frameworks."""
    return tuple(_state(entry) for entry in FORMATS.values())


def other_backends() -> tuple[BackendState, ...]:
    """Return whether the other frameworks that run a format can be used here."""
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
    # both use the same folder: the later one silently replaces the other, and removing one breaks
    # both
    if len(installed) <= 1:
        return ""
    both = " and ".join(installed)
    return f"{both} are both installed in one folder; uninstall both, then install one of them"
