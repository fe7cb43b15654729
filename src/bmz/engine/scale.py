"""``--scale auto``: the factor by the pixel sizes, else by the size of the objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bmz.check.fit_case import FitCase
from bmz.check.measured_rules import object_factor
from bmz.check.scale import scale_to
from bmz.engine.request import RunRequest
from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.image.sample import read_sample
from bmz.plan.errors import ScaleUnknown
from bmz.spec.pixels import known_pixel_size

SAMPLE_PX = 2**22
"""Pixels of an image that are looked at; a larger image is judged by evenly spread tiles."""


def scaled(case: FitCase, request: RunRequest, sample: Callable[[], Pixels]) -> FitCase:
    """Put the resize factor into a case: the number asked for, or the one that is found.

    Parameters
    ----------
    sample : gives pixels of the image, where they must be looked at

    Raises
    ------
    ScaleUnknown
        ``auto``, and neither pixel sizes nor object sizes tell the factor.
    """
    if request.scale != "auto":
        return replace(case, scale=request.scale)
    factor = scale_to(known_pixel_size(case.model).um, case.image.pixel_um)
    if factor is None:
        factor = object_factor(case.measured_on(sample()))
    if factor is None:
        raise ScaleUnknown(case.model.id)
    return replace(case, scale=factor)


def read_spread(info: ImageInfo) -> Pixels:
    """Read `SAMPLE_PX` of an image, evenly spread."""
    return read_sample(info, SAMPLE_PX)
