"""Try a model on crops of an image, and look for a cure if its mask is not good."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from statistics import fmean

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, CouldNotTell, not_none
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.base.values import dataclass
from bmz.check.values import object_factor
from bmz.engine.image_header import SAMPLE_PX, GivenImage, check_file_header
from bmz.engine.request import RunRequest
from bmz.engine.setup import RunSetup, with_options
from bmz.engine.trial import CHANGES, Tried, is_like_examples, tried
from bmz.image.info import ImageInfo
from bmz.image.pixels import Pixels
from bmz.image.region import ImageSource, choose_tiles, open_image
from bmz.predict.backend import Backend
from bmz.process.quality import TIE, Quality, predictor
from bmz.results.images import Cure, ImageTrial, TriedCrop

MOST_CROPS, CROP_PX = 3, 512
"""Largest number of crops of an image that are tried, and their largest side, px."""

LEAST_CROP_PX, CROP_DIAMETERS = 192, 16
"""Smallest side of a crop, px; and its side in diameters of the objects."""

STACK_PX: Mapping[str, int] = {"z": 32, "y": 160, "x": 160}
"""Sides of a crop of a stack."""

SCALES = (0.35, 0.5, 0.7, 1.4, 2.0, 2.8)
"""Factors of the scale that are tried as cures, in addition to the scale that the sizes of the
objects suggest."""

LARGEST_PX = 2 * CROP_PX
"""A crop is not enlarged beyond this side for a cure."""

SURE = 0.9
"""No cure is sought from this predicted F1 on, as it could hardly be recognised as better."""

FURTHER = 2
"""How often the scale is halved or doubled again if the last one is the best."""

MOST_NEAR = 2
"""Number of cures with similar predictions that are also tried on changed copies."""

MOST_LOOKED_AT = 6
"""Number of channels that are tried, the first ones."""

CLIP = 99.5
"""Percentile at which intensities are clipped, as a cure."""

NEAR = 0.1
"""Thresholds that differ by less are not tried."""


@dataclass(frozen=True)
class CropTrial:
    """The trial of a model on one crop.

    Parameters
    ----------
    box : axis -> position of the crop in the image
    tried : the result
    quality : predicted quality of its labels
    """

    box: Mapping[str, slice]
    tried: Tried
    quality: Quality

    @property
    def objects(self) -> int:
        """The number of objects."""
        labels = not_none(self.tried.result.labels)
        return len(np.unique(labels[labels > 0]))

    def summary(self) -> TriedCrop:
        """Return the trial of the crop without pixels."""
        box = {axis: (along.start, along.stop) for axis, along in self.box.items()}
        return TriedCrop(box, self.objects, self.quality)


@dataclass(frozen=True)
class Trial:
    """The trials of a model on one or more crops of an image.

    Parameters
    ----------
    quality : predicted quality over all crops
    """

    crops: tuple[CropTrial, ...]
    quality: Quality

    @classmethod
    def of(cls, crops: Sequence[CropTrial]) -> Trial:
        """Predict the mean quality of crops."""
        mean, seen = fmean(crop.quality.f1 for crop in crops), crops[0].quality.seen
        return cls(tuple(crops), predictor("tried").at_f1(mean, seen=seen))

    @property
    def worst(self) -> CropTrial:
        """The crop with the lowest prediction."""
        return min(self.crops, key=lambda crop: crop.quality.f1)

    def summary(self, picture: Path | None = None, cure: Cure | None = None) -> ImageTrial:
        """Return the trial without pixels.

        Parameters
        ----------
        picture : picture of the worst crop; None if there is none
        cure : see `find_cure`
        """
        crops = sorted(self.crops, key=lambda crop: crop.quality.f1)
        return ImageTrial(tuple(crop.summary() for crop in crops), self.quality, picture, cure)


@dataclass(frozen=True)
class TrialExtent:
    """How much of an image is tried.

    Parameters
    ----------
    most : number of crops, the busiest ones
    side_px : side of a crop of a plane
    slow_s : see `tried`
    cure_s : time for which a cure is sought if the prediction is below `SURE`, seconds; see
        `bmz.engine.file_trial.find_cure`; 0 for none
    """

    most: int = MOST_CROPS
    side_px: int = CROP_PX
    slow_s: float = inf
    cure_s: float = 0.0

    def within(self, seconds: float) -> TrialExtent:
        """Return the extent for a model that has this time for all crops and their copies."""
        return replace(self, slow_s=max(seconds, 0.0) / (1 + len(CHANGES)) / self.most)


ALL_CROPS = TrialExtent()
"""The usual number of crops, and no cure."""


def side_for(diameters: Sequence[float]) -> int:
    """Return the side of a crop that is as small as the objects of an image allow, px.

    Parameters
    ----------
    diameters : diameters of objects, px, as measured in each channel; may be empty
    """
    if not diameters:
        return CROP_PX
    return int(np.clip(CROP_DIAMETERS * max(diameters), LEAST_CROP_PX, CROP_PX))


def try_image(
    setup: RunSetup,
    image: ImageSource,
    backend: Backend,
    listener: Listener = nobody,
    *,
    extent: TrialExtent = ALL_CROPS,
) -> Trial:
    """Run a model on crops of an image, and predict the quality of its labels.

    Parameters
    ----------
    setup : its request forces the run; its scale is a number or None
    listener : is notified of each crop
    extent : number and size of the crops

    Raises
    ------
    NothingToTry
        The recipe makes no objects.
    BmzError
        The image does not fit, or the network fails.
    """
    if not setup.labelling.numbers_objects:
        raise NothingToTry(setup.request.model)
    boxes = crop_boxes(image, setup.model.space, extent.side_px)[: extent.most]
    seen, crops = is_like_examples(setup.model), []
    for number, box in enumerate(boxes):
        listener(Progress("crops", number, len(boxes), image.info.given_name))
        crop = crop_of(image.info, image.region(box))
        done = tried(setup, crop, backend, slow_s=extent.slow_s)
        crops.append(CropTrial(box, done, predictor("tried").quality(done.evidence, seen=seen)))
    listener(Progress("crops", len(boxes), len(boxes), image.info.given_name))
    return Trial.of(crops)


class NothingToTry(CouldNotTell):
    """A model with the given options makes no numbered objects."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"'{model}' makes no label mask that could be judged",
            hint="--recipe NAME chooses a label recipe",
            code="trial.no-objects",
        )


