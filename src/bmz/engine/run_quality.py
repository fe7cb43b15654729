"""Predict the quality of the mask of a run, and of each of its objects, without further runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray, LazyArray
from bmz.base.errors import not_none
from bmz.base.files import whole_file
from bmz.base.values import dataclass
from bmz.check.finding import CheckReport, Finding
from bmz.check.fit_case import FitCase
from bmz.check.values import model_diameter
from bmz.engine.label_stack import Labels, LabelStack
from bmz.process.adapt import take_channels
from bmz.process.object_columns import SCORE
from bmz.process.object_evidence import (
    MARGIN_PX,
    MOST_CHANNELS,
    Expectation,
    ObjectEvidence,
    PlaneWindow,
)
from bmz.process.quality import (
    DOUBTED,
    Quality,
    f1_words,
    object_model,
    plane_confidences,
    predictor,
    quality_record,
)

if TYPE_CHECKING:
    from bmz.engine.image_result import PlaneOutput
    from bmz.engine.setup import PlannedImage, RunSetup
    from bmz.results.image_documents import DoubtedObject, WayRecord

MOST_DOUBTED = 20
"""Maximum number of doubtful objects that the record names."""


def side_of_sample(case: FitCase) -> float:
    """Return 1 if the stain of the model's own sample is bright, -1 if dark, NaN if unknown."""
    polarities = [measures.polarity for _, measures in sorted(case.sample.items())]
    sides = {"bright": 1.0, "dark": -1.0}
    return next((sides[polarity.side] for polarity in polarities if polarity is not None), nan)


@dataclass(frozen=True)
class Judging:
    """Criteria by which the masks of an image are judged.

    Parameters
    ----------
    expected : expected properties of the model's objects
    channels : channels of the image that the network was given
    """

    expected: Expectation
    channels: tuple[int, ...]


def judging_of(setup: RunSetup, planned: PlannedImage) -> Judging | None:
    """Return the criteria by which the masks of an image are judged; None if they cannot be.

    Masks of stacks cannot be judged, as the predictor was not trained on any, and neither can
    labels that number classes rather than objects.
    """
    if not setup.labelling.numbers_objects or "z" in setup.model.space:
        return None
    case, taken = planned.case, [c for channels in planned.plan.channels for c in channels]
    if planned.header.images:  # a mask is judged on the image, not on images joined to it
        case = planned.header.images[0].case
        count = case.image.sizes.get("c", 1)
        taken = [channel for channel in taken if channel < count] or list(range(count))
    made, scale = model_diameter(case), planned.plan.scale
    diameter = nan if made is None else made.px / scale
    channels = tuple(taken[:MOST_CHANNELS])
    return Judging(Expectation(diameter, scale, side_of_sample(case)), channels)


def plane_evidence(
    labels: Labels, pixels: Callable[[tuple[slice, slice]], AnyArray], maps: LazyArray
) -> ObjectEvidence:
    """Measure the objects of a plane, in the blocks in which its labels were made.

    Parameters
    ----------
    pixels : returns the channels seen by the network for a part along y and x, (c, h, w)
    maps : (k, y, x) output of the network, on its own grid
    """
    height, width = labels.size
    scores = labels.objects.columns_by(labels.numbers, {SCORE}).get(SCORE, np.zeros(0))

    def measured(core: tuple[slice, slice], own: BoolArray) -> ObjectEvidence:
        # a function, so that nothing of a window is kept while the next one is read
        box = labels.window(core, MARGIN_PX)
        part, grid = map_below(maps, box, (height, width))
        window = PlaneWindow(
            labels[box], own, pixels(box), part, core, box, (height, width), scores, grid
        )
        return ObjectEvidence.of(window)

    cores = labels.cores(slice(0, height))
    return ObjectEvidence.joined([measured((y, x), own) for y, x, own in cores])


def keep_evidence(file: Path, evidence: ObjectEvidence) -> None:
    """Save the measurements of the objects of a plane, since repeating them would need its map."""
    with whole_file(file) as temporary:
        np.savez(temporary, **vars(evidence))


