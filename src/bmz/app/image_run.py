"""One image through a model: check, plan, predict, label, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from bmz.app.ask import ask
from bmz.app.measure import image_measures
from bmz.app.model_code import Permit
from bmz.app.pipeline import Pass, PlaneResult, Stopwatch, run_plane
from bmz.app.plates import origin_columns
from bmz.app.replay import words_of
from bmz.app.request import RunRequest
from bmz.app.settings import Labelling
from bmz.base.arrays import AnyArray, Axed, FloatArray
from bmz.base.errors import CouldNotTell
from bmz.base.files import whole_files
from bmz.base.progress import Listener
from bmz.check.finding import CheckReport
from bmz.check.fit import check_fit, check_header
from bmz.check.measured import PlaneMeasures
from bmz.check.question import Question
from bmz.image.grid import named, with_lengths
from bmz.image.info import ImageInfo
from bmz.image.plates import PlateField
from bmz.image.read import read_image
from bmz.plan.plan import Decided, Plan, make_plan
from bmz.predict.backend import Backend, Device
from bmz.process.adapt import stack_unique
from bmz.process.measure import measure_objects
from bmz.process.seam_score import seam_score
from bmz.report.outcome import UNFORCEABLE, DoesNotFit, ImageDone
from bmz.report.record import run_record, with_result
from bmz.report.run_text import finding_notes
from bmz.spec.code import ModelCode
from bmz.spec.model import ModelSpec
from bmz.write.ome_zarr import write_zarr_labels
from bmz.write.overlay import write_overlay
from bmz.write.record import write_record
from bmz.write.table import write_objects
from bmz.write.tiff import write_labels, write_raw


class CoreTakesOnePiece(CouldNotTell):
    """An image is larger than the model takes at once, and bioimageio.core shall run it whole."""

    def __init__(self, image: Path, tile: Mapping[str, int]) -> None:
        size = " x ".join(f"{axis} {px}" for axis, px in tile.items())
        super().__init__(
            f"'{image.name}' is larger than the {size} px that the model takes at once",
            hint="leave out --engine core, and it is run in tiles; or crop it",
            code="engine.one-piece",
        )


@dataclass(frozen=True)
class Job:
    """What all images of a call share."""

    request: RunRequest
    model: ModelSpec
    labelling: Labelling
    device: Device
    permit: Permit
    own_code: ModelCode | None
    decided: Decided
    sample: Mapping[int, PlaneMeasures]


@dataclass(frozen=True)
class Looked:
    """The pixels of an image, and what the check found in them.

    Parameters
    ----------
    pixels : dims of ``tczyx`` in that order, as read
    took_s : stage -> seconds
    """

    pixels: xr.DataArray
    report: CheckReport
    took_s: Mapping[str, float]


@dataclass(frozen=True)
class Ready:
    """An image whose header has been checked and whose run is planned.

    Parameters
    ----------
    field : of a plate, if it is one
    looked : gives its pixels, where they are read ahead
    """

    image: Path
    asked: Question
    report: CheckReport
    plan: Plan
    field: PlateField | None = None
    looked: Callable[[], Looked] | None = None


@dataclass(frozen=True)
class Predicted:
    """What came out for a whole image, with named axes.

    Parameters
    ----------
    raw : dims t, c, z, y, x as there are, float32
    labels : dims t, z, y, x as there are; None without a recipe
    scores : (number of objects,) or None
    plan : with the tiles and the batch that memory held
    """

    raw: xr.DataArray
    labels: xr.DataArray | None
    scores: FloatArray | None
    plan: Plan


def make_ready(job: Job, image: Path, field: PlateField | None = None) -> Ready:
    """Check the header of an image and plan its run.

    Raises
    ------
    DoesNotFit
        There is a finding of severity error, and ``--force`` is not given or of no use.
    BmzError
        The file cannot be read, or no tiles can be laid.
    """
    asked = ask(job.model, image, job.request, job.sample)
    report = check_header(asked)
    refuse_errors(image, report, force=job.request.force)
    plan = make_plan(asked, job.decided)
    if job.request.engine == "core" and plan.tiling.count > 1:
        raise CoreTakesOnePiece(image, plan.tiling.tile)
    return Ready(image, asked, report, plan, field)


def refuse_errors(image: Path, report: CheckReport, *, force: bool) -> None:
    """Raise what the check found, unless it may be forced."""
    fatal = [f for f in report.errors if not force or f.code in UNFORCEABLE]
    if fatal:
        raise DoesNotFit(image, tuple(fatal))


def look(job: Job, ready: Ready) -> Looked:
    """Read an image and check its pixels.

    Raises
    ------
    DoesNotFit
        There is a finding of severity error, and ``--force`` is not given or of no use.
    BmzError
        The pixels cannot be read.
    """
    stopwatch = Stopwatch()
    with stopwatch.stage("read"):
        pixels = read_image(ready.asked.image)
    with stopwatch.stage("check"):
        seen = Axed(pixels.values, tuple(map(str, pixels.dims)))
        measures = image_measures(seen, ready.asked.channels_taken)
        report = check_fit(replace(ready.asked, measured=measures), seen)
        refuse_errors(ready.image, report, force=job.request.force)
    return Looked(pixels, report, stopwatch.took_s)


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
    looked = look(job, ready) if ready.looked is None else ready.looked()
    pixels, report = looked.pixels, looked.report
    stopwatch = Stopwatch(dict(looked.took_s))
    for note in finding_notes(report.findings, ready.image.name):
        listener(note)
    engine = job.request.engine
    work = Pass(job.model, ready.plan, job.labelling, backend, stopwatch, listener, engine)
    predicted = predict_image(pixels, ready.asked.image, work)
    objects = None if predicted.labels is None else int(predicted.labels.values.max())
    record = run_record(
        job.model, ready.asked.image, predicted.plan, job.labelling.as_record(), report.findings
    )
    record |= {
        "request": words_of(job.request),
        "own_code": own_code_record(job),
        "backend": backend.name,
    }
    if predicted.labels is not None:
        record["seam_score"] = seam_score(predicted.labels.values, tile_cuts(predicted.plan))
    with whole_files(files, job.request.folder) as staged:
        with stopwatch.stage("write"):
            _write(predicted, pixels, staged, record, ready.field)
        record = with_result(record, files, objects, stopwatch.took_s)
        write_record(staged["record"], record)
    return ImageDone(ready.image, files, objects, report.findings, record)


def tile_cuts(plan: Plan) -> dict[str, list[float]]:
    """Give where tiles begin and end along y and x, px of the image."""
    return {
        along.axis: [cut / plan.scale for cut in along.cuts]
        for along in plan.tiling.axes
        if along.axis in "yx"
    }


def provenance_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a run record what labels should say of where they come from."""
    wanted = ("model", "model_sha256", "image", "image_sha256", "recipe", "versions")
    return {key: record[key] for key in wanted}


