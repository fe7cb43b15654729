"""The label recipe ``flows``: pixels follow a flow to the middle of their object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, BoolArray, FloatArray, LabelArray, TensorDecoder
from bmz.base.values import dataclass
from bmz.plan.tile_way import Blend, TileWay
from bmz.process.clusters import Clusters
from bmz.process.heat import errors_of, flow_errors
from bmz.process.omnipose import (
    AUTO,
    STEPS,
    cells_of,
    given_speeds,
    gives_omnipose,
    is_omnipose,
    omnipose_lengths,
    skeleton_labels,
    speeds_of_whole_map,
)
from bmz.process.recipe import (
    InBlocks,
    Knob,
    Labelled,
    OwnTiles,
    Place,
    Recipe,
    Value,
)
from bmz.process.relabel import (
    ChannelsDiffer,
    fill_holes,
    in_raster_order,
    on_input_grid,
    require_plane,
    sizes,
    without,
)

STACK = 3

STEPS_A_ROUND = 6
"""How often it is asked whether pixels are back where they were: after one, two, three or six steps
they are, where they rest or swing."""

PIXELS_AT_ONCE = 1 << 10
"""So that the places of a round stay in the cache."""


def follow_flow(
    flow: FloatArray, cell: BoolArray, steps: int, place: Place | None = None
) -> NDArray[np.intp]:
    """Move each pixel of `cell` along `flow`, and give the pixel in which it ends.

    Euler steps of length 1 with the flow interpolated linearly between neighbours; positions are
    kept within the image. The flow is 0 outside `cell`. A pixel that is where it was some steps
    ago will swing on for ever, and is not followed further, with the same result. Source:
    Stringer et al. 2021, as cellpose 3.1.1.3 does it on a CPU.

    In stacks Cellpose reads the flow with ``grid_sample`` of PyTorch, for which an axis of n
    voxels reaches from the outer face of the first voxel to that of the last, while its positions
    reach from middle to middle. So voxel p reads the flow at ``p * n / (n - 1) - 1 / 2``: half a
    voxel too low at the beginning of the axis, right in the middle, half a voxel too high at the
    end, and 0 beyond the stack. Networks are used with this, so it is done here, too.

    Parameters
    ----------
    flow : (2, y, x) or (3, z, y, x) float32, along each axis, px a step, all finite
    cell : ((z,) y, x), the pixels that move
    steps : how many
    place : where in a larger stack this is a part of; None if it is the whole

    Returns
    -------
    (2 or 3, pixels) (z,) y and x, whole px (cut off, not rounded), in raster order of `cell`
    """
    if cell.ndim != STACK:
        return _in_plane(flow, cell, steps)
    return _through_stack(flow, cell, steps, place or Place.of_whole(cell.shape))


def _in_plane(flow: FloatArray, cell: BoolArray, steps: int) -> NDArray[np.intp]:
    return follow_field(field_of(flow, cell), np.flatnonzero(cell), steps)


def field_of(flow: FloatArray, cell: BoolArray) -> FloatArray:
    """Lay out the flow of a plane for `follow_field`: (y + 1, x + 1, 2), 0 outside of `cell`."""
    from bmz.process.cluster_loops import fill_field

    height, width = cell.shape
    field = np.empty((height + 1, width + 1, 2), np.float32)
    fill_field(flow, cell, field)
    return field


def follow_field(
    field: FloatArray,
    starts: NDArray[np.intp],
    steps: int,
    limits: FloatArray | None = None,
    valid: FloatArray | None = None,
) -> NDArray[np.intp]:
    """Return y and x of some pixels at the end of their paths, (2, pixels).

    Parameters
    ----------
    field, starts, steps, limits, valid : see `bmz.process.flow_loop.drift_in_plane`
    """
    from bmz.process.flow_loop import drift_in_plane

    ends = np.empty((2, len(starts)), np.intp)
    room = np.empty((STEPS_A_ROUND + 1, PIXELS_AT_ONCE, 2), np.float32)
    pixels = np.empty(PIXELS_AT_ONCE, np.intp)
    drift_in_plane(field, starts, steps, room, pixels, ends, limits, valid)
    return ends


def _through_stack(flow: FloatArray, cell: BoolArray, steps: int, place: Place) -> NDArray[np.intp]:
    from bmz.process.flow_loop import drift

    origin, size = np.array(place.origin), np.array(place.whole)
    reach = (size - 1).astype(np.float32)
    field = np.zeros((*(n + 2 for n in cell.shape), STACK), np.float32)
    # an axis of one voxel has no positions to move between
    field[1:-1, 1:-1, 1:-1] = np.moveaxis(flow * cell, 0, -1)
    field *= np.divide(2, reach, out=np.zeros(STACK), where=reach > 0).astype(np.float32)
    starts = _positions(np.stack(np.nonzero(cell), axis=1) + origin, reach)
    bounds = _positions(np.array([origin, origin + cell.shape - 1]), reach)
    ends = drift(field, starts, steps, np.array([size, origin]), bounds)
    ends += 1
    ends *= np.float32(0.5)
    ends *= reach
    voxels: NDArray[np.intp] = np.clip(ends.astype(np.intp) - origin, 0, np.array(cell.shape) - 1)
    return voxels.T


def _positions(voxels: NDArray[np.intp], reach: FloatArray) -> FloatArray:
    # from -1 at the first voxel to 1 at the last; 0 where there is but one
    positions = voxels.astype(np.float32)
    np.divide(positions, reach, out=positions, where=reach > 0)
    positions *= 2
    positions -= reach > 0
    return positions


FLOW_SCALE = 5.0
"""The network is trained on 5 times the unit flow."""

SEED_RADIUS_PX = 2
"""A seed is where more pixels end than anywhere in the square of this radius around it."""

MORE_ENDS_THAN_AT_A_SEED = 10
MORE_ENDS_THAN_IN_A_SINK = 2

SINK_RADIUS_PX = 5
"""How far a sink may reach from its seed, step by step over places with enough ends."""


DIAMETER_PX = 30.0
STEPS_PER_DIAMETER = 200
"""Of Cellpose: 200 steps where cells are about 30 px across, more where they are larger."""

BY_DIAMETER = 0

TILES = TileWay(
    pad="constant",
    margin_px=8,
    side_px=224,
    blend=Blend(overlap=0.1, edge_px=20, fall_px=7.5),
    source="cellpose 3.1.1.3, transforms.py: get_pad_yx(div=16, extra=1), make_tiles, _taper_mask",
)
"""What Cellpose does with an image. Without zeros around it a cell at the border has a middle that
lies outside, its flows lead nowhere, and it is lost. Its networks were trained on crops of 224 px,
of which the style vector is an average, so larger tiles are another thing to them."""


OMNIPOSE_TILES = TileWay(
    pad="reflect",
    margin_px=8,
    blend=TILES.blend,
    source="omnipose 1.1.4, cellpose_omni/transforms.py: pad_image_ND(div=16, extra=1); "
    "core.py: one tile, unless asked for tiles, which are averaged as in Cellpose",
)
"""What Omnipose does with an image: its maps are distances to the edge of what is seen of a cell,
which continues in a mirrored border."""


@dataclass(frozen=True)
class FlowSettings:
    """The parameters of the recipe."""

    cellprob_threshold: Annotated[
        float, Knob("minimum cell probability (logit) or distance", -6, 6, cures=(-4, -2, 2, 4))
    ] = 0.0
    flow_threshold: Annotated[float, Knob("largest error of the flow; 0 checks nothing", 0, 3)] = (
        0.4
    )
    niter: Annotated[int, Knob("steps along the flow; 0: by the diameter, 200 for Omnipose", 0)] = (
        BY_DIAMETER
    )
    diameter: Annotated[
        float, Knob("diameter of cells, px of the map: 200 steps for 30 px", 1, grows=1)
    ] = DIAMETER_PX
    min_size: Annotated[int, Knob("smallest object, px of the image; 0 keeps all", 0)] = 15
    max_size_fraction: Annotated[float, Knob("largest object, share of the map", 0, 1)] = 0.4
    style: Annotated[
        str,
        Knob(
            "whose maps they are; auto: Omnipose's if there are two maps after the flows",
            choices=(AUTO, "cellpose", "omnipose"),
        ),
    ] = AUTO

    speeds: Annotated[
        str,
        Knob(
            "Omnipose: divergences of the flow at which pixels stay and move; empty: from the map"
        ),
    ] = ""

    @property
    def steps(self) -> int:
        """How many steps along the flow pixels of Cellpose's flows take."""
        by_diameter = max(round(STEPS_PER_DIAMETER * self.diameter / DIAMETER_PX), 1)
        return self.niter if self.niter != BY_DIAMETER else by_diameter


