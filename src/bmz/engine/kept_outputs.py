"""Keep the network outputs of an image, and compute labels from them with any setting."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.axes import channel_text, channel_words
from bmz.base.errors import BmzError, CouldNotTell, WrongUsage, not_none
from bmz.base.progress import Listener, nobody
from bmz.base.values import dataclass
from bmz.check.finding import CheckReport
from bmz.check.fit import CheckedHeader
from bmz.engine.image_result import ImageResult, PlaneOutput
from bmz.engine.known_tensors import KeptTensors, KnownTensors
from bmz.engine.labelling import Decoding, decide_labelling
from bmz.engine.pipeline import (
    PlaneContext,
    PlaneResult,
    finished_plane,
    network_outputs,
    planes_of,
)
from bmz.engine.request import CLIPS, SCALES, RunRequest
from bmz.engine.setup import PlannedImage, RunSetup, checked_pixels, plan_image
from bmz.engine.stages import Stopwatch
from bmz.engine.tile_gate import expect_image
from bmz.engine.trial import CHANGES, case_values, is_like_examples, mask_on
from bmz.image.given_names import given_name
from bmz.image.pixels import Pixels
from bmz.image.region import HeldImage, read_image
from bmz.predict.backend import Backend
from bmz.process.consensus import f1_between, plausibility
from bmz.process.mask_evidence import evidence_of
from bmz.process.quality import predictor
from bmz.results.compare import ResultQuality, SettingResult

Setting = Mapping[str, str]
"""Key -> value of one setting of a sweep."""

OF_NETWORK = ("scale", "clip")
"""Keys of a sweep that require running the network again; all others only change the labels."""

RECIPE = "recipe"


class SweepRefused(WrongUsage):
    """A value of a sweep is not one that ``bmz run`` accepts."""

    def __init__(self, key: str, value: str) -> None:
        super().__init__(
            f"--sweep {key}={value}: '{value}' is not {_VALUES[key]}",
            hint=f"for example --sweep {key}={_EXAMPLES[key]}",
            code="compare.sweep",
        )


_LIMITS: Mapping[str, tuple[float, float]] = {"scale": SCALES, "clip": CLIPS}

_EXAMPLES = {"scale": "0.5,1,2", "clip": "99,99.9,none"}

_VALUES = {
    "scale": "a factor between 0.001 and 1000, auto, off or none",
    "clip": "a percentile from 50 to 100, or none",
}


def with_network_settings(request: RunRequest, setting: Setting) -> RunRequest:
    """Apply the keys of a setting that require running the network again to the request.

    Raises
    ------
    SweepRefused
        A value is not one that ``bmz run`` accepts.
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


class ModelOptionRefused(WrongUsage):
    """An option given after the name of a model cannot be read."""

    def __init__(self, word: str, why: str) -> None:
        super().__init__(
            f"'{word}': {why}",
            hint="for example cellpose-cyto:channels=0,1:scale=auto:flow_threshold=0.2",
            code="compare.model",
        )


_OPTION = re.compile(r":(?=[a-z_]+=)")

_TRUE = {"true": True, "yes": True, "false": False, "no": False}


def of_model(word: str, options: RunRequest) -> RunRequest:
    """Parse a model with its own options, which override those of the call.

    Parameters
    ----------
    word : a model, followed after colons by ``channels``, ``scale``, ``clip``, ``invert``,
        ``recipe`` or parameters of its recipe, such as
        ``cellpose-cyto:channels=0,1:flow_threshold=0.2``

    Raises
    ------
    ModelOptionRefused, SweepRefused
        A value is not one that ``bmz run`` accepts.
    """
    model, *pairs = _OPTION.split(word)
    given = dict(pair.split("=", 1) for pair in pairs)
    request = with_network_settings(replace(options, model=model), given)
    if "channels" in given:
        try:
            request = replace(request, channels=channel_words(given["channels"]))
        except ValueError as why:
            raise ModelOptionRefused(word, str(why)) from why
    if "invert" in given:
        if given["invert"] not in _TRUE:
            raise ModelOptionRefused(word, f"invert is true or false, not '{given['invert']}'")
        request = replace(request, invert=_TRUE[given["invert"]])
    known = (*OF_NETWORK, "channels", "invert", RECIPE)
    labels = {key: value for key, value in given.items() if key not in known}
    recipe = given.get(RECIPE, request.recipe)
    return replace(request, recipe=recipe, settings={**request.settings, **labels})


