"""A word means a device that is there, and an absent framework is told with its install line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bmz.predict import formats
from bmz.predict import formats as devices
from bmz.predict.backend import CPU, Device, LoadRequest, NoBackend
from bmz.predict.formats import (
    FORMATS,
    DeviceAbsent,
    DeviceUnknown,
    WeightsFormat,
    available_backends,
    framework_version,
    open_backend,
    resolve_device,
    runnable,
)
from bmz.predict.onnx import nvidia_device_count

GPUS = tuple(Device("cuda", i) for i in range(2))


@pytest.fixture
def sees(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Device, ...]]:
    """Let each test say what the framework sees; `sys` stands for a framework."""
    there: dict[str, tuple[Device, ...]] = {"devices": (CPU,)}
    entry: WeightsFormat = replace(FORMATS["onnx"], module="sys", devices=lambda: there["devices"])
    monkeypatch.setattr(formats, "FORMATS", {"onnx": entry})
    return there


@pytest.mark.parametrize(
    ("word", "there", "wanted"),
    [
        ("cpu", (CPU, *GPUS), CPU),
        ("auto", (CPU,), CPU),
        ("auto", (CPU, *GPUS), GPUS[0]),
        ("auto", (CPU, Device("mps")), Device("mps")),
        ("cuda", (CPU, *GPUS), GPUS[0]),
        ("cuda:1", (CPU, *GPUS), GPUS[1]),
        ("mps", (CPU, Device("mps")), Device("mps")),
    ],
    ids=str,
)
def test_a_word_means_the_device_that_is_there(
    sees: dict[str, tuple[Device, ...]], word: str, there: tuple[Device, ...], wanted: Device
) -> None:
    sees["devices"] = there

    assert resolve_device(word, "onnx") == wanted


@pytest.mark.parametrize("word", ["gpu", "cuda:", "cuda:x", "CPU", "", "cuda:0:1"])
def test_an_unknown_word_is_wrong_usage(word: str) -> None:
    with pytest.raises(DeviceUnknown) as raised:
        resolve_device(word, "onnx")

    assert (raised.value.code, raised.value.exit_status) == ("device.unknown", 2)


@pytest.mark.parametrize("word", ["cuda:2", "mps"])
def test_an_absent_device_is_told_with_those_there(
    sees: dict[str, tuple[Device, ...]], word: str
) -> None:
    sees["devices"] = (CPU, *GPUS)

    with pytest.raises(DeviceAbsent, match="cpu, cuda:0, cuda:1") as raised:
        resolve_device(word, "onnx")

    assert (raised.value.code, raised.value.exit_status) == ("device.absent", 3)


@pytest.fixture
def no_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every framework from the finder of modules and from imports."""
    for entry in FORMATS.values():
        monkeypatch.setitem(sys.modules, entry.module, None)
    for module in (devices, formats):
        monkeypatch.setattr(module, "find_spec", lambda _name: None)


@pytest.mark.usefixtures("no_frameworks")
@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("onnx", "onnx"),
        ("torchscript", "torch"),
        ("pytorch_state_dict", "torch"),
        ("tensorflow_saved_model_bundle", "tensorflow"),
        ("keras_v3", "keras"),
        ("keras_hdf5", "keras"),
    ],
)
def test_an_absent_framework_is_told_with_its_install_line(name: str, extra: str) -> None:
    with pytest.raises(NoBackend, match="is not installed") as raised:
        open_backend(name, LoadRequest(Path("weights"), ("a",), ("b",)))

    assert raised.value.hint == f"pip install 'bmz[{extra}]'"
    assert raised.value.code == "weights.no-backend"


@pytest.mark.usefixtures("no_frameworks")
def test_without_frameworks_the_cpu_is_still_a_device_and_the_doctor_answers() -> None:
    found = available_backends()

    assert resolve_device("cpu", "onnx") == CPU
    assert {state.weights_format: state.version for state in found} == dict.fromkeys(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_framework_that_does_not_import_is_no_crash(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, FORMATS[name].module, None)

    with pytest.raises(NoBackend, match="cannot be imported"):
        FORMATS[name].devices()


def test_a_format_without_a_backend_is_told_with_those_that_have_one() -> None:
    with pytest.raises(NoBackend, match="onnx, torchscript"):
        open_backend("caffe", LoadRequest(Path("weights"), ("a",), ("b",)))


def test_both_builds_of_onnxruntime_at_once_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "version_of", lambda _name: "1.31.1")

    trouble = {state.weights_format: state.trouble for state in available_backends()}

    assert "onnxruntime and onnxruntime-gpu are both installed" in trouble["onnx"]
    assert trouble["torchscript"] == "" or "cannot be imported" in trouble["torchscript"]


def test_an_onnxruntime_without_its_core_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", type(sys)("onnxruntime"))

    with pytest.raises(NoBackend, match="installation of onnxruntime is empty"):
        FORMATS["onnx"].devices()


def test_the_cpu_is_the_first_device_of_an_installed_framework() -> None:
    for state in available_backends():
        if state.version and not state.trouble:
            assert state.devices[0] == CPU


def test_the_driver_is_asked_without_a_framework() -> None:
    assert nvidia_device_count() >= 0


def test_refusals_of_devices_say_what_there_is(sees: dict[str, tuple[Device, ...]]) -> None:
    sees["devices"] = (CPU, *GPUS)

    with pytest.raises(DeviceUnknown) as unknown:
        resolve_device("gpu", "onnx")
    with pytest.raises(DeviceAbsent) as absent:
        resolve_device("cuda:2", "onnx")

    assert unknown.value.message == "there is no kind of device called 'gpu'"
    assert unknown.value.hint == "use --device auto, cpu, cuda, cuda:N or mps"
    assert absent.value.message == (
        "device cuda:2 is not available for onnx weights: sys sees cpu, cuda:0, cuda:1"
    )


def test_auto_takes_the_first_of_the_best_kind_in_whatever_order_they_are_told(
    sees: dict[str, tuple[Device, ...]],
) -> None:
    sees["devices"] = (CPU, Device("mps"), GPUS[1], GPUS[0])

    assert resolve_device("auto", "onnx") == GPUS[0]
    assert resolve_device("cuda", "onnx") == GPUS[0]


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        ({"onnxruntime": "1.20.0"}, "sys 1.20.0"),
        ({"onnxruntime-gpu": "1.19.2"}, "sys 1.19.2"),
        ({"onnxruntime": "1.20.0", "onnxruntime-gpu": "1.19.2"}, "sys 1.20.0"),
        ({}, "sys of unknown version"),
    ],
)
@pytest.mark.usefixtures("sees")
def test_a_framework_is_named_with_the_version_of_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], words: str
) -> None:
    monkeypatch.setattr(devices, "version_of", installed.get)

    assert framework_version(runnable("onnx")) == words


def test_a_framework_that_is_there_and_does_not_import_says_why_and_has_no_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> tuple[Device, ...]:
        raise NoBackend("onnx", "libcudart is missing", "pip install it")

    entry = replace(FORMATS["onnx"], module="sys", devices=broken)
    monkeypatch.setattr(devices, "FORMATS", {"onnx": entry})
    monkeypatch.setattr(devices, "version_of", {"onnxruntime-gpu": "1.2"}.get)

    (state,) = available_backends()

    assert (state.framework, state.version, state.devices) == ("sys", "1.2", ())
    assert "libcudart is missing" in state.trouble
    assert state.install == "pip install 'bmz[onnx]'"
