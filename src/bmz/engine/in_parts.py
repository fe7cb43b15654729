"""Which images are run in parts, why others are not, and what memory either way needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.engine.labelling import Labelling
from bmz.engine.setup import PlannedImage, RunSetup
from bmz.plan.plan import Plan
from bmz.process.recipe import Finish, Recipe
from bmz.process.streamed_steps import PartedReference, StepNotStreamed, streamed_ops
from bmz.spec.model import TensorSpec

BYTES_A_PIXEL = 24
"""Held for each pixel of a plane beside its maps, while its labels are made in one piece."""

RESIZING_BYTES = 18
"""Held for each value of a map that is brought to the image, with the map that is made: 4.5 float32
(measured, 500 to 1000 px)."""


def bytes_in_one_piece(planned: PlannedImage, setup: RunSetup) -> int:
    """Estimate the memory that an image needs when it is run in one piece."""
    maps = sum((tensor.channels or 1) for tensor in setup.model.outputs)
    planes = max(prod(planned.plan.loop.values()), 1)
    network, image = prod(planned.plan.shape.values()), prod(image_sizes(planned).values())
    taken = sum(map(len, planned.plan.channels))
    labels = BYTES_A_PIXEL * network
    if maps_on_image(planned, setup):
        recipe = setup.labelling.decoder
        whole = 1 if recipe is not None and recipe.sparse else output_of(setup).channels or 1
        labels = max(RESIZING_BYTES * whole, 4 * whole + BYTES_A_PIXEL) * image
    return network * (planes * 4 * maps + 8 * taken + 4 * maps) + 8 * planes * image + labels


def bytes_in_parts(planned: PlannedImage, setup: RunSetup) -> int:
    """Estimate the memory that an image needs when it is run in parts: that of a block."""
    sizes = image_sizes(planned) if maps_on_image(planned, setup) else planned.plan.shape
    blocks = planned.plan.blocks
    widest = blocks.side_px + 2 * blocks.overlap_px
    seen = {axis: min(n, widest) for axis, n in sizes.items()}
    if "z" in seen:
        side = blocks.side_for(sizes["z"]) + 2 * blocks.overlap_px
        seen = {"z": sizes["z"], "y": side, "x": side}
    return prod(seen.values()) * (4 * (output_of(setup).channels or 1) + BYTES_A_PIXEL + 8)


def image_sizes(planned: PlannedImage) -> dict[str, int]:
    """Give the sizes of the image along the axes of the network, px."""
    return {axis: planned.case.image.sizes[axis] for axis in planned.plan.shape}


def maps_on_image(planned: PlannedImage, setup: RunSetup) -> bool:
    """Say whether the map of a resized image is brought to the image before labels are made."""
    recipe = setup.labelling.decoder
    resized = dict(planned.plan.shape) != image_sizes(planned)
    return resized and recipe is not None and recipe.rescale == "maps"


def in_parts(planned: PlannedImage, setup: RunSetup) -> bool:
    """Say whether an image needs more memory than it may have, and can be run in parts."""
    return over_limit(planned, setup) and not why_in_one_piece(planned, setup)


def over_limit(planned: PlannedImage, setup: RunSetup) -> bool:
    """Say whether an image would need more memory in one piece than it may have."""
    limit = planned.plan.blocks.memory_bytes
    return limit is not None and bytes_in_one_piece(planned, setup) > limit


def why_in_one_piece(planned: PlannedImage, setup: RunSetup) -> str:
    """Say why an image cannot be run in parts; nothing where it can.

    Returns
    -------
    str
        a clause without a capital and without its end
    """
    return next(_reasons(planned.plan, setup), "")


def _reasons(plan: Plan, setup: RunSetup) -> Iterator[str]:
    labelling, recipe = setup.labelling, setup.labelling.recipe
    if len(setup.model.required_inputs) > 1:
        yield "the model takes several inputs"
    if setup.engine.whole_images:
        yield "bioimageio.core takes whole images"
    if output_of(setup).per_object:
        yield "the model gives one output per object, and no map"
    if recipe is not None:
        yield from _reasons_of_labels(plan, labelling, recipe)
    yield from _steps_of_whole_images(plan, setup)


def _reasons_of_labels(plan: Plan, labelling: Labelling, recipe: Recipe) -> Iterator[str]:
    if labelling.label_steps:
        yield f"the declared step {labelling.label_steps[0].name} makes the labels"
    elif recipe.in_blocks is None:
        yield f"recipe '{recipe.name}' labels whole images alone"
    elif why := recipe.in_blocks.refused(labelling.parameters):
        yield why
    # sizes in px of the image are looked at where the labels are on it
    at_end = replace(labelling.finish, remove_border=False)
    if plan.scale != 1 and recipe.rescale != "maps" and at_end != Finish():
        yield "sizes of objects are given in px of the image, and labels are made on a resized one"


def _steps_of_whole_images(plan: Plan, setup: RunSetup) -> Iterator[str]:
    """Try the declared steps on tensors of a few pixels, which tells what can be streamed."""
    tensor, output = setup.model.required_inputs[0], output_of(setup)
    small: dict[str, PartedReference] = {
        tensor.id: (partial(_few_pixels, tensor, len(plan.channels[0])), tensor.letters),
        output.id: (partial(_few_pixels, output, output.channels or 1), output.letters),
    }
    own = {tensor.id: small[tensor.id]}
    try:
        streamed_ops(tensor.steps, *small[tensor.id], own)
        if not output.per_object:
            streamed_ops(setup.labelling.map_steps, *small[output.id], small)
    except StepNotStreamed as why:
        yield f"the declared step {why.step.name} takes statistics that blocks do not give"


def _few_pixels(tensor: TensorSpec, channels: int) -> list[AnyArray]:
    sizes = {"b": 1, "c": channels}
    return [np.zeros([sizes.get(axis, 2) for axis in tensor.letters], np.float32)]


def output_of(setup: RunSetup) -> TensorSpec:
    """Give the output that becomes labels, or is kept as it is."""
    return setup.model.output(setup.labelling.choice.output)