def label_flows(
    output: AnyArray,
    grid: tuple[int, ...],
    settings: FlowSettings,
    *,
    place: Place | None = None,
) -> Labelled:
    """Turn flows and cell probability into labels: pixels that drift to one sink are one cell.

    Flows of planes are checked against those that the found cells would have; flows of stacks are
    not, as in Cellpose. Of Omnipose's maps the third is the distance to the edge, and cells are
    what hangs together when all pixels have moved a little away from it.

    Parameters
    ----------
    output : (axes + 1, (z,) y, x): flow along each axis (5 times the unit flow), cell probability
        (logit) or distance (px); Omnipose may have a boundary map behind it, which is not read;
        a flow that is not a number counts as 0
    grid : spacing of the map along (z,) y and x; labels are repeated to fill it
    place : where in a larger map `output` lies; None if it is the whole
    settings : the parameters

    Returns
    -------
    Labelled
        of ``output.shape[1:] * grid``, without scores

    Raises
    ------
    DimensionsNotDone
        `output` is neither (c, y, x) nor (c, z, y, x).
    ChannelsDiffer
        There are more or fewer channels.
    """
    axes = output.ndim - 1
    if axes != STACK:
        require_plane("flows", output)
    if len(output) not in (axes + 1, axes + 2):
        which = "flow y, flow x, cell probability" if axes != STACK else "flow z, y, x, probability"
        raise ChannelsDiffer("flows", f"{axes + 1} channels ({which})", len(output))
    style = "omnipose" if is_omnipose(settings.style, len(output), axes) else "cellpose"
    flow, least = pixels_a_step(output[:axes]), settings.cellprob_threshold
    if style == "omnipose":
        speeds = given_speeds(settings.speeds, output, least)
        cell = cells_of(output[axes], least)
        clusters = skeleton_labels(flow, cell, speeds, settings.niter or STEPS)
    else:
        cell = output[axes] > least
        clusters = sink_labels(flow, cell, settings.steps, place)
        if axes != STACK:
            cells = cells_of_plane(Clusters.of(clusters, partial(errors_of, flow)), settings)
            return Labelled(on_input_grid(cells, grid))
    errors = partial(flow_errors, flow=flow)
    return Labelled(on_input_grid(finished_flows(clusters, errors, settings, style), grid))


