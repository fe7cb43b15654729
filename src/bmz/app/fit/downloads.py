"""What of a model is still to be downloaded: how much, before it runs, and its samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from bmz.app.fit.candidates import Candidate
from bmz.app.show.published import published
from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Note, Progress
from bmz.engine.load import tensor_files
from bmz.results.fit import SHOWN, ModelFit
from bmz.zoo.fetch import fetch_files
from bmz.zoo.http import AT_ONCE
from bmz.zoo.locate import locate
from bmz.zoo.settings import ZooSettings


def with_sizes(
    models: Sequence[ModelFit], candidates: Iterable[Candidate], settings: ZooSettings
) -> tuple[ModelFit, ...]:
    """Put the sizes of what is to be downloaded into the first models that have something to.

    They are asked for once a day; where they cannot be had, they stay unknown.

    Parameters
    ----------
    models : the best first; of `SHOWN` of them the sizes are told
    """
    by_id = {candidate.card.id: candidate for candidate in candidates}
    asked = [m for m in models[:SHOWN] if m.about.download_bytes is None and m.id in by_id]
    with ThreadPoolExecutor(AT_ONCE, "sizes") as pool:
        sizes = dict(
            zip(
                (model.id for model in asked),
                pool.map(lambda model: _size(by_id[model.id], settings), asked),
                strict=True,
            )
        )
    return tuple(_with_size(model, sizes) for model in models)


def _with_size(model: ModelFit, sizes: Mapping[str, int | None]) -> ModelFit:
    if model.id not in sizes:
        return model
    return replace(model, about=replace(model.about, download_bytes=sizes[model.id]))


def _size(candidate: Candidate, settings: ZooSettings) -> int | None:
    """Give the bytes of the files that are not here; None where one of them is not known."""
    folder = candidate.model.folder
    names = [name for name in candidate.to_fetch if not (folder / name).is_file()]
    try:
        package = locate(candidate.card.id, settings)
    except BmzError:
        return None  # the index lists it no more; to run it will say so
    told = published(package, candidate.model.sha256, names, settings).sizes
    sizes = [told.get(name) for name in names]
    return None if None in sizes else sum(size or 0 for size in sizes)


def fetch_samples(
    candidates: Iterable[Candidate], settings: ZooSettings, listener: Listener
) -> None:
    """Fetch the test inputs of models of the zoo; one that fails never stops the others."""
    chosen = list(candidates)
    for number, candidate in enumerate(chosen, start=1):
        wanted = tuple(tensor_files(replace(candidate.model, outputs=())))
        try:
            package = locate(candidate.card.id, settings, listener=listener)
            if package.remote is not None:
                fetch_files(package, wanted, settings, listener=listener)
        except BmzError as why:
            listener(Note(f"the sample of {candidate.card.id} is not compared: {why}"))
        listener(Progress("samples", number, len(chosen), candidate.card.id))
