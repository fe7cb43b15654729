"""What of a model is code, and the refusal to run it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from bmz.base.errors import BmzError, CouldNotTell
from bmz.spec.model import ModelSpec, Weights
from bmz.spec.package_files import ModelCode, code_of

Permit = Literal["no", "confined", "unconfined"]
"""Whether code of a model may run: not at all, shut in, or with all that its user may do."""

Look = Callable[[Path], tuple[str, ...]]
"""Tells what in a file of weights reaches the computer, such as operations that write files."""


class NeedsTrust(CouldNotTell):
    """The model runs code of its own, which nobody has allowed."""

    def __init__(self, model: ModelSpec, code: ModelCode, word: str = "") -> None:
        from bmz.report.model_text import code_words  # here: to open a network takes few libraries

        others = [w.format for w in model.weights if model_code(w) is None]
        instead = f"; weights without code: --weights {others[0]}" if others else ""
        super().__init__(
            f"'{model.id}' runs its own code, which is not allowed yet: {code_words(code)}",
            hint=f"read it in '{model.folder}', then allow it for this run with --trust, or for "
            f"good with 'bmz trust add {word or model.folder}'{instead}",
            code="package.runs-code",
        )


def model_code(weights: Weights) -> ModelCode | None:
    """Say what code an entry runs, looking into its file where that is here."""
    return code_of(weights, _host_calls(weights))


def code_unknown(weights: Weights) -> str:
    """Say why it cannot be told whether an entry runs code; empty where it can.

    Nothing of such an entry is run: its file is not here, or loading it is refused.
    """
    if weights.architecture is not None or look_into(weights.format) is None:
        return ""
    if not weights.file.path.exists():
        return "not known before they are fetched"
    try:
        _looked_into(weights)
    except BmzError as why:
        return f"not known, as they are not loaded: {why.message}"
    except (OSError, zipfile.BadZipFile) as why:
        return f"not known, as they are not loaded: {why}"
    return ""


def _host_calls(weights: Weights) -> tuple[str, ...]:
    if not weights.file.path.exists():
        return ()
    try:
        return _looked_into(weights)
    except (BmzError, OSError, zipfile.BadZipFile):
        return ()  # nothing that could be loaded, which is what loading it will say


def _looked_into(weights: Weights) -> tuple[str, ...]:
    look = look_into(weights.format)
    return () if look is None else look(weights.file.path)


def look_into(weights_format: str) -> Look | None:
    """Give what looks into a file of a weights format; None where there is nothing to look for."""
    # each here: `bmz show` of what is not fetched loads no NumPy
    if weights_format == "torchscript":
        from bmz.predict.torchscript import host_calls

        return host_calls
    if weights_format == "tensorflow_saved_model_bundle":
        from bmz.predict.graph_code import host_ops

        return host_ops
    if weights_format in {"keras_v3", "keras_hdf5"}:
        from bmz.predict.graph_code import keras_code

        return keras_code
    return None
