"""``bmz run``: images through a model to label masks, one bad image never stopping the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from bmz.app.run.cluster import run_on_workers
from bmz.base.errors import BmzError
from bmz.base.files import writable_folder
from bmz.base.progress import Listener, Progress, nobody
from bmz.engine.in_parts import bytes_in_one_piece, in_parts, over_limit, why_in_one_piece
from bmz.engine.memory_probe import Tried, try_two_tiles
from bmz.engine.plates import finish_plates, with_fields
from bmz.engine.read_ahead import read_ahead
from bmz.engine.request import RunRequest
from bmz.engine.run_image import in_one_piece, ready_or_failed, run_image
from bmz.engine.scratch import finished, remove_leftovers
from bmz.engine.setup import Job, Ready, opened, prepare
from bmz.image.plates import PlateField
from bmz.plan.plan import Plan
from bmz.predict.backend import Backend
from bmz.results.run import ImageDone, ImageFailed, ImagePlan, RunSummary
from bmz.write.names import output_paths, refuse_existing
from bmz.write.outputs import kinds_to_write


def plan_run(request: RunRequest, listener: Listener = nobody) -> Iterator[ImagePlan | ImageFailed]:
    """Say for each image how it would be run, after a trial of two tiles, and write nothing."""
    job = prepare(request, listener, measure=False)
    with closing(opened(job)) as backend:
        known: dict[str, Tried] = {}
        for image, field in with_fields(request.images).items():
            ready = ready_or_failed(job, image, field)
            yield ready if isinstance(ready, ImageFailed) else _planned(job, ready, backend, known)


def _planned(job: Job, ready: Ready, backend: Backend, known: dict[str, Tried]) -> ImagePlan:
    parts = in_parts(ready, job)
    planned = ImagePlan(
        image=ready.image,
        plan=ready.plan,
        findings=ready.header.report.findings,
        bytes_in_one_piece=bytes_in_one_piece(ready, job),
        in_parts=parts,
        in_one_piece_why=why_in_one_piece(ready, job) if over_limit(ready, job) else "",
    )
    if job.engine.whole_images:
        return planned
    key = repr((ready.plan.as_record(), parts))  # images of one size are tried once
    if key not in known:
        known[key] = try_two_tiles(job, ready, backend, in_parts=parts)
    tried = known[key]
    return replace(planned, plan=tried.plan, estimate=tried.estimate)


def run(request: RunRequest, listener: Listener = nobody) -> RunSummary:
    """Run a model on images and write what was asked for.

    Parameters
    ----------
    request : the words of the call
    listener : is told of files and tiles as they are done

    Raises
    ------
    BmzError
        What concerns all images: the model, the words, the folder, outputs that exist. What
        concerns one image is in the summary.
    """
    job = prepare(request, listener)
    zarr = request.labels_format == "zarr"
    images = with_fields(request.images)
    kinds = wanted_kinds(job)
    files = output_paths(list(images), request.folder, kinds, zarr=zarr, fields=images)
    if not (request.overwrite or request.resume):
        refuse_existing([path for paths in files.values() for path in paths.values()])
    writable_folder(request.folder)
    if request.resume:
        remove_leftovers(request.folder, "writing")
    ready = [_ready_or_done(job, image, paths, images[image]) for image, paths in files.items()]
    files = {
        image: files_of(one.plan, paths) if isinstance(one, Ready) else paths
        for one, (image, paths) in zip(ready, files.items(), strict=True)
    }
    summary = RunSummary(tuple(_outcomes(job, ready, files, listener)))
    finish_plates(request.folder, images, summary.done, zarr=zarr)
    if request.resume:
        remove_leftovers(request.folder, "scratch")  # of other words, or of images that failed
    return summary


def wanted_kinds(job: Job) -> tuple[str, ...]:
    """Give the kinds of output that this job writes: what was asked for, and the record.

    Which tables there are of joined objects depends on the axes of an image, see `files_of`.
    """
    request = job.request
    labels = job.labelling.recipe is not None
    return kinds_to_write(request.save, labels=labels, joined=request.link)


def files_of(plan: Plan, files: Mapping[str, Path]) -> dict[str, Path]:
    """Leave out the tables of joined objects where the plan joins nothing over their axis."""
    written = kinds_to_write(files, labels=True, joined=plan.joined)
    return {kind: path for kind, path in files.items() if kind in written}


def _ready_or_done(
    job: Job, image: Path, files: Mapping[str, Path], field: PlateField | None
) -> Ready | ImageDone | ImageFailed:
    before = finished(job, image, files) if job.request.resume else None
    return before or ready_or_failed(job, image, field)


def _outcomes(
    job: Job,
    ready: list[Ready | ImageDone | ImageFailed],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
) -> Iterator[ImageDone | ImageFailed]:
    request = job.request
    if not any(isinstance(one, Ready) for one in ready):
        return iter([one for one in ready if not isinstance(one, Ready)])
    if request.workers > 1 or request.scheduler is not None:
        return run_on_workers(job, ready, files, listener)
    return _outcomes_here(job, ready, files, listener)


def _outcomes_here(
    job: Job,
    ready: list[Ready | ImageDone | ImageFailed],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
) -> Iterator[ImageDone | ImageFailed]:
    whole = partial(in_one_piece, job)
    with read_ahead(job, ready, whole) as images, closing(opened(job)) as backend:
        for number, one in enumerate(images, start=1):
            if not isinstance(one, Ready):
                yield one
            else:
                try:
                    yield run_image(job, one, backend, files[one.image], listener)
                except BmzError as error:
                    yield ImageFailed(one.image, error)
            listener(Progress("files", number, len(ready), one.image.name))
