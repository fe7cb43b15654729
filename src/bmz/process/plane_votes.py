"""Consensus of the objects of a stack found along z, y and x: three masks become one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from bmz.base import ndimage
from bmz.base.arrays import AnyArray, BoolArray, LabelArray
from bmz.base.axes import Box
from bmz.base.values import dataclass

VOTES = 2
"""Number of masks that must contain an object, or a voxel of it, for it to be kept."""

SAME_IOU = 0.75
"""Objects of several masks with a higher IoU are the same object."""

LEAST_IOU, LEAST_OVERLAP = 0.01, 100
"""Objects touch if their IoU or their number of shared voxels exceeds these."""

Node = tuple[int, int]
"""An object: the number of its mask, and its label."""

Pairs = dict[tuple[Node, Node], tuple[float, float]]
"""Intersection over union, and number of shared voxels, of objects of two masks."""


@dataclass(frozen=True)
class Voted:
    """What several masks agree on.

    Parameters
    ----------
    labels : (z, y, x) int32, 0 background, 1 to n
    numbers : for each mask, (its labels + 1,) the new number of its object k at k; 0 for an object
        that no other mask confirms
    """

    labels: LabelArray
    numbers: Sequence[AnyArray]


def voted(masks: Sequence[LabelArray]) -> Voted:
    """Keep the objects found in most of three masks, each with the voxels found in two of them.

    Objects that overlap by more than `SAME_IOU` form a group. Groups that touch become one object
    if the group with most neighbours is as large as any of them; otherwise that group is added to
    each of them. Objects found in only one mask are dropped.

    Source: empanada 0.1.7, ``empanada.consensus.merge_objects_from_trackers`` (Conrad and Narayan
    2023, doi 10.1016/j.cels.2022.12.006), with its defaults.

    Parameters
    ----------
    masks : (z, y, x) integers of one shape, 0 background, each numbered independently
    """
    sizes = [np.bincount(mask.reshape(-1)) for mask in masks]
    pairs = _pairs(masks, sizes)
    boxes = [ndimage.find_objects(mask) for mask in masks]
    labels = np.zeros(masks[0].shape, np.int32)
    numbers = [np.zeros(len(size), np.int64) for size in sizes]
    count = 0
    for nodes in _connected({node for pair in pairs for node in pair}, pairs):
        groups = [group for group in _groups(nodes, pairs) if len(group) >= VOTES]
        known = [(group, *_majority(group, masks, boxes)) for group in groups]
        found = [one for one in known if one[2].any()]
        for together in _overlapping(found):
            count += 1
            for group, box, own in (found[k] for k in together):
                labels[box][own] = count
                for mask, label in group:
                    numbers[mask][label] = count
    return Voted(labels, numbers)


def _pairs(masks: Sequence[LabelArray], sizes: Sequence[AnyArray]) -> Pairs:
    pairs: Pairs = {}
    for one, other in combinations(range(len(masks)), 2):
        both = (masks[one] > 0) & (masks[other] > 0)
        ends = np.stack([masks[one][both], masks[other][both]]).astype(np.int64)
        known, shared = np.unique(ends, axis=1, return_counts=True)
        for a, b, px in zip(*known.tolist(), shared.tolist(), strict=True):
            whole = int(sizes[one][a] + sizes[other][b]) - px
            pairs[(one, a), (other, b)] = px / whole, float(px)
    return pairs


def _connected(nodes: set[Node], edges: Mapping[tuple[Node, Node], object]) -> Iterator[list[Node]]:
    near: dict[Node, list[Node]] = {node: [] for node in nodes}
    for a, b in edges:
        near[a].append(b)
        near[b].append(a)
    seen = set[Node]()
    for node in sorted(nodes):
        if node in seen:
            continue
        waiting, part = [node], list[Node]()
        seen.add(node)
        while waiting:
            part.append(waiting.pop())
            more = [other for other in near[part[-1]] if other not in seen]
            seen.update(more)
            waiting += more
        yield sorted(part)


def _groups(nodes: Sequence[Node], pairs: Pairs) -> list[set[Node]]:
    """Group touching objects into those that most masks consider one."""
    own = set(nodes)
    here = {pair: known for pair, known in pairs.items() if pair[0] in own}
    same = {pair: known for pair, known in here.items() if known[0] > SAME_IOU}
    clusters = [set(part) for part in _connected(own, same)]
    near: dict[int, set[int]] = {k: set() for k in range(len(clusters))}
    for a, b in combinations(range(len(clusters)), 2):
        between = [
            here.get((min(m, n), max(m, n)), (0.0, 0.0)) for m in clusters[a] for n in clusters[b]
        ]
        iou, overlap = np.mean(between, axis=0)
        if iou > LEAST_IOU or overlap > LEAST_OVERLAP:
            near[a].add(b)
            near[b].add(a)
    return _merged(clusters, near)


def _merged(clusters: list[set[Node]], near: dict[int, set[int]]) -> list[set[Node]]:
    left = dict(enumerate(clusters))
    while any(near.values()):
        most = max(left, key=lambda k: (len(near[k]), -k))
        others = sorted(near[most], key=lambda k: (-len(left[k]), k))
        if len(left[others[0]]) > len(left[most]):
            # not an object of its own, but a bridge between its neighbours
            for other in others:
                left[other] = left[other] | left[most]
                near[other].discard(most)
            del left[most]
            near[most] = set()
            continue
        for other in others:
            left[most] = left[most] | left[other]
            for further in near[other]:
                near[further].discard(other)
            del left[other]
            near[other] = set()
    return list(left.values())


def _majority(
    group: set[Node], masks: Sequence[LabelArray], boxes: Sequence[Sequence[Box]]
) -> tuple[Box, BoolArray]:
    """Return the box around a group, and the voxels in it that enough of its objects contain."""
    sides = [boxes[mask][label - 1] for mask, label in group]
    around: Box = tuple(
        slice(min(side[k].start for side in sides), max(side[k].stop for side in sides))
        for k in range(masks[0].ndim)
    )
    votes = np.zeros([side.stop - side.start for side in around], np.uint8)
    for mask, label in group:
        votes += masks[mask][around] == label
    return around, votes >= VOTES


def _overlapping(found: Sequence[tuple[set[Node], Box, BoolArray]]) -> Iterator[list[int]]:
    """Yield groups of objects that share enough voxels to be one."""
    edges: dict[tuple[Node, Node], object] = {}
    for a, b in combinations(range(len(found)), 2):
        (_, one_box, one), (_, other_box, other) = found[a], found[b]
        shared = _shared(one_box, one, other_box, other)
        iou = shared / (np.count_nonzero(one) + np.count_nonzero(other) - shared)
        if iou > LEAST_IOU or shared > LEAST_OVERLAP:
            edges[(0, a), (0, b)] = None
    for part in _connected({(0, k) for k in range(len(found))}, edges):
        yield [k for _, k in part]


def _shared(one_box: Box, one: BoolArray, other_box: Box, other: BoolArray) -> int:
    inner = [
        (max(a.start, b.start), min(a.stop, b.stop))
        for a, b in zip(one_box, other_box, strict=True)
    ]
    if any(low >= high for low, high in inner):
        return 0
    parts = [
        own[
            tuple(
                slice(low - s.start, high - s.start)
                for (low, high), s in zip(inner, box, strict=True)
            )
        ]
        for box, own in ((one_box, one), (other_box, other))
    ]
    return int(np.count_nonzero(parts[0] & parts[1]))
