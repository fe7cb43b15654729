"""The compiled loops of watersheds, and of the filters that prepare their maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import BoolArray, FloatArray, LabelArray
from bmz.process.compiled import compiled

Indices = NDArray[np.intp]

RIM = 1 << 30
"""Added to a pixel that was labelled in the current pass and does not count as a seed."""

HIGH = 1 << 29
"""Added to a pixel of a seed from which an open pixel may be reached."""


@compiled
def _is_beside_open(state: LabelArray, steps: Indices, place: int) -> bool:
    beside = False
    for step in steps:
        beside = beside or state[place + step] < 0
    return beside


@compiled
def take_rim(
    state: LabelArray,
    levels: NDArray[np.uint16],
    steps: Indices,
    rim: LabelArray,
    room: Indices,
    by_seeds: int,
) -> int:
    """Assign each open pixel to its lowest neighbour if that is a seed pixel and no higher than it.

    Nothing can reach such a pixel earlier. This pass over the map does most of the work.

    Parameters
    ----------
    state : (pixels,) int32, changed
    levels : (pixels,) level of every pixel
    steps : offsets of the neighbours
    rim : (pixels,), starts with the pixels from which an open pixel can be reached
    room : (levels + 1,) of 0; becomes, after a 0, the number of pixels to be queued at each level
    by_seeds : 1 to visit seeds, 0 to visit open pixels, with the same result; fewer cost less

    Returns
    -------
    int
        how many pixels are in `rim`
    """
    for place in range(state.size):
        if by_seeds and 0 < state[place] < RIM:
            for step in steps:
                if state[place + step] < 0:
                    _take(state, levels, steps, place + step)
        elif not by_seeds and state[place] < 0:
            _take(state, levels, steps, place)
    count = 0
    for place in range(state.size):
        if state[place] < 0:
            room[-state[place]] += 1
        elif state[place] >= HIGH:
            state[place] &= HIGH - 1
            if _is_beside_open(state, steps, place):
                rim[count] = place
                room[levels[place] + 1] += 1
                count += 1
    return count


@compiled
def _take(state: LabelArray, levels: NDArray[np.uint16], steps: Indices, place: int) -> None:
    # assigned by its lowest neighbour, or else the neighbouring seeds are marked
    lowest, taker = levels[place] + 1, 0
    for step in steps:
        seed, height = state[place + step], levels[place + step]
        is_seed = 0 < seed < RIM
        if seed != 0 and (height < lowest or (is_seed and taker == 0 and height == lowest)):
            lowest, taker = height, seed if is_seed else 0
    if taker > 0:
        state[place] = (taker & (HIGH - 1)) + RIM
    else:
        for step in steps:
            if 0 < state[place + step] < HIGH:
                state[place + step] += HIGH


@compiled
def spread(
    state: LabelArray,
    steps: Indices,
    queue: LabelArray,
    first: Indices,
    last: Indices,
    below: LabelArray,
    came: int,
) -> None:
    """Flood open pixels level by level, each level in the order of arrival.

    Pixels below the current level are flooded at once.

    Parameters
    ----------
    state : (pixels,) int32, changed
    steps : to the neighbours
    queue : (pixels,) room for all pixels of all levels, with the initial ones filled in
    first, last : (levels,) where in `queue` the pixels of each level begin, and end so far
    below : (pixels,) room for pixels that are reached from above
    came : number of pixels already in `below`, which come first
    """
    done = 0
    for level in range(first.size):
        turn = first[level]
        while done < came or turn < last[level]:
            if done < came:
                place = below[done]
                done += 1
            else:
                place = queue[turn]
                turn += 1
            for step in steps:
                height = -1 - state[place + step]
                if height < 0:
                    continue
                state[place + step] = state[place]
                if height < level:
                    below[came] = place + step
                    came += 1
                else:
                    queue[last[height]] = place + step
                    last[height] += 1


@compiled
def fill_rows(
    state: LabelArray,
    levels: NDArray[np.uint16],
    rows: Indices,
    surface: FloatArray,
    seeds: LabelArray,
    mask: BoolArray,
    low: np.float32,
    scale: np.float32,
) -> None:
    """Copy rows of a map into `state` and `levels`, as `take_rim` and `spread` read them.

    Parameters
    ----------
    state, levels : (pixels,) of a map with a margin, of 0
    rows : (n,) where each row begins
    surface, seeds : (n, x)
    mask : (n, x); if it has a single pixel, everything is open
    low, scale : of the levels
    """
    masked = mask.size > 1
    for nth in range(rows.size):
        begin = rows[nth]
        for x in range(surface.shape[1]):
            if masked and not mask[nth, x]:
                continue
            level = np.uint16((surface[nth, x] - low) * scale)
            levels[begin + x] = level
            state[begin + x] = seeds[nth, x] if seeds[nth, x] > 0 else -1 - np.int32(level)


@compiled
def close_rows(state: LabelArray, rows: Indices, width: int) -> None:
    """Move rows to the beginning, one after another, with 0 for pixels that are still open."""
    for nth in range(rows.size):
        begin, goal = rows[nth], nth * width
        for x in range(width):
            state[goal + x] = max(state[begin + x], 0)


@compiled
def count_pixels(labels: LabelArray, pixels: Indices) -> None:
    """Count the pixels of each number above 0."""
    for place in range(labels.size):
        if labels[place] > 0:
            pixels[labels[place]] += 1


@compiled
def reopen(state: LabelArray, levels: NDArray[np.uint16], goes: BoolArray) -> None:
    """Reopen the pixels of numbers that are removed."""
    for place in range(state.size):
        if state[place] > 0 and goes[state[place]]:
            state[place] = -1 - np.int32(levels[place])


@compiled
def mark_peaks(
    marked: BoolArray,
    seen: LabelArray,
    queue: LabelArray,
    surface: FloatArray,
    inside: BoolArray,
    steps: Indices,
    least_rise: np.float32,
) -> None:
    """Mark the pixels that are peaks.

    From each pixel without a higher neighbour, the search follows all pixels less than `least_rise`
    below it until it meets a higher one. Most are close to one, and the searches of peaks do not
    overlap, so all searches together visit hardly more pixels than the map has.

    Parameters
    ----------
    marked : (pixels,), false; becomes true at peaks
    seen, queue : (pixels,) of 0, and working memory
    surface : (pixels,) float32 of a padded map; of equal heights the first counts as higher
    inside : (pixels,) where the search may go
    steps : offsets of the neighbours
    least_rise : height of a peak above the pass to a higher one
    """
    for place in range(surface.size):
        if inside[place] and _is_top(surface, inside, steps, place):
            marked[place] = _rises(seen, queue, surface, inside, steps, place, least_rise)


@compiled
def _is_top(surface: FloatArray, inside: BoolArray, steps: Indices, place: int) -> bool:
    height = surface[place]
    for step in steps:
        beside = surface[place + step]
        if inside[place + step] and (beside > height or (beside == height and step < 0)):
            return False
    return True


@compiled
def _rises(
    seen: LabelArray,
    queue: LabelArray,
    surface: FloatArray,
    inside: BoolArray,
    steps: Indices,
    place: int,
    least_rise: np.float32,
) -> bool:
    # whether the search over pixels less than `least_rise` below meets nothing higher
    height, came, done = surface[place], 1, 0
    seen[place], queue[0] = place, place
    while done < came:
        for step in steps:
            there = queue[done] + step
            beside = surface[there]
            if inside[there] and seen[there] != place and height - beside < least_rise:
                if beside > height or (beside == height and there < place):
                    return False
                seen[there], queue[came] = place, there
                came += 1
        done += 1
    return True


SLOT_BITS = 31
"""Low bits of a number in a heap; the bits above hold a height."""


@compiled
def shores(state: LabelArray, steps: Indices, shore: LabelArray) -> int:
    """List in `shore` the seed pixels that have an open neighbour; return their number.

    Parameters
    ----------
    state : (pixels,) the number of a seed, 0 where nothing can be flooded, negative where open
    steps : offsets of the neighbours
    """
    count = 0
    for place in range(state.size):
        if state[place] > 0 and _is_beside_open(state, steps, place):
            shore[count] = place
            count += 1
    return count


@compiled
def level_of(height: np.float32, low: np.float32, scale: np.float32) -> int:
    """Return the level of a height, which never falls as the height rises."""
    return int((height - low) * scale)


@compiled
def make_room(
    room: Indices,
    state: LabelArray,
    shore: LabelArray,
    heights: FloatArray,
    low: np.float32,
    scale: np.float32,
) -> None:
    """Count, after a 0, the pixels of each level that may be queued: open ones, and `shore`."""
    for place in range(state.size):
        if state[place] < 0:
            room[level_of(heights[place], low, scale) + 1] += 1
    for at in range(shore.size):
        room[level_of(heights[shore[at]], low, scale) + 1] += 1


@compiled
def rank_of(bits: np.int64) -> np.int64:
    """Return an integer that increases with the float32 of these bits."""
    return bits ^ 0xFFFFFFFF if bits >> 31 else bits | 0x80000000


@compiled
def put(heap: Indices, size: int, key: int) -> None:
    """Insert a number into a heap of `size` numbers, whose lowest is the first."""
    at = size
    while at > 0 and heap[(at - 1) >> 1] > key:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = key


@compiled
def drop_first(heap: Indices, size: int) -> None:
    """Remove the first number of a heap, in which `size` numbers remain."""
    last, at, child = heap[size], 0, 1
    while child < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= last:
            break
        heap[at] = heap[child]
        at, child = child, 2 * child + 1
    heap[at] = last


@compiled
def flood(
    state: LabelArray,
    heights: FloatArray,
    bits: NDArray[np.uint32],
    steps: Indices,
    low: np.float32,
    scale: np.float32,
    queue: LabelArray,
    first: Indices,
    last: Indices,
    heap: Indices,
    below: LabelArray,
) -> None:
    """Flood open pixels, the lowest first, and equal heights in the order of arrival.

    Pixels no higher than the current height come last at that height. Levels are processed upwards;
    within a level, a heap of heights and queue positions determines the order.

    Parameters
    ----------
    state : (pixels,) int32, changed
    heights, bits : (pixels,) the same memory, as numbers and as their bits
    steps : offsets of the neighbours
    low, scale : as for `level_of`
    queue : room for the pixels of all levels, with the initial ones filled in
    first, last : (levels,) where in `queue` the pixels of each level begin, and end so far
    heap, below : room for as many pixels as `queue` has
    """
    for level in range(first.size):
        size = done = came = 0
        height = np.int64(-1)
        for slot in range(first[level], last[level]):
            rank = rank_of(np.int64(bits[queue[slot]]))
            put(heap, size, (rank << SLOT_BITS) | (slot - first[level]))
            size += 1
        while done < came or size > 0:
            if done < came and (size == 0 or heap[0] >> SLOT_BITS > height):
                place = below[done]
                done += 1
            else:
                height = heap[0] >> SLOT_BITS
                place = queue[first[level] + (heap[0] & ((1 << SLOT_BITS) - 1))]
                size -= 1
                drop_first(heap, size)
            for step in steps:
                there = place + step
                if state[there] >= 0:
                    continue
                state[there] = state[place]
                if not _is_beside_open(state, steps, there):
                    continue
                rank = rank_of(np.int64(bits[there]))
                if rank <= height:
                    below[came] = there
                    came += 1
                else:
                    its = level_of(heights[there], low, scale)
                    queue[last[its]] = there
                    if its == level:
                        put(heap, size, (rank << SLOT_BITS) | (last[its] - first[level]))
                        size += 1
                    last[its] += 1


@compiled
def along_rows(
    values: FloatArray,
    kernel: FloatArray,
    sign: float,
    place: Indices,
    line: FloatArray,
    out: FloatArray,
) -> None:
    """Correlate each row with a symmetric or antisymmetric kernel.

    The sum starts in the middle and continues from the ends, as in ``scipy.ndimage.correlate1d``.

    Parameters
    ----------
    values, out : (y, x) float64
    kernel : (4 n + 1,) float64
    sign : 1 for a symmetric kernel, -1 for an antisymmetric one
    place : (x + 4 n,) the column to read for each, including those beyond the edges
    line : (x + 4 n,) working memory
    """
    reach, width = kernel.size // 2, values.shape[1]
    for y in range(values.shape[0]):
        for x in range(line.size):
            line[x] = values[y, place[x]]
        row, middle = out[y], line[reach : reach + width]
        for x in range(width):
            row[x] = middle[x] * kernel[reach]
        for j in range(0, reach, 2):
            far, weights = 2 * reach - j, (kernel[j], kernel[j + 1])
            outer = line[j : j + width], line[far : far + width]
            inner = line[j + 1 : j + 1 + width], line[far - 1 : far - 1 + width]
            _add_two(row, outer, inner, weights, sign)


@compiled
def along_columns(
    values: FloatArray, kernel: FloatArray, sign: float, place: Indices, out: FloatArray
) -> None:
    """Correlate each column with a kernel, as `along_rows` does each row."""
    reach = kernel.size // 2
    for y in range(values.shape[0]):
        row, middle = out[y], values[y]
        for x in range(row.size):
            row[x] = middle[x] * kernel[reach]
        for j in range(0, reach, 2):
            far, weights = y + 2 * reach - j, (kernel[j], kernel[j + 1])
            outer = values[place[y + j]], values[place[far]]
            inner = values[place[y + j + 1]], values[place[far - 1]]
            _add_two(row, outer, inner, weights, sign)


@compiled
def _add_two(
    row: FloatArray,
    outer: tuple[FloatArray, FloatArray],
    inner: tuple[FloatArray, FloatArray],
    weights: tuple[float, float],
    sign: float,
) -> None:
    # two at once, so that the row is read and written half as often
    (one, other), (near, far) = outer, inner
    for x in range(row.size):
        first = row[x] + (one[x] + sign * other[x]) * weights[0]
        row[x] = first + (near[x] + sign * far[x]) * weights[1]
