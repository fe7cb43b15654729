"""One image through a model: check, plan, predict, label, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.progress import Listener
from bmz.check.finding import Finding
from bmz.engine.image_made import ImageMade, Predicted
from bmz.engine.job import Job, Ready, look
from bmz.engine.output_check import output_findings
from bmz.engine.pipeline import Pass, PlaneResult, Stopwatch, run_plane
from bmz.engine.replay import words_of
from bmz.image.grid import named, with_lengths
from bmz.image.info import ImageInfo
from bmz.plan.plan import Plan
from bmz.predict.backend import Backend
from bmz.process.adapt import stack_unique
from bmz.process.joined import joined_scores, measured_together
from bmz.process.linking import link_labels
from bmz.process.seam_score import seam_score
from bmz.report.run_text import finding_notes
from bmz.results.record import run_record
from bmz.results.run import ImageDone


def run_image(
    job: Job, ready: Ready, backend: Backend, files: Mapping[str, Path], listener: Listener
) -> ImageDone:
    """Predict, label and write one image.

    Parameters
    ----------
    files : kind -> path of each output

    Raises
    ------
    BmzError
        The pixels cannot be read or do not fit, or the network or a file fails.
    """
    made, findings = make_image(job, ready, backend, listener)
    record = made.write(files, job.request.folder)
    return ImageDone(ready.image, files, made.objects, findings, record)


def make_image(
    job: Job, ready: Ready, backend: Backend, listener: Listener, image_sha256: str | None = None
) -> tuple[ImageMade, tuple[Finding, ...]]:
    """Predict and label one image; nothing is written.

    Parameters
    ----------
    image_sha256 : where it is no file; None for the hash of the file

    Returns
    -------
    ImageMade, tuple of Finding
        what came out, and what the check and the output said
    """
    looked = look(job, ready) if ready.looked is None else ready.looked()
    stopwatch = Stopwatch(dict(looked.took_s))
    for note in finding_notes(looked.report.findings, ready.image.name):
        listener(note)
    engine = job.request.engine
    work = Pass(job.model, ready.plan, job.labelling, backend, stopwatch, listener, engine)
    info = ready.asked.image
    predicted = predict_image(looked.pixels, info, work)
    more = output_findings(work.counted, predicted.objects, job.labelling.choice.output)
    for note in finding_notes(more, ready.image.name):
        listener(note)
    findings = (*looked.report.findings, *more)
    record = run_record(
        job.model,
        info,
        predicted.plan,
        job.labelling.as_record(predicted.plan),
        findings,
        image_sha256,
    ) | {
        "request": words_of(job.request),
        "own_code": own_code_record(job),
        "backend": backend.name,
    }
    if predicted.labels is not None:
        record["seam_score"] = seam_score(predicted.labels.values, tile_cuts(predicted.plan))
    made = ImageMade(looked.pixels, predicted, record, stopwatch.took_s, ready.field)
    return made, findings


def tile_cuts(plan: Plan) -> dict[str, list[float]]:
    """Give where tiles begin and end along y and x, px of the image."""
    return {
        along.axis: [cut / plan.scale for cut in along.cuts]
        for along in plan.tiling.axes
        if along.axis in "yx"
    }


def own_code_record(job: Job) -> dict[str, Any] | None:
    """Say for the record which code of the model was run, and how; None when there is none."""
    code = job.own_code
    return None if code is None else {"what": code.what, "sha256": code.sha256, "run": job.permit}


def predict_image(pixels: xr.DataArray, info: ImageInfo, work: Pass) -> Predicted:
    """Run every plane or stack of an image and put the results together.

    Labels are numbered on from plane to plane, so that no number stands for two objects, unless
    the plan says that they are joined.

    Parameters
    ----------
    pixels : dims of ``tczyx`` in that order, as read
    info : of the image
    work : what every plane is run with
    """
    results = []
    for plane in planes_of(pixels, work):
        results.append(run_plane(plane, work))
        # what memory held is not tried anew for each plane
        work = replace(work, plan=results[-1].plan)
    return put_together(results, info, work)


def planes_of(pixels: xr.DataArray, work: Pass) -> list[AnyArray]:
    """Give each plane or stack that the model is run on, (c, (z,) y, x)."""
    with_c = pixels if "c" in pixels.dims else pixels.expand_dims("c")
    ordered = with_c.transpose(*work.plan.loop, "c", *work.model.space).values
    return [ordered[position] for position in np.ndindex(*work.plan.loop.values())]


def put_together(results: Sequence[PlaneResult], info: ImageInfo, work: Pass) -> Predicted:
    """Put the results of all planes or stacks together, with named axes.

    Parameters
    ----------
    results : in the order of `planes_of`
    """
    loop, space = tuple(work.plan.loop), tuple(work.model.space)
    sizes = tuple(work.plan.loop.values())
    raw = _joined([result.raw for result in results], sizes, (*loop, "c", *space))
    output = tuple(raw.sizes[axis] for axis in space)
    raw_um = {
        axis: um * (info.sizes[axis] / output[space.index(axis)] if axis in space else 1)
        for axis, um in info.pixel_um.items()
    }
    predicted = Predicted(with_lengths(raw, raw_um), None, None, work.plan)
    parts = [result.labels for result in results if result.labels is not None]
    if not parts:
        return predicted
    made = _labels_of(results, parts, work.plan)
    laid = named(made.stacked.reshape(sizes + made.stacked.shape[1:]), (*loop, *space))
    return replace(
        predicted,
        labels=with_lengths(laid, info.pixel_um),
        scores=made.scores,
        plane_scores=made.plane_scores,
    )


def _joined(
    parts: Sequence[AnyArray], sizes: tuple[int, ...], dims: tuple[str, ...]
) -> xr.DataArray:
    stacked = np.stack(parts)
    return named(stacked.reshape(sizes + stacked.shape[1:]), dims)


@dataclass(frozen=True)
class _LabelsMade:
    """Labels of all planes or stacks, and their scores as `Predicted` has them."""

    stacked: AnyArray
    scores: FloatArray | Sequence[FloatArray] | None
    plane_scores: Sequence[FloatArray] | None = None


def _labels_of(
    results: Sequence[PlaneResult], parts: Sequence[AnyArray], plan: Plan
) -> _LabelsMade:
    found = [result.scores for result in results if result.scores is not None]
    scores = found if len(found) == len(results) else None
    if any(result.classes for result in results):
        return _LabelsMade(np.stack(parts), None)
    if not plan.joined:
        return _LabelsMade(stack_unique(parts), None if scores is None else np.concatenate(scores))
    numbers = link_labels(parts, plan.loop, plan.link)
    stacked = np.stack([own[part] for own, part in zip(numbers, parts, strict=True)])
    if scores is None:
        return _LabelsMade(stacked, None)
    whole, planes = (
        joined_scores(scores, numbers, measured_together(plan.loop, apart))
        for apart in (plan.measured_apart, "tz")
    )
    return _LabelsMade(stacked, whole, planes)
