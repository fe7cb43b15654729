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
from bmz.engine.memory_probe import ProbedPlan, try_two_tiles
from bmz.engine.plates import finish_plates, with_fields
from bmz.engine.read_ahead import read_ahead
from bmz.engine.request import RunRequest
from bmz.engine.run_image import in_one_piece, planned_or_failed, run_image
from bmz.engine.scratch import finished, remove_leftovers
from bmz.engine.setup import PlannedImage, RunSetup, opened, prepare
from bmz.image.plates import PlateField
from bmz.plan.plan import Plan
from bmz.predict.backend import Backend
from bmz.results.run import ImageDone, ImageFailed, ImagePlan, RunSummary
from bmz.write.names import output_paths, refuse_existing
from bmz.write.outputs import kinds_to_write


def plan_run(request: RunRequest, listener: Listener = nobody) -> Iterator[ImagePlan | ImageFailed]:
    """Say for each image how it would be run, after a trial of two tiles, and write nothing."""
    setup = prepare(request, listener, measure=False)
    with closing(opened(setup)) as backend:
        known: dict[str, ProbedPlan] = {}
        for image, field in with_fields(request.images).items():
            planned = planned_or_failed(setup, image, field)
            yield (
                planned
                if isinstance(planned, ImageFailed)
                else _planned(setup, planned, backend, known)
            )


def _planned(
    setup: RunSetup, planned: PlannedImage, backend: Backend, known: dict[str, ProbedPlan]
) -> ImagePlan:
    parts = in_parts(planned, setup)
    image_plan = ImagePlan(
        image=planned.image,
        plan=planned.plan,
        findings=planned.header.report.findings,
        bytes_in_one_piece=bytes_in_one_piece(planned, setup),
        in_parts=parts,
        in_one_piece_why=why_in_one_piece(planned, setup) if over_limit(planned, setup) else "",
    )
    if setup.engine.whole_images:
        return image_plan
    key = repr((planned.plan.as_record(), parts))  # images of one size are tried once
    if key not in known:
        known[key] = try_two_tiles(setup, planned, backend, in_parts=parts)
    tried = known[key]
    return replace(image_plan, plan=tried.plan, estimate=tried.estimate)


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
    setup = prepare(request, listener)
    zarr = request.labels_format == "zarr"
    images = with_fields(request.images)
    kinds = wanted_kinds(setup)
    files = output_paths(list(images), request.folder, kinds, zarr=zarr, fields=images)
    if not (request.overwrite or request.resume):
        refuse_existing([path for paths in files.values() for path in paths.values()])
    writable_folder(request.folder)
    if request.resume:
        remove_leftovers(request.folder, "writing")
    planned = [_ready_or_done(setup, image, paths, images[image]) for image, paths in files.items()]
    files = {
        image: files_of(one.plan, paths) if isinstance(one, PlannedImage) else paths
        for one, (image, paths) in zip(planned, files.items(), strict=True)
    }
    summary = RunSummary(tuple(_outcomes(setup, planned, files, listener)))
    finish_plates(request.folder, images, summary.done, zarr=zarr)
    if request.resume:
        remove_leftovers(request.folder, "scratch")  # of other words, or of images that failed
    return summary


def wanted_kinds(setup: RunSetup) -> tuple[str, ...]:
    """Give the kinds of output that this job writes: what was asked for, and the record.

    Which tables there are of joined objects depends on the axes of an image, see `files_of`.
    """
    request = setup.request
    labels = setup.labelling.recipe is not None
    return kinds_to_write(request.save, labels=labels, joined=request.link)


def files_of(plan: Plan, files: Mapping[str, Path]) -> dict[str, Path]:
    """Leave out the tables of joined objects where the plan joins nothing over their axis."""
    written = kinds_to_write(files, labels=True, joined=plan.joined)
    return {kind: path for kind, path in files.items() if kind in written}


def _ready_or_done(
    setup: RunSetup, image: Path, files: Mapping[str, Path], field: PlateField | None
) -> PlannedImage | ImageDone | ImageFailed:
    before = finished(setup, image, files) if setup.request.resume else None
    return before or planned_or_failed(setup, image, field)


def _outcomes(
    setup: RunSetup,
    planned: list[PlannedImage | ImageDone | ImageFailed],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
) -> Iterator[ImageDone | ImageFailed]:
    request = setup.request
    if not any(isinstance(one, PlannedImage) for one in planned):
        return iter([one for one in planned if not isinstance(one, PlannedImage)])
    if request.workers > 1 or request.scheduler is not None:
        return run_on_workers(setup, planned, files, listener)
    return _outcomes_here(setup, planned, files, listener)


def _outcomes_here(
    setup: RunSetup,
    planned: list[PlannedImage | ImageDone | ImageFailed],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
) -> Iterator[ImageDone | ImageFailed]:
    whole = partial(in_one_piece, setup)
    with read_ahead(setup, planned, whole) as images, closing(opened(setup)) as backend:
        for number, one in enumerate(images, start=1):
            if not isinstance(one, PlannedImage):
                yield one
            else:
                try:
                    yield run_image(setup, one, backend, files[one.image], listener)
                except BmzError as error:
                    yield ImageFailed(one.image, error)
            listener(Progress("files", number, len(planned), one.image.name))
