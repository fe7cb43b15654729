"""``bmz trust``, and the question before every run: may this model's own code be run?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from bmz.base.errors import AnswerIsNo
from bmz.base.progress import Listener, nobody
from bmz.engine.load import fetch_code, find_model
from bmz.engine.model_code import NeedsTrust, Permit, model_code
from bmz.report.model_text import code_words
from bmz.spec.model import ModelSpec, Weights
from bmz.zoo.settings import ZooSettings, settings_from_environment
from bmz.zoo.trust import Trusted, add_trust, read_trust, remove_trust

_SHA256 = re.compile(r"[0-9a-f]{8,64}")


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
    # the name in the zoo for a model of the zoo; any other is found by its folder alone
    word = model.id if settings.cache.absolute() in model.folder.absolute().parents else ""
    raise NeedsTrust(model, code, word)


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
