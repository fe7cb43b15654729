"""``bmz check --try``: the model is run on crops of each image, and its mask is judged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np

from bmz.base.errors import BmzError, not_none
from bmz.base.files import writable_folder
from bmz.base.progress import Listener
from bmz.check.finding import Finding, unforceable
from bmz.engine.file_trial import CropTrial, TrialExtent, try_file
from bmz.engine.request import RunRequest, TrialOptions
from bmz.engine.run_quality import quality_findings
from bmz.engine.setup import RunSetup, opened, prepare
from bmz.image.pixels import Pixels
from bmz.predict.backend import Backend
from bmz.process.quality import Quality, quality_words
from bmz.results.images import CheckSummary, Cure, ImageCheck
from bmz.write.overlay import overlay
from bmz.write.shown import write_png

UNUSUAL = re.compile(r"[^\w.=-]+")
"""What of the path of an image is not taken over into the name of its picture."""


def with_trials(
    summary: CheckSummary, request: RunRequest, options: TrialOptions, listener: Listener
) -> CheckSummary:
    """Try the model on every image that can be run.

    Parameters
    ----------
    request : the one of the check
    options : where its pictures go, and how long a cure is looked for

    Raises
    ------
    BmzError
        The model cannot be run here. What concerns one image is a finding of it.
    """
    setup = prepare(replace(request, force=True, series="all"), listener)
    if options.pictures is not None:
        writable_folder(options.pictures)
    with closing(opened(setup)) as backend:
        images = tuple(_tried(image, setup, backend, options, listener) for image in summary.images)
    return replace(summary, images=images)


def _tried(
    image: ImageCheck,
    setup: RunSetup,
    backend: Backend,
    options: TrialOptions,
    listener: Listener,
) -> ImageCheck:
    if image.error is not None or unforceable(image.report):
        return image
    try:
        trial, cure = try_file(
            setup,
            image.image,
            backend,
            listener,
            series=image.series or 0,
            extent=TrialExtent(cure_s=options.cure_s),
        )
    except BmzError as why:
        return replace(image, error=why)
    picture = None
    if options.pictures is not None:
        picture = options.pictures / (UNUSUAL.sub("-", image.name).strip("-") + ".trial.png")
        write_png(picture, picture_of(trial.worst))
    report = image.report.with_more(trial_findings(trial.quality, cure, setup))
    return replace(image, report=report, trial=trial.summary(picture, cure))


def trial_findings(quality: Quality, cure: Cure | None, setup: RunSetup) -> Iterator[Finding]:
    """Yield a finding where the mask is not likely to be good, with the cure as its hint."""
    hint = "look at the worst crop (--pictures FOLDER), or try another model"
    if cure is not None:
        hint = f"give {cure.options}: the mask is then {quality_words(cure.quality)}"
    return quality_findings(quality, setup, hint)


def picture_of(crop: CropTrial) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Draw the outlines on a crop; of a stack on the plane with most objects, (y, x, 3)."""
    planes, labels = crop.tried.mask.planes, not_none(crop.tried.result.labels)
    if labels.ndim > 2:  # noqa: PLR2004
        z = int(np.argmax((labels > 0).sum((-2, -1))))
        planes, labels = planes[:, z], labels[z]
    image = Pixels(planes, ("c", "y", "x"))
    return np.asarray(overlay(image, Pixels(labels, ("y", "x"))), np.uint8)
