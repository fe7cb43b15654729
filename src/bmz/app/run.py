"""``bmz run``: images through a model to label masks, one bad image never stopping the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from bmz.app.image_run import run_image
from bmz.app.in_parts import bytes_in_one_piece, can_stream
from bmz.app.job import Job, Ready, make_ready
from bmz.app.load import fetch_code, fetch_tensors, fetch_weights, find_model, notes_folders
from bmz.app.measure import sample_measures
from bmz.app.model_check import refuse_code
from bmz.app.model_code import model_code
from bmz.app.networks import open_network
from bmz.app.plates import finish_plates, with_fields
from bmz.app.precision import Network, decide_precision, precision_of
from bmz.app.read_ahead import read_ahead
from bmz.app.reference import open_reference
from bmz.app.request import SAVED, RunRequest
from bmz.app.resume import finished, remove_leftovers
from bmz.app.settings import decide_labelling
from bmz.app.stream_network import ThisProcess
from bmz.app.streamed import run_streamed
from bmz.app.trial import Tried, try_two_tiles, with_fitting_tiles
from bmz.app.trust import permit_for
from bmz.base.errors import BmzError, WrongUsage
from bmz.base.files import writable_folder
from bmz.base.memory import free_memory
from bmz.base.progress import Listener, Progress, nobody
from bmz.image.plates import PlateField
from bmz.plan.plan import Decided
from bmz.plan.weights_choice import choose_weights
from bmz.predict.backend import Backend
from bmz.predict.devices import resolve_device
from bmz.predict.frameworks import usable_formats
from bmz.report.outcome import ImageDone, ImageFailed, ImagePlan, RunSummary
from bmz.write.names import output_paths, refuse_existing
from bmz.zoo.settings import settings_from_environment

WHOLE = 2**30
"""A tile (px) that holds every image: bioimageio.core is given it in one piece."""


class NothingToSave(WrongUsage):
    """``--recipe none`` makes no labels, and nothing else was asked for."""

    def __init__(self) -> None:
        super().__init__(
            "--recipe none makes no label mask, so nothing would be written",
            hint="add --save raw to keep the output of the network",
            code="output.nothing",
        )


def prepare(request: RunRequest, listener: Listener = nobody, *, measure: bool = True) -> Job:
    """Decide all that does not hang on an image: model, recipe, weights, device.

    Parameters
    ----------
    request : the words of the call
    listener : is told when the model must be downloaded first
    measure : the network may be run for the choice of its precision

    Raises
    ------
    BmzError
        Whatever is wrong with the model or the words of the call.
    """
    settings = settings_from_environment()
    package, model = find_model(request.model, settings, listener=listener)
    refuse_code((*model.inputs, *model.outputs))
    labelling = decide_labelling(model, recipe=request.recipe, settings=request.settings)
    if request.engine == "core":  # which does the declared steps itself
        labelling = replace(labelling, map_steps=(), label_steps=())
    if labelling.recipe is None and "raw" not in request.save:
        raise NothingToSave
    weights = choose_weights(model, usable_formats(), request.weights)
    device = resolve_device(request.device, weights.format)
    fetch_code(package, model, weights, settings, listener)
    permit_for(model, weights, request.trust, settings)  # before much is downloaded
    fetch_weights(package, model, weights, settings, listener)
    permit = permit_for(model, weights, request.trust, settings)  # now that they can be looked at
    if device.kind != "cpu":
        fetch_tensors(package, model, settings, listener)
    notes = notes_folders(package.manifest, model.sha256, settings)
    network = Network(model, weights, device, labelling, notes, permit)
    return Job(
        request=request,
        model=model,
        labelling=labelling,
        device=device,
        permit=permit,
        own_code=model_code(weights),
        decided=_decided(request, network, measure=measure),
        sample=sample_measures(package, model, settings),
    )


def _decided(request: RunRequest, network: Network, *, measure: bool) -> Decided:
    return Decided(
        weights=network.weights,
        device=str(network.device),
        recipe=network.labelling.choice,
        parameters=network.labelling.told,
        tile=WHOLE if request.engine == "core" else request.tile,
        batch=request.batch,
        clip=request.clip,
        precision=decide_precision(request.precision, network, measure=measure),
    )


def plan_run(request: RunRequest, listener: Listener = nobody) -> Iterator[ImagePlan | ImageFailed]:
    """Say for each image how it would be run, after a trial of two tiles, and write nothing."""
    job = prepare(request, listener, measure=False)
    with closing(opened(job)) as backend:
        known: dict[str, Tried] = {}
        for image, field in with_fields(request.images).items():
            ready = ready_or_failed(job, image, field)
            yield ready if isinstance(ready, ImageFailed) else _planned(job, ready, backend, known)


def _planned(job: Job, ready: Ready, backend: Backend, known: dict[str, Tried]) -> ImagePlan:
    parts, need = in_parts(ready, job), bytes_in_one_piece(ready, job)
    findings = ready.report.findings
    if job.request.engine == "core":
        return ImagePlan(ready.image, ready.plan, findings, need, parts)
    key = repr((ready.plan.as_record(), parts))  # images of one size are tried once
    if key not in known:
        known[key] = try_two_tiles(job, ready, backend, in_parts=parts)
    tried = known[key]
    return ImagePlan(ready.image, tried.plan, findings, need, parts, tried.estimate)


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
    summary = RunSummary(tuple(_outcomes(job, ready, files, listener)))
    finish_plates(request.folder, images, summary.done, zarr=zarr)
    if request.resume:
        remove_leftovers(request.folder, "scratch")  # of other words, or of images that failed
    return summary


def wanted_kinds(job: Job) -> tuple[str, ...]:
    """Give the kinds of output that this job writes: what was asked for, and the record."""
    needs_labels = {"labels", "overlay", "table"}
    without = set() if job.labelling.recipe else needs_labels
    return tuple(
        kind for kind in (*SAVED, "record") if kind in (job.request.save | {"record"}) - without
    )


def _ready_or_done(
    job: Job, image: Path, files: Mapping[str, Path], field: PlateField | None
) -> Ready | ImageDone | ImageFailed:
    before = finished(job, image, files) if job.request.resume else None
    return before or ready_or_failed(job, image, field)


def ready_or_failed(job: Job, image: Path, field: PlateField | None = None) -> Ready | ImageFailed:
    """Check the header of an image and plan its run, or give the error."""
    try:
        return make_ready(job, image, field)
    except BmzError as error:
        return ImageFailed(image, error)


def opened(job: Job) -> Backend:
    """Load the network of a job; it is to be closed."""
    if job.request.engine == "core":
        return open_reference(job.model, job.decided.weights)
    return open_network(
        job.model,
        job.decided.weights,
        job.device,
        precision=precision_of(job.decided.precision),
        permit=job.permit,
        threads=job.request.threads,
    )


def run_one(
    job: Job, ready: Ready, backend: Backend, files: Mapping[str, Path], listener: Listener
) -> ImageDone:
    """Run one image: in one piece, or in parts where it would need too much memory."""
    if job.request.engine == "bmz":
        ready = with_fitting_tiles(job, ready, backend)
    if in_parts(ready, job):
        return run_streamed(job, ready, ThisProcess(backend), files, listener)
    return run_image(job, ready, backend, files, listener)


def in_parts(ready: Ready, job: Job) -> bool:
    """Say whether an image needs more memory than it may have, and can be run in parts."""
    return bytes_in_one_piece(ready, job) > memory_limit(job.request) and can_stream(ready, job)


def _in_one_piece(job: Job, ready: Ready) -> bool:
    return not in_parts(ready, job)


def memory_limit(request: RunRequest) -> float:
    """Give the bytes from which on an image is run in parts."""
    if request.memory_gb is not None:
        return request.memory_gb * 1e9
    return free_memory() / 2


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
        from bmz.app.cluster import run_on_workers  # here: Dask takes long to import

        return run_on_workers(job, ready, files, listener)
    return _outcomes_here(job, ready, files, listener)


def _outcomes_here(
    job: Job,
    ready: list[Ready | ImageDone | ImageFailed],
    files: Mapping[Path, Mapping[str, Path]],
    listener: Listener,
) -> Iterator[ImageDone | ImageFailed]:
    whole = partial(_in_one_piece, job)
    with read_ahead(job, ready, whole) as images, closing(opened(job)) as backend:
        for number, one in enumerate(images, start=1):
            if not isinstance(one, Ready):
                yield one
            else:
                try:
                    yield run_one(job, one, backend, files[one.image], listener)
                except BmzError as error:
                    yield ImageFailed(one.image, error)
            listener(Progress("files", number, len(ready), one.image.name))
