"""A model tried on an image of a file, and where its mask is not good, a cure looked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.errors import BmzError, not_none
from bmz.base.progress import Listener, Progress, nobody
from bmz.check.finding import CheckReport, Finding
from bmz.check.fit import CheckedHeader
from bmz.engine.image_header import check_file_header
from bmz.engine.image_result import PlaneOutput
from bmz.engine.pipeline import planes_of
from bmz.engine.request import RunRequest
from bmz.engine.setup import PlannedImage, RunSetup, with_options
from bmz.engine.trial import Trial, crop_of, evidence_of, tried, try_image
from bmz.image.region import HeldImage, ImageSource, open_image
from bmz.predict.backend import Backend
from bmz.process.adapt import take_channels
from bmz.process.mask_evidence import MaskOnImage
from bmz.process.quality import Quality, f1_words, predictor, quality_record
from bmz.process.relabel import closed_up
from bmz.results.images import Cure

if TYPE_CHECKING:
    from bmz.engine.run_image import PredictedImage
    from bmz.results.image_documents import WayRecord

SCALES = (0.5, 0.7, 1.4, 2.0)
"""Factors of the scale that are looked through for a cure."""

MOST_LOOKED_AT = 6
"""Of more channels than these the first are tried."""

CLIP = 99.5
"""Percentile at which intensities are cut, as a cure."""

LEAST_GAIN = 0.1
"""A cure is proposed when the predicted F1 rises by so much."""


def find_cure(
    setup: RunSetup, image: ImageSource, trial: Trial, backend: Backend, listener: Listener = nobody
) -> Cure | None:
    """Look for options with which the mask of an image is likely to be better.

    Other scales, other channels and a cut of the brightest values are tried on the worst crop,
    without changed copies; the best of them is then tried as the image was.

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
    for number, (words, request) in enumerate(requests.items()):
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
    if plan.clip is None:
        cures[f"--clip {CLIP:g}"] = replace(request, clip=CLIP)
    return cures


def try_file(
    setup: RunSetup,
    path: Path,
    backend: Backend,
    listener: Listener = nobody,
    *,
    series: int = 0,
    cure: bool = False,
) -> tuple[Trial, Cure | None]:
    """Run a model on crops of an image of a file; see `try_image`.

    Parameters
    ----------
    setup : its request forces the run; its scale may be found by the whole image
    series : which image of the file
    cure : look for one where the mask is not likely to be good; see `find_cure`

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
        trial = try_image(resized, source, backend, listener)
        if not cure or trial.quality.word == "likely good":
            return trial, None
        return trial, find_cure(resized, source, trial, backend, listener)


MOST_PLANES = 5
"""Of the planes of an image so many are judged, evenly spread."""


def result_quality(
    setup: RunSetup,
    planned: PlannedImage,
    image: ImageSource,
    report: CheckReport,
    outputs: Sequence[PlaneOutput],
) -> Quality | None:
    """Predict the quality of a mask from what a run has made anyway; no copy is labelled.

    Parameters
    ----------
    image : its pixels
    report : of the check
    outputs : of every plane or stack, with its map

    Returns
    -------
    Quality or None
        of the plane for which least is predicted; None where the image was run in parts, or its
        labels number no objects
    """
    held = [o for o in outputs if o.labels is not None and isinstance(o.raw, np.ndarray)]
    if not isinstance(image, HeldImage) or len(held) < len(outputs) or held[0].classes:
        return None
    case, taken = planned.case, [c for channels in planned.plan.channels for c in channels]
    if planned.header.images:  # the mask is judged on the image, not on what is joined to it
        case = planned.header.images[0].case
        count = case.image.sizes.get("c", 1)
        taken = [channel for channel in taken if channel < count] or list(range(count))
    checked = CheckedHeader(case.measured_on(image.pixels), report)
    planes = planes_of(image.pixels, planned.plan, setup.model.space)
    chosen = np.unique(np.linspace(0, len(planes) - 1, MOST_PLANES).astype(int))
    qualities = []
    for number in chosen.tolist():
        labels = not_none(held[number].labels)
        whole = closed_up(labels[tuple(slice(None) for _ in labels.stored.shape)])[0]
        seen = take_channels(planes[number], taken)
        mask = MaskOnImage(whole, seen, np.asarray(held[number].raw))
        evidence = evidence_of(mask, {}, checked, planned.plan.scale)
        qualities.append(predictor("plain").quality(evidence))
    return min(qualities, key=lambda quality: quality.f1)


def quality_findings(
    quality: Quality, setup: RunSetup, hint: str, *, below: float | None = None
) -> Iterator[Finding]:
    """Yield a finding where a mask is not likely to be good.

    Parameters
    ----------
    hint : what to do
    below : a mask is told where its predicted F1 is lower than this; None to go by the word
    """
    good = quality.word == "likely good" if below is None else quality.f1 >= below
    if good:
        return
    wrong = quality.word == "likely wrong"
    message = "the mask is likely to be wrong" if wrong else "the mask may be wrong in part"
    yield Finding.of(
        "trial.wrong" if wrong else "trial.doubtful",
        setup.model.required_inputs[0].id,
        f"{message}: {f1_words(quality)}",
        wanted="a mask that holds" if below is None else f"F1 of {below:g} or more",
        found=f"F1 about {quality.f1:.2f}",
        hint=hint,
        evidence="measured",
    )


def judged_result(
    setup: RunSetup, image: PredictedImage, outputs: Sequence[PlaneOutput]
) -> tuple[WayRecord, tuple[Finding, ...]]:
    """Say for the record of a run how good its mask is likely to be, and warn of a bad one.

    Parameters
    ----------
    setup : its request says below which F1 to warn
    outputs : of every plane or stack, with its map
    """
    run = image.run
    quality = result_quality(setup, image.planned, run.image, run.report, outputs)
    if quality is None or setup.request.flag_below is None:
        return {}, ()
    hint = "bmz check MODEL IMAGE --try looks for options with which the mask is better"
    doubts = tuple(quality_findings(quality, setup, hint, below=setup.request.flag_below))
    return {"quality": quality_record(quality)}, doubts
