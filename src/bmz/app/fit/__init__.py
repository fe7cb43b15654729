"""``bmz fit``: rank all models of the zoo by how well they fit images, without their weights."""

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
    """Rank all models; only the index and new descriptions are fetched unless requested.

    Raises
    ------
    FilterUnknown, ChannelAbsent
        The task or channel does not exist.
    IndexUnavailable
        The index cannot be read, and none is cached.
    BmzError
        No image can be read, or the axes of all are unknown, or a further model does not exist. If
        only some images cannot be read, the ranking names them.
    """
    refuse_unknown_task(request.task)
    images, unread = measured_images(request)
    ranking = replace(rank_models(images, request, settings, listener), unread=unread)
    if not request.tries:
        return ranking
    from bmz.app.fit.trial import with_trials  # imports the backends

    return with_trials(ranking, images, request, listener)


def fit_measured(
    images: Iterable[MeasuredImage],
    request: FitRequest,
    settings: ZooSettings,
    listener: Listener = nobody,
) -> Ranking:
    """Rank all models for images that the caller has measured; raises as `fit`.

    Parameters
    ----------
    images : returns the images, once the task is known to exist; those of the request are ignored
    """
    refuse_unknown_task(request.task)
    return rank_models(list(images), request, settings, listener)


def refuse_unknown_task(task: str | None) -> None:
    """Check that a task is that of models of the zoo.

    Raises
    ------
    FilterUnknown
        There is no such task.
    """
    if task and not any(has_task(known, task) for known in TASKS):
        raise FilterUnknown("task", task, TASKS)
