"""``bmz compare``: several models and settings on the same images, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmz.app.compare.networks import (
    OF_NETWORK,
    RECIPE,
    Outputs,
    command_of,
    network_words,
    stability_of,
)
from bmz.app.score import is_many, mask_name, masks_by_name
from bmz.app.score.label_mask import read_mask
from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.base.version import versions
from bmz.engine.labelling import OUTPUT
from bmz.engine.request import RunRequest
from bmz.engine.setup import RunSetup, opened, prepare
from bmz.image.pixels import Pixels
from bmz.predict.backend import Backend
from bmz.process.consensus import MOST_PARTNERS, agreements, consensus, f1_between
from bmz.process.matching import Overlap, ShapesDiffer, mask_errors
from bmz.results.compare import IOUS, Comparison, ImageCompared, ResultQuality, SettingResult

if TYPE_CHECKING:
    from bmz.results.documents import ComparedModel


class NoTruthFor(CouldNotTell):
    """There is no true mask for an image."""

    def __init__(self, image: Path, truth: Path) -> None:
        super().__init__(
            f"'{truth}' holds no mask with the name of '{image.name}'",
            hint="true masks bear the names of their images, before endings such as _mask.png",
            code="compare.no-truth",
        )


@dataclass(frozen=True)
class CompareRequest:
    """The words of one call of ``bmz compare``.

    Parameters
    ----------
    images, models : each with each
    sweeps : key -> values that are tried, all with all
    truth : a true mask, or a folder of them with the names of the images; None for none
    stability : models are tried on changed images too, where there is no truth
    words : all else, as for ``bmz run``
    command : the call, for the report
    components : of true masks that do not number their objects, see `read_mask`
    """

    images: tuple[Path, ...]
    models: tuple[str, ...]
    sweeps: Mapping[str, Sequence[str]]
    truth: Path | None
    stability: bool
    words: RunRequest
    command: str = ""
    components: bool | None = None


@dataclass
class ComparisonInputs:
    """What is kept of images and models while they are run."""

    pixels: dict[Path, Pixels] = field(default_factory=dict)
    models: list[ComparedModel] = field(default_factory=list)


def compare(request: CompareRequest, listener: Listener = nobody) -> Comparison:
    """Run every model with every setting on every image, and put the results in order.

    The network of a model is run once for an image; settings of labels reuse its output. What
    fails is a result with an error.

    Parameters
    ----------
    request : the words of the call
    listener : is told of results as they come

    Raises
    ------
    SweepRefused, NoTruthFor, NoMask
        A word of the call is wrong.
    """
    # a wrong word is told before the networks are run
    truths = {image: _truth(image, request) for image in request.images}
    settings = [
        dict(zip(request.sweeps, values, strict=True))
        for values in product(*request.sweeps.values())
    ]
    for one in settings:
        network_words(request.words, one)  # or refuse it now
    rows: dict[Path, list[SettingResult]] = {image: [] for image in request.images}
    total, inputs = len(request.models) * len(request.images) * len(settings), ComparisonInputs()
    for model in request.models:
        for image, result in _of_model(request, model, settings, inputs, listener):
            rows[image].append(result)
            done = sum(map(len, rows.values()))
            listener(Progress("results", done, total, result.name))
    images = [
        _sorted_results(image, tuple(found), truths[image], inputs.pixels.get(image))
        for image, found in rows.items()
    ]
    return Comparison(request.command, versions(), tuple(images), inputs.models)


def _truth(image: Path, request: CompareRequest) -> AnyArray | None:
    if request.truth is None:
        return None
    path = request.truth
    if len(request.images) > 1 or is_many(path):
        found = masks_by_name(path).get(mask_name(image))
        if found is None:
            raise NoTruthFor(image, path)
        path = found
    return read_mask(path, components=request.components)


def _of_model(
    request: CompareRequest,
    model: str,
    settings: Sequence[Mapping[str, str]],
    inputs: ComparisonInputs,
    listener: Listener,
) -> Iterator[tuple[Path, SettingResult]]:
    words = replace(request.words, model=model, images=request.images)
    try:
        setup = prepare(words, listener)
        backend = opened(setup)
    except BmzError as why:
        for image, one in product(request.images, settings):
            yield image, SettingResult(model, one, command_of(words, image, one), error=why)
        return
    inputs.models.append({"name": model, "title": setup.model.name, "sha256": setup.model.sha256})
    fitting, odd = _fitting(setup, settings)
    for key in odd:
        listener(Note(f"'{model}' has no parameter {key}: it is run once for all of its values"))
    settings = fitting
    with closing(backend):
        for image in request.images:
            for result in _of_image(request, setup, backend, image, settings, inputs.pixels):
                yield image, result


def _fitting(
    setup: RunSetup, settings: Sequence[Mapping[str, str]]
) -> tuple[list[Mapping[str, str]], list[str]]:
    """Leave out the keys that neither the recipe nor the steps of a model have, and what is twice.

    Returns
    -------
    list of settings, list of keys
        those that are left, and the keys that were left out
    """
    labelling = setup.labelling
    if labelling.recipe is None or any(RECIPE in one for one in settings):
        return list(settings), []  # another recipe has other parameters
    steps = (*labelling.map_steps, *labelling.label_steps)
    known = {*OF_NETWORK, OUTPUT, *(parameter.name for parameter in labelling.recipe.every)}
    known |= {key for step in steps for key in step.kwargs}
    odd = [key for key in dict.fromkeys(k for one in settings for k in one) if key not in known]
    kept = [{k: v for k, v in one.items() if k in known} for one in settings]
    once = {tuple(one.items()): one for one in kept}
    return list(once.values()), odd


def _of_image(
    request: CompareRequest,
    setup: RunSetup,
    backend: Backend,
    image: Path,
    settings: Sequence[Mapping[str, str]],
    pixels: dict[Path, Pixels],
) -> Iterator[SettingResult]:
    """Run the network once for all settings that change the labels alone."""
    groups: dict[tuple[str | None, ...], list[Mapping[str, str]]] = {}
    for one in settings:
        groups.setdefault(tuple(one.get(key) for key in OF_NETWORK), []).append(one)
    for some in groups.values():
        words = network_words(setup.request, some[0])
        this = replace(setup, request=words, decided=replace(setup.decided, clip=words.clip))
        try:
            found = Outputs.of(this, image, backend)
            pixels.setdefault(image, found.pixels)
        except BmzError as why:
            for one in some:
                yield SettingResult(words.model, one, command_of(words, image, one), error=why)
            continue
        stable = None
        if request.stability and request.truth is None:
            stable = stability_of(found, backend)
        for one in some:
            yield found.labelled(one, stable)


def _sorted_results(
    image: Path,
    results: tuple[SettingResult, ...],
    mask: AnyArray | None,
    pixels: Pixels | None,
) -> ImageCompared:
    """Compare the results with the truth or with each other, and put them in order."""
    done = [one for one in results if one.labels is not None]
    qualities: list[ResultQuality] = []
    most: AnyArray | None = None
    if mask is None:
        masks = [np.asarray(one.labels) for one in done]
        most = consensus(masks) if 3 <= len(masks) <= MOST_PARTNERS else None  # noqa: PLR2004  (a majority)
        for one, mine, agreed in zip(done, masks, agreements(masks), strict=True):
            known = None if np.isnan(agreed) else float(agreed)
            near = None if most is None else f1_between(mine, most)
            qualities.append(replace(one.quality, agreement=known, consensus=near))
    else:
        qualities = [_against(one, mask) for one in done]
    sure = [replace(one, quality=how) for one, how in zip(done, qualities, strict=True)]
    # equal ones stay in the order of the call
    sure.sort(key=lambda one: (-(one.quality.mean_ap or 0.0), -one.quality.guess))
    failed = [one for one in results if one.labels is None]
    return ImageCompared(image, pixels, mask, (*sure, *failed), most)


def _against(result: SettingResult, truth: AnyArray) -> ResultQuality:
    labels = np.squeeze(np.asarray(result.labels))
    if labels.shape != truth.shape:
        raise ShapesDiffer(labels.shape, truth.shape)
    overlap = Overlap.of(labels, truth)
    matchings = {iou: overlap.matching(iou) for iou in IOUS}
    return replace(result.quality, matchings=matchings, errors=mask_errors(labels, truth))
