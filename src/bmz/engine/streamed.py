"""An image that is too large for the memory: read, predicted, labelled and written in parts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bmz.base.files import whole_files
from bmz.base.progress import Listener, Note, Progress
from bmz.engine.image_run import own_code_record, tile_cuts
from bmz.engine.in_parts import output_of
from bmz.engine.job import Job, Ready, checked_pixels
from bmz.engine.output_check import output_findings, refuse_nonfinite
from bmz.engine.pipeline import Stopwatch, resized_maps
from bmz.engine.replay import words_of
from bmz.engine.scale import SAMPLE_PX
from bmz.engine.scratch import PlaneFolder, scratch_folder, scratch_key
from bmz.engine.stream_labels import (
    OVERLAP_PX,
    Labels,
    LabelStack,
    in_image,
    without_border,
)
from bmz.engine.stream_linked import Joined, joined
from bmz.engine.stream_network import Network, output_number
from bmz.engine.stream_parts import PreparedImage, StoredMap, map_parts, side_of_blocks
from bmz.engine.stream_raw import RawStack, keep_raw
from bmz.engine.stream_resized import on_image
from bmz.engine.stream_write import write_labels_of, write_raw_of
from bmz.image.content import content_sha256
from bmz.image.region import OpenImage, open_image
from bmz.image.sample import read_sample
from bmz.plan.axis_tiling import AxisTiling, OutputRule
from bmz.plan.plan import Plan
from bmz.predict.tile_store import StoredTiles
from bmz.process.adapt import grid_of
from bmz.process.blocks import FAR_SEEING, BlockWork, label_blocks
from bmz.process.finite import PixelCount, nonfinite_pixels
from bmz.process.ops import Op
from bmz.process.resized_maps import ResizedMaps
from bmz.process.seam_score import seam_score
from bmz.process.streamed_steps import PartedReference, streamed_ops
from bmz.report.run_text import finding_notes
from bmz.results.record import run_record, with_result
from bmz.results.run import ImageDone
from bmz.write.ome_zarr import opened_array, scratch_array
from bmz.write.record import write_record


@dataclass(frozen=True)
class Work:
    """What is run in parts.

    Parameters
    ----------
    job, ready : what is run, and how
    image : open
    network : fills the map of a plane
    stopwatch, listener : are told how long it takes and how far it is
    counted : pixels of the output of all planes
    """

    job: Job
    ready: Ready
    image: OpenImage
    network: Network
    stopwatch: Stopwatch
    listener: Listener
    counted: PixelCount = field(default_factory=PixelCount)


def run_streamed(
    job: Job, ready: Ready, network: Network, files: Mapping[str, Path], listener: Listener
) -> ImageDone:
    """Predict, label and write an image in parts, as `bmz.engine.image_run.run_image` does in one.

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
        report = checked_pixels(job, ready, read_sample(info, SAMPLE_PX))
        sha256 = content_sha256(info.path)
    for note in finding_notes(report.findings, ready.image.name):
        listener(note)
    key = scratch_key(job, ready, sha256)
    with ExitStack() as stack:
        image = stack.enter_context(open_image(info))
        scratch = stack.enter_context(scratch_folder(folder, key, resume=job.request.resume))
        listener(Note(_scratch_note(ready, job, scratch)))
        work = Work(job, ready, image, network, stopwatch, listener)
        made = _all_planes(work, scratch)
        more = output_findings(work.counted, made.objects, job.labelling.choice.output)
        for note in finding_notes(more, ready.image.name):
            listener(note)
        report = report.with_more(more)
        facts = run_record(
            job.model, info, made.plan, job.labelling.as_record(made.plan), report.findings, sha256
        )
        record = _with_words(facts, work, made)
        with whole_files(files, job.request.folder) as staged:
            with stopwatch.stage("write"):
                _write(made, work, staged, record)
            record = with_result(record, files, made.objects, stopwatch.took_s)
            write_record(staged["record"], record)
    return ImageDone(ready.image, files, made.objects, report.findings, record)


def _with_words(record: Mapping[str, Any], work: Work, made: Made) -> dict[str, Any]:
    job = work.job
    told = {
        **record,
        "request": words_of(job.request),
        "own_code": own_code_record(job),
        "backend": work.network.name,
        "streamed": _as_streamed(made.labels, job.labelling.choice.name),
    }
    if made.labels is not None:
        told["seam_score"] = seam_score(made.labels, tile_cuts(made.plan))
    return told


