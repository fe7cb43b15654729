"""``bmz fit``: every model of the zoo by how well it fits images, before weights are fetched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import log

from bmz.app.fit.candidates import (
    Candidate,
    candidates_of,
    fetch_samples,
    own_candidates,
    with_sizes,
)
from bmz.app.fit.image import FitRequest, MeasuredImage, measured_images, numbers_in
from bmz.app.fit.judge import judged
from bmz.app.search import FilterUnknown, has_task
from bmz.app.search.ranking import starters
from bmz.base.channels import ChannelKey
from bmz.base.progress import Listener, nobody
from bmz.engine.test_tensors import sample_measures
from bmz.results.fit import SHOWN, AboutModel, ModelFit, Ranking
from bmz.spec.facts import TASKS
from bmz.zoo.index import load_index
from bmz.zoo.locate import STARTER
from bmz.zoo.settings import ZooSettings


def fit(request: FitRequest, settings: ZooSettings, listener: Listener = nobody) -> Ranking:
    """Rank all models; nothing but the index and new descriptions is fetched unless asked for.

    Raises
    ------
    FilterUnknown, ChannelAbsent
        There is no such task or channel.
    IndexUnavailable
        The index cannot be had, and none is kept.
    BmzError
        No image can be read, or says what its axes are; a further model is not there. One of
        several that cannot be read is in the ranking.
    """
    refuse_unknown_task(request.task)
    images, unread = measured_images(request)
    ranking = replace(rank_models(images, request, settings, listener), unread=unread)
    if not request.tries:
        return ranking
    from bmz.app.fit.trial import with_trials  # here: it loads what runs a network

    return with_trials(ranking, images, request, listener)


def refuse_unknown_task(task: str | None) -> None:
    """See that a task is one that models of the zoo have.

    Raises
    ------
    FilterUnknown
        It is not.
    """
    if task and not any(has_task(known, task) for known in TASKS):
        raise FilterUnknown("task", task, TASKS)


def rank_models(
    images: Sequence[MeasuredImage],
    request: FitRequest,
    settings: ZooSettings,
    listener: Listener = nobody,
) -> Ranking:
    """Rank all models for images that are measured; `fit` says what may be raised.

    Parameters
    ----------
    images : one or more; those of the request are not looked at
    """
    for image in images:
        numbers_in(image, request.channels)  # or refuse them now
    index = load_index(settings, listener=listener, refresh=request.refresh)
    index = replace(index, entries=(*index.entries, *starters()))
    zoo_candidates = candidates_of(index, settings, listener, everything=request.everything)
    own = own_candidates((*request.models, *settings.models), settings, listener)
    candidates = [*zoo_candidates.ranked, *own.ranked]
    judge = _Judge(images, request.channels, settings)
    seen_images = tuple(image.seen for image in images)
    fits = {candidate.card.id: judge(candidate) for candidate in candidates}
    if request.measure:
        best = {model.id for model in ranked(fits.values(), request.task)[: request.top or SHOWN]}
        chosen = [c for c in candidates if c.card.id in best and not fits[c.card.id].about.sampled]
        fetch_samples(chosen, settings, listener)
        fits |= {candidate.card.id: judge(candidate) for candidate in chosen}
    ordered = with_sizes(ranked(fits.values(), request.task), candidates, settings)
    models = (*ordered, *own.broken, *zoo_candidates.broken)
    return Ranking(
        seen_images, models, zoo_candidates.left_out, index.fetched_at, index.stale, request.words
    )


class _Judge:
    """Hold the images against one model after the other."""

    def __init__(
        self,
        images: Sequence[MeasuredImage],
        channels: Sequence[ChannelKey] | None,
        settings: ZooSettings,
    ) -> None:
        self._images = images
        self._channels = [numbers_in(image, channels) for image in images]
        self._settings = settings

    def __call__(self, candidate: Candidate) -> ModelFit:
        sample = sample_measures(candidate.package, candidate.model, self._settings)
        fits = judged(candidate, self._images, sample, self._channels)
        card, about = candidate.card, replace(candidate.about, sampled=bool(sample))
        return ModelFit(card.id, card.version, fits, about)


ALIKE = 1.1
"""Scores within about this ratio are as good as equal: evidence decides."""

_LEAST = 1e-6

AGAIN = 0.7
"""What each model for a structure leaves of the scores of those below it that are for the same:
where it is not clear what an image shows, the first models are for all that it may show."""

BY_TAGS = "tags"
"""How the source of what a model is made for begins where nothing but its tags states it."""

MEASURED_HERE = 100
"""A model that comes with bmz counts as reproduced by so many tools: its card has been measured."""


def ranked(models: Iterable[ModelFit], task: str | None = None) -> tuple[ModelFit, ...]:
    """Put the models in order.

    Models for the task that the user names come first, those that only restore images last, and
    among the others those that fit before those that do not. Then the higher score counts; equal
    ones stand in the order of the evidence, and in the end of their names. Each model leaves the
    share `AGAIN` of the score of those below it that are for the same structure.
    """
    groups: dict[tuple[bool, ...], list[ModelFit]] = {}
    for model in models:
        wished = task is not None and has_task(model.about.task, task)
        last = model.about.only_restores and not wished
        group = (task is not None and not wished, last, not model.fits)
        groups.setdefault(group, []).append(model)
    return tuple(model for group in sorted(groups) for model in _mixed(groups[group]))


def _mixed(models: Iterable[ModelFit]) -> list[ModelFit]:
    """Put the best first, where each model counts the less the more stand above it for the same."""
    left, mixed, above = sorted(models, key=_doubts), list[ModelFit](), Counter[str]()
    while left:
        best = max(left, key=lambda model: _step(model.score * AGAIN ** above[_shown(model)]))
        above[_shown(best)] += 1
        left.remove(best)
        mixed.append(best)
    return mixed


def _shown(model: ModelFit) -> str:
    """Give that of the structures of a model that the images most likely show."""
    return "" if model.worst is None else model.worst.content.shown


def _step(score: float) -> int:
    return round(log(max(score, _LEAST)) / log(ALIKE))


def _doubts(model: ModelFit) -> tuple[object, ...]:
    """Give a key that is lower for more evidence."""
    tested = MEASURED_HERE if model.id.startswith(STARTER) else model.about.passed
    return -sureness(model.about), -tested, model.about.failed, model.id


def sureness(about: AboutModel) -> int:
    """Say how sure it is what a model is made for.

    Returns
    -------
    int
        2 where it, or what is published about it, says so; 1 where only its tags do; else 0
    """
    purpose = about.made_for
    if not (purpose.modalities and purpose.structures):
        return 0
    return 1 if purpose.source.startswith(BY_TAGS) else 2
