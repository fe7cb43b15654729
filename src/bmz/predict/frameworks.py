"""The framework of each weights format, without importing any, and how its output is hidden."""

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
    module : as imported
    distributions : the names under which it may be installed
    install : the command that installs it
    forks : its import starts no thread, so that processes may be forked from one that has it
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
"""By the name of the format in model descriptions; formats that bmz cannot run are left out."""

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
"""Frameworks that run weights of a format as well, by the format and the name for ``--backend``."""

AUTO, NATIVE = "auto", "native"
"""Words for ``--backend``: what is measured to be the fastest, and the framework of the format."""

BACKEND_WORDS = (
    AUTO,
    NATIVE,
    *sorted({name for names in OTHER_FRAMEWORKS.values() for name in names}),
)
"""What ``--backend`` takes."""


def usable_formats() -> dict[str, str]:
    """Return for each weights format an empty text if it runs here, else how to install it."""
    return {
        name: "" if find_spec(entry.module) else entry.install for name, entry in FRAMEWORKS.items()
    }


def framework_of(weights_format: str, backend: str = "") -> Framework:
    """Look the framework of a format up.

    Parameters
    ----------
    backend : one of `OTHER_FRAMEWORKS`; empty for the framework of the format
    """
    return OTHER_FRAMEWORKS[weights_format][backend] if backend else FRAMEWORKS[weights_format]


def wished_backend(choice: str) -> str:
    """Return the user's word for the frameworks that may run weights.

    Parameters
    ----------
    choice : of the call; what ``auto`` stands for, the variable ``BMZ_BACKEND`` may say
    """
    return os.environ.get("BMZ_BACKEND") or AUTO if choice == AUTO else choice


def frameworks_here(weights_format: str) -> tuple[str, ...]:
    """List the frameworks among which is chosen for a format, as imported; installed ones alone.

    Parameters
    ----------
    weights_format : one that bmz can run
    """
    wish, own = wished_backend(AUTO), FRAMEWORKS[weights_format].module
    others = OTHER_FRAMEWORKS.get(weights_format, {})
    chosen = () if wish == NATIVE else (wish,) if wish in others else (*others,)
    names = (*(() if wish in others else (own,)), *(others[name].module for name in chosen))
    return tuple(name for name in names if find_spec(name))


MOST_CHARACTERS = 300
"""Characters of the output of a network in one pass; more are cut."""


class NetworkPrints(UserWarning):
    """A network prints or warns while it runs."""


@contextmanager
def quiet() -> Iterator[None]:
    """Discard the output to file descriptor 2, and let TensorFlow report only errors from now on.

    A value of the user in ``TF_CPP_MIN_LOG_LEVEL`` is kept. Exceptions are raised as usual.
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
    """Catch the output and the warnings of a script in the block, and warn when the block ends.

    The text may contain escapes that control a terminal, and on stdout it would mix with the
    answer. PyTorch passes both to Python: to ``sys.stdout`` and to `warnings`.

    Warns
    -----
    NetworkPrints
        Something was printed; the warning has its first characters, without control characters.
    """
    with redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
    words = printable(" ".join([printed.getvalue().strip(), *(str(w.message) for w in warned)]))
    if words.strip():
        cut = words if len(words) <= MOST_CHARACTERS else f"{words[:MOST_CHARACTERS]} ..."
        warnings.warn(f"the network prints: {cut.strip()}", NetworkPrints, stacklevel=2)
