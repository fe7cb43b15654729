"""Compiled loops of `bmz.process.flows`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import FloatArray, LabelArray
from bmz.process.compiled import compiled


@compiled
def drift_in_plane(
    field: FloatArray,
    starts: NDArray[np.intp],
    steps: int,
    room: FloatArray,
    pixels: NDArray[np.intp],
    ends: NDArray[np.intp],
    limits: FloatArray | None = None,
    valid: FloatArray | None = None,
) -> None:
    """Move each pixel by `steps` steps along a field, with linear interpolation, in float32.

    Pixels move in batches of ``len(room) - 1`` steps. A pixel that is back where the batch began
    would repeat the same cycle forever, and is not followed any further.

    Parameters
    ----------
    field : (y + 1, x + 1, 2) float32, along y and x, px per step; the last row and column are
        duplicates
    starts : (pixels,) positions in the flattened plane (y, x)
    steps : number of steps
    room : (steps of a batch + 1, n, 2) float32, working memory; `n` pixels are followed together,
        so that while one waits for memory others are computed
    pixels : (n,), working memory
    ends : (2, pixels), receives the final y and x, truncated to whole px
    limits, valid : as in `_note_reads`; None if the validity of ends is not needed
    """
    high = np.float32(field.shape[0] - 2), np.float32(field.shape[1] - 2)
    moves, row, turn = field.reshape(-1, 2), np.uintp(field.shape[1]), room.shape[0] - 1
    width = field.shape[1] - 1
    for first in range(0, len(starts), len(pixels)):
        many, left = min(len(pixels), len(starts) - first), steps
        for i in range(many):
            y, x = starts[first + i] // width, starts[first + i] % width
            pixels[i] = first + i
            ends[0, first + i], ends[1, first + i] = y, x
            room[0, i, 0], room[0, i, 1] = y, x
        while many > 0 and left > 0:
            taken = min(turn, left)
            for step in range(taken):
                _step(moves, row, high, room[step, :many], room[step + 1])
            if limits is not None and valid is not None:
                # a pixel that has not moved yet is at its own centre, and reads no other pixel
                for step in range(1 if left == steps else 0, taken):
                    _note_reads(room[step, :many], limits, starts, pixels, valid)
            left -= taken
            many = _still_moving(room, pixels[:many], ends, taken, left)


@compiled
def _step(
    moves: FloatArray,
    row: np.uintp,
    high: tuple[np.float32, np.float32],
    before: FloatArray,
    after: FloatArray,
) -> None:
    zero, one = np.float32(0), np.uintp(1)
    for i in range(len(before)):
        y, x = before[i, 0], before[i, 1]
        low_y, low_x = np.int32(y), np.int32(x)
        part_y, part_x = y - np.float32(low_y), x - np.float32(low_x)
        # unsigned: Numba need not check whether an index counts from the end
        here = np.uintp(low_y) * row + np.uintp(low_x)
        below = here + row
        y_here, x_here = moves[here, 0], moves[here, 1]
        y_here += (moves[here + one, 0] - y_here) * part_x
        x_here += (moves[here + one, 1] - x_here) * part_x
        y_below, x_below = moves[below, 0], moves[below, 1]
        y_below += (moves[below + one, 0] - y_below) * part_x
        x_below += (moves[below + one, 1] - x_below) * part_x
        y += y_here + (y_below - y_here) * part_y
        x += x_here + (x_below - x_here) * part_y
        after[i, 0] = min(max(y, zero), high[0])
        after[i, 1] = min(max(x, zero), high[1])


@compiled
def _note_reads(
    before: FloatArray,
    limits: FloatArray,
    starts: NDArray[np.intp],
    pixels: NDArray[np.intp],
    valid: FloatArray,
) -> None:
    """Narrow the range of thresholds for which the ends of pixels are valid, by one more step.

    Parameters
    ----------
    before : (n, 2) current positions
    limits : (y, x, 2) range of thresholds in which a step from each pixel reads the same flow
    starts, pixels : flat position of each pixel, and the indices of those that are followed
    valid : (y * x, 2) range of thresholds for which the end of each pixel is valid; is narrowed
    """
    for i in range(len(before)):
        y, x = np.int32(before[i, 0]), np.int32(before[i, 1])
        own = starts[pixels[i]]
        valid[own, 0] = max(valid[own, 0], limits[y, x, 0])
        valid[own, 1] = min(valid[own, 1], limits[y, x, 1])


@compiled
def _still_moving(
    room: FloatArray, pixels: NDArray[np.intp], ends: NDArray[np.intp], taken: int, left: int
) -> int:
    # moves pixels that are still moving to the front, and writes the ends of the others
    moving, rest = 0, left % taken if left else taken
    for i in range(len(pixels)):
        y, x = room[taken, i, 0], room[taken, i, 1]
        if left and (y != room[0, i, 0] or x != room[0, i, 1]):
            room[0, moving, 0], room[0, moving, 1] = y, x
            pixels[moving] = pixels[i]
            moving += 1
        else:
            ends[0, pixels[i]], ends[1, pixels[i]] = int(room[rest, i, 0]), int(room[rest, i, 1])
    return moving


@compiled
def drift(
    field: FloatArray,
    starts: FloatArray,
    steps: int,
    frame: NDArray[np.intp],
    bounds: FloatArray,
) -> FloatArray:
    """Move each voxel by `steps` steps along a field, with linear interpolation.

    Positions run from -1, the first voxel of the whole stack, to 1, the last one. The field is
    read as if -1 and 1 were the outer faces of these voxels, as ``grid_sample`` of PyTorch does
    by default. All operations are in float32 and in the order of PyTorch, so that rounding leads
    to the same ends.

    Parameters
    ----------
    field : (z + 2, y + 2, x + 2, 3) float32, positions per step, padded by one voxel on every side
    starts : (voxels, 3) float32, positions
    steps : number of steps; whole cycles of a voxel that returns to an earlier position are
        skipped, which changes no end (R. P. Brent's cycle detection, doi 10.1007/BF01933190)
    frame : (2, 3), sizes of the whole stack in voxels, and the position of the field in it
    bounds : (2, 3) float32, lowest and highest position

    Returns
    -------
    (voxels, 3) float32, positions
    """
    ends = starts.copy()
    sheet, row = field.shape[1] * field.shape[2], field.shape[2]
    moves = field.reshape(-1, 3)
    for voxel in range(len(starts)):
        # element by element: whole rows take Numba seconds to compile
        z, y, x = starts[voxel, 0], starts[voxel, 1], starts[voxel, 2]
        kept_z, kept_y, kept_x = z, y, x
        left, since, window = steps, 0, 1
        while left > 0:
            at_z, near_z, far_z = _between(z, frame[0, 0], frame[1, 0])
            at_y, near_y, far_y = _between(y, frame[0, 1], frame[1, 1])
            at_x, near_x, far_x = _between(x, frame[0, 2], frame[1, 2])
            move_z = move_y = move_x = np.float32(0)
            for corner in range(8):
                share = far_x if corner & 1 else near_x
                share *= far_y if corner & 2 else near_y
                share *= far_z if corner & 4 else near_z
                at = (at_z + (corner >> 2)) * sheet
                at += (at_y + (corner >> 1 & 1)) * row + at_x + (corner & 1)
                move_z += share * moves[at, 0]
                move_y += share * moves[at, 1]
                move_x += share * moves[at, 2]
            z = min(max(z + move_z, bounds[0, 0]), bounds[1, 0])
            y = min(max(y + move_y, bounds[0, 1]), bounds[1, 1])
            x = min(max(x + move_x, bounds[0, 2]), bounds[1, 2])
            left, since = left - 1, since + 1
            if z == kept_z and y == kept_y and x == kept_x:
                left %= since
            elif since == window:
                kept_z, kept_y, kept_x = z, y, x
                since, window = 0, 2 * window
        ends[voxel, 0], ends[voxel, 1], ends[voxel, 2] = z, y, x
    return ends


@compiled
def _between(position: float, size: int, begin: int) -> tuple[int, float, float]:
    # the voxel before a position, and the weights of this voxel and the next one
    one = np.float32(1)
    place = ((position + one) * np.float32(size) - one) / np.float32(2)
    floor = np.floor(place)
    return int(floor) + 1 - begin, floor + one - place, place - floor


@compiled
def flows_by_heat(
    labels: LabelArray,
    boxes: NDArray[np.intp],
    source: np.float32,
    room: FloatArray,
    flow: FloatArray,
) -> None:
    """Compute flows towards the centre of each object, from heat that diffuses from there.

    The centre is the pixel nearest to the mean position of the object, the first in raster order
    among equals. Heat diffuses by means over 3 x 3 px, for 2 ((h + 2) + (w + 2)) steps, where h
    and w are the height and width of the box of the object.

    Parameters
    ----------
    labels : (y, x), 1 to n without gaps
    boxes : (n, 4) first y, last y + 1, first x and last x + 1 of each object
    source : heat that is added at the centre in each step
    room : (3, px of the largest box with a margin of one px) float32, working memory
    flow : (2, y, x) float32 zeros, receives the unit vector along which heat rises
    """
    for k in range(len(boxes)):
        row = _warmed(labels, k + 1, boxes[k], source, room)
        top, bottom, left, right = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        for y in range(top, bottom):
            for x in range(left, right):
                if labels[y, x] == k + 1:
                    place = (y - top + 1) * row + x - left + 1
                    flow[0, y, x], flow[1, y, x] = _rise(room[0], place, row, source)


@compiled
def errors_by_heat(
    labels: LabelArray,
    numbers: NDArray[np.intp],
    boxes: NDArray[np.intp],
    source: np.float32,
    room: FloatArray,
    flow: FloatArray,
    errors: FloatArray,
) -> None:
    """Compute the mean squared difference of a flow from each object's flow towards its centre.

    Parameters
    ----------
    labels : (y, x), 0 background
    numbers : (n,) labels of the objects
    boxes, source, room : as in `flows_by_heat`
    flow : (2, y, x) float32
    errors : (n,) float32, receives the result
    """
    for k in range(len(boxes)):
        row = _warmed(labels, numbers[k], boxes[k], source, room)
        top, bottom, left, right = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        size, total = 0, 0.0
        for y in range(top, bottom):
            for x in range(left, right):
                if labels[y, x] == numbers[k]:
                    place = (y - top + 1) * row + x - left + 1
                    down, across = _rise(room[0], place, row, source)
                    down -= flow[0, y, x]
                    across -= flow[1, y, x]
                    size, total = size + 1, total + (down * down + across * across)
        errors[k] = total / size


@compiled
def _rise(
    heat: FloatArray, place: int, row: int, source: np.float32
) -> tuple[np.float32, np.float32]:
    # the unit vector along which heat rises; 0 if the gradient is 0
    down = (heat[place + row] - heat[place - row]) / source
    across = (heat[place + 1] - heat[place - 1]) / source
    length = np.sqrt(np.float64(down) ** 2 + np.float64(across) ** 2)
    if length > 0:
        return np.float32(down / length), np.float32(across / length)
    return np.float32(0), np.float32(0)


@compiled
def _warmed(
    labels: LabelArray,
    number: int,
    box: NDArray[np.intp],
    source: np.float32,
    room: FloatArray,
) -> int:
    # diffuses heat over an object in `room`; returns the length of a row there
    height, row = int(box[1] - box[0] + 2), int(box[3] - box[2] + 2)
    window = height * row
    heat, inside, triple = room[0, :window], room[1, :window], room[2, :window]
    for place in range(window):
        heat[place] = inside[place] = 0
    middle = _fill(labels, number, box, inside)
    for _ in range(2 * (height + row)):
        heat[middle] += source
        _spread(heat, inside, triple, row)
    return row


@compiled
def _fill(labels: LabelArray, number: int, box: NDArray[np.intp], inside: FloatArray) -> int:
    # the weight of each px of the object in the means, and the position of its centre
    top, bottom, left, right = box[0], box[1], box[2], box[3]
    row = right - left + 2
    size = sum_y = sum_x = 0
    for y in range(top, bottom):
        for x in range(left, right):
            if labels[y, x] == number:
                size, sum_y, sum_x = size + 1, sum_y + y - top, sum_x + x - left
                inside[(y - top + 1) * row + x - left + 1] = np.float32(1 / 9)
    mean_y, mean_x = sum_y / size, sum_x / size
    middle, nearest = 0, np.inf
    for y in range(top, bottom):
        for x in range(left, right):
            apart = (y - top - mean_y) ** 2 + (x - left - mean_x) ** 2
            if labels[y, x] == number and apart < nearest:
                middle, nearest = (y - top + 1) * row + x - left + 1, apart
    return middle


@compiled
def _spread(heat: FloatArray, inside: FloatArray, triple: FloatArray, row: int) -> None:
    # each px becomes the mean over 3 x 3 px, or 0 outside the object; shifted views are summed,
    # which compiles to vector instructions
    left, middle, right = heat[:-2], heat[1:-1], heat[2:]
    across = triple[: middle.size]
    for place in range(across.size):
        across[place] = left[place] + middle[place] + right[place]
    above, level, below = across[: -2 * row], across[row:-row], across[2 * row :]
    own, share = heat[row + 1 : -row - 1], inside[row + 1 : -row - 1]
    for place in range(own.size):
        own[place] = (above[place] + level[place] + below[place]) * share[place]


@compiled
def draw_back(places: FloatArray, field: FloatArray, steps: int) -> None:
    """Move each position along a field in ever shorter steps, by the nearest pixel, in float32.

    Each step averages the field at the position with the previous average, and moves by this
    average divided by the number of the step, from 1.

    Parameters
    ----------
    places : (pixels, 3) float32, z, y and x; updated in place
    field : (z, y, x, 3) float32, displacement along z, y and x, px
    steps : number of steps
    """
    half, zero = np.float32(0.5), np.float32(0)
    deep, high = np.float32(field.shape[0] - 1), np.float32(field.shape[1] - 1)
    wide = np.float32(field.shape[2] - 1)
    for nth in range(len(places)):
        z, y, x = places[nth, 0], places[nth, 1], places[nth, 2]
        i, j, k = int(z), int(y), int(x)
        to_z, to_y, to_x = field[i, j, k, 0], field[i, j, k, 1], field[i, j, k, 2]
        for step in range(steps):
            i, j, k = int(np.rint(z)), int(np.rint(y)), int(np.rint(x))
            to_z = half * (to_z + field[i, j, k, 0])
            to_y = half * (to_y + field[i, j, k, 1])
            to_x = half * (to_x + field[i, j, k, 2])
            share = np.float32(1 + step)
            z = min(max(z + to_z / share, zero), deep)
            y = min(max(y + to_y / share, zero), high)
            x = min(max(x + to_x / share, zero), wide)
        places[nth, 0], places[nth, 1], places[nth, 2] = z, y, x
