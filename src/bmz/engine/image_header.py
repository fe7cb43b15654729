"""Read the header of the image of a call, check it, and determine the scale of the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import in_image_order
from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.files import is_there
from bmz.base.values import dataclass
from bmz.check.finding import CheckReport
from bmz.check.fit import CheckedHeader, check_header, check_image
from bmz.check.fit_case import FitCase, PlannedAxis
from bmz.check.measured import UNSEEN, PlaneMeasures
from bmz.check.scale import scale_to
from bmz.check.values import object_factor
from bmz.engine.further_images import (
    FurtherFile,
    PlannedMask,
    StepWithoutMask,
    further_files,
    joined_check,
    label_image,
    own_inputs,
    path_beside,
    prompts_beside,
    refuse_elsewhere,
    refuse_no_labels,
    words_beside,
)
from bmz.engine.labelling import network_way
from bmz.engine.request import RunRequest
from bmz.image.faults import SeveralImages
from bmz.image.formats import split_series
from bmz.image.given_names import remember_names
from bmz.image.info import ImageInfo, joined_info
from bmz.image.inspect import inspect_image
from bmz.image.pixels import NAME, ArrayImage, Pixels, inspect_array, is_xarray
from bmz.image.prompt_files import PROMPT_FILES
from bmz.image.region import joined_pixels, laid_out, read_image, read_sample
from bmz.image.remote import is_address, is_zipped
from bmz.image.series import content_sha256, series_keys
from bmz.plan.plan import network_shape, tiling_of
from bmz.plan.recipe_choice import choose_recipe
from bmz.spec.facts import known_pixel_size
from bmz.spec.model import ModelSpec

if TYPE_CHECKING:
    import xarray as xr

    from bmz.engine.prompting import PlannedPrompts

SAMPLE_PX = 2**22
"""Number of pixels that are examined; of a larger image, evenly spread tiles are examined."""


PROJECTED_PX = 2**18
"""Minimum number of pixels of a projection that are examined, however many planes it has."""


class ScaleUnknown(CouldNotTell):
    """``--scale auto`` cannot determine the factor."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"--scale auto cannot determine the factor for '{model}': neither the pixel size nor "
            "the object size is known for both the image and the model",
            hint="give --pixel-size for the image, or the factor itself: --scale 0.5",
            code="scale.unknown",
        )


def scaled(case: FitCase, request: RunRequest, sample: Callable[[], Pixels]) -> FitCase:
    """Return the case with the resize factor: the requested one, or with ``auto`` a computed one.

    Parameters
    ----------
    sample : function that returns pixels of the image; called only if they are needed

    Raises
    ------
    ScaleUnknown
        ``auto`` is requested, but neither pixel sizes nor object sizes determine the factor.
    """
    if request.scale != "auto":
        return replace(case, scale=request.scale)
    factor = scale_to(known_pixel_size(case.model).um, case.image.pixel_um)
    if factor is None:
        factor = object_factor(replace(case, measured=case.measures_of(sample(), UNSEEN)))
    if factor is None:
        raise ScaleUnknown(case.model.id)
    return replace(case, scale=factor)


