"""Run planes or stacks that are too large for memory tile by tile, and label them in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property, partial
from itertools import accumulate, islice
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bmz.base.arrays import AnyArray, LazyArray
from bmz.base.axes import Step
from bmz.base.errors import not_none
from bmz.base.progress import Listener, Note, Progress
from bmz.base.values import dataclass
from bmz.check.finding import CheckReport
from bmz.engine.earlier_runs import PlaneFolder
from bmz.engine.image_header import SAMPLE_PX
from bmz.engine.image_result import ComingPlane, PlaneOutput
from bmz.engine.label_stack import (
    Labels,
    in_image,
    on_image,
    without_border,
)
from bmz.engine.labelling import Decoding
from bmz.engine.memory import image_sizes, maps_on_image, output_number, output_of, scratch_note
from bmz.engine.output_check import OutputWatch, Stage, StageCounts, nonfinite_pixels
from bmz.engine.pipeline import resized_maps
from bmz.engine.prepared_image import (
    PreparedImage,
    StoredMap,
    keep_raw,
    map_parts,
    prepared_inputs,
)
from bmz.engine.run_quality import (
    judged,
    judging_of,
    keep_evidence,
    kept_evidence,
    plane_evidence,
)
from bmz.engine.setup import PlannedImage, RunSetup, checked_pixels
from bmz.engine.stages import Stopwatch, at_once
from bmz.engine.tile_gate import gated_precision
from bmz.image.region import FileSource, read_sample
from bmz.plan.plan import Plan
from bmz.plan.weights_choice import PrecisionChoice
from bmz.predict.backend import Backend
from bmz.predict.mosaic import StoredTiles, TileStore
from bmz.predict.tiles import Attempts, Tiles, fill, uncounted
from bmz.process.adapt import ResizedMaps, grid_of
from bmz.process.blocks import BlockWork, label_blocks
from bmz.process.compiled import NOTE
from bmz.process.ops import Op
from bmz.process.streamed_steps import (
    PartedReference,
    applied,
    numbers_of_steps,
    streamed_ops,
)
from bmz.write.ome_zarr import opened_array, scratch_array

if TYPE_CHECKING:
    from bmz.results.image_documents import WayRecord


class PlaneRunner(Protocol):
    """Run the planes or stacks of an image, whole or in blocks."""

    def run(self, number: int, at: Mapping[str, int], plan: Plan) -> ComingPlane:
        """Predict a plane or stack, and start labelling it.

        Parameters
        ----------
        number : its position in the loop of the plan
        at : its position along each axis of the loop
        plan : plan with the tiles and the batch that have fitted in memory so far
        """

    def facts(self, outputs: Sequence[PlaneOutput]) -> WayRecord:
        """Return the entries of the run record on how the planes were run."""


class TileRunner(Protocol):
    """Compute the map of a plane or stack, tile by tile."""

    @property
    def name(self) -> str:
        """The name of the backend, for the record."""

    @property
    def precision(self) -> PrecisionChoice | None:
        """The precision in which it has run; None for that of the plan."""

    def decoding(self, listener: Listener) -> Decoding:
        """Return where labels of blocks are computed."""

    def fill(
        self,
        setup: RunSetup,
        plan: Plan,
        prepared: Sequence[PreparedImage],
        folder: PlaneFolder,
        listener: Listener,
    ) -> tuple[TileStore, Plan]:
        """Run the tiles that are not in the folder.

        Returns
        -------
        TileStore, Plan
            the store with all tiles, and the plan with the tiles that fitted in memory
        """


@dataclass(frozen=True)
class ThisProcess:
    """Run all tiles in this process.

    Parameters
    ----------
    backend : the loaded model
    computed : is called with the seconds for which its device computed
    """

    backend: Backend
    computed: Callable[[float], None] = uncounted

    @property
    def name(self) -> str:
        """The name of the backend, for the record."""
        return self.backend.name

    @property
    def precision(self) -> PrecisionChoice | None:
        """The precision in which it has run; None for that of the plan."""
        return gated_precision(self.backend)

    def decoding(self, listener: Listener) -> Decoding:
        """Return where labels of blocks are computed: on the device of the network, if possible."""
        return Decoding.beside(self.backend, listener)

    def fill(
        self,
        setup: RunSetup,
        plan: Plan,
        prepared: Sequence[PreparedImage],
        folder: PlaneFolder,
        listener: Listener,
    ) -> tuple[TileStore, Plan]:
        """Run the tiles that are not in the folder, with smaller tiles if memory runs out."""
        attempts = Attempts(plan, setup.model, listener)
        for attempt in attempts:
            with attempt as tried:
                tiles = tiles_of(self.backend, tried, prepared, listener)
                tiles = replace(tiles, computed=self.computed)
                store = TileStore(folder.maps(tried), tiles.places(), output_number(setup))
                attempts.succeed(fill(store, tiles))
        return store, attempts.plan


def tiles_of(
    backend: Backend, plan: Plan, prepared: Sequence[PreparedImage], listener: Listener
) -> Tiles:
    """Return the tiles of a plane or stack that has been prepared for each input."""
    inputs = [each.parted() for each in prepared]
    return Tiles(backend, inputs, plan.tiling, plan.outputs, plan.batch, listener)


@dataclass(frozen=True)
class BlocksContext:
    """Context of an image that is run in parts.

    Parameters
    ----------
    setup, planned : the model, the image and how it is run
    image : the open image
    tiles : computes the map of a plane
    stopwatch, listener : receive durations and progress
    counted : pixels after the network and each declared step, of all planes
    """

    setup: RunSetup
    planned: PlannedImage
    image: FileSource
    tiles: TileRunner
    stopwatch: Stopwatch
    listener: Listener
    counted: StageCounts = field(default_factory=StageCounts)

    @cached_property
    def decoding(self) -> Decoding:
        """Where labels of blocks are computed."""
        return self.tiles.decoding(self.listener)

    @property
    def watch(self) -> OutputWatch:
        """The watch that looks for pixels that are not numbers."""
        return OutputWatch(self.planned.plan, self.counted)


def look_at_sample(setup: RunSetup, planned: PlannedImage) -> CheckReport:
    """Check a sample of the pixels of an image.

    Raises
    ------
    DoesNotFit
        There is a finding of severity error, and ``--force`` is not given or does not help.
    """
    return checked_pixels(setup, planned, read_sample(planned.case.image, SAMPLE_PX))


@dataclass(frozen=True)
class PlanesInBlocks:
    """Run each plane or stack of an image tile by tile and block by block.

    Parameters
    ----------
    work : context of the image
    scratch : folder for intermediate data
    """

    work: BlocksContext
    scratch: Path

    def run(self, number: int, at: Mapping[str, int], plan: Plan) -> ComingPlane:
        """Run a plane or stack, as `PlaneRunner` describes.

        If an earlier call has finished it, its result is only read.
        """
        work, planes = self.work, prod(plan.loop.values())
        if number == 0:
            work.listener(Note(scratch_note(work.planned, work.setup, self.scratch)))
        folder = PlaneFolder(self.scratch / f"plane-{number:06d}")
        folder.path.mkdir(exist_ok=True)
        layout = folder.layout()
        if layout is None:
            labels, plan = _one_plane(work, plan, folder, at)
        else:
            for where in {*_stages(work.setup)} & {*layout}:
                _count(work, layout, where, layout[where])
            labels = _numbered(work, folder, layout)
        if plan.loop:
            work.listener(Progress("planes", number + 1, planes))
        raw = folder.raw if "raw" in work.setup.request.save else None
        output = PlaneOutput(plan, labels, raw)
        evidence, judging = kept_evidence(folder.evidence), judging_of(work.setup, work.planned)
        if evidence is not None and judging is not None:
            output = judged(output, evidence, judging)
        return ComingPlane(plan, at_once(lambda: output))

    def facts(self, outputs: Sequence[PlaneOutput]) -> WayRecord:
        """Return the entries of the run record on blocks and on where labels were computed."""
        made = self.work.decoding.as_record()
        more: WayRecord = {} if made is None else {"labels_made": made}
        return {**more, **self._in_blocks(outputs)}

    def _in_blocks(self, outputs: Sequence[PlaneOutput]) -> WayRecord:
        labels = [output.labels for output in outputs if output.labels is not None]
        if not labels:
            return {"streamed": {"block_px": None, "overlap_px": None, "note": None}}
        recipe = self.work.setup.labelling.recipe
        needs = None if recipe is None else recipe.in_blocks
        name = self.work.setup.labelling.choice.name
        note = f"'{name}' weighs all objects together: objects from blocks may differ slightly"
        return {
            "streamed": {
                "block_px": max(max(part.block) for part in labels),
                "overlap_px": max(max(part.overlap) for part in labels),
                "note": note if needs is not None and needs.far_seeing else None,
            }
        }


def _one_plane(
    work: BlocksContext, plan: Plan, folder: PlaneFolder, at: Mapping[str, int]
) -> tuple[Labels | None, Plan]:
    """Write the missing labels of a plane or stack, and return its labels."""
    setup = work.setup
    layout: dict[str, list[int]] = {}
    with work.stopwatch.stage("prepare"):
        prepared = prepared_inputs(work.image, at, plan, setup.model.required_inputs)
        pixels = [count for each in prepared for count in _pixels_in(each)]
        _count(work, layout, "input", pixels)
    if setup.labelling.prompted:
        drawn, sizes = _asked(work, plan, prepared[0], folder, at)
        return _ended(work, folder, layout | sizes, prepared[0], drawn), plan
    with work.stopwatch.stage("network"):
        store, plan = work.tiles.fill(work.setup, plan, prepared, folder, work.listener)
        stored, letters = store.stored(), output_of(setup).letters
        _count(work, layout, "network", _pixels_out(stored, letters, ()))
    with work.stopwatch.stage("labels"):
        maps = StoredMap(stored, letters, tuple(_map_ops(setup, stored, prepared)))
        if maps.ops:
            _count(work, layout, "output", _pixels_out(stored, letters, maps.ops))
    if setup.labelling.recipe is not None:
        with work.stopwatch.stage("labels"), NOTE.heard_by(work.listener):
            layout |= _labelled(work, maps, folder)
    return _ended(work, folder, layout, prepared[0], maps), plan


def _ended(
    work: BlocksContext,
    folder: PlaneFolder,
    layout: dict[str, list[int]],
    image: PreparedImage,
    maps: LazyArray,
) -> Labels | None:
    """Measure the objects of a labelled plane, and keep its map if requested."""
    setup = work.setup
    labels = _numbered(work, folder, layout)
    judging = judging_of(setup, work.planned)
    if labels is not None and judging is not None:
        with work.stopwatch.stage("labels"):
            seen = replace(image, channels=judging.channels, tops=None)
            keep_evidence(folder.evidence, plane_evidence(labels, _pixels_of(seen), maps))
    if "raw" in setup.request.save:
        with work.stopwatch.stage("write"):
            keep_raw(maps, folder.raw, work.planned.plan.blocks)
    folder.finish(layout)
    return labels


def _asked(
    work: BlocksContext,
    plan: Plan,
    image: PreparedImage,
    folder: PlaneFolder,
    at: Mapping[str, int],
) -> tuple[AnyArray, dict[str, list[int]]]:
    """Prompt the network for the objects of a plane, and write their labels.

    Returns
    -------
    (1, y, x) float32
        the score at every pixel
    dict
        the sizes of the blocks
    """
    # here: few models are prompted
    from bmz.engine.asking import Asking, ask_in_parts, painted_in_parts
    from bmz.engine.prompting import PromptedNetwork

    if not isinstance(work.tiles, ThisProcess):
        raise TypeError("only the process that holds a network can prompt it")
    prompts = work.planned.prompts_at(at, work.setup.request.prompts)
    network = PromptedNetwork(work.setup.model, work.tiles.backend)
    asking = Asking(network, work.setup.labelling, plan, prompts, work.listener)
    with work.stopwatch.stage("network"):
        ask_in_parts(asking, image, image.tensor.letters, folder.maps(plan))
    with work.stopwatch.stage("labels"):
        labels = scratch_array(folder.labels, asking.shape, np.dtype(np.uint32))
        side = plan.blocks.side_px
        done = painted_in_parts(asking, folder.maps(plan), labels, side)
        folder.keep(done.objects)
    return done.drawn, {"block": [side] * 2, "overlap": [done.objects.widest_overlap] * 2}


def _pixels_of(image: PreparedImage) -> Callable[[tuple[slice, slice]], AnyArray]:
    return lambda box: image.taken(dict(zip("yx", box, strict=True)))


def _count(
    work: BlocksContext, layout: dict[str, list[int]], where: str, pixels: list[int]
) -> None:
    """Count the pixels of a plane or stack, and keep the counts for a resumed run.

    Parameters
    ----------
    where : the stages, ``input``, ``network`` or ``output``
    pixels : numbers of non-finite and of all pixels after each of the stages

    Raises
    ------
    OutputNotFinite
        No pixel of any plane is a number.
    """
    layout[where] = pixels
    for stage, nonfinite, total in zip(
        _stages(work.setup)[where], pixels[::2], pixels[1::2], strict=True
    ):
        work.watch.count(stage, nonfinite, total)


def _stages(setup: RunSetup) -> dict[str, list[Stage]]:
    """Return the stages of the pipeline after which pixels are counted."""
    output, steps = output_of(setup).id, setup.labelling.map_steps
    return {
        "input": [
            Stage.step("input", tensor.id, *of)
            for tensor in setup.model.required_inputs
            for of in _numbered_names(tensor.steps)
        ],
        "network": [Stage.network(output)],
        "output": [Stage.step("output", output, *of) for of in _numbered_names(steps)],
    }


def _numbered_names(steps: Sequence[Step]) -> Iterator[tuple[int, str]]:
    return enumerate((step.name for step in steps), 1)


def _pixels_in(prepared: PreparedImage) -> list[int]:
    """Return the numbers of non-finite and of all pixels after each declared step of the input.

    Single non-finite pixels are not searched for, as that would read the image once more.
    """
    letters, total = prepared.tensor.letters, prod(prepared.size.values())
    known = numbers_of_steps(prepared.ops, prepared.parts(), letters)
    return [pixels for some in known for pixels in (0 if some else total, total)]


def _pixels_out(stored: StoredTiles, letters: str, ops: Sequence[Op]) -> list[int]:
    """Return the numbers of non-finite and all pixels of a map after each op (or of the map)."""
    counts = np.zeros((max(len(ops), 1), 2), np.int64)
    for tile in stored.tiles():
        results = accumulate(ops, lambda x, op: applied([op], x, letters), initial=tile)
        for number, result in enumerate(islice(results, min(len(ops), 1), None)):
            counts[number] += nonfinite_pixels(result, letters)
    return [int(count) for count in counts.ravel()]


def _map_ops(setup: RunSetup, stored: StoredTiles, prepared: Sequence[PreparedImage]) -> list[Op]:
    """Return the steps after the network, with the statistics of the whole map and image."""
    output = output_of(setup)
    parts = partial(map_parts, stored, output.letters, prepared[0].blocks)
    references: dict[str, PartedReference] = {
        **{each.tensor.id: (each.parts, each.tensor.letters) for each in prepared},
        output.id: (parts, output.letters),
    }
    return streamed_ops(setup.labelling.map_steps, parts, output.letters, references)


def _labelled(work: BlocksContext, maps: StoredMap, folder: PlaneFolder) -> dict[str, list[int]]:
    labelling, plan = work.decoding.of(work.setup.labelling), work.planned.plan
    work.decoding.note_copied("the image runs in parts, whose maps are kept on the disk")
    recipe = not_none(labelling.recipe)
    network, image = tuple(plan.shape.values()), _image_size(work)
    grid = grid_of(maps.shape[1:], plan.shape)
    read: StoredMap | ResizedMaps = maps
    if maps_on_image(work.planned, work.setup):
        read = resized_maps(maps, network, image, labelling)
        labelling = labelling.at_factor(1 / plan.scale)
    # the border of a block is not that of the image, so border objects are removed at the end
    finish = replace(labelling.finish, remove_border=False)
    side_px = plan.blocks.side_for(prod(read.shape[1:-2]))
    side, overlap = (max(px // max(grid), 1) for px in (side_px, plan.blocks.overlap_px))
    blocks = BlockWork(read, grid, recipe, labelling.parameters, side, overlap, finish)
    labels = scratch_array(folder.labels, blocks.shape, np.dtype(np.uint32))
    objects = label_blocks(blocks, labels, work.listener, folder.objects(), folder.keep)
    return {
        "block": [side * step for step in grid[-2:]],
        "overlap": [objects.widest_overlap * step for step in grid[-2:]],
    }


def _numbered(
    work: BlocksContext, folder: PlaneFolder, layout: Mapping[str, list[int]]
) -> Labels | None:
    """Return the labels of the objects in the image, in order; None without a recipe."""
    if work.setup.labelling.recipe is None:
        return None
    plan, stored, objects = work.planned.plan, opened_array(folder.labels), folder.objects()
    network, size = tuple(plan.shape.values()), _image_size(work)
    if network != size and not maps_on_image(work.planned, work.setup):
        labels = on_image(stored, objects, network, size, folder.resized, plan.blocks)
    else:
        whole = stored.shape == size
        numbers = (
            objects.numbers()
            if whole
            else in_image(stored, objects.count, size, plan.blocks.side_px)
        )
        (high, wide), (down, across) = layout["block"], layout["overlap"]
        labels = Labels(stored, numbers, objects, size, (high, wide), (down, across))
    if work.setup.labelling.finish.remove_border:
        inside = without_border(labels.stored, labels.numbers, labels.size)
        return replace(labels, numbers=inside)
    return labels


def _image_size(work: BlocksContext) -> tuple[int, ...]:
    return tuple(image_sizes(work.planned).values())