def crop_of(info: ImageInfo, pixels: Pixels) -> GivenImage:
    """Return pixels cut out of an image as an image of their own."""
    part = replace(
        info, axes="".join(pixels.axes), shape=pixels.shape, alone=None, further={}, stack=None,
        taken={},
    )  # fmt: skip
    return GivenImage(part, np.asarray(pixels))


def crop_boxes(image: ImageSource, space: str, side_px: int = CROP_PX) -> list[dict[str, slice]]:
    """Choose the busiest crops of an image, without overlap.

    A small image is one crop. The same image always gives the same crops.

    Parameters
    ----------
    space : axes of the model, ``yx`` or ``zyx``
    side_px : side of a crop of a plane

    Returns
    -------
    list of dict
        axis -> slice; at most `MOST_CROPS`, of one plane along t and z if the model has no z
    """
    sizes = image.info.sizes
    sides = STACK_PX if "z" in space else {"y": side_px, "x": side_px}
    wholes, lengths = choose_tiles({**dict.fromkeys("tzyx", 1), **sizes}, SAMPLE_PX)
    spreads = []
    for tile in wholes:
        start = {"t": tile.t, "z": tile.z, "y": tile.y, "x": tile.x}
        within = {"y": lengths[0], "x": lengths[1]}
        plane = {a: slice(start[a], start[a] + within.get(a, 1)) for a in start if a in sizes}
        pixels = np.asarray(image.region(plane)).reshape(-1, *lengths)
        for corner in _corners(lengths, sides["y"], sides["x"]):
            cut = tuple(slice(a, a + sides[b]) for a, b in zip(corner, "yx", strict=True))
            at = {**start, "y": start["y"] + corner[0], "x": start["x"] + corner[1]}
            spreads.append((_spread(pixels[(slice(None), *cut)]), at))
    spreads.sort(key=lambda entry: -entry[0])
    return [_box(at, sizes, sides) for _, at in spreads[:MOST_CROPS]]


def _corners(lengths: tuple[int, int], side_y: int, side_x: int) -> Iterator[tuple[int, int]]:
    for y in range(0, max(lengths[0] - side_y, 0) + 1, side_y):
        for x in range(0, max(lengths[1] - side_x, 0) + 1, side_x):
            yield y, x


def _spread(channels: AnyArray) -> float:
    """Return how busy a crop is: the sum of the standard deviations of the channels."""
    finite = np.nan_to_num(channels.astype(np.float32), posinf=0.0, neginf=0.0)
    return float(finite.std((-2, -1)).sum())


