"""``bmz fit --try N``: the best models are run on crops of images, and ranked by their masks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Note, Progress
from bmz.engine.file_trial import (
    Masks,
    Place,
    RatedMask,
    TrialExtent,
    agreements_of,
    rated_masks,
    try_file,
)
from bmz.engine.fit_image import FitRequest, MeasuredImage
from bmz.engine.request import RunRequest
from bmz.engine.setup import opened, prepare
from bmz.results.fit import ImageFit, ModelFit, Ranking
from bmz.results.images import ImageTrial

MOST_IMAGES = 3
"""Of more images than these the first are tried."""

EXTENT = TrialExtent(crops=1)
"""The crop where most is to be seen: models differ more than crops do."""


def with_trials(
    ranking: Ranking, images: Sequence[MeasuredImage], request: FitRequest, listener: Listener
) -> Ranking:
    """Try the best models that run here, and put those with the better masks first.

    Models that were not tried, or failed, keep their order below.

    Parameters
    ----------
    images : those that were ranked, in their order
    """
    begun, tried, masks = time.monotonic(), dict[str, ModelFit](), dict[str, Masks]()
    chosen = list(_usable(ranking, request))[: request.tries]
    for number, model in enumerate(chosen):
        if tried and time.monotonic() - begun > request.try_seconds:
            told = f"{number} of {len(chosen)} models were tried in {request.try_seconds:g} s"
            listener(Note(f"{told}; --try-seconds gives more time"))
            break
        listener(Progress("models", number, len(chosen), model.id))
        tried[model.id], masks[model.id] = _tried(model, images, request, listener)
    for name, agreement in agreements_of(masks).items():
        tried[name] = replace(tried[name], agreement=agreement)
    models = [tried.get(model.id, model) for model in ranking.models]
    models.sort(key=lambda model: -model.guess if model.trials else 1.0)
    return replace(ranking, models=tuple(models))


def _usable(ranking: Ranking, request: FitRequest) -> Iterator[ModelFit]:
    """Yield the models that fit, make labels, and need nothing that is not allowed or not here."""
    for model in ranking.fitting:
        needs = [
            need
            for need in model.about.needs
            if request.trust == "no" or need.cured_by != "--trust"
        ]
        if model.about.labels is not None and not needs and not model.about.only_restores:
            yield model


def _tried(
    model: ModelFit, images: Sequence[MeasuredImage], request: FitRequest, listener: Listener
) -> tuple[ModelFit, Masks]:
    trials, masks = list[ImageTrial](), dict[Place, RatedMask]()
    try:
        for number, (image, fit) in enumerate(
            zip(images[:MOST_IMAGES], model.images, strict=False)
        ):
            setup = prepare(_request(model, fit, image, request), listener)
            with closing(opened(setup)) as backend:
                trial, _ = try_file(setup, image.info.place, backend, listener, extent=EXTENT)
            trials.append(trial.summary())
            masks |= rated_masks(trial, number)
    except BmzError as why:
        return replace(model, untried=why), {}
    return replace(model, trials=tuple(trials)), masks


def _request(
    model: ModelFit, fit: ImageFit, image: MeasuredImage, request: FitRequest
) -> RunRequest:
    """Give the request of the command that is proposed for the model."""
    return RunRequest(
        model.id,
        (image.info.place,),
        Path(),
        axes=fit.axes or request.axes,
        channels=fit.channels if fit.named else request.channels,
        pixel_um=request.pixel_um,
        scale="auto" if fit.resized else None,
        kind=request.kind,
        trust=request.trust,
        force=True,
    )
