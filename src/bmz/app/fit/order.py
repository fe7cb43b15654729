"""The order of models: by what fits, then by what is known of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import log

from bmz.app.search import has_task
from bmz.results.fit import AboutModel, ModelFit
from bmz.zoo.locate import STARTER

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
    made = about.made_for
    if not (made.modalities and made.structures):
        return 0
    return 1 if made.source.startswith(BY_TAGS) else 2
