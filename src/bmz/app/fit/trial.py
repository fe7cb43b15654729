"""``bmz fit --try N``: the best models are run on crops of images, and ranked by their masks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from math import isnan
from pathlib import Path
from statistics import fmean

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Note, Progress
from bmz.base.values import dataclass
from bmz.engine.file_trial import TrialExtent, try_file
from bmz.engine.fit_image import FitRequest, MeasuredImage
from bmz.engine.request import RunRequest
from bmz.engine.setup import opened, prepare
from bmz.process.consensus import relied_agreements
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
    begun, tried = time.monotonic(), list[_TriedModel]()
    chosen = list(_usable(ranking, request))[: request.tries]
    for number, model in enumerate(chosen):
        if tried and time.monotonic() - begun > request.try_seconds:
            told = f"{number} of {len(chosen)} models were tried in {request.try_seconds:g} s"
            listener(Note(f"{told}; --try-seconds gives more time"))
            break
        listener(Progress("models", number, len(chosen), model.id))
        tried.append(_tried(model, images, request, listener))
    rated = {model.id: model for model in _with_agreement(tried)}
    models = [rated.get(model.id, model) for model in ranking.models]
    models.sort(key=lambda model: -model.guess if model.trials else 1.0)
    return replace(ranking, models=tuple(models))


@dataclass(frozen=True)
class _TriedModel:
    """A model that was tried, or could not be, and its masks.

    Parameters
    ----------
    masks : number of the image, and where the crop lies along each axis -> predicted F1, labels
    """

    model: ModelFit
    masks: Mapping[tuple[int, str], tuple[float, AnyArray]]


def _with_agreement(tried: Sequence[_TriedModel]) -> Iterator[ModelFit]:
    """Tell of each model how far its masks agree with those of others for the same crops."""
    places = dict.fromkeys(place for one in tried for place in one.masks)
    agreements: dict[str, list[float]] = {one.model.id: [] for one in tried}
    for place in places:
        there = [one for one in tried if place in one.masks]
        predicted, masks = zip(*(one.masks[place] for one in there), strict=True)
        for one, agreement in zip(there, relied_agreements(masks, predicted), strict=True):
            if not isnan(agreement):
                agreements[one.model.id].append(float(agreement))
    for one in tried:
        known = agreements[one.model.id]
        yield replace(one.model, agreement=fmean(known) if known else None)


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
) -> _TriedModel:
    trials, masks = list[ImageTrial](), dict[tuple[int, str], tuple[float, AnyArray]]()
    try:
        for number, (image, fit) in enumerate(
            zip(images[:MOST_IMAGES], model.images, strict=False)
        ):
            setup = prepare(_request(model, fit, image, request), listener)
            with closing(opened(setup)) as backend:
                trial, _ = try_file(setup, image.info.place, backend, listener, extent=EXTENT)
            trials.append(trial.summary())
            for crop in trial.crops:
                masks[number, str(crop.box)] = (crop.quality.f1, crop.tried.mask.labels)
    except BmzError as why:
        return _TriedModel(replace(model, untried=why), {})
    return _TriedModel(replace(model, trials=tuple(trials)), masks)


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
