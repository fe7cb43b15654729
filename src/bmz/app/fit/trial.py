"""``bmz fit --try N``: run the best models on crops of images, and rank them by their masks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Note, Progress
from bmz.base.values import dataclass
from bmz.engine.file_trial import (
    MOST_CROPS,
    Trial,
    TrialExtent,
    side_for,
    try_file,
)
from bmz.engine.fit_image import FitRequest, MeasuredImage
from bmz.engine.request import RunRequest
from bmz.engine.setup import opened, prepare
from bmz.process.consensus import Standing, standings
from bmz.process.quality import predictor
from bmz.results.fit import ImageFit, ModelFit, Ranking

MOST_IMAGES = 3
"""Number of images that are tried, the first ones."""

FINALISTS = 2
"""Number of the best models that are tried on further crops; all others are tried on the busiest
crop only, because models differ more than crops do."""


Place = tuple[int, str]
"""Number of an image, and the position of a crop in it."""

RatedMask = tuple[float, AnyArray]
"""Predicted F1 of a label mask, and the mask."""

Masks = Mapping[Place, RatedMask]


@dataclass(frozen=True)
class Attempt:
    """The trials of a model on crops of images.

    Parameters
    ----------
    model : the model, and how it fits the images
    trials : one for each image
    took_s : duration of all trials, seconds
    """

    model: ModelFit
    trials: tuple[Trial, ...]
    took_s: float

    @property
    def masks(self) -> dict[Place, RatedMask]:
        """Its masks, by image and crop."""
        return {
            place: mask
            for number, trial in enumerate(self.trials)
            for place, mask in _rated_masks(trial, number).items()
        }


def with_trials(
    ranking: Ranking, images: Sequence[MeasuredImage], request: FitRequest, listener: Listener
) -> Ranking:
    """Try the best models that run here, and put those with the better masks first.

    All are tried on one crop of each image, and the best then on further crops, where time is left.
    These stay before the others, whatever is predicted of their masks there: another crop may be
    harder for any model. Models that were not tried, or failed, keep their order below.

    Parameters
    ----------
    images : those that were ranked, in their order
    """
    contest = Contest(images, request, listener, time.monotonic() + request.try_seconds)
    chosen = list(_usable(ranking, request))[: request.tries]
    attempts, failed = contest.attempts(chosen, TrialExtent(most=1))
    tried = _ordered(attempts)
    best = [attempts[model.id] for model in tried[:FINALISTS]]
    if len(best) > 1 and contest.has_time_for(best) and any(map(_larger_than_crop, images)):
        final, _ = contest.attempts([attempt.model for attempt in best], TrialExtent())
        if len(final) == len(best):  # else one was tried on fewer crops than the other
            tried = sorted(_ordered(attempts | final), key=lambda model: model.id not in final)
    rest = [failed.get(model.id, model) for model in ranking.models if model.id not in attempts]
    return replace(ranking, models=(*tried, *rest))


@dataclass(frozen=True)
class Contest:
    """Trials of several models, one after another, on the same crops.

    Parameters
    ----------
    images : images, the first of which are used
    ends_s : no further model is tried after this time, as `time.monotonic` gives it
    """

    images: Sequence[MeasuredImage]
    request: FitRequest
    listener: Listener
    ends_s: float

    def attempts(
        self, models: Sequence[ModelFit], extent: TrialExtent
    ) -> tuple[dict[str, Attempt], dict[str, ModelFit]]:
        """Try models until the time is over, but at least the first.

        A model that takes more than its share of the time is tried with fewer changed copies.

        Returns
        -------
        dict, dict
            model -> its attempt; model -> the model, with the error that prevented its trial
        """
        extent = extent.within((self.ends_s - time.monotonic()) / max(len(models), 1))
        attempts, failed = dict[str, Attempt](), dict[str, ModelFit]()
        for number, model in enumerate(models):
            if attempts and time.monotonic() > self.ends_s:
                told = f"tried {number} of {len(models)} models"
                told = f"{told} in {self.request.try_seconds:g} s"
                self.listener(Note(f"{told}; --try-seconds gives more time"))
                break
            self.listener(Progress("models", number, len(models), model.id))
            try:
                attempts[model.id] = self._attempt(model, extent)
            except BmzError as why:
                failed[model.id] = replace(model, untried=why)
        return attempts, failed

    def has_time_for(self, attempts: Sequence[Attempt]) -> bool:
        """Estimate from the first crop whether the usual number of crops ends in time."""
        needed_s = sum(MOST_CROPS * attempt.took_s for attempt in attempts)
        return time.monotonic() + needed_s < self.ends_s

    def _attempt(self, model: ModelFit, extent: TrialExtent) -> Attempt:
        """Run a model on crops of each image, at the same positions as all other models."""
        begun, trials = time.monotonic(), list[Trial]()
        for image, fit in zip(self.images[:MOST_IMAGES], model.images, strict=False):
            setup = prepare(_request(model, fit, image, self.request), self.listener)
            of_image = replace(extent, side_px=_crop_side(image))
            with closing(opened(setup)) as backend:
                place = image.info.place
                trial, _ = try_file(setup, place, backend, self.listener, extent=of_image)
            trials.append(trial)
        return Attempt(model, tuple(trials), time.monotonic() - begun)


def _ordered(attempts: Mapping[str, Attempt]) -> list[ModelFit]:
    """Summarise the attempts, the best model first."""
    others = beside_others({name: attempt.masks for name, attempt in attempts.items()})
    models = [_summed_up(attempt, others.get(name)) for name, attempt in attempts.items()]
    return sorted(models, key=lambda model: -model.guess)


def _summed_up(attempt: Attempt, beside: Standing | None) -> ModelFit:
    model = replace(attempt.model, trials=tuple(trial.summary() for trial in attempt.trials))
    if beside is None:
        return model
    quality = predictor("among").at_f1(beside.f1, seen=attempt.trials[0].quality.seen)
    return replace(model, agreement=beside.agreement, beside=quality)


def _rated_masks(trial: Trial, number: int) -> dict[Place, RatedMask]:
    """Return the masks of the crops of an image, each with its predicted F1."""
    return {
        (number, str(crop.box)): (crop.quality.f1, crop.tried.mask.labels) for crop in trial.crops
    }


def beside_others(masks: Mapping[str, Masks]) -> dict[str, Standing]:
    """Predict the F1 of the masks of each model by comparison with those of the other models.

    Parameters
    ----------
    masks : model -> its masks

    Returns
    -------
    dict
        model -> mean over its crops; a model without others to compare with is left out
    """
    known: dict[str, list[Standing]] = {}
    for place in dict.fromkeys(place for made in masks.values() for place in made):
        there = [name for name, made in masks.items() if place in made]
        predicted, labels = zip(*(masks[name][place] for name in there), strict=True)
        for name, standing in zip(there, standings(labels, predicted), strict=True):
            if standing is not None:
                known.setdefault(name, []).append(standing)
    return {
        name: Standing(fmean(one.agreement for one in some), fmean(one.f1 for one in some))
        for name, some in known.items()
    }


def _usable(ranking: Ranking, request: FitRequest) -> Iterator[ModelFit]:
    """Yield the models that fit, make labels, and need nothing that is missing or not allowed."""
    for model in ranking.fitting:
        needs = [
            need
            for need in model.about.needs
            if request.trust == "no" or need.cured_by != "--trust"
        ]
        if model.about.labels is not None and not needs and not model.about.only_restores:
            yield model


def _crop_side(image: MeasuredImage) -> int:
    sizes = [measures.size for measures in image.measured.values()]
    return side_for([size.diameter_px for size in sizes if size is not None])


def _larger_than_crop(image: MeasuredImage) -> bool:
    sizes = image.info.sizes
    return max(sizes["y"], sizes["x"]) >= 2 * _crop_side(image)


def _request(
    model: ModelFit, fit: ImageFit, image: MeasuredImage, request: FitRequest
) -> RunRequest:
    """Return the request of the command proposed for the model."""
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
