"""An image that is too large for the memory: read, predicted, labelled and written in parts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bmz.app.image_run import Job, Ready, own_code_record, provenance_of, refuse_errors, tile_cuts
from bmz.app.measure import image_measures
from bmz.app.pipeline import Pass, Stopwatch, run_as_memory_allows
from bmz.app.replay import words_of
from bmz.app.scale import SAMPLE_PX
from bmz.app.stream_labels import (
    BLOCK_PX,
    OVERLAP_PX,
    Labels,
    measured_in_blocks,
    overview,
    without_border,
    without_hidden,
)
from bmz.app.stream_parts import PreparedImage, StoredMap
from bmz.base.arrays import AnyArray, smallest_unsigned
from bmz.base.boxes import boxes
from bmz.base.files import unfinished, whole_files
from bmz.base.progress import Listener, Note
from bmz.check.finding import CheckReport
from bmz.check.fit import check_fit
from bmz.image.region import OpenImage, open_image
from bmz.image.sample import read_sample
from bmz.predict.backend import Backend
from bmz.process.adapt import grid_of
from bmz.process.blocks import BlockWork, label_blocks
from bmz.process.ops import Op
from bmz.process.seam_score import seam_score
from bmz.process.streamed_steps import StepNotStreamed, streamed_ops
from bmz.report.outcome import ImageDone
from bmz.report.record import run_record, with_result
from bmz.report.run_text import finding_notes
from bmz.write.ome_zarr import LabelStore, scratch_array
from bmz.write.overlay import write_overlay
from bmz.write.record import write_record
from bmz.write.table import write_objects
from bmz.write.tiff import write_large_labels

BYTES_A_PIXEL = 24
"""Held for each pixel of a plane beside its maps, when an image is run in one piece."""


def bytes_in_one_piece(ready: Ready, job: Job) -> int:
    """Estimate the memory that an image needs when it is run in one piece."""
    maps = sum((tensor.channels or 1) for tensor in job.model.outputs)
    planes = max(prod(ready.plan.loop.values()), 1)
    pixels = prod(ready.plan.shape.values())
    taken = sum(map(len, ready.plan.channels))
    return pixels * (planes * (4 * maps + 8) + 8 * taken + 4 * maps + BYTES_A_PIXEL)


def can_stream(ready: Ready, job: Job) -> bool:
    """Say whether an image can be run in parts: a plane, one input, no resizing, and a mask."""
    plan, labelling = ready.plan, job.labelling
    inputs = [tensor for tensor in job.model.inputs if not tensor.optional]
    return bool(
        job.model.space == "yx"
        and len(inputs) == 1
        and plan.scale == 1
        and job.request.engine == "bmz"
        and labelling.recipe is not None
        and not labelling.recipe.per_object
        and not labelling.label_steps
        and labelling.recipe.name != "labels"
        and labelling.parameters.get("instances", True)
        and "raw" not in job.request.save
        and not any(plan.loop.values())
    )


@dataclass(frozen=True)
class Work:
    """What is run in parts.

    Parameters
    ----------
    job, ready : what is run, and how
    image : open
    scratch : folder for what is only needed in between
    stopwatch, listener : are told how long it takes and how far it is
    """

    job: Job
    ready: Ready
    image: OpenImage
    scratch: Path
    stopwatch: Stopwatch
    listener: Listener


def run_streamed(
    job: Job, ready: Ready, backend: Backend, files: Mapping[str, Path], listener: Listener
) -> ImageDone:
    """Predict, label and write one plane in parts, as `bmz.app.image_run.run_image` does in one.

    Parameters
    ----------
    files : kind -> path of each output

    Raises
    ------
    BmzError
        The pixels cannot be read or do not fit, a step cannot be streamed, or a file fails.
    """
    stopwatch = Stopwatch()
    folder = next(iter(files.values())).parent
    info = ready.asked.image
    with ExitStack() as stack:
        image = stack.enter_context(open_image(info))
        with stopwatch.stage("check"):
            report = _checked(job, ready)
        for note in finding_notes(report.findings, ready.image.name):
            listener(note)
        scratch = Path(tempfile.mkdtemp(prefix=unfinished("scratch"), dir=folder))
        stack.callback(shutil.rmtree, scratch)
        listener(Note(_scratch_note(ready, job, scratch)))
        work = Work(job, ready, image, scratch, stopwatch, listener)
        stored = _predicted(work, backend)
        with stopwatch.stage("labels"):
            labels = _labelled(work, stored)
        record = run_record(
            job.model, info, ready.plan, job.labelling.as_record(), report.findings
        ) | {
            "request": words_of(job.request),
            "own_code": own_code_record(job),
            "backend": backend.name,
            "streamed": {"block_px": max(labels.block), "overlap_px": max(labels.overlap)},
            "seam_score": seam_score(labels, tile_cuts(ready.plan)),
        }
        with whole_files(files) as staged:
            with stopwatch.stage("write"):
                _write(labels, image, staged, record)
            record = with_result(record, files, labels.count, stopwatch.took_s)
            write_record(staged["record"], record)
    return ImageDone(ready.image, files, labels.count, report.findings, record)


def _checked(job: Job, ready: Ready) -> CheckReport:
    pixels = read_sample(ready.asked.image, SAMPLE_PX)
    measures = image_measures(pixels, ready.asked.channels_taken)
    report = check_fit(replace(ready.asked, measured=measures), pixels)
    refuse_errors(ready.image, report, force=job.request.force)
    return report


def _scratch_note(ready: Ready, job: Job, scratch: Path) -> str:
    maps = sum((tensor.channels or 1) for tensor in job.model.outputs)
    gigabytes = prod(ready.plan.shape.values()) * (4 * maps + 4) / 1e9
    name = ready.image.name
    return f"{name} is run in parts; up to {gigabytes:.1f} GB in {scratch} until it is done"


def _predicted(work: Work, backend: Backend) -> StoredMap:
    job, plan = work.job, work.ready.plan
    (tensor,) = [tensor for tensor in job.model.inputs if not tensor.optional]
    with work.stopwatch.stage("prepare"):
        image = PreparedImage(work.image, {}, plan.channels[0], tensor)
        prepared = image.clipped(plan.clip).with_steps()
    made: list[Path] = []

    def storage(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:  # noqa: ANN401  (an array of zarr)
        made.append(work.scratch / f"map{len(made)}")
        return scratch_array(made[-1], shape, dtype)

    run = Pass(job.model, plan, job.labelling, backend, work.stopwatch, work.listener)
    with work.stopwatch.stage("network"):
        arrays, _ = run_as_memory_allows([prepared.parted()], run, storage)
    position = [t.id for t in job.model.outputs].index(job.labelling.choice.output)
    letters = job.model.outputs[position].letters
    return StoredMap(arrays[position], letters, tuple(_map_ops(job, letters)))


def _map_ops(job: Job, letters: str) -> list[Op]:
    def whole() -> list[AnyArray]:
        raise StepNotStreamed(job.labelling.map_steps[-1])

    # steps of one value at a time never ask for the whole
    return streamed_ops(job.labelling.map_steps, whole, letters)


def _labelled(work: Work, stored: StoredMap) -> Labels:
    labelling, plan = work.job.labelling, work.ready.plan
    recipe = labelling.recipe
    assert recipe is not None  # noqa: S101  (`can_stream` has looked; this tells the type checker)
    grid = grid_of(stored.shape[1:], plan.shape)
    # the border of a block is none of the image, so objects at it are dropped at the end
    finish = replace(labelling.finish, remove_border=False)
    side, overlap = (max(px // max(grid), 1) for px in (BLOCK_PX, OVERLAP_PX))
    blocks = BlockWork(stored, grid, recipe, labelling.parameters, side, overlap, finish)
    labels = scratch_array(work.scratch / "labels", blocks.shape, np.dtype(np.uint32))
    found = label_blocks(blocks, labels, work.listener)
    height, width = plan.shape["y"], plan.shape["x"]
    numbers = found.numbers()
    if blocks.shape != (height, width):
        numbers = without_hidden(labels, numbers, (height, width))
    if labelling.finish.remove_border:
        numbers = without_border(labels, numbers, (height, width))
    block, seen = ((px * grid[0], px * grid[1]) for px in (side, found.widest_overlap))
    return Labels(labels, numbers, found, (height, width), block, seen)


def _write(
    labels: Labels, image: OpenImage, files: Mapping[str, Path], record: Mapping[str, Any]
) -> None:
    if "labels" in files and files["labels"].suffix == ".zarr":
        lengths = {axis: um for axis, um in image.info.pixel_um.items() if axis in "yx"}
        store = LabelStore(files["labels"], "yx", lengths)
        array = store.create(labels.shape, smallest_unsigned(labels.count))
        for box in boxes(labels.shape, (BLOCK_PX, BLOCK_PX)):
            array[box] = labels[box].astype(array.dtype)
        store.finish(labels.count, provenance_of(record))
    elif "labels" in files:
        write_large_labels(files["labels"], labels, labels.count, image.info.pixel_um)
    if "overlay" in files:
        shown, drawn = overview(labels, image)
        write_overlay(files["overlay"], shown, drawn)
    if "table" in files:
        write_objects(files["table"], measured_in_blocks(labels, image))
