"""``bmz fetch``: bring models into the cache, one that fails never stopping the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Progress, nobody
from bmz.engine.load import fetch_model
from bmz.results.show import Fetched, FetchSummary, NotFetched
from bmz.zoo.settings import ZooSettings


@dataclass(frozen=True)
class FetchRequest:
    """The options of one call of ``bmz fetch``.

    Parameters
    ----------
    models : names or addresses
    weights : a weights format, ``all`` or ``none``; None to choose as ``bmz run`` does
    allow_changed : take a file whose sha256 is not the one of the description, and a description
        whose sha256 is not the one of the index
    """

    models: tuple[str, ...]
    weights: str | None = None
    allow_changed: bool = False


def fetch(
    request: FetchRequest, settings: ZooSettings, listener: Listener = nobody
) -> FetchSummary:
    """Fetch and verify the manifest, the files of the weights and the test tensors.

    Parameters
    ----------
    listener : is told the sizes before a download begins, then the bytes and models that are done
    """
    allowing = replace(settings, allow_changed=request.allow_changed)
    outcomes: list[Fetched | NotFetched] = []
    for number, word in enumerate(request.models, start=1):
        try:
            outcomes.append(fetch_model(word, request.weights, allowing, listener))
        except BmzError as why:
            outcomes.append(NotFetched(word, why))
        listener(Progress("models", number, len(request.models), word))
    return FetchSummary(tuple(outcomes))
