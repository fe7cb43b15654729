"""Name the framework of each weights format without importing it, and hide its output."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec

from bmz.base.progress import printable
from bmz.base.values import dataclass


@dataclass(frozen=True)
class Framework:
    """The framework that must be installed for a weights format.

    Parameters
    ----------
    module : name under which the framework is imported
    distributions : names under which it may be installed
    install : command that installs it
    forks : importing it starts no threads, so a process that has done so may be forked
    """

    module: str
    distributions: tuple[str, ...]
    install: str
    forks: bool = False


FRAMEWORKS: Mapping[str, Framework] = {
    "onnx": Framework("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "pip install 'bmz[onnx]'"),
    "torchscript": Framework("torch", ("torch",), "pip install 'bmz[torch]'", forks=True),
    "pytorch_state_dict": Framework("torch", ("torch",), "pip install 'bmz[torch]'", forks=True),
    "tensorflow_saved_model_bundle": Framework(
        "tensorflow",
        ("tensorflow", "tensorflow-cpu"),
        "pip install 'bmz[tensorflow]'",
    ),
    "keras_v3": Framework("keras", ("keras",), "pip install 'bmz[keras]'"),
    "keras_hdf5": Framework("keras", ("keras",), "pip install 'bmz[keras]'"),
}
"""Frameworks by the format's name in model descriptions, for all formats that bmz can run."""

_OPENVINO = Framework("openvino", ("openvino",), "pip install 'bmz[openvino]'")

_TENSORRT = Framework(
    "tensorrt",
    ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    "pip uninstall onnxruntime; pip install 'bmz[gpu]' tensorrt",
)

OTHER_FRAMEWORKS: Mapping[str, Mapping[str, Framework]] = {
    "onnx": {"openvino": _OPENVINO, "tensorrt": _TENSORRT},
    "tensorflow_saved_model_bundle": {"openvino": _OPENVINO},
    "torchscript": {"openvino": _OPENVINO},
}
"""Other frameworks that run a format, by the name of the format and the name for ``--backend``."""

AUTO, NATIVE = "auto", "native"
"""Values of ``--backend``: the framework measured to be fastest, and the format's own framework."""

BACKEND_WORDS = (
    AUTO,
    NATIVE,
    *sorted({name for names in OTHER_FRAMEWORKS.values() for name in names}),
)
"""Values that ``--backend`` takes."""


def usable_formats() -> dict[str, str]:
    """Return, for each weights format, an empty text if it runs here, else how to install it."""
    return {
        name: "" if find_spec(entry.module) else entry.install for name, entry in FRAMEWORKS.items()
    }


def framework_of(weights_format: str, backend: str = "") -> Framework:
    """Look up the framework of a format.

    Parameters
    ----------
    backend : name in `OTHER_FRAMEWORKS`; empty for the format's own framework
    """
    return OTHER_FRAMEWORKS[weights_format][backend] if backend else FRAMEWORKS[weights_format]


def wished_backend(choice: str) -> str:
    """Return the user's choice of the framework that runs weights.

    Parameters
    ----------
    choice : choice for this call; the variable ``BMZ_BACKEND``, if set, replaces ``auto``
    """
    return os.environ.get("BMZ_BACKEND") or AUTO if choice == AUTO else choice


def frameworks_here(weights_format: str) -> tuple[str, ...]:
    """Return the module names of the installed frameworks among which bmz chooses for a format.

    Parameters
    ----------
    weights_format : a format that bmz can run
    """
    wish, own = wished_backend(AUTO), FRAMEWORKS[weights_format].module
    others = OTHER_FRAMEWORKS.get(weights_format, {})
    chosen = () if wish == NATIVE else (wish,) if wish in others else (*others,)
    names = (*(() if wish in others else (own,)), *(others[name].module for name in chosen))
    return tuple(name for name in names if find_spec(name))


MOST_CHARACTERS = 300
"""Number of characters of a network's output that are shown per run; the rest is cut off."""


class NetworkPrints(UserWarning):
    """A network prints or warns while it runs."""


@contextmanager
def quiet() -> Iterator[None]:
    """Discard output to file descriptor 2, and let TensorFlow log only errors from now on.

    If the user has set ``TF_CPP_MIN_LOG_LEVEL``, it is kept. Exceptions are raised as usual.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        saved = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(nowhere)
        os.close(saved)


@contextmanager
def words_of_network() -> Iterator[None]:
    """Capture what a script prints or warns in the block, and issue one warning at its end.

    The text may contain escape sequences that control a terminal, and on stdout it would mix with
    the result. PyTorch passes both to Python: to ``sys.stdout`` and to `warnings`.

    Warns
    -----
    NetworkPrints
        Something was printed; the warning holds its beginning, without control characters.
    """
    with redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
    words = printable(" ".join([printed.getvalue().strip(), *(str(w.message) for w in warned)]))
    if words.strip():
        cut = words if len(words) <= MOST_CHARACTERS else f"{words[:MOST_CHARACTERS]} ..."
        warnings.warn(f"the network prints: {cut.strip()}", NetworkPrints, stacklevel=2)
