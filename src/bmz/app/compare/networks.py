"""One model on one image, for every setting, and how stable the result is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError, CouldNotTell, WrongUsage
from bmz.check.finding import CheckReport
from bmz.engine.image_result import ImageResult, PlaneOutput
from bmz.engine.labelling import decide_labelling
from bmz.engine.pipeline import (
    KnownTensors,
    PlaneContext,
    Stopwatch,
    finished_plane,
    network_outputs,
)
from bmz.engine.request import CLIPS, SCALES, RunRequest
from bmz.engine.run_image import planes_of
from bmz.engine.setup import PlannedImage, RunSetup, checked_pixels, plan_image
from bmz.image.pixels import Pixels
from bmz.image.region import HeldImage, read_image
from bmz.predict.backend import Backend
from bmz.process.consensus import f1_between, plausibility
from bmz.results.compare import ResultQuality, SettingResult

OF_NETWORK = ("scale", "clip")
"""Keys of a sweep for which the network runs anew; all others change the labels alone."""

RECIPE = "recipe"


class SweepRefused(WrongUsage):
    """A value of a sweep is none that ``bmz run`` would take."""

    def __init__(self, key: str, value: str) -> None:
        super().__init__(
            f"--sweep {key}={value}: '{value}' is not {_MEANT[key]}",
            hint=f"such as --sweep {key}={_EXAMPLES[key]}",
            code="compare.sweep",
        )


_LIMITS: Mapping[str, tuple[float, float]] = {"scale": SCALES, "clip": CLIPS}

_EXAMPLES = {"scale": "0.5,1,2", "clip": "99,99.9,none"}

_MEANT = {
    "scale": "a factor between 0.001 and 1000, auto, off or none",
    "clip": "a percentile from 50 to 100, or none",
}


def network_words(words: RunRequest, settings: Mapping[str, str]) -> RunRequest:
    """Put those settings into the words for which the network is run anew.

    Raises
    ------
    SweepRefused
        A value is not what ``bmz run`` takes.
    """
    changes = {key: _network_word(key, settings[key]) for key in OF_NETWORK if key in settings}
    return replace(words, **changes)


def _network_word(key: str, text: str) -> Any:  # noqa: ANN401  (a scale may be a word)
    if text == "none":
        return None
    if key == "scale" and text in ("auto", "off"):
        return "auto" if text == "auto" else 1.0
    try:
        value = float(text)
    except ValueError as why:
        raise SweepRefused(key, text) from why
    least, most = _LIMITS[key]
    if not least <= value <= most:
        raise SweepRefused(key, text)
    return value


@dataclass(frozen=True)
class Outputs:
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
    ) -> Outputs:
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
        work = PlaneContext(setup.model, planned.plan, setup.labelling, backend, Stopwatch())
        planes = []
        for plane in planes_of(pixels, work.plan, setup.model.space):
            known, plan = network_outputs(plane, work)
            work = replace(work, plan=plan)
            planes.append((known, plane.shape[1:]))
        return cls(setup, planned, pixels, report, work, tuple(planes))

    def labelled(self, settings: Mapping[str, str], stable: float | None) -> SettingResult:
        """Make the labels for one setting; where that fails, the result has the error."""
        words = self.setup.request
        result = SettingResult(
            words.model, settings, command_of(words, self.planned.image, settings)
        )
        try:
            return self._with_labels(result, stable)
        except BmzError as why:
            return replace(result, error=why)

    def _with_labels(self, result: SettingResult, stable: float | None) -> SettingResult:
        words, took = self.setup.request, Stopwatch()
        of_labels = {k: v for k, v in result.settings.items() if k not in (*OF_NETWORK, RECIPE)}
        labelling = decide_labelling(
            self.setup.model,
            recipe=result.settings.get(RECIPE, words.recipe),
            settings={**words.settings, **of_labels},
        )
        counted = self.work.counted.copy()  # the steps after the network hang on settings
        work = replace(self.work, labelling=labelling, stopwatch=took, counted=counted)
        planes = [
            PlaneOutput.of(finished_plane(known, shape, work)) for known, shape in self.planes
        ]
        image = HeldImage(self.planned.case.image, self.pixels)
        made = ImageResult.of(planes, image, work.plan, work.model.space)
        if made.labels is None:
            raise NoLabels(words.model)
        table = made.table()
        more = work.watch.findings(made.objects, labelling.choice.output)
        return replace(
            result,
            labels=made.whole_labels(),
            table=table,
            apart=made.plan.apart,
            joined=made.plan.joined,
            recipe=labelling.choice.name,
            parameters=labelling.told,
            network_s=self.work.stopwatch.took_s.get("network", 0.0),
            labels_s=took.took_s.get("labels", 0.0),
            findings=(*self.report.findings, *more),
            quality=ResultQuality(stability=stable, plausible=plausibility(table)),
        )


class NoLabels(CouldNotTell):
    """A model, as it was asked for, makes no labels."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"'{model}' makes no label mask that could be compared",
            hint="--recipe NAME chooses a label recipe",
            code="compare.no-labels",
        )


