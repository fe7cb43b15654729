"""The framework of each weights format, without importing NumPy or any framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Framework:
    """The framework that must be installed for a weights format.

    Parameters
    ----------
    module : as imported
    distributions : the names under which it may be installed
    install : the command that installs it
    """

    module: str
    distributions: tuple[str, ...]
    install: str


FRAMEWORKS: Mapping[str, Framework] = {
    "onnx": Framework("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "pip install 'bmz[onnx]'"),
    "torchscript": Framework("torch", ("torch",), "pip install 'bmz[torch]'"),
    "pytorch_state_dict": Framework("torch", ("torch",), "pip install 'bmz[torch]'"),
    "tensorflow_saved_model_bundle": Framework(
        "tensorflow",
        ("tensorflow", "tensorflow-cpu"),
        "pip install 'bmz[tensorflow]'",
    ),
    "keras_v3": Framework("keras", ("keras",), "pip install 'bmz[keras]'"),
    "keras_hdf5": Framework("keras", ("keras",), "pip install 'bmz[keras]'"),
}
"""By the name of the format in model descriptions; formats that bmz cannot run are left out."""


def usable_formats() -> dict[str, str]:
    """Return for each weights format an empty text if it runs here, else how to install it."""
    return {
        name: "" if find_spec(entry.module) else entry.install for name, entry in FRAMEWORKS.items()
    }