def _box(
    at: Mapping[str, int], sizes: Mapping[str, int], sides: Mapping[str, int]
) -> dict[str, slice]:
    box = {}
    for axis in at:
        if axis in sizes:
            side = min(sides.get(axis, 1), sizes[axis])
            start = min(max(at[axis] - (side // 2 if axis == "z" else 0), 0), sizes[axis] - side)
            box[axis] = slice(start, start + side)
    return box


def find_cure(
    setup: RunSetup,
    image: ImageSource,
    trial: Trial,
    backend: Backend,
    listener: Listener = nobody,
    *,
    most_s: float,
) -> Cure | None:
    """Look for options with which the mask of an image is likely to be better.

    Other scales and channels, inverted intensities, clipping of the brightest values and other
    thresholds of the recipe are tried on the worst crop, without changed copies; if the smallest or
    largest scale is the best, so are further ones. The best two of a tie are tried with copies, and
    the better of these on all crops.

    Parameters
    ----------
    setup : see `try_image`
    trial : trial of the image without a cure
    most_s : no further option is tried after this time, seconds

    Returns
    -------
    Cure or None
        None where nothing is predicted to be better by more than a tie
    """
    crop = crop_of(image.info, image.region(trial.worst.box))
    search = _CureSearch(setup, trial, crop, backend, listener, most_s=most_s)
    search.look_at({"": setup.request, **_scale_cures(setup, trial), **_cures(setup, trial)})
    for _ in range(FURTHER):
        search.look_at(search.further_scales())
    best = search.best()
    if not best:
        return None
    cured = try_image(with_options(setup, search.requests[best]), image, backend)
    if cured.quality.f1 < trial.quality.f1 + TIE:
        return None
    return Cure(best, cured.quality)


class _CureSearch:
    """Options that were tried on a crop, and what is predicted of its mask with them.

    Parameters
    ----------
    setup, trial : of the image as it is
    crop : on which cures are tried
    most_s : see `find_cure`
    """

    def __init__(
        self,
        setup: RunSetup,
        trial: Trial,
        crop: GivenImage,
        backend: Backend,
        listener: Listener,
        *,
        most_s: float,
    ) -> None:
        self.setup, self.trial, self.crop = setup, trial, crop
        self.backend, self.listener = backend, listener
        self.most_s, self.stop = most_s, time.monotonic() + most_s
        self.requests: dict[str, RunRequest] = {}
        self.predicted: dict[str, float] = {}

    def look_at(self, requests: Mapping[str, RunRequest]) -> None:
        """Try requests, named by the options that give them, as long as there is time."""
        for number, (words, request) in enumerate(requests.items()):
            if self.predicted and time.monotonic() > self.stop:
                tried_now = f"tried {number} of {len(requests)} options in {self.most_s:g} s"
                self.listener(Note(f"{tried_now}; --try-seconds gives more time"))
                return
            self.listener(Progress("cures", number, len(requests), self.crop.info.given_name))
            try:
                done = tried(with_options(self.setup, request), self.crop, self.backend, {})
            except BmzError:
                continue  # such as a model of one fixed size, which a larger image exceeds
            self.requests[words] = request
            self.predicted[words] = predictor("plain").quality(done.evidence).f1

    def further_scales(self) -> dict[str, RunRequest]:
        """Return half of the smallest scale, or twice the largest, if that is the best so far."""
        scales = {
            words: float(words.removeprefix(OF_SCALE))
            for words in self.requests
            if words.startswith(OF_SCALE)
        }
        best = max(self.predicted, key=lambda words: self.predicted[words])
        if best not in scales:
            return {}
        others = [scale for words, scale in scales.items() if words != best]
        now = self.trial.worst.tried.result.plan.scale
        if scales[best] < min(now, *others):
            factors = (0.5, 0.7)
        elif scales[best] > max(now, *others):
            factors = (1.4, 2.0)
        else:
            return {}
        return _scaled(self.setup, self.crop, [scales[best] * factor for factor in factors])

    def best(self) -> str:
        """Return the options that give the best request; empty for the one without a cure."""
        order = sorted(self.predicted, key=lambda words: -self.predicted[words])
        least = self.predicted[order[0]] - TIE
        near = [words for words in order if words and self.predicted[words] > least][:MOST_NEAR]
        if not order[0] or len(near) == 1:
            return order[0]
        return max(near, key=self._with_copies)

    def _with_copies(self, words: str) -> float:
        done = tried(with_options(self.setup, self.requests[words]), self.crop, self.backend)
        return predictor("tried").quality(done.evidence).f1


OF_SCALE = "--scale "


def _scale_cures(setup: RunSetup, trial: Trial) -> dict[str, RunRequest]:
    """Return requests with other scales, the one that the sizes of the objects suggest first."""
    crop, scale = trial.worst.tried, trial.worst.tried.result.plan.scale
    asked = object_factor(crop.checked.case)
    return _scaled(
        setup,
        crop.crop,
        [*([] if asked is None else [asked]), *(scale * factor for factor in SCALES)],
    )


def _scaled(setup: RunSetup, crop: GivenImage, scales: Sequence[float]) -> dict[str, RunRequest]:
    side = max(crop.info.sizes[axis] for axis in "yx")
    typed = [f"{scale:.2g}" for scale in scales if side * scale <= LARGEST_PX]
    return {f"{OF_SCALE}{scale}": replace(setup.request, scale=float(scale)) for scale in typed}


def _cures(setup: RunSetup, trial: Trial) -> dict[str, RunRequest]:
    """Return requests with other options, by the options that give them."""
    request, plan = setup.request, trial.worst.tried.result.plan
    cures = dict[str, RunRequest]()
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
    """Return requests with other thresholds of the recipe, by the options that give them."""
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
    setup : its request forces the run; its scale may be determined from the whole image
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
        trial = try_image(resized, source, backend, listener, extent=extent)
        if not extent.cure_s or trial.quality.f1 >= SURE:
            return trial, None
        cure = find_cure(resized, source, trial, backend, listener, most_s=extent.cure_s)
        return trial, cure