def _write(made: Made, work: Work, staged: Mapping[str, Path], record: Mapping[str, Any]) -> None:
    field = work.ready.field
    if made.labels is not None:
        write_labels_of(made.joined or Joined(made.labels), work.image, staged, record, field)
    if made.raw is not None:
        write_raw_of(made.raw, work.image.info, staged["raw"])


def _as_streamed(labels: LabelStack | None, recipe: str) -> dict[str, Any]:
    if labels is None:
        return {"block_px": None, "overlap_px": None, "note": None}
    note = f"'{recipe}' weighs all objects together: those of blocks may differ a little"
    return {
        "block_px": max(max(part.block) for part in labels.parts),
        "overlap_px": max(max(part.overlap) for part in labels.parts),
        "note": note if recipe in FAR_SEEING else None,
    }


def _scratch_note(ready: Ready, job: Job, scratch: Path) -> str:
    plan, output = ready.plan, output_of(job)
    rule = plan.outputs[output_number(job)]
    map_px = prod(_kept_px(along, rule) for along in plan.tiling.axes)
    planes = max(prod(plan.loop.values()), 1)
    label_px = prod(plan.shape.values())
    if plan.scale != 1:
        label_px += prod(ready.asked.image.sizes[axis] for axis in plan.shape)
    # labels of all planes, and the map of one at a time, unless maps are asked for
    maps = 1 + (planes if "raw" in job.request.save else 0)
    gigabytes = 4 * (map_px * (output.channels or 1) * maps + label_px * planes) / 1e9
    name = ready.image.name
    return f"{name} is run in parts; up to {gigabytes:.2g} GB in {scratch} until it is done"


def _kept_px(along: AxisTiling, rule: OutputRule) -> int:
    # tiles that are averaged are kept whole, with what they share
    return sum(kept.target.stop - kept.target.start for kept in along.kept(rule))


@dataclass(frozen=True)
class Made:
    """What came out for all planes or stacks of an image.

    Parameters
    ----------
    labels : None without a recipe
    raw : None where the maps are not asked for
    plan : with the tiles and the batch that memory held
    joined : the labels, where those of several planes or frames are joined
    """

    labels: LabelStack | None
    raw: RawStack | None
    plan: Plan
    joined: Joined | None = None

    @property
    def objects(self) -> int | None:
        """Count the objects; None without labels."""
        labels = self.labels if self.joined is None else self.joined.labels
        return None if labels is None else labels.count


def _all_planes(work: Work, scratch: Path) -> Made:
    plan, space = work.ready.plan, work.job.model.space
    folders = [PlaneFolder(scratch / f"plane-{k:06d}") for k in range(prod(plan.loop.values()))]
    parts = []
    for number, place in enumerate(np.ndindex(*plan.loop.values())):
        at, folder = dict(zip(plan.loop, place, strict=True)), folders[number]
        folder.path.mkdir(exist_ok=True)
        layout = folder.layout()
        if layout is None:
            layout, plan = _one_plane(work, plan, folder, at)
        else:
            _count(work, layout)
        if work.job.labelling.recipe is not None:
            parts.append(_numbered(work, folder, layout))
        if len(plan.loop):
            work.listener(Progress("planes", number + 1, len(folders)))
    labels = LabelStack(parts, plan.loop, space) if parts else None
    asked = "raw" in work.job.request.save
    raw = RawStack([folder.raw for folder in folders], plan.loop, space) if asked else None
    if labels is None or not plan.joined:
        return Made(labels, raw, plan)
    with work.stopwatch.stage("labels"):
        return Made(labels, raw, plan, joined(labels, plan.link))


