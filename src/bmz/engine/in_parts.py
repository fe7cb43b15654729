"""Which images are run in parts, and what memory either way needs."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from bmz.engine.job import Job, Ready
from bmz.engine.labelling import Labelling
from bmz.plan.plan import Plan
from bmz.process.finish import Finish
from bmz.spec.model import TensorSpec

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
    output = output_of(job)
    blocks = ready.plan.blocks
    widest = blocks.side_px + 2 * blocks.overlap_px
    seen = {axis: min(n, widest) for axis, n in ready.plan.shape.items()}
    if "z" in seen:
        side = blocks.side_for(ready.plan.shape["z"]) + 2 * blocks.overlap_px
        seen = {"z": ready.plan.shape["z"], "y": side, "x": side}
    return prod(seen.values()) * (4 * (output.channels or 1) + BYTES_A_PIXEL + 8)


def can_stream(ready: Ready, job: Job) -> bool:
    """Say whether an image can be run in parts: one input, and a map, with a mask of it or not."""
    inputs = [tensor for tensor in job.model.inputs if not tensor.optional]
    return (
        len(inputs) == 1
        and job.request.engine == "bmz"
        and not output_of(job).per_object
        and (job.labelling.recipe is None or _labels_in_parts(ready.plan, job.labelling))
    )


def _labels_in_parts(plan: Plan, labelling: Labelling) -> bool:
    recipe = labelling.recipe
    return bool(
        recipe is not None
        and not recipe.per_object
        and recipe.name != "labels"
        and not labelling.label_steps
        and labelling.parameters.get("instances", True)
        # sizes in px of the image are looked at where the labels are on it
        and (
            plan.scale == 1
            or recipe.rescale == "maps"
            or replace(labelling.finish, remove_border=False) == Finish()
        )
    )


def output_of(job: Job) -> TensorSpec:
    """Give the output that becomes labels, or is kept as it is."""
    return next(t for t in job.model.outputs if t.id == job.labelling.choice.output)
