"""One model on images with every setting, how stable a result is, and the order of results."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import channel_text
from bmz.base.errors import BmzError, CouldNotTell, WrongUsage, not_none
from bmz.base.progress import Listener, Note, nobody
from bmz.base.values import dataclass
from bmz.check.finding import CheckReport
from bmz.check.fit import CheckedHeader
from bmz.engine.image_result import ImageResult, PlaneOutput
from bmz.engine.labelling import OUTPUT, Decoding, decide_labelling
from bmz.engine.pipeline import (
    KnownTensors,
    PlaneContext,
    PlaneResult,
    finished_plane,
    network_outputs,
    planes_of,
)
from bmz.engine.request import CLIPS, SCALES, RunRequest
from bmz.engine.setup import PlannedImage, RunSetup, checked_pixels, opened, plan_image, prepare
from bmz.engine.stages import Stopwatch
from bmz.engine.tile_gate import expect_image
from bmz.engine.trial import CHANGES, case_values, is_like_examples, mask_on, sample_values
from bmz.image.given_names import given_name
from bmz.image.pixels import Pixels
from bmz.image.region import HeldImage, read_image
from bmz.predict.backend import Backend
from bmz.process.consensus import (
    MOST_PARTNERS,
    Standing,
    consensus,
    f1_between,
    plausibility,
    standings,
)
from bmz.process.mask_evidence import evidence_of
from bmz.process.matching import Overlap, ShapesDiffer, mask_errors
from bmz.process.quality import predictor
from bmz.results.compare import IOUS, ImageComparison, ResultQuality, SettingResult

if TYPE_CHECKING:
    from bmz.results.model_documents import ComparedModel

Setting = Mapping[str, str]
"""Key -> value of one setting of a sweep."""

OF_NETWORK = ("scale", "clip")
"""Keys of a sweep for which the network runs again; all others change the labels alone."""

RECIPE = "recipe"


class SweepRefused(WrongUsage):
    """A value of a sweep is not one that ``bmz run`` would take."""

    def __init__(self, key: str, value: str) -> None:
        super().__init__(
            f"--sweep {key}={value}: '{value}' is not {_VALUES[key]}",
            hint=f"such as --sweep {key}={_EXAMPLES[key]}",
            code="compare.sweep",
        )


_LIMITS: Mapping[str, tuple[float, float]] = {"scale": SCALES, "clip": CLIPS}

_EXAMPLES = {"scale": "0.5,1,2", "clip": "99,99.9,none"}

_VALUES = {
    "scale": "a factor between 0.001 and 1000, auto, off or none",
    "clip": "a percentile from 50 to 100, or none",
}


def with_network_settings(request: RunRequest, setting: Setting) -> RunRequest:
    """Put those keys of a setting into the request for which the network is run again.

    Raises
    ------
    SweepRefused
        A value is not what ``bmz run`` takes.
    """
    if "scale" in setting:
        request = replace(request, scale=_scale(setting["scale"]))
    if "clip" in setting:
        request = replace(request, clip=_number("clip", setting["clip"]))
    return request


def _scale(text: str) -> float | Literal["auto"] | None:
    if text == "auto":
        return "auto"
    return 1.0 if text == "off" else _number("scale", text)


def _number(key: str, text: str) -> float | None:
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError as why:
        raise SweepRefused(key, text) from why
    least, most = _LIMITS[key]
    if not least <= value <= most:
        raise SweepRefused(key, text)
    return value


@dataclass(frozen=True)
class NetworkOutputs:
    """What the network gave for all planes of an image."""

    setup: RunSetup
    planned: PlannedImage
    pixels: Pixels
    report: CheckReport
    work: PlaneContext
    planes: tuple[tuple[KnownTensors, tuple[int, ...]], ...]

    @classmethod
    def of(
        cls, setup: RunSetup, image: Path, backend: Backend, pixels: Pixels | None = None
    ) -> NetworkOutputs:
        """Check an image and run the network.

        Parameters
        ----------
        pixels : others than those of the file, on the same grid

        Raises
        ------
        BmzError
            The image cannot be read or does not fit, or the network fails.
        """
        planned = plan_image(setup, image)
        pixels = read_image(planned.case.image) if pixels is None else pixels
        report = checked_pixels(setup, planned, pixels)
        work = PlaneContext(
            setup.model,
            planned.plan,
            setup.labelling,
            backend,
            Stopwatch(),
            decoding=Decoding.beside(backend),
        )
        expect_image(backend, setup.network, planned.case.image, planned.plan, nobody)
        planes = []
        for plane in planes_of(pixels, work.plan, setup.model.space):
            known, plan = network_outputs(plane, work)
            work = replace(work, plan=plan)
            planes.append((known, plane.shape[1:]))
        return cls(setup, planned, pixels, report, work, tuple(planes))

    @cached_property
    def checked(self) -> CheckedHeader:
        """The check of the image, with what was measured on it."""
        case = self.planned.case.measured_on(self.pixels)
        return CheckedHeader(case, self.report)

    def labelled(
        self,
        setting: Setting,
        copies: Mapping[str, NetworkOutputs] | None = None,
        own: Mapping[str, float] | None = None,
    ) -> SettingResult:
        """Make the labels for one setting; where that fails, the result has the error.

        Parameters
        ----------
        copies : change -> what the network gave for a changed copy of the image, see
            `of_changed_copies`; their labels are made with the setting, too
        own : see `bmz.engine.trial.sample_values`
        """
        request = self.setup.request
        command = command_of(request, self.planned.image, setting)
        result = SettingResult(request.model, setting, command)
        try:
            made, planes = self._with_labels(result)
            return replace(made, quality=self._quality(made, planes, copies or {}, own or {}))
        except BmzError as why:
            return replace(result, error=why)

    def _quality(
        self,
        result: SettingResult,
        planes: Sequence[PlaneResult],
        copies: Mapping[str, NetworkOutputs],
        own: Mapping[str, float],
    ) -> ResultQuality:
        """Judge the plane with most objects by itself, and the whole by its changed copies."""
        number = max(range(len(planes)), key=lambda i: int(not_none(planes[i].labels).max()))
        labelled = {name: self._copy(result, copy, name) for name, copy in copies.items()}
        labels = {name: made for name, made in labelled.items() if made is not None}
        plane, plan = planes[number], self.work.plan
        pixels = planes_of(self.pixels, plan, self.work.model.space)[number]
        mask = mask_on(pixels, not_none(plane.labels), not_none(plane.raw), plan)
        at = {name: made[number] for name, made in labels.items()}
        evidence = evidence_of(mask, at, {**case_values(self.checked, plan.scale), **own})
        scores = [
            f1_between(not_none(one.labels), made[i])
            for made in labels.values()
            for i, one in enumerate(planes)
        ]
        return ResultQuality(
            stability=float(np.mean(scores)) if scores else None,
            plausible=plausibility(result.table),
            predicted=None
            if plane.classes
            else predictor("tried" if labels else "plain").quality(
                evidence, seen=is_like_examples(self.work.model)
            ),
        )

    def _copy(
        self, result: SettingResult, copy: NetworkOutputs, name: str
    ) -> list[AnyArray] | None:
        """Label a changed copy; None where that fails, as where steps do not take its size."""
        try:
            _, planes = copy._with_labels(replace(result))
        except BmzError:
            return None
        return [CHANGES[name].back(not_none(plane.labels)) for plane in planes]

    def _with_labels(self, result: SettingResult) -> tuple[SettingResult, list[PlaneResult]]:
        request, stopwatch = self.setup.request, Stopwatch()
        labelling = decide_labelling(
            self.setup.model,
            recipe=result.settings.get(RECIPE, request.recipe),
            settings={**request.settings, **_of_labels(result.settings)},
        )
        counted = self.work.counted.copy()  # the steps after the network depend on the setting
        work = replace(self.work, labelling=labelling, stopwatch=stopwatch, counted=counted)
        planes = [finished_plane(known, shape, work) for known, shape in self.planes]
        image = HeldImage(self.planned.case.image, self.pixels)
        outputs = [PlaneOutput.of(plane) for plane in planes]
        image_result = ImageResult.of(outputs, image, work.plan, work.model.space)
        if image_result.labels is None:
            raise NoLabels(request.model)
        more = work.watch.findings(image_result.objects, labelling.choice.output)
        made = replace(
            result,
            labels=image_result.whole_labels(),
            table=image_result.table(),
            apart=image_result.plan.apart,
            joined=image_result.plan.joined,
            recipe=labelling.choice.name,
            parameters=labelling.shown_parameters,
            network_s=self.work.stopwatch.took_s.get("network", 0.0),
            labels_s=stopwatch.took_s.get("labels", 0.0),
            findings=(*self.report.findings, *more),
        )
        return made, planes


def _of_labels(setting: Setting) -> Setting:
    """Give the keys of a setting that change the labels alone."""
    return {key: value for key, value in setting.items() if key not in (*OF_NETWORK, RECIPE)}


class NoLabels(CouldNotTell):
    """A model, as it was asked for, makes no labels."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"'{model}' makes no label mask that could be compared",
            hint="--recipe NAME chooses a label recipe",
            code="compare.no-labels",
        )


