"""``bmz fit``: every model of the zoo by how well it fits images, before weights are fetched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bmz.app.search.query import FilterUnknown
from bmz.base.progress import Listener, nobody
from bmz.engine.fit_image import FitRequest, MeasuredImage, measured_images
from bmz.engine.fit_judge import rank_models
from bmz.results.fit import Ranking
from bmz.spec.facts import TASKS, has_task
from bmz.zoo.settings import ZooSettings


def fit(request: FitRequest, settings: ZooSettings, listener: Listener = nobody) -> Ranking:
    """Rank all models; nothing but the index and new descriptions is fetched unless asked for.

    Raises
    ------
    FilterUnknown, ChannelAbsent
        There is no such task or channel.
    IndexUnavailable
        The index cannot be read, and none is cached.
    BmzError
        No image can be read, or says what its axes are; a further model does not exist. One of
        several that cannot be read is in the ranking.
    """
    refuse_unknown_task(request.task)
    images, unread = measured_images(request)
    ranking = replace(rank_models(images, request, settings, listener), unread=unread)
    if not request.tries:
        return ranking
    from bmz.app.fit.trial import with_trials  # here: it loads what runs a network

    return with_trials(ranking, images, request, listener)


def fit_measured(
    images: Iterable[MeasuredImage],
    request: FitRequest,
    settings: ZooSettings,
    listener: Listener = nobody,
) -> Ranking:
    """Rank all models for images that the caller has measured; see `fit` for what is raised.

    Parameters
    ----------
    images : are asked for once the task is known to be one; those of the request are not looked at
    """
    refuse_unknown_task(request.task)
    return rank_models(list(images), request, settings, listener)


def refuse_unknown_task(task: str | None) -> None:
    """Check that a task is one that models of the zoo have.

    Raises
    ------
    FilterUnknown
        It is not.
    """
    if task and not any(has_task(known, task) for known in TASKS):
        raise FilterUnknown("task", task, TASKS)
