"""A model tried on an image of a file, and where its mask is not good, a cure looked for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from math import isnan
from pathlib import Path
from statistics import fmean

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.base.values import dataclass
from bmz.engine.image_header import check_file_header
from bmz.engine.request import RunRequest
from bmz.engine.setup import RunSetup, with_options
from bmz.engine.trial import MOST_CROPS, Trial, crop_of, tried, try_image
from bmz.image.region import ImageSource, open_image
from bmz.predict.backend import Backend
from bmz.process.consensus import relied_agreements
from bmz.process.quality import predictor
from bmz.results.images import Cure

SCALES = (0.5, 0.7, 1.4, 2.0)
"""Factors of the scale that are looked through for a cure."""

MOST_LOOKED_AT = 6
"""Of more channels than these the first are tried."""

CLIP = 99.5
"""Percentile at which intensities are cut, as a cure."""

NEAR = 0.1
"""Thresholds that differ by less are not tried."""

MOST_SECONDS = 60.0
"""After so long no further cure is looked for."""

LEAST_GAIN = 0.1
"""A cure is proposed when the predicted F1 rises by so much."""


def find_cure(
    setup: RunSetup, image: ImageSource, trial: Trial, backend: Backend, listener: Listener = nobody
) -> Cure | None:
    """Look for options with which the mask of an image is likely to be better.

    Other scales and channels, intensities turned round, a cut of the brightest values and other
    thresholds of the recipe are tried on the worst crop, without changed copies, as many as
    `MOST_SECONDS` allow; the best of them is then tried as the image was.

    Parameters
    ----------
    setup : as for `try_image`
    trial : of the image as it is

    Returns
    -------
    Cure or None
        None where nothing is predicted to be clearly better
    """
    box = trial.worst.box
    crop = crop_of(image.info, image.region(box))
    requests = _cures(setup, trial)
    plain = predictor("plain")
    predictions = {"": plain.quality(tried(setup, crop, backend, {}).evidence).f1}
    begun = time.monotonic()
    for number, (words, request) in enumerate(requests.items()):
        if time.monotonic() - begun > MOST_SECONDS:
            listener(Note(f"{number} of {len(requests)} cures were tried in {MOST_SECONDS:g} s"))
            break
        listener(Progress("cures", number, len(requests), image.info.given_name))
        try:
            done = tried(with_options(setup, request), crop, backend, {})
        except BmzError:
            continue  # such as a model of one fixed size, which a larger image exceeds
        predictions[words] = plain.quality(done.evidence).f1
    best = max(predictions, key=lambda words: predictions[words])
    if not best:
        return None
    cured = try_image(with_options(setup, requests[best]), image, backend)
    if cured.quality.f1 < trial.quality.f1 + LEAST_GAIN:
        return None
    return Cure(best, cured.quality)


def _cures(setup: RunSetup, trial: Trial) -> dict[str, RunRequest]:
    """Give requests with other options, by what is typed for them."""
    request, plan = setup.request, trial.worst.tried.result.plan
    cures = {
        f"--scale {plan.scale * factor:.2g}": replace(request, scale=plan.scale * factor)
        for factor in SCALES
    }
    (taken, *others) = plan.channels
    channels = trial.worst.tried.checked.case.channels_found
    if len(taken) == 1 and not others:
        cures |= {
            f"--channels {channel}": replace(request, channels=(channel,))
            for channel in range(min(channels, MOST_LOOKED_AT))
            if channel != taken[0]
        }
    if not plan.invert:
        cures["--invert"] = replace(request, invert=True)
    if plan.clip is None:
        cures[f"--clip {CLIP:g}"] = replace(request, clip=CLIP)
    return cures | _other_settings(setup)


def _other_settings(setup: RunSetup) -> dict[str, RunRequest]:
    """Give requests with other thresholds of the recipe, by what is typed for them."""
    labelling, request = setup.labelling, setup.request
    every = () if labelling.recipe is None else labelling.recipe.every
    return {
        f"--set {parameter.name}={value:g}": replace(
            request, settings={**request.settings, parameter.name: f"{value:g}"}
        )
        for parameter in every
        for value in parameter.cures
        if abs(value - float(labelling.parameters[parameter.name])) > NEAR
    }


@dataclass(frozen=True)
class TrialExtent:
    """How much of an image is tried.

    Parameters
    ----------
    crops : so many at the most
    cure : look for one where the mask is not likely to be good; see `find_cure`
    """

    crops: int = MOST_CROPS
    cure: bool = False


ALL_CROPS = TrialExtent()
"""As many crops as usual, and no cure."""


def try_file(
    setup: RunSetup,
    path: Path,
    backend: Backend,
    listener: Listener = nobody,
    *,
    series: int = 0,
    extent: TrialExtent = ALL_CROPS,
) -> tuple[Trial, Cure | None]:
    """Run a model on crops of an image of a file; see `try_image`.

    Parameters
    ----------
    setup : its request forces the run; its scale may be found by the whole image
    series : which image of the file
    extent : how much is tried

    Raises
    ------
    BmzError
        See `try_image`; or the file cannot be read.
    """
    request = setup.request
    header = check_file_header(setup.model, path, request, setup.sample, series=series)
    request = replace(request, scale=header.case.scale)
    if header.images:  # a crop is cut out of all images, which are one from here on
        request = replace(request, channels=header.case.channels, inputs={})
    resized = replace(setup, request=request)
    with open_image(header.case.image) as source:
        trial = try_image(resized, source, backend, listener, most=extent.crops)
        if not extent.cure or trial.quality.word == "likely good":
            return trial, None
        return trial, find_cure(resized, source, trial, backend, listener)


Place = tuple[int, str]
"""Number of an image, and where a crop of it lies."""

RatedMask = tuple[float, AnyArray]
"""Predicted F1 of labels, and the labels."""

Masks = Mapping[Place, RatedMask]


def rated_masks(trial: Trial, number: int) -> dict[Place, RatedMask]:
    """Give the masks of the crops of an image, with what is predicted of each."""
    return {
        (number, str(crop.box)): (crop.quality.f1, crop.tried.mask.labels) for crop in trial.crops
    }


def agreements_of(masks: Mapping[str, Masks]) -> dict[str, float]:
    """Tell how far the masks of each model agree with those of the others for the same crops.

    Good ones count more, see `relied_agreements`; a model that stands alone is left out.

    Parameters
    ----------
    masks : model -> what it made
    """
    agreements: dict[str, list[float]] = {}
    for place in dict.fromkeys(place for made in masks.values() for place in made):
        there = [name for name, made in masks.items() if place in made]
        predicted, labels = zip(*(masks[name][place] for name in there), strict=True)
        for name, agreement in zip(there, relied_agreements(labels, predicted), strict=True):
            if not isnan(agreement):
                agreements.setdefault(name, []).append(float(agreement))
    return {name: fmean(values) for name, values in agreements.items()}
