"""Let pixels drift along a flow, and say where each ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import BoolArray, FloatArray
from bmz.process.recipe import Place

Places = NDArray[np.complex64]
"""Positions x + iy in px: one value each, whose bits sort in raster order."""

POINTS_AT_ONCE = 1 << 14
"""So that the temporary arrays of a step stay in the cache."""

STACK = 3

LOOK_AFTER_STEPS = (36, 64, 90, 130, 180, 250, 350, 500, 700, 1000)
"""When to look for pixels that have settled or met; many have, once they reached their centre."""


def follow_flow(
    flow: FloatArray, cell: BoolArray, steps: int, place: Place | None = None
) -> NDArray[np.intp]:
    """Move each pixel of `cell` along `flow`, and give the pixel in which it ends.

    Euler steps of length 1 with the flow interpolated linearly between neighbours; positions are
    kept within the image. The flow is 0 outside `cell`. A pixel that is where it was two steps
    ago will swing on for ever, and pixels that met stay together: such are not followed twice,
    with the same result. Source: Stringer et al. 2021, as cellpose 3.1.1.3 does it on a CPU.

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
    place : where in a larger stack this is a part of; None where it is the whole

    Returns
    -------
    (2 or 3, pixels) (z,) y and x, whole px (cut off, not rounded), in raster order of `cell`
    """
    if cell.ndim == STACK:
        return _through_stack(flow, cell, steps, place or Place.of_whole(cell.shape))
    y, x = np.nonzero(cell)
    swarm = _Swarm(_places(x, y), np.arange(len(y)), np.arange(len(y)))
    field, ends = _Field.of(flow * cell), np.zeros(len(y), np.complex64)
    done = 0
    for look in (*(s for s in LOOK_AFTER_STEPS if s < steps), steps):
        trace = field.drift(swarm.places, look - done)
        done = look
        if look == steps:
            ends[swarm.pixels] = trace.now[swarm.place_of]
        else:
            swarm = _still_moving(swarm, trace, ends, even=(steps - look) % 2 == 0)
    return np.stack([ends.imag, ends.real]).astype(np.intp)


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


def _places(x: NDArray[np.intp], y: NDArray[np.intp]) -> Places:
    places = np.empty(len(x), np.complex64)
    places.real, places.imag = x, y
    return places


@dataclass(frozen=True)
class _Swarm:
    """Pixels on their way; `place_of` says at which of `places` each of `pixels` is."""

    places: Places
    pixels: NDArray[np.intp]
    place_of: NDArray[np.intp]


@dataclass(frozen=True)
class _Trace:
    """Where places are now, were one step ago and were two steps ago."""

    now: Places
    before: Places
    earlier: Places


def _still_moving(swarm: _Swarm, trace: _Trace, ends: Places, *, even: bool) -> _Swarm:
    # writes the ends of the settled, and joins those that met
    settled = trace.now == trace.earlier
    home = settled[swarm.place_of]
    last = trace.now if even else trace.before
    ends[swarm.pixels[home]] = last[swarm.place_of[home]]
    moving = np.flatnonzero(~settled)
    apart, joined = np.unique(trace.now[moving].view(np.uint64), return_inverse=True)
    new = np.zeros(len(settled), np.intp)
    new[moving] = joined
    return _Swarm(apart.view(np.complex64), swarm.pixels[~home], new[swarm.place_of[~home]])


@dataclass(frozen=True)
class _Field:
    """A flow with one more row and column, x + iy, flat.

    Parameters
    ----------
    flow : (rows x row,) px a step; the last row and column are there twice
    row : number of values in a row
    high_x, high_y : the largest position, px
    """

    flow: Places
    row: int
    high_x: np.float32
    high_y: np.float32

    @classmethod
    def of(cls, flow: FloatArray) -> _Field:
        height, width = flow.shape[1:]
        wide = np.empty((height + 1, width + 1), np.complex64)
        wide.real[:-1, :-1], wide.imag[:-1, :-1] = flow[1], flow[0]
        wide[-1] = wide[-2]
        wide[:, -1] = wide[:, -2]
        return cls(wide.reshape(-1), width + 1, np.float32(width - 1), np.float32(height - 1))

    def drift(self, places: Places, steps: int) -> _Trace:
        """Take `steps` steps, block by block."""
        traces = [np.empty((3, 0), np.complex64)]
        for start in range(0, len(places), POINTS_AT_ONCE):
            now = before = earlier = places[start : start + POINTS_AT_ONCE]
            for _ in range(steps):
                now, before, earlier = self._step(now), now, before
            traces.append(np.stack([now, before, earlier]))
        return _Trace(*np.concatenate(traces, axis=1))

    def _step(self, places: Places) -> Places:
        low_x, low_y = np.floor(places.real), np.floor(places.imag)
        part_x, part_y = places.real - low_x, places.imag - low_y
        at = low_y.astype(np.intp)
        at *= self.row
        at += low_x.astype(np.intp)
        here, right = self.flow.take(at), self.flow.take(at + 1)
        at += self.row
        below, across = self.flow.take(at), self.flow.take(at + 1)
        right -= here
        right *= part_x
        here += right
        across -= below
        across *= part_x
        below += across
        below -= here
        below *= part_y
        here += below
        here += places
        np.clip(here.real, 0, self.high_x, out=here.real)
        np.clip(here.imag, 0, self.high_y, out=here.imag)
        return here
