"""The framework of each weights format, without importing any, and how its output is hidden."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec

from bmz.base.progress import printable


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
