"""Run a model on images with all settings, measure stability, and rank the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Note, nobody
from bmz.base.values import dataclass
from bmz.engine.judged import with_judgements
from bmz.engine.kept_outputs import (
    OF_NETWORK,
    RECIPE,
    NetworkOutputs,
    Setting,
    command_of,
    with_network_settings,
)
from bmz.engine.labelling import OUTPUT
from bmz.engine.request import RunRequest
from bmz.engine.setup import RunSetup, opened, prepare
from bmz.engine.trial import CHANGES, sample_values
from bmz.image.pixels import Pixels
from bmz.predict.backend import Backend
from bmz.process.consensus import (
    MOST_PARTNERS,
    Standing,
    consensus,
    f1_between,
    standings,
)
from bmz.process.matching import Overlap, ShapesDiffer, mask_errors
from bmz.process.quality import predictor
from bmz.results.compare import IOUS, ImageComparison, SettingResult
from bmz.write.judgements import Judgement

if TYPE_CHECKING:
    from bmz.results.model_documents import ComparedModel


@dataclass(frozen=True)
class Sweep:
    """Runs models on images with all settings, and keeps what the report shows of them.

    Parameters
    ----------
    settings : settings to try
    stability : whether models are also run on changed copies, see `of_changed_copies`
    listener : is notified of parameters that a model does not have
    pixels : pixels of the images that could be read
    models : models that could be loaded
    """

    settings: Sequence[Setting]
    stability: bool
    listener: Listener = nobody
    pixels: dict[Path, Pixels] = field(default_factory=dict)
    models: list[ComparedModel] = field(default_factory=list)

    def results(self, request: RunRequest) -> Iterator[tuple[Path, SettingResult]]:
        """Run a model on its images; a failure is a result with an error.

        The network is run once for each of its own settings; other settings reuse its output.

        Parameters
        ----------
        request : model, images and the options that all settings share
        """
        try:
            setup = prepare(request, self.listener)
            backend = opened(setup)
        except BmzError as why:
            for image, setting in product(request.images, self.settings):
                yield image, _failed(request, image, setting, why)
            return
        model = setup.model
        self.models.append({"name": request.model, "title": model.name, "sha256": model.sha256})
        groups = _groups(self._fitting(setup))
        with closing(backend):
            for image, group in product(request.images, groups):
                for result in self._of_group(setup, backend, image, group):
                    yield image, result

    def _fitting(self, setup: RunSetup) -> list[Setting]:
        """Leave out the keys that neither the recipe nor the steps of a model have."""
        labelling = setup.labelling
        if labelling.recipe is None or any(RECIPE in setting for setting in self.settings):
            return list(self.settings)  # another recipe has other parameters
        steps = (*labelling.map_steps, *labelling.label_steps)
        known = {*OF_NETWORK, OUTPUT, *(parameter.name for parameter in labelling.recipe.every)}
        known |= {key for step in steps for key in step.kwargs}
        for key in dict.fromkeys(key for setting in self.settings for key in setting):
            if key not in known:
                text = f"'{setup.request.model}' has no parameter {key}"
                self.listener(Note(f"{text}: it runs once for all values"))
        fitting = [{k: v for k, v in setting.items() if k in known} for setting in self.settings]
        return list({tuple(setting.items()): setting for setting in fitting}.values())

    def _of_group(
        self, setup: RunSetup, backend: Backend, image: Path, settings: Sequence[Setting]
    ) -> Iterator[SettingResult]:
        """Run the network once for settings that differ only in how labels are made."""
        request = with_network_settings(setup.request, settings[0])
        changed = replace(setup, request=request, decided=replace(setup.decided, clip=request.clip))
        try:
            outputs = NetworkOutputs.of(changed, image, backend)
        except BmzError as why:
            for setting in settings:
                yield _failed(request, image, setting, why)
            return
        self.pixels.setdefault(image, outputs.pixels)
        copies = of_changed_copies(outputs, backend) if self.stability else {}
        own = sample_values(setup, backend) if self.stability else {}
        for setting in settings:
            yield outputs.labelled(setting, copies, own)


def _failed(request: RunRequest, image: Path, setting: Setting, error: BmzError) -> SettingResult:
    command = command_of(request, image, setting)
    return SettingResult(request.model, setting, command, error=error)


def _groups(settings: Sequence[Setting]) -> list[list[Setting]]:
    """Group the settings for which the network is run once."""
    groups: dict[tuple[str | None, ...], list[Setting]] = {}
    for setting in settings:
        groups.setdefault(tuple(setting.get(key) for key in OF_NETWORK), []).append(setting)
    return list(groups.values())


def of_changed_copies(outputs: NetworkOutputs, backend: Backend) -> dict[str, NetworkOutputs]:
    """Run the network on changed copies of an image; copies that do not fit it are left out.

    Parameters
    ----------
    outputs : outputs for the unchanged image
    backend : the network

    Returns
    -------
    dict
        name in `bmz.engine.trial.CHANGES` -> outputs
    """
    setup, image, pixels = outputs.setup, outputs.planned.image, outputs.pixels
    copies = {}
    for name, change in CHANGES.items():
        scale = (outputs.planned.plan.scale or 1.0) * change.scale
        resized = replace(setup, request=replace(setup.request, scale=scale, force=True))
        copy = replace(pixels, array=change.image(pixels.array))
        try:
            copies[name] = NetworkOutputs.of(resized, image, backend, copy)
        except BmzError:
            continue  # such as a model of one fixed size, which the larger copy exceeds
    return copies


MAJORITY = 3
"""Minimum number of results for a majority."""


def sorted_results(
    image: Path,
    results: Sequence[SettingResult],
    truth: AnyArray | None,
    pixels: Pixels | None,
    judgements: Sequence[Judgement] = (),
) -> ImageComparison:
    """Compare the results for an image with the ground truth or with each other, and rank them.

    The user's judgements take precedence over the prediction, and the ground truth over both.

    Parameters
    ----------
    truth : true mask, of the shape of the labels; None if it is unknown
    pixels : pixels of the image; None if it cannot be read
    judgements : judgements of the image
    """
    labelled = [result for result in results if result.labels is not None]
    majority: AnyArray | None = None
    if truth is None:
        masks = [np.asarray(result.labels) for result in labelled]
        if MAJORITY <= len(masks) <= MOST_PARTNERS:
            majority = consensus(masks)
        known = standings(masks, [result.quality.predicted_f1 for result in labelled])
        rated = [
            _with_standing(result, mask, standing, majority)
            for result, mask, standing in zip(labelled, masks, known, strict=True)
        ]
    else:
        rated = [_with_truth(result, truth) for result in labelled]
    rated = [with_judgements(result, judgements) for result in rated]
    # the sort is stable: results that are equal keep the order of the call
    rated.sort(key=lambda result: tuple(-(worth or 0.0) for worth in result.ranks))
    failed = [result for result in results if result.labels is None]
    return ImageComparison(image, pixels, truth, (*rated, *failed), majority)


def _with_standing(
    result: SettingResult, mask: AnyArray, standing: Standing | None, majority: AnyArray | None
) -> SettingResult:
    quality = result.quality
    if standing is not None:
        quality = replace(quality, agreement=standing.agreement)
        if quality.predicted is not None:
            beside = predictor("among").at_f1(standing.f1, seen=quality.predicted.seen)
            quality = replace(quality, predicted=beside)
    if majority is not None:
        quality = replace(quality, consensus=f1_between(mask, majority))
    return replace(result, quality=quality)


def _with_truth(result: SettingResult, truth: AnyArray) -> SettingResult:
    labels = np.squeeze(np.asarray(result.labels))
    if labels.shape != truth.shape:
        raise ShapesDiffer(labels.shape, truth.shape)
    overlap = Overlap.of(labels, truth)
    matchings = {iou: overlap.matching(iou) for iou in IOUS}
    errors = mask_errors(labels, truth)
    return replace(result, quality=replace(result.quality, matchings=matchings, errors=errors))
