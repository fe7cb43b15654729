"""Try a network on two tiles, to say beforehand what an image takes, and to choose its tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import ceil, prod
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.memory import free_memory, held_memory
from bmz.engine.in_parts import (
    bytes_in_one_piece,
    bytes_in_parts,
    in_parts,
    over_limit,
    why_in_one_piece,
)
from bmz.engine.setup import PlannedImage, RunSetup, opened, planned_or_failed
from bmz.image.plates import PlateField
from bmz.plan.estimate import Estimate, fitted, widened
from bmz.plan.plan import Plan, wide_side, with_smaller_tiles
from bmz.predict.backend import Backend, OutOfMemory
from bmz.predict.onnx import available_cpus
from bmz.predict.trial import try_run
from bmz.results.run import ImageFailed, ImagePlan

SMALL_PX = 2**17
"""A first tile of no more pixels than this fits into any memory, where the network takes it."""

NETWORK_SHARE = 0.5
"""Of the free memory; the rest is left for the image and for other programs."""


ROUNDED_UP = 2
"""ONNX Runtime takes memory in powers of two: a larger tile may take up to twice as much."""


def plan_images(
    setup: RunSetup, images: Mapping[Path, PlateField | None]
) -> Iterator[ImagePlan | ImageFailed]:
    """Plan the run of each image, with what a trial of two tiles shows; images of a size share one.

    Parameters
    ----------
    images : see `bmz.engine.plates.with_fields`
    """
    with closing(opened(setup)) as backend:
        probed: dict[str, ProbedPlan] = {}
        for image, field in images.items():
            planned = planned_or_failed(setup, image, field)
            yield (
                planned
                if isinstance(planned, ImageFailed)
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
    )
    if setup.engine.whole_images:
        return image_plan
    key = repr((planned.plan.as_record(), parts))
    if key not in probed:
        probed[key] = try_two_tiles(setup, planned, backend, parted=parts)
    return replace(image_plan, plan=probed[key].plan, estimate=probed[key].estimate)


@dataclass(frozen=True)
class ProbedPlan:
    """What came of the trial.

    Parameters
    ----------
    plan : with the tiles and the batch that fit into memory
    estimate : of the time and the memory of the image
    """

    plan: Plan
    estimate: Estimate


def try_two_tiles(
    setup: RunSetup, planned: PlannedImage, backend: Backend, *, parted: bool
) -> ProbedPlan:
    """Run a small tile for its memory, choose the tiles by it, and run one of these for its time.

    Parameters
    ----------
    parted : the image is read, labelled and written in parts

    Raises
    ------
    OutOfMemory, NetworkFailed
        The network does not run on the small tile, or not at all.
    """
    free, plan = free_memory(), planned.plan
    room = free * NETWORK_SHARE
    bytes_a_pixel = _bytes_a_pixel(setup, plan, backend)
    if bytes_a_pixel:
        if setup.request.tile is None:
            plan = widened(plan, setup.model, bytes_a_pixel, room)
        plan = fitted(plan, setup.model, bytes_a_pixel, room)
    inputs = tile_inputs(setup, plan)
    held = held_memory()
    took = try_run(backend, inputs)
    runs = ceil(plan.tiling.count / plan.batch) * max(prod(plan.loop.values()), 1)
    image = bytes_in_parts(planned, setup) if parted else bytes_in_one_piece(planned, setup)
    estimate = Estimate(
        run_s=took.took_s,
        network_s=took.took_s * runs,
        held_bytes=held,
        network_bytes=took.peak_bytes,
        image_bytes=image,
        free_bytes=free,
        workers=1,
    )
    return ProbedPlan(plan, replace(estimate, workers=_workers(setup, estimate)))


def with_fitting_tiles(setup: RunSetup, planned: PlannedImage, backend: Backend) -> PlannedImage:
    """Give an image the largest tiles that fit, if its network sees the whole image.

    Every output of such a network hangs a little on all that it is given, so that fewer tiles
    are nearer to the result of one piece.
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
        took = try_run(backend, tile_inputs(setup, small))
    except OutOfMemory:
        return None  # the run itself goes on to smaller tiles, and says so
    if took.peak_bytes is None:
        return None
    return ROUNDED_UP * took.peak_bytes / (prod(small.tiling.tile.values()) * small.batch)


def tile_inputs(setup: RunSetup, plan: Plan) -> Sequence[AnyArray]:
    """Make tensors of noise of the shapes that the network is given for the tiles of a plan.

    Returns
    -------
    list of arrays
        with the axes and dtypes of the inputs that are not optional
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