def command_of(request: RunRequest, image: Path, setting: Setting) -> str:
    """Give the call of ``bmz run`` that makes the labels of one setting.

    That code of a model may run is left out: it is never taken from a page.
    """
    run = with_network_settings(request, setting)
    options = {
        "--axes": run.axes,
        "--channels": channel_text(run.channels or ()),
        "--pixel-size": ",".join(f"{axis}={um}um" for axis, um in run.pixel_um.items()),
        "--scale": run.scale,
        "--kind": run.kind,
        "--clip": run.clip,
        "--recipe": setting.get(RECIPE, run.recipe),
        "--link": ",".join(f"{axis}={iou:g}" for axis, iou in run.link.items()),
        "--link-gap": run.link_gap,
        "--tile": run.tile,
    }
    arguments = [part for name, value in options.items() if value for part in (name, str(value))]
    arguments += ["--invert"] if run.invert else []
    arguments += ["--force"] if run.force else []
    for key, value in {**run.settings, **_of_labels(setting)}.items():
        arguments += ["--set", f"{key}={value}"]
    folder = _folder(request.model, setting)
    return shlex.join(["bmz", "run", request.model, given_name(image), "-o", folder, *arguments])


def _folder(model: str, setting: Setting) -> str:
    # a folder for each setting: the masks of an image have the same name in all of them
    name = "_".join([model, *(f"{key}={value}" for key, value in setting.items())])
    return "results/" + re.sub(r"[^\w.=,-]+", "-", name).strip(".-")