@dataclass(frozen=True)
class NetworkOutputs:
    """Network outputs for all planes of an image."""

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
        pixels : pixels to use instead of those of the file, on the same grid

        Raises
        ------
        BmzError
            The image cannot be read or does not fit, or the network fails.
        """
        planned = plan_image(setup, image)
        pixels = read_image(planned.case.image) if pixels is None else pixels
        return cls.of_pixels(setup, planned, backend, pixels)

    @classmethod
    def of_pixels(
        cls,
        setup: RunSetup,
        planned: PlannedImage,
        backend: Backend,
        pixels: Pixels,
        listener: Listener = nobody,
    ) -> NetworkOutputs:
        """Check the pixels of a planned image and run the network, as `of` does."""
        report = checked_pixels(setup, planned, pixels)
        decoding = Decoding.beside(backend)
        work = PlaneContext(
            setup.model, planned.plan, setup.labelling, backend, Stopwatch(), listener,
            decoding=decoding,
        )  # fmt: skip
        expect_image(backend, setup.network, planned.case.image, planned.plan, nobody)
        planes = []
        for plane in planes_of(pixels, work.plan, setup.model.space):
            known, plan = network_outputs(plane, work)
            work = replace(work, plan=plan)
            planes.append((known, plane.shape[1:]))
        return cls(setup, planned, pixels, report, work, tuple(planes))

    def keeping(self) -> NetworkOutputs:
        """Return a copy that caches the intermediate results that the next setting can reuse.

        The labels are the same but computed faster; only one thread may use it at a time.
        """
        planes = tuple((KeptTensors.of_known(known), shape) for known, shape in self.planes)
        return replace(self, planes=planes)

    def forget(self) -> None:
        """Discard the results cached between settings."""
        for known, _ in self.planes:
            known.forget()

    @cached_property
    def checked(self) -> CheckedHeader:
        """The check of the image, with measurements of its pixels."""
        case = self.planned.case.measured_on(self.pixels)
        return CheckedHeader(case, self.report)

    def labelled(
        self,
        setting: Setting,
        copies: Mapping[str, NetworkOutputs] | None = None,
        own: Mapping[str, float] | None = None,
    ) -> SettingResult:
        """Compute and judge the labels for one setting; on failure, the result has the error.

        Parameters
        ----------
        copies : change -> network outputs for a changed copy of the image, from
            `of_changed_copies`; the copies are labelled with the same setting
        own : values from `bmz.engine.trial.sample_values`
        """
        request = self.setup.request
        try:
            made = self.relabelled(setting)
            result = made.with_table()
            return replace(result, quality=self._quality(result, made, copies or {}, own or {}))
        except BmzError as why:
            command = command_of(request, self.planned.image, setting)
            return SettingResult(request.model, setting, command, error=why)

    def _quality(
        self,
        result: SettingResult,
        made: MadeLabels,
        copies: Mapping[str, NetworkOutputs],
        own: Mapping[str, float],
    ) -> ResultQuality:
        """Judge the plane with most objects, and compare all planes with the changed copies."""
        planes = made.planes
        number = max(range(len(planes)), key=lambda i: int(not_none(planes[i].labels).max()))
        labelled = {name: self._copy(result.settings, copy, name) for name, copy in copies.items()}
        labels = {name: copy for name, copy in labelled.items() if copy is not None}
        plane, plan = planes[number], self.work.plan
        pixels = planes_of(self.pixels, plan, self.work.model.space)[number]
        mask = mask_on(pixels, not_none(plane.labels), not_none(plane.raw), plan)
        at = {name: copy[number] for name, copy in labels.items()}
        evidence = evidence_of(mask, at, {**case_values(self.checked, plan.scale), **own})
        scores = [
            f1_between(not_none(one.labels), copy[i])
            for copy in labels.values()
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

    def _copy(self, setting: Setting, copy: NetworkOutputs, name: str) -> list[AnyArray] | None:
        """Label a changed copy; None if that fails, for example if a step rejects its size."""
        try:
            made = copy.relabelled(setting)
        except BmzError:
            return None
        return [CHANGES[name].back(not_none(plane.labels)) for plane in made.planes]

    def relabelled(self, setting: Setting) -> MadeLabels:
        """Compute the labels for one setting, without measuring or judging them.

        Raises
        ------
        BmzError
            No labels can be computed.
        """
        request, stopwatch = self.setup.request, Stopwatch()
        labelling = decide_labelling(
            self.setup.model,
            recipe=setting.get(RECIPE, request.recipe),
            settings={**request.settings, **_of_labels(setting)},
        )
        counted = self.work.counted.copy()  # the steps after the network depend on the setting
        work = replace(self.work, labelling=labelling, stopwatch=stopwatch, counted=counted)
        planes = [
            finished_plane(known, shape, replace(work, labelling=known.keeping(labelling)))
            for known, shape in self.planes
        ]
        image = HeldImage(self.planned.case.image, self.pixels)
        outputs = [PlaneOutput.of(plane) for plane in planes]
        image_result = ImageResult.of(outputs, image, work.plan, work.model.space)
        if image_result.labels is None:
            raise NoLabels(request.model)
        more = work.watch.findings(image_result.objects, labelling.choice.output)
        result = SettingResult(
            request.model,
            setting,
            command_of(request, self.planned.image, setting),
            labels=image_result.whole_labels(),
            apart=image_result.plan.apart,
            joined=image_result.plan.joined,
            recipe=labelling.choice.name,
            parameters=labelling.shown_parameters,
            network_s=self.work.stopwatch.took_s.get("network", 0.0),
            labels_s=stopwatch.took_s.get("labels", 0.0),
            findings=(*self.report.findings, *more),
        )
        return MadeLabels(result, planes, image_result)


@dataclass(frozen=True)
class MadeLabels:
    """The labels of one setting.

    Parameters
    ----------
    result : result without the table of objects
    planes : results of the planes
    image : the same labels, ready to be measured
    """

    result: SettingResult
    planes: Sequence[PlaneResult]
    image: ImageResult

    def with_table(self) -> SettingResult:
        """Return the result with a table of the measured objects."""
        return replace(self.result, table=self.image.table())


def _of_labels(setting: Setting) -> Setting:
    """Return the keys of a setting that only change the labels."""
    return {key: value for key, value in setting.items() if key not in (*OF_NETWORK, RECIPE)}


class NoLabels(CouldNotTell):
    """A model makes no labels with the requested options."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"'{model}' makes no label mask that could be compared",
            hint="--recipe NAME chooses a label recipe",
            code="compare.no-labels",
        )


def command_of(request: RunRequest, image: Path, setting: Setting) -> str:
    """Return the ``bmz run`` command that computes the labels of one setting.

    Permission to run a model's code is left out: it must never be copied from a page.
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
    # one folder per setting, as the masks of an image have the same name in all of them
    name = "_".join([model, *(f"{key}={value}" for key, value in setting.items())])
    return "results/" + re.sub(r"[^\w.=,-]+", "-", name).strip(".-")
