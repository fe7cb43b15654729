"""How much objects change when the image is changed in ways that should not matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bmz.app.compare.networks import Outputs
from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.predict.backend import Backend
from bmz.process.consensus import f1_between

LARGER = 1.1
"""Factor of the image that is a little larger."""

GAMMA = 0.8
"""Power of the intensities, from the lowest to the highest: brings dim objects up."""

_MIRRORED = {"x": slice(None, None, -1)}


def stability_of(found: Outputs, backend: Backend) -> float | None:
    """Give the mean F1 between the objects of an image and of the image changed.

    It is mirrored along x, a tenth larger for the network, and of another contrast.

    Parameters
    ----------
    found : the outputs for the image as it is
    backend : of the model

    Returns
    -------
    float or None
        0 to 1; None where labels cannot be made, or no change could be run
    """
    usual = found.labelled({}, None).labels
    if usual is None:
        return None
    scores = []
    for outputs, mirrored in _changed(found, backend):
        labels = outputs.labelled({}, None).labels
        if labels is not None:
            back = labels.part(_MIRRORED) if mirrored else labels
            scores.append(f1_between(np.asarray(usual), np.asarray(back)))
    return float(np.mean(scores)) if scores else None


def _changed(found: Outputs, backend: Backend) -> Iterator[tuple[Outputs, bool]]:
    """Run the network on each changed image; a change that does not fit the model is left out."""
    job, image, pixels = found.job, found.ready.image, found.pixels
    mirrored = replace(pixels, array=np.ascontiguousarray(pixels.part(_MIRRORED).array))
    other = replace(pixels, array=_other_contrast(pixels.array))
    scale = (found.ready.plan.scale or 1.0) * LARGER
    larger = replace(job, request=replace(job.request, scale=scale))
    changes = ((job, mirrored, True), (larger, pixels, False), (job, other, False))
    for this, changed, back in changes:
        try:
            yield Outputs.of(this, image, backend, changed), back
        except BmzError:
            continue  # such as a model of one fixed size, which the larger image exceeds


def _other_contrast(values: AnyArray) -> AnyArray:
    low, high = float(np.min(values)), float(np.max(values))
    if not high > low:
        return values
    share = (values.astype(np.float64) - low) / (high - low)
    changed = low + (high - low) * share**GAMMA
    rounded = np.rint(changed) if values.dtype.kind in "biu" else changed
    return rounded.astype(values.dtype)