def kept_evidence(file: Path) -> ObjectEvidence | None:
    """Return the saved measurements of the objects of a plane; None if there are none."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return ObjectEvidence(**arrays)
    except FileNotFoundError:
        return None


def map_below(
    maps: LazyArray, box: tuple[slice, slice], size: tuple[int, int]
) -> tuple[AnyArray, AnyArray | None]:
    """Return the first channels of a map within a region of the image.

    Parameters
    ----------
    maps : (k, y, x)
    box : region of the image, along y and x
    size : size of the image, px

    Returns
    -------
    (k, my, mx), (h w,) int64
        the part of the map, and the flat position in it of the value nearest to each pixel; None
        if map and image have the same grid
    """
    y, x = (
        np.minimum(((np.arange(side.start, side.stop) + 0.5) * m / n).astype(np.int64), m - 1)
        for side, m, n in zip(box, maps.shape[1:], size, strict=True)
    )
    inner = (slice(0, MOST_CHANNELS), slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1))
    part = np.asarray(maps[inner])
    if maps.shape[1:] == size:
        return part, None
    return part, ((y - y[0])[:, None] * part.shape[2] + (x - x[0])).reshape(-1)


def judged(output: PlaneOutput, evidence: ObjectEvidence, judging: Judging) -> PlaneOutput:
    """Add the confidence of each object of a plane, and the features of its mask."""
    confidences, features = plane_confidences(evidence, judging.expected)
    labels = replace(not_none(output.labels), confidences=confidences)
    return replace(output, labels=labels, features=features)


def judged_whole(
    output: PlaneOutput, plane: AnyArray, raw: LazyArray, judging: Judging
) -> PlaneOutput:
    """Judge a plane in memory, as `judged` does.

    Parameters
    ----------
    plane : (c, y, x), as read
    raw : (k, y, x) output of the network
    """

    def pixels(box: tuple[slice, slice]) -> AnyArray:
        return take_channels(plane[(slice(None), *box)], judging.channels)

    return judged(output, plane_evidence(not_none(output.labels), pixels, raw), judging)


FLAGS = (
    "content.modality", "content.structure", "content.not-microscopy", "object.size",
    "range.flat", "range.inverted", "range.saturated",
)  # fmt: skip
"""Findings used as evidence: 0 absent, 1 a note, 2 a warning, 3 an error."""

_GRAVITY = {"note": 1, "warning": 2, "error": 3}


def flags_of(findings: Iterable[Finding]) -> dict[str, float]:
    """Return the severity of each finding that is used as evidence, as a number."""
    graves = {f"found_{flag}": 0.0 for flag in FLAGS}
    for finding in findings:
        if (name := f"found_{finding.code}") in graves:
            graves[name] = max(graves[name], float(_GRAVITY[finding.severity]))
    return graves


def after_check(outputs: Iterable[PlaneOutput], findings: Sequence[Finding]) -> list[PlaneOutput]:
    """Adjust the confidences of the objects of planes to the findings of the check."""
    gravities = flags_of(findings)
    return [_after_check(output, gravities) for output in outputs]


def _after_check(output: PlaneOutput, gravities: Mapping[str, float]) -> PlaneOutput:
    labels = output.labels
    if labels is None or labels.confidences is None:
        return output
    confidences = object_model().after_check(labels.confidences, gravities)
    return replace(output, labels=replace(labels, confidences=confidences))


def result_quality(outputs: Sequence[PlaneOutput], findings: Iterable[Finding]) -> Quality | None:
    """Predict the quality of a mask from the outputs of its run, without labelling changed copies.

    Parameters
    ----------
    outputs : outputs of all planes
    findings : findings of the check

    Returns
    -------
    Quality or None
        quality of the plane with the lowest prediction; None if the masks cannot be judged
    """
    flags = flags_of(findings)
    known = [output.features for output in outputs if output.features is not None]
    if not known or len(known) < len(outputs):
        return None
    qualities = [predictor("run").quality({**features, **flags}) for features in known]
    return min(qualities, key=lambda quality: quality.f1)


def doubted_objects(labels: LabelStack) -> list[DoubtedObject]:
    """Return the objects with the lowest confidence, worst first."""
    confidences = []
    for number, part in enumerate(labels.parts):
        if part.confidences is None:
            return []
        of_part = np.arange(1, part.count + 1)
        confidences.append((labels.in_whole(number, of_part), part.confidences))
    names, values = (np.concatenate(some) for some in zip(*confidences, strict=True))
    order = np.argsort(values, kind="stable")
    order = order[values[order] < DOUBTED]
    worst = order[:MOST_DOUBTED]
    return [
        {"label": int(names[i]), "confidence": round(float(values[i]), 3)} for i in worst.tolist()
    ]


def quality_findings(
    quality: Quality, setup: RunSetup, hint: str, *, below: float | None = None
) -> Iterator[Finding]:
    """Yield a finding if a mask is not likely to be good.

    Parameters
    ----------
    hint : advice for the user
    below : predicted F1 below which a mask is reported; None to go by the verdict of `quality`
    """
    good = quality.word == "likely good" if below is None else quality.f1 >= below
    if good:
        return
    wrong = quality.word == "likely wrong"
    message = "the mask is likely wrong" if wrong else "the mask may be partly wrong"
    yield Finding.of(
        "trial.wrong" if wrong else "trial.doubtful",
        setup.model.required_inputs[0].id,
        f"{message}: {f1_words(quality)}",
        wanted="a good mask" if below is None else f"F1 of {below:g} or more",
        found=f"F1 about {quality.f1:.2f}",
        hint=hint,
        evidence="measured",
    )


def judged_result(
    setup: RunSetup, labels: LabelStack | None, outputs: Sequence[PlaneOutput], report: CheckReport
) -> tuple[WayRecord, tuple[Finding, ...]]:
    """Return the predicted quality of a mask for the run record, and findings on a bad one.

    Parameters
    ----------
    setup : its request has the F1 below which to warn; None warns of masks that are likely wrong
    labels : labels of the whole image
    outputs : outputs of all planes
    report : report of the check
    """
    quality = result_quality(outputs, report.findings)
    if quality is None or labels is None:
        return {}, ()
    below = setup.request.flag_below
    told: tuple[Finding, ...] = ()
    if below is not None or quality.word == "likely wrong":
        hint = "bmz check MODEL IMAGE --try looks for options that improve the mask"
        told = tuple(quality_findings(quality, setup, hint, below=below))
    return {"quality": quality_record(quality), "doubted": doubted_objects(labels)}, told
