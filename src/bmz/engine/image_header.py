"""The header of an image, held against a model: what the file says, and what the user says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from bmz.base.arrays import Axed
from bmz.check.fit import CheckedHeader, check_header
from bmz.check.fit_case import FitCase
from bmz.check.measured import PlaneMeasures
from bmz.engine.request import RunRequest
from bmz.engine.scale import read_spread, scaled
from bmz.image.info import ImageInfo
from bmz.image.inspect import inspect_image
from bmz.spec.model import ModelSpec


def check_file_header(
    model: ModelSpec,
    image: Path,
    request: RunRequest,
    sample: Mapping[int, PlaneMeasures],
    *,
    series: int = 0,
) -> CheckedHeader:
    """Check the header of a file, with the user's options over what it says.

    Parameters
    ----------
    sample : what was measured on the model's own sample
    series : which image of the file

    Raises
    ------
    BmzError
        The file cannot be read, or an option does not suit it.
    """
    info = inspect_image(image, axes=request.axes, series=series)
    return check_image_header(model, info, request, sample, read_spread)


def check_image_header(
    model: ModelSpec,
    info: ImageInfo,
    request: RunRequest,
    sample: Mapping[int, PlaneMeasures],
    read: Callable[[ImageInfo], Axed],
) -> CheckedHeader:
    """Check the header of an image, with the user's options over what is known of it.

    Parameters
    ----------
    sample : what was measured on the model's own sample
    read : gives pixels of the image, where the scale must be found by them

    Raises
    ------
    BmzError
        An option does not suit the image.
    """
    info = with_pixel_size(info, request.pixel_um)
    case = FitCase(model, info, request.channels, sample=sample)
    return check_header(case, partial(scaled, request=request, sample=partial(read, info)))


def with_pixel_size(info: ImageInfo, pixel_um: Mapping[str, float]) -> ImageInfo:
    """Put the pixel size that the user states, um by axis, over that of the file."""
    if not pixel_um:
        return info
    told = {a: um for a, um in pixel_um.items() if a in info.sizes}
    still = {axis: why for axis, why in info.impossible_pixel.items() if axis not in told}
    um = {**info.pixel_um, **told}
    return replace(info, pixel_um=um, pixel_from="--pixel-size", impossible_pixel=still)