def own_code_record(job: Job) -> dict[str, Any] | None:
    """Say for the record which code of the model was run, and how; None when there is none."""
    code = job.own_code
    return None if code is None else {"what": code.what, "sha256": code.sha256, "run": job.permit}


def _write(
    predicted: Predicted,
    pixels: xr.DataArray,
    files: Mapping[str, Path],
    record: Mapping[str, Any],
    field: PlateField | None,
) -> None:
    labels = predicted.labels
    if "raw" in files:
        write_raw(files["raw"], predicted.raw)
    if labels is None:
        return
    if "labels" in files and record["request"]["labels_format"] == "zarr":
        write_zarr_labels(files["labels"], labels, provenance_of(record))
    elif "labels" in files:
        write_labels(files["labels"], labels)
    if "overlay" in files:
        write_overlay(files["overlay"], pixels, labels)
    if "table" in files:
        table = measure_objects(labels, pixels, predicted.scores)
        write_objects(files["table"], [origin_columns(field, len(table["label"])) | table])


def predict_image(pixels: xr.DataArray, info: ImageInfo, work: Pass) -> Predicted:
    """Run every plane or stack of an image and put the results together.

    Labels are numbered on from plane to plane, so that no number stands for two objects.

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
    labels = _labels(results, sizes, (*loop, *space))
    return Predicted(
        with_lengths(raw, raw_um),
        None if labels is None else with_lengths(labels, info.pixel_um),
        _scores(results),
        work.plan,
    )


def _joined(
    parts: Sequence[AnyArray], sizes: tuple[int, ...], dims: tuple[str, ...]
) -> xr.DataArray:
    stacked = np.stack(parts)
    return named(stacked.reshape(sizes + stacked.shape[1:]), dims)


def _labels(
    results: Sequence[PlaneResult], sizes: tuple[int, ...], dims: tuple[str, ...]
) -> xr.DataArray | None:
    parts = [result.labels for result in results if result.labels is not None]
    if not parts:
        return None
    stacked = stack_unique(parts)
    return named(stacked.reshape(sizes + stacked.shape[1:]), dims)


def _scores(results: Sequence[PlaneResult]) -> FloatArray | None:
    scores = [result.scores for result in results if result.scores is not None]
    return np.concatenate(scores) if len(scores) == len(results) else None
