"""Estimate the memory of images, decide which run in parts, and try out two tiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from math import ceil, prod
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.computer import available_cpus, free_memory, held_memory, peak_memory
from bmz.base.values import dataclass
from bmz.engine.labelling import Labelling
from bmz.engine.prompting import AT_ONCE, PromptedNetwork
from bmz.engine.request import LATER, NONE
from bmz.engine.setup import PlannedImage, RunSetup, opened, planned_or_failed
from bmz.image.formats import name_of
from bmz.image.prompt_files import Prompt
from bmz.image.series import with_fields
from bmz.plan.plan import Estimate, Plan, fitted, wide_side, widened, with_smaller_tiles
from bmz.plan.tiling import AxisTiling, OutputRule
from bmz.predict.backend import Backend, OutOfMemory
from bmz.process.recipe import Finish, Recipe
from bmz.process.streamed_steps import PartedReference, StepNotStreamed, streamed_ops
from bmz.results.images import ImageFailure, ImagePlan
from bmz.spec.model import TensorSpec

BYTES_A_PIXEL = 24
"""Memory per pixel of a plane, in addition to its maps, while it is labelled in one piece."""

RESIZING_BYTES = 18
"""Memory per value of a map that is resampled to the image, including the result: 4.5 float32
(measured, 500 to 1000 px)."""


def bytes_in_one_piece(planned: PlannedImage, setup: RunSetup) -> int:
    """Estimate the memory that an image needs if it is run in one piece, bytes."""
    maps = sum((tensor.channels or 1) for tensor in setup.model.outputs)
    if setup.labelling.prompted:
        maps = 1  # a single map is drawn from its masks, which are cropped to their boxes
    planes = max(prod(planned.plan.loop.values()), 1) * (3 if planned.plan.three_planes else 1)
    network, image = prod(planned.plan.shape.values()), prod(image_sizes(planned).values())
    taken = sum(map(len, planned.plan.channels))
    labels = BYTES_A_PIXEL * network
    if maps_on_image(planned, setup):
        recipe = setup.labelling.decoder
        whole = 1 if recipe is not None and recipe.sparse else output_of(setup).channels or 1
        labels = max(RESIZING_BYTES * whole, 4 * whole + BYTES_A_PIXEL) * image
    return network * (planes * 4 * maps + 8 * taken + 4 * maps) + 8 * planes * image + labels


def bytes_in_parts(planned: PlannedImage, setup: RunSetup) -> int:
    """Estimate the memory that an image needs if it is run in parts: that of a block, bytes."""
    sizes = image_sizes(planned) if maps_on_image(planned, setup) else planned.plan.shape
    blocks = planned.plan.blocks
    widest = blocks.side_px + 2 * blocks.overlap_px
    block = {axis: min(n, widest) for axis, n in sizes.items()}
    if "z" in block:
        side = blocks.side_for(sizes["z"]) + 2 * blocks.overlap_px
        block = {"z": sizes["z"], "y": side, "x": side}
    return prod(block.values()) * (4 * (output_of(setup).channels or 1) + BYTES_A_PIXEL + 8)


def image_sizes(planned: PlannedImage) -> dict[str, int]:
    """Return the sizes of the image along the axes of the network, px."""
    return {axis: planned.case.image.sizes[axis] for axis in planned.plan.shape}


def maps_on_image(planned: PlannedImage, setup: RunSetup) -> bool:
    """Return whether the map of a resized image is resampled to the image before labelling."""
    recipe = setup.labelling.decoder
    resized = dict(planned.plan.shape) != image_sizes(planned)
    return resized and recipe is not None and recipe.rescale == "maps"


def in_parts(planned: PlannedImage, setup: RunSetup) -> bool:
    """Return whether an image exceeds the memory limit and can be run in parts."""
    return over_limit(planned, setup) and not why_in_one_piece(planned, setup)


def over_limit(planned: PlannedImage, setup: RunSetup) -> bool:
    """Return whether an image would exceed the memory limit in one piece."""
    limit = planned.plan.blocks.memory_bytes
    return limit is not None and bytes_in_one_piece(planned, setup) > limit


def why_in_one_piece(planned: PlannedImage, setup: RunSetup) -> str:
    """Return why an image cannot be run in parts; empty if it can.

    Returns
    -------
    str
        a clause without an initial capital and without a full stop
    """
    return next(_reasons(planned.plan, setup), "")


def _reasons(plan: Plan, setup: RunSetup) -> Iterator[str]:
    labelling, recipe = setup.labelling, setup.labelling.recipe
    if any(not {"y", "x"} <= set(tensor.letters) for tensor in setup.model.required_inputs):
        yield "the model has an input that is not an image"
    if setup.engine.whole_images:
        yield "bioimageio.core takes whole images"
    if output_of(setup).per_object:
        yield "the model returns one output per object, not a map"
    if labelling.three_planes:
        yield "the planes along z, y and x vote on the whole stack"
    if recipe is not None:
        yield from _reasons_of_labels(plan, labelling, recipe)
    yield from _steps_of_whole_images(plan, setup)


def _reasons_of_labels(plan: Plan, labelling: Labelling, recipe: Recipe) -> Iterator[str]:
    if recipe.prompted:
        if replace(labelling.finish, remove_border=False) != Finish():
            yield "objects of a network with prompts are finished in one piece"
    elif labelling.label_steps:
        yield f"the declared step {labelling.label_steps[0].name} makes the labels"
    elif recipe.in_blocks is None:
        yield f"recipe '{recipe.name}' labels only whole images"
    elif why := recipe.in_blocks.refused(labelling.parameters):
        yield why
    # sizes in px of the image can only be compared with labels on its grid
    at_end = replace(labelling.finish, remove_border=False)
    if plan.scale != 1 and recipe.rescale != "maps" and at_end != Finish():
        yield "object sizes are given in px of the image, but labels are made on a resized image"


def _steps_of_whole_images(plan: Plan, setup: RunSetup) -> Iterator[str]:
    """Try the declared steps on tensors of a few pixels, and yield why one cannot be streamed."""
    tensors, output = setup.model.required_inputs, output_of(setup)
    inputs: dict[str, PartedReference] = {
        tensor.id: (partial(_few_pixels, tensor, len(taken)), tensor.letters)
        for tensor, taken in zip(tensors, plan.channels, strict=True)
    }
    own = (partial(_few_pixels, output, output.channels or 1), output.letters)
    small: dict[str, PartedReference] = {**inputs, output.id: own}
    try:
        for tensor in tensors:
            streamed_ops(tensor.steps, *small[tensor.id], inputs)
        if not output.per_object:
            streamed_ops(setup.labelling.map_steps, *small[output.id], small)
    except StepNotStreamed as why:
        yield f"the declared step {why.step.name} needs statistics that blocks cannot provide"


def _few_pixels(tensor: TensorSpec, channels: int) -> list[AnyArray]:
    sizes = {"b": 1, "c": channels}
    return [np.zeros([sizes.get(axis, 2) for axis in tensor.letters], np.float32)]


def output_of(setup: RunSetup) -> TensorSpec:
    """Return the output that becomes labels, or is kept unchanged."""
    return setup.model.output(setup.labelling.choice.output)


def output_number(setup: RunSetup) -> int:
    """Return the position of the output that becomes labels."""
    return [tensor.id for tensor in setup.model.outputs].index(setup.labelling.choice.output)


def scratch_note(planned: PlannedImage, setup: RunSetup, scratch: Path) -> str:
    """Return a sentence on the disk space that an image run in parts needs."""
    plan, output = planned.plan, output_of(setup)
    rule = plan.outputs[output_number(setup)]
    map_px = prod(_kept_px(along, rule) for along in plan.tiling.axes)
    planes = max(prod(plan.loop.values()), 1)
    label_px = prod(plan.shape.values())
    if plan.scale != 1:
        label_px += prod(planned.case.image.sizes[axis] for axis in plan.shape)
    # labels of all planes, and the map of one plane at a time, unless maps are requested
    maps = 1 + (planes if "raw" in setup.request.save else 0)
    # a network with prompts: numbers, scores, and the masks of all tiles with one bit per pixel
    channels = 3 if setup.labelling.prompted else output.channels or 1
    gigabytes = 4 * (map_px * channels * maps + label_px * planes) / 1e9
    name = name_of(planned.image)
    return f"{name} runs in parts, and needs up to {gigabytes:.2g} GB in {scratch} until it is done"


def _kept_px(along: AxisTiling, rule: OutputRule) -> int:
    # tiles that are averaged are kept whole, including their overlap
    return sum(part.target.stop - part.target.start for part in along.kept(rule))


def dealt_by_tiles(planned: PlannedImage, setup: RunSetup) -> bool:
    """Return whether the tiles of an image are distributed over several workers."""
    return in_parts(planned, setup) and not setup.labelling.prompted


SMALL_PX = 2**17
"""A first tile of at most this many pixels fits into any memory, if the network accepts it."""

NETWORK_SHARE = 0.5
"""Share of the free memory for the network; the rest is for the image and other programs."""


ROUNDED_UP = 2
"""ONNX Runtime allocates memory in powers of two: a larger tile may need up to twice as much."""


def plan_images(setup: RunSetup) -> Iterator[ImagePlan | ImageFailure]:
    """Plan the run of each image of the request, based on a trial of two tiles.

    Images of the same size share a trial.
    """
    images = with_fields(setup.request.images, setup.request.series)
    with closing(opened(setup)) as backend:
        probed: dict[str, ProbedPlan] = {}
        for image, field in images.items():
            planned = planned_or_failed(setup, image, field)
            yield (
                planned
                if isinstance(planned, ImageFailure)
                else _image_plan(setup, planned, backend, probed)
            )


def _image_plan(
    setup: RunSetup, planned: PlannedImage, backend: Backend, probed: dict[str, ProbedPlan]
) -> ImagePlan:
    parts = in_parts(planned, setup)
    image_plan = ImagePlan(
        image=planned.image,
        plan=planned.plan,
        findings=planned.header.report.findings,
        bytes_in_one_piece=bytes_in_one_piece(planned, setup),
        in_parts=parts,
        in_one_piece_why=why_in_one_piece(planned, setup) if over_limit(planned, setup) else "",
        prompts=prompt_count(setup, planned),
        prompts_later=setup.request.prompts == LATER,
    )
    if setup.engine.whole_images:
        return image_plan
    key = repr((planned.plan.as_record(), parts))
    if key not in probed:
        probed[key] = try_two_tiles(setup, planned, backend, parted=parts)
    return replace(image_plan, plan=probed[key].plan, estimate=probed[key].estimate)


@dataclass(frozen=True)
class ProbedPlan:
    """Result of the trial.

    Parameters
    ----------
    plan : plan with the tiles and the batch that fit into memory
    estimate : estimated time and memory of the image
    """

    plan: Plan
    estimate: Estimate


def try_two_tiles(
    setup: RunSetup, planned: PlannedImage, backend: Backend, *, parted: bool
) -> ProbedPlan:
    """Choose the tiles by the memory use of a small tile, then measure the time of a chosen tile.

    Parameters
    ----------
    parted : whether the image is read, labelled and written in parts

    Raises
    ------
    OutOfMemory, NetworkFailed
        The network does not run on a small tile, or not at all.
    """
    free, plan = free_memory(), planned.plan
    room = free * NETWORK_SHARE
    bytes_a_pixel = _bytes_a_pixel(setup, plan, backend)
    if bytes_a_pixel:
        if setup.request.tile is None:
            plan = widened(plan, setup.model, bytes_a_pixel, room)
        plan = fitted(plan, setup.model, bytes_a_pixel, room)
    held = held_memory()
    took = try_tile(setup, plan, backend)
    ways = 3 if plan.three_planes else 1
    runs = ceil(plan.tiling.count / plan.batch) * max(prod(plan.loop.values()), 1) * ways
    image = bytes_in_parts(planned, setup) if parted else bytes_in_one_piece(planned, setup)
    estimate = Estimate(
        run_s=took.took_s,
        network_s=took.took_s * runs + took.more_s * _more_batches(setup, planned, runs),
        held_bytes=held,
        network_bytes=took.peak_bytes,
        image_bytes=image,
        free_bytes=free,
        workers=1,
    )
    return ProbedPlan(plan, replace(estimate, workers=_workers(setup, estimate)))


def _more_batches(setup: RunSetup, planned: PlannedImage, tiles: int) -> int:
    """Return the number of further batches of prompts, after the first batch of each tile."""
    asked = prompt_count(setup, planned) or 0
    return tiles * max(ceil(asked / tiles / AT_ONCE) - 1, 0)


def prompt_count(setup: RunSetup, planned: PlannedImage) -> int | None:
    """Count the prompts of an image; None if the network takes none, or if it is too early.

    It is too early if the prompts are objects of a mask that does not exist yet.
    """
    if not setup.labelling.prompted or setup.request.prompts in {LATER, NONE}:
        return None
    if planned.prompts is None and not (setup.model.prompts and setup.model.prompts.points):
        return None
    asked = 0
    sizes = planned.plan.shape
    spacing = setup.labelling.parameters["spacing"]
    for place in np.ndindex(*planned.plan.loop.values()):
        at = dict(zip(planned.plan.loop, place, strict=True))
        prompts = planned.prompts_at(at, setup.request.prompts)
        of_grid = prod(ceil(sizes[axis] / spacing) for axis in "yx")
        asked += of_grid if isinstance(prompts, str) else len(prompts)
    return asked


def with_fitting_tiles(setup: RunSetup, planned: PlannedImage, backend: Backend) -> PlannedImage:
    """Choose the largest tiles that fit into memory if the network sees the whole image.

    Every output pixel of such a network depends slightly on the whole input, so that fewer tiles
    give a result closer to that of one piece.
    """
    plan = planned.plan
    way = plan.tiling.way
    if setup.request.tile or wide_side(setup.model, way) is None or plan.tiling.count == 1:
        return planned
    bytes_a_pixel = _bytes_a_pixel(setup, plan, backend)
    if not bytes_a_pixel:
        return planned
    room = free_memory() * NETWORK_SHARE
    wide = widened(plan, setup.model, bytes_a_pixel, room)
    return replace(planned, plan=fitted(wide, setup.model, bytes_a_pixel, room))


def _bytes_a_pixel(setup: RunSetup, plan: Plan, backend: Backend) -> float | None:
    small = plan
    while prod(small.tiling.tile.values()) * small.batch > SMALL_PX:
        halved = with_smaller_tiles(small, setup.model)
        if halved is None:
            break
        small = halved
    try:
        took = try_tile(setup, small, backend)
    except OutOfMemory:
        return None  # the run itself switches to smaller tiles, and reports it
    if took.peak_bytes is None:
        return None
    return ROUNDED_UP * took.peak_bytes / (prod(small.tiling.tile.values()) * small.batch)


def tile_inputs(setup: RunSetup, plan: Plan) -> Sequence[AnyArray]:
    """Create noise tensors with the input shapes of the network for the tiles of a plan.

    Returns
    -------
    list of arrays
        tensors with the axes and dtypes of the inputs that are not optional
    """
    rng = np.random.default_rng(0)
    inputs = []
    needed = setup.model.required_inputs
    for tensor, channels in zip(needed, plan.channels, strict=True):
        sizes = {"b": plan.batch, "c": len(channels), **plan.tiling.tile}
        shape = [sizes.get(axis, 1) for axis in tensor.letters]
        inputs.append(rng.random(shape, np.float32).astype(tensor.dtype))
    return inputs


def _workers(setup: RunSetup, estimate: Estimate) -> int:
    if estimate.peak_bytes is None or setup.device.kind != "cpu":
        return 1
    return max(1, min(available_cpus(), int(estimate.free_bytes / max(estimate.peak_bytes, 1))))


@dataclass(frozen=True)
class TrialRun:
    """Time and memory of one run of a network.

    Parameters
    ----------
    took_s : duration, s
    peak_bytes : peak of the additional memory; None if the system does not report it, or the
        network runs elsewhere
    more_s : duration of further prompts on the same embedding of the image, s; 0 without prompts
    """

    took_s: float
    peak_bytes: int | None
    more_s: float = 0.0


def try_tile(setup: RunSetup, plan: Plan, backend: Backend) -> TrialRun:
    """Run the network once on a tile of noise, with full batches of prompts if it takes prompts.

    Raises
    ------
    OutOfMemory, NetworkFailed
        The network does not run on the tile.
    """
    tiles = tile_inputs(setup, plan)
    if not setup.labelling.prompted:
        return try_run(backend, tiles)
    network = PromptedNetwork(setup.model, backend)
    sides = [plan.tiling.tile[axis] for axis in "yx"]
    points = np.random.default_rng(0).random((2 * AT_ONCE, 1, 2)) * sides
    place = tuple(slice(0, side) for side in sides)
    prompts = [Prompt(point) for point in points] if network.tensors.points else None
    answers = network.masks(tiles[0], prompts, place)
    with peak_memory() as peak:
        took_s, more_s = (_seconds(partial(next, answers, None)) for _ in range(2))
    return TrialRun(took_s, _here(backend, peak.bytes_more), more_s if prompts else 0.0)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _here(backend: Backend, peak_bytes: int | None) -> int | None:
    # the memory of a GPU or of another process is not that of this process
    here = backend.device.kind == "cpu" and not backend.name.startswith("confined")
    return peak_bytes if here else None


def try_run(backend: Backend, tiles: Sequence[AnyArray]) -> TrialRun:
    """Run the network once, and measure its time and memory.

    Parameters
    ----------
    tiles : inputs of the network

    Raises
    ------
    OutOfMemory, NetworkFailed
        The network does not run on them.
    """
    with peak_memory() as peak:
        took_s = _seconds(partial(backend.run, tiles))
    return TrialRun(took_s, _here(backend, peak.bytes_more))
