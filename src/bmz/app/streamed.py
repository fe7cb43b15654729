"""An image that is too large for the memory: read, predicted, labelled and written in parts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bmz.app.image_run import Job, Ready, own_code_record, provenance_of, refuse_errors, tile_cuts
from bmz.app.measure import image_measures
from bmz.app.pipeline import Stopwatch
from bmz.app.plates import origin_columns
from bmz.app.replay import words_of
from bmz.app.scale import SAMPLE_PX
from bmz.app.scratch import PlaneFolder, scratch_folder, scratch_key
from bmz.app.stream_labels import (
    OVERLAP_PX,
    Labels,
    LabelStack,
    overview,
    without_border,
    without_hidden,
)
from bmz.app.stream_network import Network, output_number
from bmz.app.stream_parts import BLOCK_PX, PreparedImage, StoredMap, side_of_blocks
from bmz.app.stream_resized import on_image
from bmz.app.stream_table import measured_in_blocks
from bmz.base.arrays import AnyArray, smallest_unsigned
from bmz.base.axes import SPACE
from bmz.base.boxes import boxes
from bmz.base.files import whole_files
from bmz.base.progress import Listener, Note, Progress
from bmz.check.finding import CheckReport
from bmz.check.fit import check_fit
from bmz.image.plates import PlateField
from bmz.image.region import OpenImage, open_image
from bmz.image.sample import read_sample
from bmz.plan.plan import Plan
from bmz.process.adapt import grid_of
from bmz.process.blocks import FAR_SEEING, BlockWork, label_blocks
from bmz.process.finish import Finish
from bmz.process.ops import Op
from bmz.process.seam_score import seam_score
from bmz.process.streamed_steps import StepNotStreamed, streamed_ops
from bmz.report.outcome import ImageDone
from bmz.report.record import content_sha256, run_record, with_result
from bmz.report.run_text import finding_notes
from bmz.spec.model import TensorSpec
from bmz.write.ome_zarr import LabelStore, opened_array, scratch_array
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


def bytes_in_parts(ready: Ready, job: Job) -> int:
    """Estimate the memory that an image needs when it is run in parts: that of a block."""
    output = _output_of(job)
    seen = {axis: min(n, BLOCK_PX + 2 * OVERLAP_PX) for axis, n in ready.plan.shape.items()}
    if "z" in seen:
        side = side_of_blocks(ready.plan.shape["z"]) + 2 * OVERLAP_PX
        seen = {"z": ready.plan.shape["z"], "y": side, "x": side}
    return prod(seen.values()) * (4 * (output.channels or 1) + BYTES_A_PIXEL + 8)


def can_stream(ready: Ready, job: Job) -> bool:
    """Say whether an image can be run in parts: one input, and a mask of a map."""
    plan, labelling = ready.plan, job.labelling
    inputs = [tensor for tensor in job.model.inputs if not tensor.optional]
    return bool(
        len(inputs) == 1
        and (plan.scale == 1 or replace(labelling.finish, remove_border=False) == Finish())
        and job.request.engine == "bmz"
        and labelling.recipe is not None
        and not labelling.recipe.per_object
        and not labelling.label_steps
        and labelling.recipe.name != "labels"
        and labelling.parameters.get("instances", True)
        and "raw" not in job.request.save
    )


@dataclass(frozen=True)
class Work:
    """What is run in parts.

    Parameters
    ----------
    job, ready : what is run, and how
    image : open
    network : fills the map of a plane
    stopwatch, listener : are told how long it takes and how far it is
    """

    job: Job
    ready: Ready
    image: OpenImage
    network: Network
    stopwatch: Stopwatch
    listener: Listener


def run_streamed(
    job: Job, ready: Ready, network: Network, files: Mapping[str, Path], listener: Listener
) -> ImageDone:
    """Predict, label and write an image in parts, as `bmz.app.image_run.run_image` does in one.

    Parameters
    ----------
    network : fills the map of a plane or stack, here or on several workers
    files : kind -> path of each output

    Raises
    ------
    BmzError
        The pixels cannot be read or do not fit, a step cannot be streamed, or a file fails.
    """
    stopwatch = Stopwatch()
    folder = job.request.folder
    info = ready.asked.image
    with stopwatch.stage("check"):
        report = _checked(job, ready)
        sha256 = content_sha256(info.path)
    for note in finding_notes(report.findings, ready.image.name):
        listener(note)
    key = scratch_key(job, ready, sha256)
    with ExitStack() as stack:
        image = stack.enter_context(open_image(info))
        scratch = stack.enter_context(scratch_folder(folder, key, resume=job.request.resume))
        listener(Note(_scratch_note(ready, job, scratch)))
        work = Work(job, ready, image, network, stopwatch, listener)
        labels, plan = _all_planes(work, scratch)
        record = run_record(
            job.model, info, plan, job.labelling.as_record(), report.findings, sha256
        ) | {
            "request": words_of(job.request),
            "own_code": own_code_record(job),
            "backend": network.name,
            "streamed": _as_streamed(labels, job.labelling.choice.name),
            "seam_score": seam_score(labels, tile_cuts(plan)),
        }
        with whole_files(files, job.request.folder) as staged:
            with stopwatch.stage("write"):
                _write(labels, image, staged, record, ready.field)
            record = with_result(record, files, labels.count, stopwatch.took_s)
            write_record(staged["record"], record)
    return ImageDone(ready.image, files, labels.count, report.findings, record)


def _checked(job: Job, ready: Ready) -> CheckReport:
    pixels = read_sample(ready.asked.image, SAMPLE_PX)
    measures = image_measures(pixels, ready.asked.channels_taken)
    report = check_fit(replace(ready.asked, measured=measures), pixels)
    refuse_errors(ready.image, report, force=job.request.force)
    return report


def _as_streamed(labels: LabelStack, recipe: str) -> dict[str, Any]:
    note = f"'{recipe}' weighs all objects together: those of blocks may differ a little"
    return {
        "block_px": max(max(part.block) for part in labels.parts),
        "overlap_px": max(max(part.overlap) for part in labels.parts),
        "note": note if recipe in FAR_SEEING else None,
    }


def _scratch_note(ready: Ready, job: Job, scratch: Path) -> str:
    plan, output = ready.plan, _output_of(job)
    rule = plan.outputs[output_number(job)]
    map_px = prod(along.image_output(rule) for along in plan.tiling.axes)
    # labels of all planes, and the map of one at a time
    label_px = prod(plan.shape.values()) * max(prod(plan.loop.values()), 1)
    if plan.scale != 1:
        label_px += prod(ready.asked.image.sizes[axis] for axis in plan.shape)
    gigabytes = 4 * (map_px * (output.channels or 1) + label_px) / 1e9
    name = ready.image.name
    return f"{name} is run in parts; up to {gigabytes:.1f} GB in {scratch} until it is done"


def _output_of(job: Job) -> TensorSpec:
    return next(t for t in job.model.outputs if t.id == job.labelling.choice.output)


def _all_planes(work: Work, scratch: Path) -> tuple[LabelStack, Plan]:
    plan = work.ready.plan
    parts = []
    for number, place in enumerate(np.ndindex(*plan.loop.values())):
        at = dict(zip(work.ready.plan.loop, place, strict=True))
        folder = PlaneFolder(scratch / f"plane-{number:06d}")
        folder.path.mkdir(exist_ok=True)
        layout = folder.layout()
        if layout is None:
            layout, plan = _one_plane(work, plan, folder, at)
        parts.append(_numbered(work, folder, layout))
        if len(plan.loop):
            work.listener(Progress("planes", number + 1, prod(plan.loop.values())))
    return LabelStack(parts, plan.loop, work.job.model.space), plan


def _one_plane(
    work: Work, plan: Plan, folder: PlaneFolder, at: Mapping[str, int]
) -> tuple[dict[str, list[int]], Plan]:
    """Write the labels of a plane or stack, as far as they are not there; give their sizes."""
    job = work.job
    (tensor,) = [tensor for tensor in job.model.inputs if not tensor.optional]
    with work.stopwatch.stage("prepare"):
        raw = PreparedImage(work.image, at, plan.channels[0], tensor, plan.shape)
        prepared = raw.clipped(plan.clip).with_steps()
    with work.stopwatch.stage("network"):
        store, plan = work.network.fill(work.job, plan, prepared, folder, work.listener)
    stored = store.stored()
    letters = _output_of(job).letters
    maps = StoredMap(stored, letters, tuple(_map_ops(job, letters)))
    with work.stopwatch.stage("labels"):
        layout = _labelled(work, maps, folder)
    folder.finish(layout)
    return layout, plan


def _map_ops(job: Job, letters: str) -> list[Op]:
    def whole() -> list[AnyArray]:
        raise StepNotStreamed(job.labelling.map_steps[-1])

    # steps of one value at a time never ask for the whole
    return streamed_ops(job.labelling.map_steps, whole, letters)


def _labelled(work: Work, maps: StoredMap, folder: PlaneFolder) -> dict[str, list[int]]:
    labelling, plan = work.job.labelling, work.ready.plan
    recipe = labelling.recipe
    assert recipe is not None  # noqa: S101  (`can_stream` has looked; this tells the type checker)
    grid = grid_of(maps.shape[1:], plan.shape)
    # the border of a block is none of the image, so objects at it are dropped at the end
    finish = replace(labelling.finish, remove_border=False)
    wanted = side_of_blocks(plan.shape.get("z", 1))
    side, overlap = (max(px // max(grid), 1) for px in (wanted, OVERLAP_PX))
    blocks = BlockWork(maps, grid, recipe, labelling.parameters, side, overlap, finish)
    labels = scratch_array(folder.labels, blocks.shape, np.dtype(np.uint32))
    found = label_blocks(blocks, labels, work.listener, folder.found(), folder.keep)
    return {
        "block": [side * step for step in grid[-2:]],
        "overlap": [found.widest_overlap * step for step in grid[-2:]],
    }


def _numbered(work: Work, folder: PlaneFolder, layout: Mapping[str, list[int]]) -> Labels:
    """Give numbers to the objects of a plane or stack that are in the image."""
    plan, stored, found = work.ready.plan, opened_array(folder.labels), folder.found()
    network = tuple(plan.shape.values())
    if plan.scale != 1:
        sizes = work.image.info.sizes
        size = tuple(sizes[axis] for axis in plan.shape)
        labels = on_image(stored, found, network, size, folder.resized)
    else:
        numbers = found.numbers()
        if stored.shape != network:
            numbers = without_hidden(stored, numbers, network)
        (high, wide), (down, across) = layout["block"], layout["overlap"]
        labels = Labels(stored, numbers, found, network, (high, wide), (down, across))
    if work.job.labelling.finish.remove_border:
        kept = without_border(labels.stored, labels.numbers, labels.size)
        return replace(labels, numbers=kept)
    return labels


def _write(
    labels: LabelStack,
    image: OpenImage,
    files: Mapping[str, Path],
    record: Mapping[str, Any],
    field: PlateField | None,
) -> None:
    lengths = {a: um for a, um in image.info.pixel_um.items() if a in labels.axes and a in SPACE}
    if "labels" in files and record["request"]["labels_format"] == "zarr":
        store = LabelStore(files["labels"], labels.axes, lengths)
        array = store.create(labels.shape, smallest_unsigned(labels.count))
        ones = (1 for _ in labels.shape[:-2])
        for box in boxes(labels.shape, (*ones, BLOCK_PX, BLOCK_PX)):
            array[box] = labels[box].astype(array.dtype)
        store.finish(labels.count, provenance_of(record))
    elif "labels" in files:
        write_large_labels(files["labels"], labels, labels.count, lengths)
    if "overlay" in files:
        shown, drawn = overview(labels, image)
        write_overlay(files["overlay"], shown, drawn)
    if "table" in files:
        tables = measured_in_blocks(labels, image)
        named = (origin_columns(field, len(table["label"])) | table for table in tables)
        write_objects(files["table"], named)
