"""Link labels of neighbouring planes and frames, and measure tracks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray, FloatArray, LazyArray
from bmz.base.axes import Box, Link, boxes
from bmz.base.values import dataclass
from bmz.process.measure import Table, stacked

Integers = NDArray[np.int64]

BOX_PX = 2048
"""Side length along y and x of the boxes that are compared at once."""

_BITS = 32
"""Number of bits of a label; two labels make one key."""


@dataclass(frozen=True)
class Overlaps:
    """Overlaps between objects of two masks, one entry per pair that shares a pixel.

    Parameters
    ----------
    one, other : (n,) labels of each pair
    shared : (n,) number of shared pixels
    first : (n,) position of the first shared pixel in raster order
    """

    one: Integers
    other: Integers
    shared: Integers
    first: Integers

    def matches(self, one_px: Integers, other_px: Integers, iou: float) -> tuple[AnyArray, ...]:
        """Pair objects one to one, the largest overlaps first.

        Among pairs of equal overlap, the first one in the image is chosen, so that the result
        does not depend on how objects are numbered.

        Parameters
        ----------
        one_px, other_px : number of pixels of each object, by label; 0 excludes the object
        iou : minimum intersection over union

        Returns
        -------
        (m,), (m,)
            labels in the first and in the second mask
        """
        whole = one_px[self.one] + other_px[self.other] - self.shared
        known = (one_px[self.one] > 0) & (other_px[self.other] > 0)
        ious = np.where(known, self.shared / np.maximum(whole, 1), 0.0)
        enough = np.flatnonzero(ious >= iou)
        order = enough[np.lexsort((self.first[enough], -ious[enough]))]
        taken_one, taken_other, pairs = set[int](), set[int](), []
        for i, a, b in zip(order, self.one[order], self.other[order], strict=True):
            if a not in taken_one and b not in taken_other:
                taken_one.add(a)
                taken_other.add(b)
                pairs.append(i)
        chosen = np.array(pairs, np.int64)
        return self.one[chosen], self.other[chosen]


@dataclass
class _Position:
    """One mask of a chain, the numbers of its objects, and which of them end in this mask."""

    labels: LazyArray
    px: Integers
    numbers: Integers
    ended: NDArray[np.bool_]

    def open_px(self) -> Integers:
        return np.where(self.ended, self.px, 0)


def linked_chain(chain: Iterable[LazyArray], iou: float, gap: int = 0) -> list[Integers]:
    """Link objects by their overlap, so that each keeps its number through a chain of masks.

    Objects of neighbouring masks are paired one to one, the largest overlaps first, without
    splits or merges: two objects of a mask never share a number. With a gap of 1, an object
    without a partner in the previous mask is then compared with the unpaired objects of the mask
    before that. Cellpose's ``stitch3D`` compares in the same way, without gaps. At most
    ``gap + 2`` masks are held at a time.

    Source: Cellpose 3.1, ``cellpose.utils.stitch3D``; here no number is ever assigned twice.

    Parameters
    ----------
    chain : masks of one shape in order, each numbered independently
    iou : minimum intersection over union of linked objects
    gap : number of consecutive masks in which an object may be missing

    Returns
    -------
    list of (n + 1,) int64
        for each mask, the number of label k at index k, from 1 in order of first appearance; 0
        for the background and for labels without pixels
    """
    before: deque[_Position] = deque(maxlen=gap + 1)
    results: list[Integers] = []
    count = 0
    for labels in chain:
        px, overlaps = _counted(labels, [position.labels for position in before])
        numbers = np.zeros(len(px), np.int64)
        for position, overlap in zip(before, overlaps, strict=True):
            mine = np.where(numbers == 0, px, 0)
            theirs, own = overlap.matches(position.open_px(), mine, iou)
            numbers[own] = position.numbers[theirs]
            position.ended[theirs] = False
        new = (px > 0) & (numbers == 0)
        numbers[new] = count + np.arange(1, np.count_nonzero(new) + 1)
        count += int(np.count_nonzero(new))
        before.appendleft(_Position(labels, px, numbers, px > 0))
        results.append(numbers)
    return results


def _counted(labels: LazyArray, others: Sequence[LazyArray]) -> tuple[Integers, list[Overlaps]]:
    """Count the pixels of each object of a mask, and its overlaps with objects of other masks."""
    px = np.zeros(1, np.int64)
    shared: list[list[tuple[Integers, ...]]] = [[] for _ in others]
    sides = (*(1 for _ in labels.shape[:-2]), BOX_PX, BOX_PX)
    for box in boxes(labels.shape, sides):
        mine = np.asarray(labels[box])
        px = _added(px, np.bincount(mine.reshape(-1)))
        if not mine.any():
            continue
        for pairs, other in zip(shared, others, strict=True):
            pairs.append(_pairs(np.asarray(other[box]), mine, box, labels.shape))
    return px, [_summed(pairs) for pairs in shared]


def _added(one: Integers, other: AnyArray) -> Integers:
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    total = longer.astype(np.int64)
    total[: len(shorter)] += shorter
    total[0] = 0
    return total


def _pairs(one: AnyArray, other: AnyArray, box: Box, shape: Sequence[int]) -> tuple[Integers, ...]:
    """Return the pairs that share pixels, the first position of each in the whole, and counts."""
    at = np.flatnonzero((one > 0) & (other > 0))
    keys = one.reshape(-1)[at].astype(np.int64) << _BITS | other.reshape(-1)[at].astype(np.int64)
    pairs, first, counts = np.unique(keys, return_index=True, return_counts=True)
    places = np.unravel_index(at[first], one.shape)
    moved = tuple(place + side.start for place, side in zip(places, box, strict=True))
    return pairs, np.ravel_multi_index(moved, tuple(shape)).astype(np.int64), counts


def _summed(parts: Sequence[tuple[Integers, ...]]) -> Overlaps:
    empty = np.zeros(0, np.int64)
    keys, first, counts = (np.concatenate([empty, *columns]) for columns in _columns(parts))
    pairs, own = np.unique(keys, return_inverse=True)
    shared = np.bincount(own, counts, minlength=len(pairs)).astype(np.int64)
    least = np.full(len(pairs), np.iinfo(np.int64).max)
    np.minimum.at(least, own, first)
    return Overlaps(pairs >> _BITS, pairs & (2**_BITS - 1), shared, least)


def _columns(parts: Sequence[tuple[Integers, ...]]) -> Iterator[list[Integers]]:
    for column in range(3):
        yield [part[column] for part in parts]


@dataclass(frozen=True)
class _Unit:
    """Masks that have been linked so far: a plane, or the planes of a stack.

    Parameters
    ----------
    at : position along the axes that have not been linked yet
    members : positions of the masks in the order of the call
    numbers : for each mask, the number of label k at index k; None while it is still k
    """

    at: Mapping[str, int]
    members: tuple[int, ...]
    numbers: tuple[Integers | None, ...]


@dataclass(frozen=True)
class _Joined:
    """The masks of a unit as a single array, with the numbers of the unit."""

    masks: Sequence[LazyArray]
    numbers: Sequence[Integers | None]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.masks), *self.masks[0].shape)

    def __getitem__(self, box: Box) -> AnyArray:
        return np.stack([self._part(i, box[1:]) for i in range(*box[0].indices(len(self.masks)))])

    def _part(self, which: int, box: Box) -> AnyArray:
        part, numbers = np.asarray(self.masks[which][box]), self.numbers[which]
        return part if numbers is None else numbers[part]


def link_labels(masks: Sequence[LazyArray], loop: Mapping[str, int], link: Link) -> list[Integers]:
    """Assign numbers to the objects of all masks of an image; linked objects share a number.

    Planes are first linked into stacks, within each frame; then frames are linked into tracks of
    3D objects if z is linked, and of the objects of each plane otherwise.

    Parameters
    ----------
    masks : ((z,) y, x) of one shape, one for each position along the axes of `loop`, the last
        axis fastest; each numbered independently
    loop : number of positions along t and z
    link : the axes to link, and how

    Returns
    -------
    list of (n + 1,) int64
        for each mask, the number of label k at index k: 1 to the number of objects, in order of
        first appearance

    Raises
    ------
    ValueError
        There is no axis along which masks can be linked.
    """
    places = np.ndindex(*loop.values())
    units = [
        _Unit(dict(zip(loop, place, strict=True)), (number,), (None,))
        for number, place in enumerate(places)
    ]
    for axis in link.over(loop).ious:
        units = _joined_along(axis, units, masks, link)
    return _numbered(units)


def _joined_along(
    axis: str, units: Sequence[_Unit], masks: Sequence[LazyArray], link: Link
) -> list[_Unit]:
    chains: dict[tuple[int, ...], list[_Unit]] = {}
    for unit in units:
        rest = tuple(position for other, position in unit.at.items() if other != axis)
        chains.setdefault(rest, []).append(unit)
    return [_as_one(axis, chain, masks, link) for chain in chains.values()]


def _as_one(axis: str, chain: Sequence[_Unit], masks: Sequence[LazyArray], link: Link) -> _Unit:
    views = [_Joined([masks[m] for m in unit.members], unit.numbers) for unit in chain]
    chained = linked_chain(views, link.ious[axis], link.gap)
    numbers = [
        new if old is None else new[old]
        for unit, new in zip(chain, chained, strict=True)
        for old in unit.numbers
    ]
    at = {other: position for other, position in chain[0].at.items() if other != axis}
    members = tuple(member for unit in chain for member in unit.members)
    return _Unit(at, members, tuple(numbers))


def _numbered(units: Sequence[_Unit]) -> list[Integers]:
    """Assign numbers to the objects of all units, in order of the mask of first appearance."""
    results: list[Integers] = []
    finals: dict[int, Integers] = {}
    count = 0
    for unit, own in _by_mask(units):
        if id(unit) not in finals:
            most = max(int(n.max(initial=0)) for n in unit.numbers if n is not None)
            finals[id(unit)] = np.zeros(most + 1, np.int64)
        final = finals[id(unit)]
        new = np.unique(own[(own > 0) & (final[own] == 0)])
        # in the order of the labels of this mask
        order = own[np.sort(_first_index(own, new))]
        final[order] = count + np.arange(1, len(order) + 1)
        count += len(order)
        results.append(final[own])
    return results


def _by_mask(units: Sequence[_Unit]) -> Iterator[tuple[_Unit, Integers]]:
    whole = [
        (member, unit, numbers)
        for unit in units
        for member, numbers in zip(unit.members, unit.numbers, strict=True)
    ]
    for _, unit, numbers in sorted(whole, key=lambda entry: entry[0]):
        if numbers is None:
            raise ValueError("there is no axis of the loop to join")
        yield unit, numbers


def _first_index(values: Integers, targets: Integers) -> Integers:
    known, first = np.unique(values, return_index=True)
    return first[np.searchsorted(known, targets)]


_SIZES = ("area_px", "area_um2", "volume_px", "volume_um3")


def measured_together(loop: Mapping[str, int], apart: str) -> list[list[int]]:
    """Return the groups of masks to measure together: one per position along the axes of `apart`.

    Parameters
    ----------
    loop : number of positions along t and z; masks are in this order, the last axis fastest
    apart : letters of axes whose positions are measured separately

    Examples
    --------
    >>> measured_together({"t": 2, "z": 2}, "t")
    [[0, 1], [2, 3]]
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, place in enumerate(np.ndindex(*loop.values())):
        at = dict(zip(loop, place, strict=True))
        groups.setdefault(tuple(at[a] for a in loop if a in apart), []).append(number)
    return list(groups.values())


