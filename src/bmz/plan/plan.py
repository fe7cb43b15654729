"""The plan of a run: everything decided before the network starts, and the cost of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from math import prod
from typing import TYPE_CHECKING, Any

from bmz.base.axes import NO_LINK, Link, Neighbourhood, channel_text
from bmz.base.values import dataclass
from bmz.check.fit_case import FitCase
from bmz.image.given_names import given_name
from bmz.image.info import ImageInfo
from bmz.plan.channel_names import RecipeChoice
from bmz.plan.geometry import SizesUnclear, axis_rules, output_rules
from bmz.plan.tile_way import MIRRORED, TileWay
from bmz.plan.tiling import HaloTooWide, OutputRule, Tiling, plan_tiles
from bmz.plan.weights_choice import FLOAT32, PrecisionChoice, Way
from bmz.spec.model import Fixed, ModelSpec, Weights

if TYPE_CHECKING:
    from bmz.plan.tile_way import PlanRecord


@dataclass(frozen=True)
class Blocks:
    """How an image that is run in parts is cut for its statistics and its labels.

    Parameters
    ----------
    side_px : side of a block of a plane along y and x
    overlap_px : how far a block extends beyond its edge; grows for larger objects
    stack_px : number of pixels in a block of a stack, which includes all planes
    least_side_px : minimum side of a block of a stack, whatever the number of planes
    memory_bytes : an image that would need more in one piece is run in parts; None for no limit
    """

    side_px: int = 2048
    overlap_px: int = 128
    stack_px: int = 4 * 2048**2
    least_side_px: int = 256
    memory_bytes: int | None = None

    def side_for(self, planes: int) -> int:
        """Return the side along y and x of the blocks of a stack with this number of planes, px."""
        return min(self.side_px, max(self.least_side_px, int((self.stack_px / planes) ** 0.5)))


GLOBAL_SIDE = 1536
"""Largest tile (px) of a 2-D network that is declared to see the whole image."""

GPU_PX = 2**22
"""Pixels of all tiles that a GPU gets at once: enough to keep it busy, and at most 16 tiles."""


@dataclass(frozen=True)
class Plan:
    """How one image is run through one model.

    Parameters
    ----------
    weights : the entry that is run
    device : on which it runs, such as ``cpu`` or ``cuda:0``
    loop : axes over which planes (or stacks) are run separately, with their sizes
    channels : for each input, the image channel for each of its channels; -1 means zeros
    clip : percentile of each channel above which values are clipped; None for no clipping
    scale : factor by which y, x (and z of a 3-D model) are resized before the network
    shape : spatial sizes that the network works on, after the resizing
    tiling : of that shape
    outputs : how each output is placed on the input
    batch : number of tiles run at once
    recipe : how the output is turned into labels
    precision : of the arithmetic
    link : axes of the loop over which labels are joined, and how
    sees_whole_image : every output depends on the whole input of the network, for example through
        group normalisation or a style vector
    blocks : of an image that is run in parts
    further : text about which channels come from additional images
    invert : the values of each channel are inverted, after clipping
    three_planes : a stack is run along z, y and x
    near : what counts as a neighbour of an object; None if not requested
    """

    weights: Weights
    device: str
    loop: Mapping[str, int]
    channels: tuple[tuple[int, ...], ...]
    clip: float | None
    scale: float
    shape: Mapping[str, int]
    tiling: Tiling
    outputs: tuple[OutputRule, ...]
    batch: int
    recipe: RecipeChoice
    parameters: Mapping[str, Any] = field(default_factory=dict)
    precision: PrecisionChoice = FLOAT32
    sees_whole_image: bool = False
    link: Link = NO_LINK
    blocks: Blocks = field(default_factory=Blocks)
    further: tuple[str, ...] = ()
    invert: bool = False
    three_planes: bool = False
    near: Neighbourhood | None = None

    @property
    def apart(self) -> dict[str, int]:
        """Positions along t and z at which objects are counted separately."""
        return {a: size for a, size in self.loop.items() if size > 1 and a not in self.link.ious}

    @property
    def joined(self) -> dict[str, int]:
        """Positions along t and z over which labels are joined."""
        return {a: size for a, size in self.loop.items() if a in self.link.ious}

    def cuts_on_image(self) -> dict[str, list[float]]:
        """Return where tiles begin and end along y and x, px of the image."""
        return {
            along.axis: [cut / self.scale for cut in along.cuts]
            for along in self.tiling.axes
            if along.axis in "yx"
        }

    def describe(self) -> tuple[str, ...]:
        """Return the lines that ``--plan`` prints."""
        loop = ", ".join(f"{size} x {axis}" for axis, size in self.loop.items())
        channels = " | ".join(map(channel_text, self.channels))
        values = ", ".join(f"{key}={value}" for key, value in self.parameters.items())
        way = Way(self.precision.name, self.precision.backend)
        where = f"{self.weights.format} on {self.device} in {way}"
        return (
            f"weights {where}, batch {self.batch}",
            *((f"        {self.precision.why}",) if self.precision.why else ()),
            f"loop    {loop or 'none: one pass'}",
            *(("        also along y and x: three times the network",) * self.three_planes),
            f"take    channels {channels}",
            *(f"        {words}" for words in self.further),
            *((f"clip    above percentile {self.clip:g} of each channel",) if self.clip else ()),
            *(("invert  the values of each channel",) if self.invert else ()),
            f"resize  {'no' if self.scale == 1 else f'x {self.scale:g}, to ' + _sizes(self.shape)}",
            *self.tiling.describe(),
            *(f"        {note}" for note in [self._whole_image_note()] if note),
            f"labels  {self.recipe.name} from '{self.recipe.output}': {self.recipe.why}",
            *((f"        {values}",) if values else ()),
            *self._described_link(),
        )

    def _described_link(self) -> Iterator[str]:
        if self.link.ious:
            axes = ", ".join(f"{axis} from IoU {iou:g}" for axis, iou in self.link.ious.items())
            gap = f", with gaps of {self.link.gap}" if self.link.gap else ""
            yield f"link    {axes}{gap}"
        if self.apart:
            yield f"link    not over {' and '.join(self.apart)}: objects are counted in each"

    def as_record(self) -> PlanRecord:
        """Return the plan as plain values, for the run record."""
        return {
            "weights": self.weights.format,
            "device": self.device,
            "precision": self.precision.name,
            "precision_why": self.precision.why,
            "backend": self.precision.backend_word,
            "loop": dict(self.loop),
            "channels": [list(taken) for taken in self.channels],
            "further": list(self.further),
            "clip": self.clip,
            "invert": self.invert,
            "scale": self.scale,
            "shape": dict(self.shape),
            "tile": self.tiling.tile,
            "tiles": self.tiling.count,
            "overlap": {along.axis: along.overlap for along in self.tiling.axes},
            "padding": {along.axis: list(along.padding) for along in self.tiling.axes},
            **self.tiling.border_record(),
            "batch": self.batch,
            "link": dict(self.link.ious),
            "link_gap": self.link.gap,
            "whole_image_network": self._whole_image_note(),
        }

    def _whole_image_note(self) -> str | None:
        if not self.sees_whole_image or self.tiling.count == 1:
            return None
        return (
            f"the network sees its whole input at once, and got {self.tiling.count} tiles: "
            "objects may differ slightly from those of a run in one piece"
        )


def _sizes(shape: Mapping[str, int]) -> str:
    return " x ".join(f"{axis} {size}" for axis, size in shape.items())


@dataclass(frozen=True)
class RunChoices:
    """What is decided before the geometry: weights, device, and recipe with its parameters.

    `tile` and `batch` are the user's values; None to suit the device. `way` is what the reference
    implementation of the network's family does at borders and seams.
    """

    weights: Weights
    device: str
    recipe: RecipeChoice
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tile: int | None = None
    batch: int | None = None
    clip: float | None = None
    invert: bool = False
    precision: PrecisionChoice = FLOAT32
    way: TileWay = MIRRORED
    link: Link = NO_LINK
    blocks: Blocks = field(default_factory=Blocks)


def make_plan(case: FitCase, decided: RunChoices) -> Plan:
    """Plan the channels, resizing and tiles of one image.

    Parameters
    ----------
    case : model, image and what the user stated; it must have passed the check of axes
    decided : what does not depend on the image

    Raises
    ------
    HaloTooWide, OffGrid, SizesUnclear
        No tiling is possible.
    """
    model, scale = case.model, case.scale or 1.0
    sizes = case.image.sizes
    loop = {axis: sizes[axis] for axis in case.loop}
    shape = network_shape(case)
    tiling = tiling_of(model, shape, decided.way, decided.tile)
    return Plan(
        weights=decided.weights,
        device=decided.device,
        loop=loop,
        channels=_channels_of_inputs(case),
        clip=decided.clip,
        invert=decided.invert,
        scale=scale,
        shape=shape,
        tiling=tiling,
        outputs=output_rules(model),
        batch=1 if _batch_is_fixed(model) else decided.batch or usual_batch(decided.device, tiling),
        recipe=decided.recipe,
        parameters=decided.parameters,
        precision=decided.precision,
        sees_whole_image=sees_whole_image(model),
        link=decided.link.over(loop),
        blocks=decided.blocks,
        further=tuple(_further_channels(case.image)),
    )


def _further_channels(info: ImageInfo) -> Iterator[str]:
    """Yield text about the channels of an image that come from images joined to it."""
    start = info.images[0].sizes.get("c", 1)
    for name, image in info.further.items():
        last = start + image.sizes.get("c", 1) - 1
        numbers = f"{start} is" if last == start else f"{start} to {last} are"
        yield f"channel {numbers} of '{given_name(image.place)}', for the input '{name}'"
        start = last + 1


def network_shape(case: FitCase) -> dict[str, int]:
    """Return the sizes of the image after rescaling, as the network gets it, px."""
    # as Cellpose does: the whole pixels that fit
    scale = case.scale or 1.0
    return {axis: max(1, int(case.image.sizes[axis] * scale)) for axis in case.model.space}


def tiling_of(
    model: ModelSpec, shape: Mapping[str, int], family: TileWay, tile: int | None
) -> Tiling:
    """Plan the tiles of an image.

    Parameters
    ----------
    shape : see `network_shape`
    family : what the reference implementation of such networks does
    tile : side of a tile chosen by the user, px

    Raises
    ------
    HaloTooWide, OffGrid, SizesUnclear
        No tiling is possible.
    """
    way = tile_way(model, family)
    side = tile or way.side_px or wide_side(model, way)
    return plan_tiles(shape, axis_rules(model, side=side), side=side, way=way)


def usual_batch(device: str, tiling: Tiling) -> int:
    """Return the batch size: one tile on a CPU, where more gains nothing; several on a GPU."""
    if device == "cpu":
        return 1
    return max(1, min(GPU_PX // prod(tiling.tile.values()), 16, tiling.count))


def tile_way(model: ModelSpec, family: TileWay) -> TileWay:
    """Return how the image continues beyond its border, and how tiles meet.

    A padding in the description takes precedence over that of the family. So do a declared halo and
    a finite receptive field: tiles that overlap by that much reproduce the whole image and need no
    averaging. Stacks and outputs about the whole image are not averaged.

    Parameters
    ----------
    family : what the reference implementation of such networks does

    Raises
    ------
    SizesUnclear
        Padding with a constant other than 0 is declared.
    """
    declared = next((tensor.pad for tensor in model.inputs if tensor.pad is not None), None)
    if declared is not None:
        if declared.value:
            raise SizesUnclear(model.id, model.inputs[0].id, f"padding with {declared.value:g}")
        family = replace(family, pad=declared.mode, alone=None)
    flat = model.space == "yx" and all({"y", "x"} <= set(out.letters) for out in model.outputs)
    halo = any(axis.halo for tensor in model.outputs for axis in tensor.axes)
    ends = "radius_px" in model.receptive_field and not sees_whole_image(model)
    return family.cut_hard() if halo or ends or not flat else family


def wide_side(model: ModelSpec, family: TileWay) -> int | None:
    """Return a larger tile for a network whose description says that it sees the whole image.

    Group normalisation or a style vector makes every output depend on the whole input, so tiles
    shift the values; None keeps the default side, or that of the family.
    """
    if tile_way(model, family).side_px is not None or model.space != "yx":
        return None
    return GLOBAL_SIDE if sees_whole_image(model) else None


def sees_whole_image(model: ModelSpec) -> bool:
    """Return whether the description says that every output depends on the whole input."""
    return bool(model.receptive_field.get("global_context"))


def _channels_of_inputs(case: FitCase) -> tuple[tuple[int, ...], ...]:
    left = list(case.channels_taken)
    taken = []
    for tensor in case.inputs:
        count = tensor.channels or len(left)
        taken.append(tuple(left[:count]))
        del left[:count]
    return tuple(taken)


def _batch_is_fixed(model: ModelSpec) -> bool:
    axes = [tensor.axis("b") for tensor in model.required_inputs]
    return any(axis is None or isinstance(axis.size, Fixed) for axis in axes)


def with_smaller_tiles(plan: Plan, model: ModelSpec) -> Plan | None:
    """Halve the sides of the tiles, as far as sizes and halos allow, and run one tile at a time.

    Parameters
    ----------
    plan : whose tiles are too large
    model : determines which sizes are valid

    Returns
    -------
    Plan or None
        None if the tiles are already the smallest, or an output is about the whole image.
    """
    tile = plan.tiling.tile
    if any(axis not in rule.axes for rule in plan.outputs for axis in tile):
        return None
    half = {axis: size // 2 for axis, size in tile.items()}
    rules = axis_rules(model, side=half)
    sides = {rule.axis: max(half[rule.axis], rule.least_tile) for rule in rules}
    try:
        tiling = plan_tiles(plan.shape, rules, side=sides, way=plan.tiling.way)
    except HaloTooWide:
        return None
    if prod(tiling.tile.values()) >= prod(tile.values()):
        return None
    return replace(plan, tiling=tiling, batch=1)


WIDEST_PX = 4096
"""Largest side of a tile for a network that sees the whole image: more gains almost nothing."""


@dataclass(frozen=True)
class Estimate:
    """What running the network on an image costs.

    Parameters
    ----------
    run_s : seconds for one run of a batch of tiles
    network_s : seconds for all tiles of all planes
    held_bytes : memory of the program with the model loaded
    network_bytes : additional memory of a run; None if it cannot be measured
    image_bytes : additional memory for the image, its maps and its labels
    free_bytes : memory that was free
    workers : number of processes for which memory and processors suffice
    """

    run_s: float
    network_s: float
    held_bytes: int
    network_bytes: int | None
    image_bytes: int
    free_bytes: int
    workers: int

    @property
    def peak_bytes(self) -> int | None:
        """Return the peak memory, including the program itself."""
        if self.network_bytes is None:
            return None
        # the network is finished before labels are made
        return self.held_bytes + max(self.network_bytes, self.image_bytes)


def fitted(plan: Plan, model: ModelSpec, bytes_a_pixel: float, room_bytes: float) -> Plan:
    """Plan with fewer tiles at once, then with smaller ones, until a run fits into the memory.

    Parameters
    ----------
    bytes_a_pixel : memory of a run per pixel of its tiles
    room_bytes : memory that it may use

    Returns
    -------
    Plan
        the same plan if it fits; the smallest tiles if nothing fits
    """
    while _pixels(plan) * plan.batch * bytes_a_pixel > room_bytes:
        if plan.batch > 1:
            plan = replace(plan, batch=plan.batch // 2)
            continue
        smaller = with_smaller_tiles(plan, model)
        if smaller is None:
            return plan
        plan = smaller
    return plan


def widened(plan: Plan, model: ModelSpec, bytes_a_pixel: float, room_bytes: float) -> Plan:
    """Plan with the largest tiles that fit, for a network that sees the whole image.

    Returns
    -------
    Plan
        the same plan for any other network, and if larger tiles do not fit
    """
    if wide_side(model, plan.tiling.way) is None or plan.tiling.count == 1:
        return plan
    side = min(int((room_bytes / bytes_a_pixel) ** 0.5), WIDEST_PX)
    if side <= max(plan.tiling.tile.values()):
        return plan
    rules = axis_rules(model, side=side)
    tiling = plan_tiles(plan.shape, rules, side=side, way=plan.tiling.way)
    return replace(plan, tiling=tiling, batch=1)


def _pixels(plan: Plan) -> int:
    return prod(plan.tiling.tile.values())