def cells_of_plane(clusters: Clusters, settings: FlowSettings) -> LabelArray:
    """Return the clusters of a plane that are cells by the settings, as `finished_flows` does."""
    most_px = settings.max_size_fraction * clusters.labels.size
    return clusters.cells(most_px, settings.min_size, settings.flow_threshold)


def sink_labels(
    flow: FloatArray, cell: BoolArray, steps: int, place: Place | None = None
) -> LabelArray:
    """Label pixels by the sink to which they drift.

    Parameters
    ----------
    flow : (axes, (z,) y, x) float32, px a step
    cell : ((z,) y, x), the pixels that drift
    steps : how many
    place : where in a larger map this lies; None if it is the whole
    """
    ends = follow_flow(flow, cell, steps, place) + SINK_RADIUS_PX
    at = np.ravel_multi_index(tuple(ends), with_margin(cell.shape))
    return labels_of_ends(np.flatnonzero(cell), at, cell.shape)


def with_margin(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes of a plane or stack with a margin beyond which no sink can grow."""
    return tuple(size + 2 * SINK_RADIUS_PX for size in shape)


def labels_of_ends(
    pixels: NDArray[np.intp], ends: NDArray[np.intp], shape: tuple[int, ...]
) -> LabelArray:
    """Label pixels with the number of the sink in which they end, or 0 if they end in none.

    A sink is a place where many pixels end, and what is joined to it. Where sinks overlap, the one
    with more ends at its seed has the place.

    Parameters
    ----------
    pixels : (n,) flat places in the plane or stack
    ends : (n,) flat places in which they end, in the plane or stack with its margin
    shape : of the plane or stack, without the margin
    """
    from bmz.process.cluster_loops import count_ends, grow_sinks, number_ends

    wide = with_margin(shape)
    count, sinks = np.zeros((2, int(np.prod(wide))), np.int32)
    count_ends(ends, count)
    around = cube(1, wide)
    room = np.empty((2 * SINK_RADIUS_PX + 1) ** len(shape), np.intp)
    limits = (SINK_RADIUS_PX, MORE_ENDS_THAN_IN_A_SINK)
    grow_sinks(count, _seeds(count, wide), around, limits, sinks, room)
    labels = np.zeros(shape, np.int32)
    number_ends(pixels, ends, sinks, labels.reshape(-1))
    return labels


def finished_flows(
    labels: LabelArray,
    errors: Callable[[LabelArray], FloatArray],
    settings: FlowSettings,
    style: str,
) -> LabelArray:
    """Drop clusters that are too large, too small or no cells, and fill the others.

    Parameters
    ----------
    errors : gives for each object how far its flow is from that of a cell
    style : whose maps they are
    """
    largest = settings.max_size_fraction * labels.size
    labels = in_raster_order(without(labels, sizes(labels) > largest)).labels
    if settings.flow_threshold > 0 and labels.ndim != STACK and style == "cellpose":
        labels = without(labels, errors(labels) > settings.flow_threshold)
    labels = without(labels, sizes(labels) < settings.min_size)
    labels = fill_holes(in_raster_order(labels).labels)
    # filling a hole removes what lies in it, or leaves little of it
    return in_raster_order(without(labels, sizes(labels) < settings.min_size)).labels


def pixels_a_step(flow: AnyArray) -> FloatArray:
    """Return the flows of a network in px per step, all finite."""
    # further than across the plane leads no further, and must not overflow
    far = float(max(flow.shape))
    finite = np.nan_to_num(np.asarray(flow, np.float32), nan=0, posinf=0, neginf=0)
    a_step: FloatArray = np.clip(finite / np.float32(FLOW_SCALE), -far, far)
    return a_step


def _seeds(count: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.intp]:
    # those with fewer ends first
    many = np.flatnonzero(count > MORE_ENDS_THAN_AT_A_SEED)
    most = count[many[:, None] + cube(SEED_RADIUS_PX, shape)].max(axis=1, initial=0)
    seeds = many[count[many] == most]
    ordered: NDArray[np.intp] = seeds[np.argsort(count[seeds], kind="stable")]
    return ordered


def cube(radius: int, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the flat offsets of all positions of a cube, including its centre, in raster order."""
    side = np.arange(-radius, radius + 1)
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    steps = np.meshgrid(*(side * stride for stride in strides), indexing="ij")
    flat: NDArray[np.intp] = np.sum(steps, axis=0).ravel()
    return flat


def cells_without_label(
    maps: AnyArray, labels: AnyArray, parameters: Mapping[str, Value]
) -> BoolArray:
    """Mark the inside of cells that have no label.

    Cellpose drops a cell whose flows do not look like those of a whole one, which a cell that is
    cut by the end of a block does not either; see `bmz.process.recipe.UnlabelledFunction`.
    """
    inside: BoolArray = maps[labels.ndim] > float(parameters["cellprob_threshold"])
    without: BoolArray = inside & (labels == 0)
    return without


FLOWS = Recipe(
    name="flows",
    what="Cellpose flows and cell probability: pixels that drift to the same sink",
    source="Stringer et al. 2021, doi 10.1038/s41592-020-01018-x; cellpose 3.1.1.3; Omnipose, "
    "Cutler et al. 2022, doi 10.1038/s41592-022-01639-4",
    label=label_flows,
    kept="bmz.process.kept_flows:KeptFlows",
    placed=True,
    of_whole_map=speeds_of_whole_map,
    in_blocks=InBlocks(unlabelled=cells_without_label, shares=("max_size_fraction",)),
    settings=FlowSettings,
    tiles=TILES,
    own_tiles=OwnTiles("Omnipose", gives_omnipose, OMNIPOSE_TILES),
    rescale_why="outlines are smooth, like those of Cellpose with resample=True",
    lengths=omnipose_lengths,
    on_tensors=TensorDecoder("bmz.process.tensors:label_flows_there", 200),
)
"""The recipe of Cellpose models."""