def with_track(table: Table) -> Table:
    """Return the table with a column for the track of each object, which is its label."""
    return {"label": table["label"], "track": table["label"], **table}


def measure_tracks(tables: Iterable[Table]) -> Table:
    """Measure every track: its frames, mean size and intensity, and the distance that it covers.

    Parameters
    ----------
    tables : tables of `bmz.process.measure.measure_objects` with columns t and track; each object
        has one row per frame

    Returns
    -------
    dict of (n,) arrays
        one row per track: first and last frame, number of frames with the object, means over
        these frames of size and mean intensity, the straight distance from the first to the last
        position (displacement) and the sum of distances between frames (path), in px along all
        spatial axes, and in um if the pixel size is known; whether it ever touches the border
    """
    rows = stacked([columns_of_tracks(table) for table in tables])
    order = np.lexsort((rows["t"], rows["track"]))
    rows = {name: column[order] for name, column in rows.items()}
    track, first, frames = np.unique(rows["track"], return_index=True, return_counts=True)
    last = first + frames - 1
    return {
        "track": track,
        **({"z": rows["z"][first]} if "z" in rows else {}),
        "first_t": rows["t"][first],
        "last_t": rows["t"][last],
        "frames": frames,
        **{f"{name}_mean": _means(rows[name], first, frames) for name in _SIZES if name in rows},
        **_ways(rows, first, last, "px"),
        **_ways(rows, first, last, "um"),
        "touches_border": _sums(rows["touches_border"], first) > 0,
        **{
            name: _means(rows[name], first, frames)
            for name in rows
            if name.startswith("intensity_mean")
        },
    }