def _one_plane(
    work: Work, plan: Plan, folder: PlaneFolder, at: Mapping[str, int]
) -> tuple[dict[str, list[int]], Plan]:
    """Write the labels of a plane or stack, as far as they are not there; give their sizes."""
    job = work.job
    (tensor,) = [tensor for tensor in job.model.inputs if not tensor.optional]
    with work.stopwatch.stage("prepare"):
        image = PreparedImage(work.image, at, plan.channels[0], tensor, plan.shape)
        prepared = image.clipped(plan.clip).with_steps()
    with work.stopwatch.stage("network"):
        store, plan = work.network.fill(work.job, plan, prepared, folder, work.listener)
        stored, letters = store.stored(), output_of(job).letters
        pixels = np.sum([nonfinite_pixels(tile, letters) for tile in stored.tiles()], axis=0)
    layout: dict[str, list[int]] = {"pixels": pixels.tolist()}
    _count(work, layout)
    with work.stopwatch.stage("labels"):
        maps = StoredMap(stored, letters, tuple(_map_ops(job, stored, prepared)))
    if job.labelling.recipe is not None:
        with work.stopwatch.stage("labels"):
            layout |= _labelled(work, maps, folder)
    if "raw" in job.request.save:
        with work.stopwatch.stage("write"):
            keep_raw(maps, folder.raw)
    folder.finish(layout)
    return layout, plan


def _count(work: Work, layout: Mapping[str, list[int]]) -> None:
    """Count the pixels of the output of a plane or stack, also of one finished in an earlier run.

    Raises
    ------
    OutputNotFinite
        No pixel of any plane is a number.
    """
    nonfinite, total = layout["pixels"]
    work.counted.add(nonfinite, total)
    refuse_nonfinite(work.counted, work.ready.plan, work.job.labelling.choice.output)


def _map_ops(job: Job, stored: StoredTiles, prepared: PreparedImage) -> list[Op]:
    """Give the steps after the network, with the statistics of the whole map and image."""
    output, tensor = output_of(job), prepared.tensor
    parts = partial(map_parts, stored, output.letters)
    references: dict[str, PartedReference] = {
        tensor.id: (prepared.parts, tensor.letters),
        output.id: (parts, output.letters),
    }
    return streamed_ops(job.labelling.map_steps, parts, output.letters, references)


def _labelled(work: Work, maps: StoredMap, folder: PlaneFolder) -> dict[str, list[int]]:
    labelling, plan = work.job.labelling, work.ready.plan
    recipe = labelling.recipe
    assert recipe is not None  # noqa: S101  (`can_stream` has looked; this tells the type checker)
    network, image = tuple(plan.shape.values()), _image_size(work)
    grid = grid_of(maps.shape[1:], plan.shape)
    read: StoredMap | ResizedMaps = maps
    if _on_image(work):
        read = resized_maps(maps, network, image, labelling)
        labelling = labelling.at_factor(1 / plan.scale)
    # the border of a block is none of the image, so objects at it are dropped at the end
    finish = replace(labelling.finish, remove_border=False)
    wanted = side_of_blocks(read.shape[1] if len(read.shape) > 3 else 1)  # noqa: PLR2004  (c, z, y, x)
    side, overlap = (max(px // max(grid), 1) for px in (wanted, OVERLAP_PX))
    blocks = BlockWork(read, grid, recipe, labelling.parameters, side, overlap, finish)
    labels = scratch_array(folder.labels, blocks.shape, np.dtype(np.uint32))
    found = label_blocks(blocks, labels, work.listener, folder.found(), folder.keep)
    return {
        "block": [side * step for step in grid[-2:]],
        "overlap": [found.widest_overlap * step for step in grid[-2:]],
    }


def _numbered(work: Work, folder: PlaneFolder, layout: Mapping[str, list[int]]) -> Labels:
    """Give numbers to the objects of a plane or stack that are in the image."""
    plan, stored, found = work.ready.plan, opened_array(folder.labels), folder.found()
    network, size = tuple(plan.shape.values()), _image_size(work)
    if network != size and not _on_image(work):
        labels = on_image(stored, found, network, size, folder.resized)
    else:
        whole = stored.shape == size
        numbers = found.numbers() if whole else in_image(stored, found.count, size)
        (high, wide), (down, across) = layout["block"], layout["overlap"]
        labels = Labels(stored, numbers, found, size, (high, wide), (down, across))
    if work.job.labelling.finish.remove_border:
        kept = without_border(labels.stored, labels.numbers, labels.size)
        return replace(labels, numbers=kept)
    return labels


def _image_size(work: Work) -> tuple[int, ...]:
    sizes = work.image.info.sizes
    return tuple(sizes[axis] for axis in work.ready.plan.shape)


def _on_image(work: Work) -> bool:
    """Say whether the map of a resized image is brought to the image before labels are made."""
    recipe, network = work.job.labelling.recipe, tuple(work.ready.plan.shape.values())
    return recipe is not None and recipe.rescale == "maps" and network != _image_size(work)
