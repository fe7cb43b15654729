"""Devices and frameworks: what there is, and which device a word means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from bmz.base.errors import CouldNotTell, WrongUsage
from bmz.predict.backend import CPU, Device, NoBackend
from bmz.predict.formats import FORMATS, WeightsFormat, runnable

_WORD = re.compile(r"auto|cpu|mps|cuda(?::(?P<index>\d+))?")
_PREFERENCE = ("cuda", "mps", "cpu")


class DeviceUnknown(WrongUsage):
    """A word names no device."""

    def __init__(self, word: str) -> None:
        super().__init__(
            f"there is no kind of device called '{word}'",
            hint="--device auto, cpu, cuda, cuda:N or mps",
            code="device.unknown",
        )


class DeviceAbsent(CouldNotTell):
    """The framework sees no such device."""

    def __init__(self, word: str, entry: WeightsFormat, there: Sequence[Device]) -> None:
        super().__init__(
            f"device {word} is not there for {entry.name} weights: "
            f"{entry.module} sees {', '.join(map(str, there))}",
            hint="--device auto takes the best there is; 'bmz doctor' lists devices by framework",
            code="device.absent",
        )


@dataclass(frozen=True)
class BackendState:
    """Whether one weights format can run here.

    Parameters
    ----------
    weights_format : as in model descriptions
    framework : the name of what runs it
    version : of the framework; None where it is not installed
    install : the line that installs it
    devices : those that the framework sees; none where it cannot be imported
    trouble : what is wrong with the installation; empty where nothing is
    """

    weights_format: str
    framework: str
    version: str | None
    install: str
    devices: tuple[Device, ...] = ()
    trouble: str = ""


def resolve_device(word: str, weights_format: str) -> Device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` into a device that is there.

    ``auto`` is the first CUDA device, else Apple's GPU, else the CPU: what the framework of the
    format sees.

    Raises
    ------
    DeviceUnknown
        The word is none of these.
    DeviceAbsent
        The framework does not see that device.
    NoBackend
        The framework of the format is absent.
    """
    match = _WORD.fullmatch(word)
    if match is None:
        raise DeviceUnknown(word)
    if word == "cpu":
        return CPU
    entry = runnable(weights_format)
    there = entry.devices()
    if word == "auto":
        return min(there, key=lambda device: (_PREFERENCE.index(device.kind), device.index))
    index = int(match["index"] or 0)
    wanted = [d for d in there if word.startswith(d.kind) and d.index == index]
    if not wanted:
        raise DeviceAbsent(word, entry, there)
    return wanted[0]


def framework_version(weights_format: str) -> str:
    """Name the framework of a format with its version, such as ``torch 2.13.0``."""
    entry = runnable(weights_format)
    found = (number for name in entry.distributions if (number := _version(name)))
    return f"{entry.module} {next(found, 'of unknown version')}"


def available_backends() -> tuple[BackendState, ...]:
    """Say for each weights format whether it can run here; imports only what is installed."""
    return tuple(_state(entry) for entry in FORMATS.values())


def _state(entry: WeightsFormat) -> BackendState:
    installed = {name: number for name in entry.distributions if (number := _version(name))}
    number = next(iter(installed.values()), None)
    if find_spec(entry.module) is None:
        return BackendState(entry.name, entry.module, None, entry.install)
    try:
        devices, trouble = entry.devices(), _clash(installed)
    except NoBackend as why:
        devices, trouble = (), _clash(installed) or why.message
    return BackendState(entry.name, entry.module, number, entry.install, devices, trouble)


def _clash(installed: dict[str, str]) -> str:
    # both fill one folder: the later one wins without a word, and removing either breaks it
    if len(installed) <= 1:
        return ""
    both = " and ".join(installed)
    return f"{both} are both installed into one folder; remove both, then install one of them"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
