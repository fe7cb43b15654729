"""``bmz fetch``: bring models into the cache, one that fails never stopping the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.engine.load import announce, environment_files, find_model, tensor_files, weights_files
from bmz.plan.errors import WeightsUnusable
from bmz.plan.weights_choice import ORDER, WeightsNotShipped, choose_weights
from bmz.predict.frameworks import usable_formats
from bmz.results.show import Fetched, FetchSummary, NotFetched
from bmz.spec.model import ModelSpec, Weights
from bmz.zoo.fetch import WantedFile, fetch_files
from bmz.zoo.settings import ZooSettings


@dataclass(frozen=True)
class FetchRequest:
    """The words of one call of ``bmz fetch``.

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
    listener : is told the sizes before a download begins, then of bytes and models
    """
    outcomes = []
    for number, word in enumerate(request.models, start=1):
        try:
            outcomes.append(_fetch(word, request, settings, listener))
        except BmzError as why:
            outcomes.append(NotFetched(word, why))
        listener(Progress("models", number, len(request.models), word))
    return FetchSummary(tuple(outcomes))


def _fetch(
    word: str, request: FetchRequest, settings: ZooSettings, listener: Listener
) -> Fetched | NotFetched:
    allowing = replace(settings, allow_changed=request.allow_changed)
    package, model = find_model(word, allowing, listener=listener)
    weights = chosen_weights(model, request.weights, listener)
    wanted = tuple(_wanted(model, weights))
    announce(package, wanted, settings, listener)
    report = fetch_files(
        package, wanted, settings, listener=listener, allow_changed=request.allow_changed
    )
    if any(file.action != "cached" for file in report.files):
        from bmz.engine.measure import sample_measures

        sample_measures(package, model, settings)
    formats = tuple(entry.format for entry in weights)
    return Fetched(word, str(model.folder), formats, report.files)


def chosen_weights(
    model: ModelSpec, wanted: str | None, listener: Listener = nobody
) -> tuple[Weights, ...]:
    """Choose the weights to fetch.

    Parameters
    ----------
    wanted : see `FetchRequest`; where nothing is wanted and nothing can run here, the first
        format in the usual order is taken and `listener` is told

    Raises
    ------
    WeightsNotShipped
        The model has no entry of the wanted format.
    """
    if wanted in {"all", "none"}:
        return model.weights if wanted == "all" else ()
    entries = {entry.format: entry for entry in model.weights}
    if wanted is not None:
        if wanted not in entries:
            raise WeightsNotShipped(model, wanted)
        return (entries[wanted],)
    try:
        return (choose_weights(model, usable_formats(), None),)
    except WeightsUnusable as why:
        first = next((name for name in (*ORDER, *entries) if name in entries), None)
        listener(Note(f"{why.message}; {first} is fetched all the same"))
        return (entries[first],) if first else ()


def _wanted(model: ModelSpec, weights: Sequence[Weights]) -> Iterator[WantedFile]:
    seen = set()
    groups = [weights_files(model, entry) for entry in weights]
    groups += [environment_files(model, entry) for entry in weights]
    for group in (*groups, tensor_files(model)):
        for file in group:
            if file.name not in seen:
                seen.add(file.name)
                yield file