def command_of(words: RunRequest, image: Path, settings: Mapping[str, str]) -> str:
    """Give the call of ``bmz run`` that makes the labels of one setting.

    That code of a model may run is left out: it is never taken from a page.
    """
    run = network_words(words, settings)
    of_labels = {k: v for k, v in settings.items() if k not in (*OF_NETWORK, RECIPE)}
    told = {
        "--axes": run.axes,
        "--channels": ",".join("none" if n < 0 else str(n) for n in run.channels or ()),
        "--pixel-size": ",".join(f"{axis}={um}um" for axis, um in run.pixel_um.items()),
        "--scale": run.scale,
        "--kind": run.kind,
        "--clip": run.clip,
        "--recipe": settings.get(RECIPE, run.recipe),
        "--link": ",".join(f"{axis}={iou:g}" for axis, iou in run.link.items()),
        "--link-gap": run.link_gap,
        "--tile": run.tile,
    }
    options = [part for name, value in told.items() if value for part in (name, str(value))]
    options += ["--force"] if run.force else []
    for key, value in {**run.settings, **of_labels}.items():
        options += ["--set", f"{key}={value}"]
    folder = _folder(words.model, settings)
    return shlex.join(["bmz", "run", words.model, str(image), "-o", folder, *options])


def _folder(model: str, settings: Mapping[str, str]) -> str:
    # of its own for each setting: the masks of an image have the same name in all of them
    told = "_".join([model, *(f"{key}={value}" for key, value in settings.items())])
    return "results/" + re.sub(r"[^\w.=,-]+", "-", told).strip(".-")


LARGER = 1.1
"""Factor of the image that is a little larger."""

GAMMA = 0.8
"""Power of the intensities, from the lowest to the highest: brings dim objects up."""

_MIRRORED = {"x": slice(None, None, -1)}


def stability_of(found: Outputs, backend: Backend) -> float | None:
    """Give the mean F1 between the objects of an image and of the image changed.

    It is mirrored along x, a tenth larger for the network, and of another contrast.

    Parameters
    ----------
    found : the outputs for the image as it is
    backend : of the model

    Returns
    -------
    float or None
        0 to 1; None where labels cannot be made, or no change could be run
    """
    usual = found.labelled({}, None).labels
    if usual is None:
        return None
    scores = []
    for outputs, mirrored in _changed(found, backend):
        labels = outputs.labelled({}, None).labels
        if labels is not None:
            back = labels.part(_MIRRORED) if mirrored else labels
            scores.append(f1_between(np.asarray(usual), np.asarray(back)))
    return float(np.mean(scores)) if scores else None


def _changed(found: Outputs, backend: Backend) -> Iterator[tuple[Outputs, bool]]:
    """Run the network on each changed image; a change that does not fit the model is left out."""
    setup, image, pixels = found.setup, found.planned.image, found.pixels
    mirrored = replace(pixels, array=np.ascontiguousarray(pixels.part(_MIRRORED).array))
    other = replace(pixels, array=_other_contrast(pixels.array))
    scale = (found.planned.plan.scale or 1.0) * LARGER
    larger = replace(setup, request=replace(setup.request, scale=scale))
    changes = ((setup, mirrored, True), (larger, pixels, False), (setup, other, False))
    for this, changed, back in changes:
        try:
            yield Outputs.of(this, image, backend, changed), back
        except BmzError:
            continue  # such as a model of one fixed size, which the larger image exceeds


def _other_contrast(values: AnyArray) -> AnyArray:
    low, high = float(np.min(values)), float(np.max(values))
    if not high > low:
        return values
    share = (values.astype(np.float64) - low) / (high - low)
    changed = low + (high - low) * share**GAMMA
    rounded = np.rint(changed) if values.dtype.kind in "biu" else changed
    return rounded.astype(values.dtype)