def read_spread(info: ImageInfo) -> Pixels:
    """Read `SAMPLE_PX` evenly spread pixels; fewer of a projection, which reads all planes."""
    return read_sample(info, max(SAMPLE_PX // info.read_for_each, PROJECTED_PX))


def check_file_header(
    model: ModelSpec,
    image: Path,
    request: RunRequest,
    sample: Mapping[int, PlaneMeasures],
    *,
    series: int = 0,
) -> CheckedHeader:
    """Check the header of a file; options of the user override what the file states.

    Parameters
    ----------
    sample : measurements on the model's own sample
    series : index of the image in the file

    Raises
    ------
    BmzError
        The image is absent, the file cannot be read, or an option does not suit it.
    """
    if (why := request.absent.get(image)) is not None:
        raise why
    info = inspect_image(image, axes=request.axes, series=series)
    files = further_files(model, image, request.inputs, request.before)
    further = {name: _inspected(file.word, info, request) for name, file in files.items()}
    info = joined_info(info, further)
    return check_image_header(model, info, request, sample, read_spread)


def check_image_header(
    model: ModelSpec,
    info: ImageInfo,
    request: RunRequest,
    sample: Mapping[int, PlaneMeasures],
    read: Callable[[ImageInfo], Pixels],
) -> CheckedHeader:
    """Check the header of an image; options of the user override what the image states.

    Parameters
    ----------
    sample : measurements on the model's own sample
    read : function that returns pixels of the image; called only if the scale, or whether the
        image is grey, depends on them

    Raises
    ------
    BmzError
        An option does not suit the image.
    """
    images: dict[str | None, CheckedHeader] = {}
    scale = request.scale
    for name, image in zip((None, *info.further), info.images, strict=True):
        own = own_inputs(model, name, info.further, sample)
        part = FitCase(
            own.model, image, sample=own.sample, clip=request.clip, invert=request.invert
        )
        of_image = replace(request, scale=scale)
        if name is not None:
            channels = FurtherFile.of(info.place, request.inputs[name]).channels
            of_image = replace(of_image, channels=channels, kind=None)
            part = replace(part, further=True)
        images[name] = header = _checked_alone(part, of_image, model, read)
        scale = scale if header.case.scale is None else header.case.scale
    if not info.further:
        return images[None]
    given = {name: images[name].case.image for name in info.further}
    whole = FitCase(
        model, images[None].case.image, sample=sample, stated=request.kind, clip=request.clip,
        invert=request.invert, scale=None if scale == "auto" else scale,
    )  # fmt: skip
    return joined_check(whole, images, given)


def _inspected(source: str, first: ImageInfo, request: RunRequest) -> ImageInfo:
    """Read the header of a further image; `request.axes` applies if it has the same shape."""
    image = inspect_image(on_disk(source))
    if request.axes is not None and image.shape == first.whole.shape:
        return inspect_image(on_disk(source), axes=request.axes)
    return image


def _checked_alone(
    case: FitCase,
    request: RunRequest,
    model: ModelSpec,
    read: Callable[[ImageInfo], Pixels],
) -> CheckedHeader:
    """Check the header of one image against the model inputs that it fills.

    Parameters
    ----------
    model : the model with all its inputs
    """
    info = with_pixel_size(case.image, request.pixel_um)
    case = replace(case, image=info, stated=request.kind).with_channels(request.channels)
    if case.may_be_grey:
        case = case.with_greyness(read(info))
    resize = partial(_laid_out, request=request, sample=partial(read, info), model=model)
    return check_header(case, resize)


def _laid_out(
    case: FitCase, request: RunRequest, sample: Callable[[], Pixels], model: ModelSpec
) -> FitCase:
    """Return the case with the resize factor and the layout of tiles for the whole model."""
    resized = scaled(case, request, sample)
    return replace(resized, planned=planned_axes(replace(resized, model=model), request))


def planned_axes(case: FitCase, request: RunRequest) -> dict[str, PlannedAxis]:
    """Return the layout of tiles by axis; empty if there is none, which a run reports.

    Parameters
    ----------
    request : request that states the recipe and the tile size
    """
    try:
        choice = choose_recipe(case.model, recipe=request.recipe)
        way = network_way(case.model, choice)
        tiling = tiling_of(case.model, network_shape(case), way, request.tile_px)
    except BmzError:
        return {}
    return {along.axis: PlannedAxis(along.tile, len(along.starts)) for along in tiling.axes}


def with_pixel_size(info: ImageInfo, pixel_um: Mapping[str, float]) -> ImageInfo:
    """Replace the pixel size of the file by the one that the user states, axis -> um."""
    if not pixel_um:
        return info
    stated = {a: um for a, um in pixel_um.items() if a in info.sizes}
    still = {axis: why for axis, why in info.impossible_pixel.items() if axis not in stated}
    um = {**info.pixel_um, **stated}
    return replace(info, pixel_um=um, pixel_from="--pixel-size", impossible_pixel=still)


ImageLike: TypeAlias = "str | Path | AnyArray | xr.DataArray"


@dataclass(frozen=True)
class GivenImage:
    """An image, and what the call gives together with it.

    Parameters
    ----------
    info : properties of the image and of the further images that are joined to it
    array : the pixels if they are in memory; None for a file
    further : input of the model -> further image that fills it
    masks : masks that its labels are related to by `bmz.engine.relations`
    prompts : prompts for the network; None if the call names no file of prompts
    """

    info: ImageInfo
    array: ArrayImage | None = None
    further: Mapping[str, GivenImage] = field(default_factory=dict)
    masks: Mapping[str, PlannedMask] = field(default_factory=dict)
    prompts: PlannedPrompts | None = None

    @property
    def sha256(self) -> str | None:
        """The hash of an array in C order; None for a file, whose bytes are hashed instead."""
        if self.array is None:
            return None
        return hashlib.sha256(np.ascontiguousarray(self.array).data.cast("B")).hexdigest()

    def read(self, info: ImageInfo) -> Pixels:
        """Return the pixels with the axes and sizes of `info`, as `read_image` does."""
        if info.further:
            return joined_pixels([self.read(image) for image in info.images], info)
        array = self._array_of(info)
        if array is None:
            return read_image(info)
        info.refuse_unknown_axes()
        pixels = np.asarray(array)
        return laid_out(pixels.astype(pixels.dtype.newbyteorder("="), copy=False), info)

    def sample(self, info: ImageInfo) -> Pixels:
        """Return the pixels to examine: an evenly spread sample of a file, or a whole array."""
        if all(self._array_of(image) is None for image in info.images):
            return read_spread(info)
        return self.read(info)

    def _array_of(self, info: ImageInfo) -> ArrayImage | None:
        """Return the array of this image or of a further one; None for a file."""
        own = (image.array for image in self.further.values() if image.info.place == info.place)
        return next(own, self.array)


def word_of(image: object) -> str:
    """Return the path or the URL of an image, or the name that is used for an array."""
    return str(image) if isinstance(image, str | Path) else NAME


def given_image(
    image: ImageLike, axes: str | None = None, inputs: Mapping[str, ImageLike] | None = None
) -> GivenImage:
    """Read the header of an image, or inspect an array.

    Parameters
    ----------
    image : a path, the URL of an image on a server, or an array
    axes : axes that the user states, one letter per axis
    inputs : input of the model -> further image; an array of the same shape as `image` has its axes

    Raises
    ------
    SeveralImages
        The file holds several images, and none of them is named.
    BmzError
        The file cannot be read, or its axes differ from those that the user states.
    """
    if inputs:
        alone = given_image(image, axes)
        further = {name: _further(name, one, alone.info) for name, one in inputs.items()}
        infos = {name: one.info for name, one in further.items()}
        return GivenImage(joined_info(alone.info, infos), alone.array, further)
    if isinstance(image, str | Path):
        info = inspect_image(on_disk(str(image)), axes=axes)
        if info.series_count > 1 and not info.series_key:
            raise SeveralImages(info.path, series_keys(info.path))
        return GivenImage(info)
    return GivenImage(inspect_array(image, axes=axes), image)


def given_masks(relations: Mapping[str, ImageLike], image: ImageInfo) -> dict[str, PlannedMask]:
    """Inspect the masks that a caller from Python passes.

    Parameters
    ----------
    relations : name of a relation, as in `bmz.engine.relations` -> a path, or an array with the
        axes of the labels

    Raises
    ------
    BmzError
        A mask cannot be read, contains no labels, or is on another grid.
    """
    masks = {}
    for name, mask in relations.items():
        if isinstance(mask, str | Path):
            masks[name] = PlannedMask.of_file(on_disk(path_beside(image.place, str(mask))))
            continue
        axes = "".join(axis for axis in in_image_order(image.sizes) if axis != "c")
        fits = mask.ndim == len(axes) and not is_xarray(mask)
        given = given_image(mask, axes if fits else None)
        refuse_no_labels(given.info)
        masks[name] = PlannedMask.of_array(given.info, given.read(given.info), given.sha256)
    refuse_elsewhere(masks, image)
    return masks


def _further(name: str, image: ImageLike, first: ImageInfo) -> GivenImage:
    if isinstance(image, str | Path):
        return given_image(FurtherFile.of(first.place, str(image)).word)
    axes = first.axes if image.shape == first.shape and not is_xarray(image) else None
    found = given_image(image, axes)
    return replace(found, info=replace(found.info, path=Path(name)))


def on_disk(source: str) -> Path:
    """Return a path from which an image can be read; messages name it by its URL from now on.

    Parameters
    ----------
    source : a path, or the URL of an image on a server

    Raises
    ------
    BmzError
        The image cannot be obtained.
    """
    if not (is_address(source) or is_zipped(source)):
        return Path(source)
    from bmz.engine.remote_images import local_image  # here, since few images are on servers

    path = local_image(source)
    remember_names({path: source})
    return path


def check_given_image(
    model: ModelSpec,
    image: GivenImage,
    request: RunRequest,
    sample: Mapping[int, PlaneMeasures],
) -> CheckReport:
    """Check the header of an image and a sample of its pixels.

    Parameters
    ----------
    sample : measurements on the model's own sample

    Raises
    ------
    BmzError
        The pixels cannot be read, or an option does not suit the image.
    """
    header = check_image_header(model, image.info, request, sample, image.sample)
    return check_image(header, image.sample)


def hashes_beside(
    model: ModelSpec, image: Path, request: RunRequest
) -> dict[tuple[str, str], str] | None:
    """Return the hashes of the files that accompany the image; None if one does not exist."""
    try:
        inputs = further_files(model, image, request.inputs, request.before)
        masks = words_beside(image, request.relations, request.before)
        prompts = prompts_beside(image, request.prompts, request.before)
    except StepWithoutMask:
        return None
    words = {("inputs", name): file.word for name, file in inputs.items()}
    words |= {("relations", name): word for name, word in masks.items()}
    words |= {} if prompts is None else {("prompts", "file"): prompts}
    files = {key: on_disk(word) for key, word in words.items()}
    if not all(is_there(split_series(path)[0]) for path in files.values()):
        return None
    masks_of = {
        key: path
        for key, path in files.items()
        if key[0] != "inputs" and path.suffix.lower() not in PROMPT_FILES
    }
    files |= {key: label_image(path) for key, path in masks_of.items()}
    return {key: content_sha256(path) for key, path in files.items()}
