"""The label recipe ``flows`` on PyTorch tensors; masks are the same as for arrays.

Every operation is IEEE arithmetic on whole tensors, in the order of the compiled loops, so that a
GPU rounds as the CPU does.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray, LabelArray, LeftToProcessor, TensorPlace
from bmz.base.values import dataclass
from bmz.process.flows import (
    FLOW_SCALE,
    MORE_ENDS_THAN_AT_A_SEED,
    MORE_ENDS_THAN_IN_A_SINK,
    SEED_RADIUS_PX,
    SINK_RADIUS_PX,
    STACK,
    STEPS_A_ROUND,
    FlowSettings,
    cube,
    finished_flows,
)
from bmz.process.heat import HEAT
from bmz.process.omnipose import is_omnipose
from bmz.process.recipe import Labelled, Place
from bmz.process.relabel import on_input_grid, sizes

if TYPE_CHECKING:
    from torch import Tensor

CHANNELS = 3
"""Flow along y and along x, and cell probability."""


def label_flows_there(
    there: TensorPlace,
    output: AnyArray | Tensor,
    grid: tuple[int, ...],
    settings: FlowSettings,
    *,
    place: Place | None = None,  # noqa: ARG001  (flows of a plane do not depend on it)
) -> Labelled:
    """Turn Cellpose's flows of a plane into labels.

    Parameters
    ----------
    there : where tensors are placed
    output, grid, settings, place : see `bmz.process.flows.label_flows`

    Raises
    ------
    LeftToProcessor
        The flows are those of a stack, or of Omnipose.
    """
    axes = output.ndim - 1
    of_plane = axes == CHANNELS - 1 and len(output) in (CHANNELS, CHANNELS + 1)
    if not of_plane or axes == STACK or is_omnipose(settings.style, len(output), axes):
        raise LeftToProcessor("only Cellpose flows in planes are followed there")
    maps = there.taken(output)
    flow = _pixels_a_step(there, maps[:axes])
    cell = maps[axes] > there.limit(settings.cellprob_threshold, maps)
    ends = _drifted(there, flow * cell, cell, settings.steps)
    clusters = _sink_labels(there, ends, cell)
    errors = partial(_flow_errors, there, flow)
    return Labelled(on_input_grid(finished_flows(clusters, errors, settings, "cellpose"), grid))


def _pixels_a_step(there: TensorPlace, flow: Tensor) -> Tensor:
    """Return the flows of a network in px per step; see `bmz.process.flows.pixels_a_step`."""
    far = float(max(flow.shape))
    finite = there.torch.nan_to_num(flow.to(there.torch.float32), nan=0, posinf=0, neginf=0)
    a_step: Tensor = (finite / there.float32(float(FLOW_SCALE))).clamp(-far, far)
    return a_step


def _drifted(there: TensorPlace, flow: Tensor, cell: Tensor, steps: int) -> Tensor:
    """Move each pixel of `cell` by `steps` steps along a flow.

    Parameters
    ----------
    flow : (2, y, x) float32, px per step, 0 outside `cell`
    cell : (y, x) bool

    Returns
    -------
    (2, pixels) int64
        y and x at the end, truncated to whole px
    """
    torch, width = there.torch, cell.shape[1]
    field = torch.nn.functional.pad(flow[None], (0, 1, 0, 1), mode="replicate")[0]
    starts = cell.reshape(-1).nonzero()[:, 0]
    ends: Tensor = torch.stack([starts // width, starts % width])
    at, pixels, left = ends.to(torch.float32), torch.arange(len(starts), device=there.device), steps
    while left > 0 and len(pixels):
        taken = min(STEPS_A_ROUND, left)
        places = [at]
        for _ in range(taken):
            places.append(_stepped(there, field, places[-1]))
        left -= taken
        # pixels that return to an earlier position repeat the cycle forever
        moving = (places[taken] != at).any(0) & (left > 0)
        rest = left % taken if left else taken
        ends[:, pixels[~moving]] = places[rest][:, ~moving].to(torch.int64)
        at, pixels = places[taken][:, moving], pixels[moving]
    return ends


def _stepped(there: TensorPlace, field: Tensor, at: Tensor) -> Tensor:
    # (2, pixels) positions after a step along a field (2, y + 1, x + 1), interpolated linearly
    row = field.shape[2]
    low = at.to(there.torch.int64)
    part_y, part_x = at - low.to(at.dtype)
    moves, here = field.reshape(2, -1), low[0] * row + low[1]
    above, below = moves[:, here], moves[:, here + row]
    above = above + (moves[:, here + 1] - above) * part_x
    below = below + (moves[:, here + row + 1] - below) * part_x
    moved: Tensor = at + (above + (below - above) * part_y)
    moved[0].clamp_(0, field.shape[1] - 2)
    moved[1].clamp_(0, field.shape[2] - 2)
    return moved


def _sink_labels(there: TensorPlace, ends: Tensor, cell: Tensor) -> LabelArray:
    """Label pixels by the sink in which they end; see `bmz.process.flows.sink_labels`."""
    torch, margin = there.torch, SINK_RADIUS_PX
    wide = tuple(size + 2 * margin for size in cell.shape)
    at = (ends[0] + margin) * wide[1] + ends[1] + margin
    count = torch.bincount(at, minlength=wide[0] * wide[1])
    many = (count > MORE_ENDS_THAN_AT_A_SEED).nonzero()[:, 0]
    most = count[many[:, None] + there.put(cube(SEED_RADIUS_PX, wide))].amax(1)
    seeds = many[count[many] == most]
    seeds = seeds[torch.argsort(count[seeds], stable=True)]
    places = seeds[:, None] + there.put(cube(margin, wide))
    side = 2 * margin + 1
    crowded = (count[places] > MORE_ENDS_THAN_IN_A_SINK).reshape(-1, 1, side, side)
    which, place = _joined(there, crowded).reshape(-1, side * side).nonzero().T
    sinks = torch.zeros_like(count)
    # the last of several seeds at one position, the best, takes it
    sinks.scatter_reduce_(0, places[which, place], which + 1, "amax")
    labels = torch.zeros(cell.shape, dtype=torch.int32, device=there.device)
    labels[cell] = sinks[at].to(torch.int32)
    return there.get(labels)


def _joined(there: TensorPlace, crowded: Tensor) -> Tensor:
    # grow from the middle of each window by one px per round, diagonals included
    if not len(crowded):
        return crowded
    inside = crowded.to(there.torch.float32)
    grown = there.torch.zeros_like(inside)
    grown[:, :, SINK_RADIUS_PX, SINK_RADIUS_PX] = 1
    for _ in range(SINK_RADIUS_PX):
        grown = there.torch.nn.functional.max_pool2d(grown, 3, stride=1, padding=1) * inside
    joined: Tensor = grown > 0
    return joined


def _flow_errors(there: TensorPlace, flow: Tensor, labels: LabelArray) -> FloatArray:
    """Return the error of each object; see `bmz.process.heat.flow_errors`."""
    apart = flows_of_labels_there(there, labels) - flow
    apart = apart * apart
    total = there.get(apart[0] + apart[1]).ravel()
    size = sizes(labels)
    # added one by one, in the order of the pixels
    errors: FloatArray = np.bincount(labels.ravel(), total, len(size) + 1)[1:] / size
    return errors.astype(np.float32)


@dataclass(frozen=True)
class _Pixels:
    """The pixels of some objects.

    Parameters
    ----------
    place : (n,) flat position in the plane with a margin of 1 px, in raster order
    owner : (n,) object, from 0
    rounds : (n,) number of rounds in which heat spreads
    middle : (n,) whether heat flows in at the pixel
    """

    place: Tensor
    owner: Tensor
    rounds: Tensor
    middle: Tensor

    def chosen(self, those: Tensor) -> _Pixels:
        """Return some of the pixels."""
        return _Pixels(self.place[those], self.owner[those], self.rounds[those], self.middle[those])

    def by_rounds(self) -> Iterator[_Pixels]:
        """Yield groups of objects whose rounds differ by less than a factor of two."""
        octave = self.rounds.double().log2().floor()
        for value in range(int(octave.min()), int(octave.max()) + 1):
            those = octave == value
            if those.any():
                yield self.chosen(those)


def flows_of_labels_there(there: TensorPlace, labels: LabelArray) -> Tensor:
    """Return the unit flow from each pixel to the centre of its object.

    Parameters
    ----------
    there : where tensors are placed
    labels : (y, x), 1 to n without gaps, 0 background

    Returns
    -------
    (2, y, x) float32
        see `bmz.process.heat.flows_of_labels`
    """
    torch = there.torch
    plane = there.put(np.pad(labels, 1).astype(np.int64))
    flow = torch.zeros((2, *plane.shape), device=there.device)
    if labels.any():
        for pixels in _pixels_of_objects(there, plane).by_rounds():
            flow.reshape(2, -1)[:, pixels.place] = _flow_by_heat(there, plane, pixels)
    inner: Tensor = flow[:, 1:-1, 1:-1]
    return inner


def _pixels_of_objects(there: TensorPlace, plane: Tensor) -> _Pixels:
    torch, row = there.torch, plane.shape[1]
    place = plane.reshape(-1).nonzero()[:, 0]
    owner = plane.reshape(-1)[place] - 1
    count = int(owner.max()) + 1
    size = torch.bincount(owner, minlength=count)
    apart = torch.zeros(len(place), dtype=torch.float64, device=there.device)
    extent = torch.zeros_like(size)
    for at in (place // row, place % row):
        low, high = (_of_objects(there, owner, at, count, how) for how in ("amin", "amax"))
        within = at - low[owner]
        mean = torch.zeros_like(size).index_add_(0, owner, within).double() / size.double()
        off = within.double() - mean[owner]
        apart = apart + off * off
        extent = extent + (high + 1 - low + 2)
    nearest = apart == _of_objects(there, owner, apart, count, "amin")[owner]
    # the first of equals in raster order
    middle = _of_objects(there, owner[nearest], nearest.nonzero()[:, 0], count, "amin")
    is_middle = torch.zeros(len(place), dtype=torch.bool, device=there.device)
    is_middle[middle] = True
    return _Pixels(place, owner, (2 * extent)[owner], is_middle)


def _of_objects(there: TensorPlace, owner: Tensor, value: Tensor, count: int, how: str) -> Tensor:
    # the lowest or highest value of each object
    start = there.torch.zeros(count, dtype=value.dtype, device=there.device)
    result: Tensor = start.scatter_reduce_(0, owner, value, how, include_self=False)
    return result


def _flow_by_heat(there: TensorPlace, plane: Tensor, pixels: _Pixels) -> Tensor:
    """Spread heat over objects and return the direction of its gradient, (2, pixels) float32."""
    torch, row, n = there.torch, plane.shape[1], len(pixels.place)
    flat = plane.reshape(-1)
    number = torch.full_like(flat, n)
    number[pixels.place] = torch.arange(n, device=there.device)
    around = [pixels.place + down * row + across for down in (-1, 0, 1) for across in (-1, 0, 1)]
    # pixels outside the object are read from the end of `heat`, which stays 0
    near = [torch.where(flat[at] == pixels.owner + 1, number[at], n) for at in around]
    heat, source = torch.zeros(n + 1, device=there.device), there.float32(float(HEAT))
    share = float(np.float32(1 / 9))
    for step in range(int(pixels.rounds.max())):
        active = pixels.rounds > step
        heat[:n] += torch.where(pixels.middle & active, source, 0)
        above, level, below = (
            heat[near[at]] + heat[near[at + 1]] + heat[near[at + 2]] for at in (0, 3, 6)
        )
        heat[:n] = torch.where(active, (above + level + below) * share, heat[:n])
    down = ((heat[near[7]] - heat[near[1]]) / source).double()
    across = ((heat[near[5]] - heat[near[3]]) / source).double()
    length = (down * down + across * across).sqrt()
    rising = torch.stack([down / length, across / length])
    flow: Tensor = torch.where(length > 0, rising, 0).float()
    return flow