def columns_of_tracks(table: Table) -> Table:
    """Return only the columns of a table of objects that `measure_tracks` needs."""
    names = ("t", "z", "track", "touches_border", *_SIZES)
    starts = ("centroid_", "intensity_mean")
    return {n: column for n, column in table.items() if n in names or n.startswith(starts)}


def _sums(column: AnyArray, first: NDArray[np.intp]) -> FloatArray:
    values = column.astype(np.float64)
    sums: FloatArray = np.add.reduceat(values, first) if len(first) else values
    return sums


def _means(column: AnyArray, first: NDArray[np.intp], frames: AnyArray) -> FloatArray:
    return _sums(column, first) / frames


def _ways(rows: Table, first: NDArray[np.intp], last: NDArray[np.intp], unit: str) -> Table:
    """Return displacement and path of each track; an empty table if the unit is not available."""
    axes = [axis for axis in "zyx" if f"centroid_{axis}_px" in rows]
    names = [f"centroid_{axis}_{unit}" for axis in axes]
    if not set(names) <= set(rows):
        return {}
    places = np.stack([rows[name] for name in names], axis=-1)
    steps = np.linalg.norm(np.diff(places, axis=0, prepend=places[:1]), axis=-1)
    steps[first] = 0  # not from the end of the previous track
    return {
        f"displacement_{unit}": np.linalg.norm(places[last] - places[first], axis=-1),
        f"path_{unit}": _sums(steps, first),
    }
