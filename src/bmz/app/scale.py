"""``--scale auto``: the factor by the pixel sizes, else by the size of the objects."""

from __future__ import annotations

from dataclasses import replace

from bmz.app.measure import image_measures
from bmz.app.request import RunRequest
from bmz.check.measured_rules import object_factor
from bmz.check.question import Question
from bmz.check.scale import scale_to
from bmz.image.sample import read_sample
from bmz.plan.errors import ScaleUnknown
from bmz.spec.pixels import known_pixel_size

SAMPLE_PX = 2**22
"""Pixels of an image that are looked at; a larger image is judged by evenly spread tiles."""


def scaled(asked: Question, request: RunRequest) -> Question:
    """Put the resize factor into a question: the number asked for, or the one that is found.

    Raises
    ------
    ScaleUnknown
        ``auto``, and neither pixel sizes nor object sizes tell the factor.
    """
    if request.scale != "auto":
        return replace(asked, scale=request.scale)
    factor = scale_to(known_pixel_size(asked.model).um, asked.pixel_um)
    if factor is None:
        factor = object_factor(measured(asked))
    if factor is None:
        raise ScaleUnknown(asked.model.id)
    return replace(asked, scale=factor)


def measured(asked: Question) -> Question:
    """Put what is measured on a sample of the image into a question."""
    pixels = read_sample(asked.image, SAMPLE_PX)
    return replace(asked, measured=image_measures(pixels, asked.channels_taken))