@dataclass(frozen=True)
class Sweep:
    """Runs models on images with every setting, and remembers what of them the report shows.

    Parameters
    ----------
    settings : each of them is tried
    stability : models are run on changed copies, too, see `of_changed_copies`
    listener : hears of parameters that a model does not have
    pixels : of the images that could be read
    models : those that could be loaded
    """

    settings: Sequence[Setting]
    stability: bool
    listener: Listener = nobody
    pixels: dict[Path, Pixels] = field(default_factory=dict)
    models: list[ComparedModel] = field(default_factory=list)

    def results(self, request: RunRequest) -> Iterator[tuple[Path, SettingResult]]:
        """Run a model on its images; what fails is a result with an error.

        The network is run once for an image; settings of labels reuse its output.

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
                self.listener(Note(f"{text}: it is run once for all of its values"))
        fitting = [{k: v for k, v in setting.items() if k in known} for setting in self.settings]
        return list({tuple(setting.items()): setting for setting in fitting}.values())

    def _of_group(
        self, setup: RunSetup, backend: Backend, image: Path, settings: Sequence[Setting]
    ) -> Iterator[SettingResult]:
        """Run the network once for all settings that change the labels alone."""
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
    """Put the settings together for which the network is run once."""
    groups: dict[tuple[str | None, ...], list[Setting]] = {}
    for setting in settings:
        groups.setdefault(tuple(setting.get(key) for key in OF_NETWORK), []).append(setting)
    return list(groups.values())


def of_changed_copies(outputs: NetworkOutputs, backend: Backend) -> dict[str, NetworkOutputs]:
    """Run the network on changed copies of an image; what does not fit the model is left out.

    Parameters
    ----------
    outputs : for the image as it is
    backend : of the model

    Returns
    -------
    dict
        by the names of `bmz.engine.trial.CHANGES`
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
"""Fewer results than these have no majority."""


def sorted_results(
    image: Path,
    results: Sequence[SettingResult],
    truth: AnyArray | None,
    pixels: Pixels | None,
) -> ImageComparison:
    """Compare the results for an image with the truth or with each other, the best first.

    Parameters
    ----------
    truth : mask on the grid of the labels; None where it is not known
    pixels : of the image; None where it cannot be read
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
    # equal ones stay in the order of the call
    rated.sort(key=lambda result: (-(result.quality.mean_ap or 0.0), -result.guess))
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
