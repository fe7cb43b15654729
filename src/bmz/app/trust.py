"""``bmz trust``, and the question before every run: may this model's own code be run?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from bmz.app.load import fetch_code, find_model
from bmz.base.errors import AnswerIsNo, CouldNotTell
from bmz.base.progress import Listener, nobody
from bmz.predict.graph_ops import host_ops
from bmz.predict.keras_files import keras_code
from bmz.predict.script_calls import host_calls
from bmz.report.trust_text import code_words
from bmz.spec.code import ModelCode, code_of
from bmz.spec.model import ModelSpec, Weights
from bmz.zoo.settings import ZooSettings, settings_from_environment
from bmz.zoo.trust import Trusted, add_trust, read_trust, remove_trust

Permit = Literal["no", "confined", "unconfined"]
"""Whether code of a model may run: not at all, shut in, or with all that its user may do."""

HOST_CALLS: Mapping[str, Callable[[Path], tuple[str, ...]]] = {
    "torchscript": host_calls,
    "tensorflow_saved_model_bundle": host_ops,
    "keras_v3": keras_code,
    "keras_hdf5": keras_code,
}
"""By weights format: what in a file reaches the computer, such as operations that write files."""

_SHA256 = re.compile(r"[0-9a-f]{8,64}")


class NeedsTrust(CouldNotTell):
    """The model runs code of its own, which nobody has allowed."""

    def __init__(self, model: ModelSpec, code: ModelCode) -> None:
        others = [w.format for w in model.weights if model_code(w) is None]
        instead = f"; weights without code: --weights {others[0]}" if others else ""
        super().__init__(
            f"'{model.id}' runs its own code, which is not allowed yet: {code_words(code)}",
            hint=f"read it in '{model.folder}', then allow it for this run with --trust, or for "
            f"good with 'bmz trust add {model.id}'{instead}",
            code="package.runs-code",
        )


class NothingToTrust(AnswerIsNo):
    """None of the weights of a model is code."""

    def __init__(self, model: ModelSpec) -> None:
        super().__init__(
            f"'{model.id}' runs no code of its own",
            hint="it can be run as it is",
            code="trust.nothing",
        )


class NotTrusted(AnswerIsNo):
    """A word names nothing on the list."""

    def __init__(self, word: str) -> None:
        super().__init__(
            f"nothing on the list of trusted code is called '{word}'",
            hint="'bmz trust list' shows what is",
            code="trust.not-listed",
        )


def model_code(weights: Weights) -> ModelCode | None:
    """Say what code an entry runs, looking into its file where that is here."""
    look = HOST_CALLS.get(weights.format)
    calls = look(weights.file.path) if look and weights.file.path.exists() else ()
    return code_of(weights, calls)


def permit_for(model: ModelSpec, weights: Weights, asked: Permit, settings: ZooSettings) -> Permit:
    """Decide whether the code of an entry may run.

    Parameters
    ----------
    asked : the user's word for this run
    settings : of the zoo; what was allowed for good is kept with its cache

    Raises
    ------
    NeedsTrust
        It runs code, and neither this run nor an earlier word allows it.
    """
    code = model_code(weights)
    if code is None or asked != "no":
        return asked
    if any(entry.sha256 == code.sha256 for entry in read_trust(settings)):
        return "confined"
    raise NeedsTrust(model, code)


def add(word: str, listener: Listener = nobody) -> tuple[Trusted, ...]:
    """Trust the code of a model as it is now, for good.

    Raises
    ------
    NothingToTrust
        It has none.
    CouldNotTell
        The model or its code cannot be had.
    """
    settings = settings_from_environment()
    package, model = find_model(word, settings, listener=listener)
    for weights in model.weights:
        fetch_code(package, model, weights, settings, listener)
    entries = tuple(_trusted(model))
    if not entries:
        raise NothingToTrust(model)
    add_trust(settings, entries)
    return entries


def _trusted(model: ModelSpec) -> Iterator[Trusted]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for weights in model.weights:
        code = model_code(weights)
        if code is not None:
            yield Trusted(code.sha256, model.id, weights.format, code_words(code), now)


def remove(word: str) -> tuple[Trusted, ...]:
    """Forget what is trusted under a name or a sha256 (or its first 8 letters or more).

    Raises
    ------
    NotTrusted
    """
    settings = settings_from_environment()
    held = read_trust(settings)
    named = {entry.sha256 for entry in held if entry.model == word}
    if _SHA256.fullmatch(word):
        named |= {entry.sha256 for entry in held if entry.sha256.startswith(word)}
    if not named:
        raise NotTrusted(word)
    return remove_trust(settings, named)


def listed() -> tuple[Trusted, ...]:
    """Give what is trusted, the oldest first."""
    return read_trust(settings_from_environment())
