"""``bmz.fit``: the models of the zoo, ranked for images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bmz.app.api.options import ChannelsLike, ImageOptions, PixelSize
from bmz.app.api.options import images as images_of_file
from bmz.app.fit import fit_measured
from bmz.base.progress import Listener, nobody
from bmz.engine.fit_image import FitRequest, MeasuredImage, measured_image
from bmz.engine.image_header import ImageLike, given_image, with_pixel_size
from bmz.results.fit import Ranking
from bmz.zoo.settings import settings_from_environment


def fit(  # noqa: PLR0913  (each is a keyword with a default)
    images: ImageLike | Sequence[ImageLike],
    *,
    axes: str | None = None,
    channels: ChannelsLike | None = None,
    pixel_size: PixelSize | None = None,
    kind: str | None = None,
    task: str | None = None,
    models: Sequence[str | Path] = (),
    everything: bool = False,
    listener: Listener = nobody,
) -> Ranking:
    """Rank the models of the zoo by how well they fit images, without downloading weights.

    Parameters
    ----------
    images
        One image or a list of images: paths, arrays whose axes are given in `axes`, or DataArrays
        with named dims; each image of a file with several counts on its own
    axes, pixel_size
        See `Model.run`
    channels
        Image channel for each model channel, its number from 0 or its name; None to find the best
    kind
        What the images show, overriding what their pixels suggest: a modality, optionally followed
        by a comma and a structure, such as ``"phase"`` or ``"em,neurites"``
    task
        Models for this task come first, such as ``"denoising"``
    models
        Models in addition to those of the zoo; a folder of packages stands for all of them
    everything
        Also rank test artefacts and models that take no image
    listener
        Notified of downloads

    Raises
    ------
    BmzError
        An image cannot be read, a value is not allowed, or there is no list of models.
    """
    options = ImageOptions(axes, channels, pixel_size, kind=kind)
    run_request = options.request()
    request = FitRequest(
        task=task,
        models=tuple(map(str, models)),
        axes=axes,
        channels=run_request.channels,
        pixel_um=run_request.pixel_um,
        kind=run_request.kind,
        everything=everything,
    )
    each = (one for image in _several(images) for one in _images_in(image))
    measured = (_measured(image, request) for image in each)
    return fit_measured(measured, request, settings_from_environment(), listener)


def _several(images: ImageLike | Sequence[ImageLike]) -> Sequence[ImageLike]:
    if isinstance(images, str) or not isinstance(images, Sequence):
        return [images]
    return images


def _images_in(image: ImageLike) -> Sequence[ImageLike]:
    return images_of_file(image) if isinstance(image, str | Path) else [image]


def _measured(image: ImageLike, request: FitRequest) -> MeasuredImage:
    there = given_image(image, request.axes)
    info = with_pixel_size(there.info, request.pixel_um)
    return measured_image(info, there.sample, request)
