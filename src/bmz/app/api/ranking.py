"""``bmz.fit``: the models of the zoo, ranked for images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bmz.app.api.options import ImageOptions, PixelSize
from bmz.app.api.options import images as images_of_file
from bmz.app.fit import fit_measured
from bmz.base.axes import ChannelKey
from bmz.base.progress import Listener, nobody
from bmz.engine.fit_image import FitRequest, MeasuredImage, measured_image
from bmz.engine.image_header import ImageLike, given_image, with_pixel_size
from bmz.results.fit import Ranking
from bmz.zoo.settings import settings_from_environment


def fit(  # noqa: PLR0913  (each is a keyword with a default)
    images: ImageLike | Sequence[ImageLike],
    *,
    axes: str | None = None,
    channels: Sequence[ChannelKey] | None = None,
    pixel_size: PixelSize | None = None,
    kind: str | None = None,
    task: str | None = None,
    models: Sequence[str | Path] = (),
    everything: bool = False,
    listener: Listener = nobody,
) -> Ranking:
    """Rank the models of the zoo by how well they fit images; no weights are downloaded.

    Parameters
    ----------
    images
        One image or a list of them: paths, arrays with their axes in `axes`, or DataArrays whose
        dims are named; of a file that holds several images each is one of its own
    axes, pixel_size
        See `Model.run`
    channels
        Image channel for each channel of the model, its number from 0 or its name; None to try
        which suit
    kind
        What the images are, over what their pixels tell: a modality, and after a comma a
        structure, such as ``"phase"`` or ``"em,neurites"``
    task
        Models for it come first, such as ``"denoising"``
    models
        Further models beside those of the zoo; a folder of several packages stands for all
    everything
        Rank test artefacts, and models that take no image, too
    listener
        Is told of downloads

    Raises
    ------
    BmzError
        An image cannot be read, a word does not suit, or there is no list of models.
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
