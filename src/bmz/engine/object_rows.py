"""The table of the objects of an image, measured block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bmz.base.boxes import Box
from bmz.engine.label_stack import Labels, LabelStack
from bmz.image.pixels import Pixels
from bmz.image.region import ImageSource
from bmz.process.measure import Table, measure_objects, placed


def measured_in_blocks(labels: LabelStack, image: ImageSource) -> Iterator[Table]:
    """Measure every object in the block in which it begins.

    Yields
    ------
    dict of (n,) arrays
        as `bmz.process.measure.measure_objects` gives it for the whole, by label: of all blocks
        of a plane that lie side by side, since labels are numbered from the top; of all of a
        stack, or of a plane whose labels were joined to those of others, where they are not
    """
    together = "z" in labels.space or labels.renumbered is not None
    for number, at in enumerate(labels.positions()):
        part = labels.parts[number]
        high = part.block[0] if not together else max(part.size[-2], 1)
        for top in range(0, part.size[-2], high):
            rows = slice(top, min(top + high, part.size[-2]))
            yield _of_rows(labels, number, image, rows, at)


def _of_rows(
    labels: LabelStack, number: int, image: ImageSource, rows: slice, at: Mapping[str, int]
) -> Table:
    tables = list(_blocks(labels, labels.parts[number], image, rows, at))
    whole = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    whole["label"] = labels.in_whole(number, whole["label"])
    order = np.argsort(whole["label"], kind="stable")
    whole = {name: column[order] for name, column in whole.items()}
    return placed(whole, at, _lengths(image, labels.axes))


def _blocks(
    labels: LabelStack, part: Labels, image: ImageSource, rows: slice, at: Mapping[str, int]
) -> Iterator[Table]:
    """Measure the objects that begin in some rows of a plane or stack, block by block."""
    scores = part.found.scores_by(part.numbers)
    first = part.found.first_by(part.numbers)
    places = np.unravel_index(first, part.stored.shape)[-2:]
    # a coarse map ends beyond the image, and an object may begin there
    begins = [np.minimum(place, end - 1) for place, end in zip(places, part.size[-2:], strict=True)]
    sizes = dict(zip(labels.space, part.size, strict=True))
    um = _lengths(image, labels.space)
    plane = {axis: slice(i, i + 1) for axis, i in at.items()}
    for core in _cores(part, rows):
        inside = np.ones(len(first), np.bool_)
        for begin, side in zip(begins, core, strict=True):
            inside &= (begin >= side.start) & (begin < side.stop)
        if core[0].start + core[1].start > rows.start and not inside.any():
            continue  # the first one gives the headings even so
        seen = _widened(core, part.overlap, part.size[-2:])
        found = part[(*(slice(0, n) for n in part.size[:-2]), *seen)]
        owned = np.where(np.append(False, inside)[found], found, 0)
        box = {**plane, **dict(zip("yx", seen, strict=True))}
        shown = image.region(box).part(dict.fromkeys(plane, 0))
        mine = Pixels(owned, tuple(labels.space), um)
        yield _moved(measure_objects(mine, shown, scores), box, sizes, um)


def _lengths(image: ImageSource, axes: str) -> dict[str, float]:
    return {axis: um for axis, um in image.info.pixel_um.items() if axis in axes}


def _cores(part: Labels, rows: slice) -> Iterator[tuple[slice, slice]]:
    high, wide = part.block
    for top in range(rows.start, rows.stop, high):
        for left in range(0, part.size[-1], wide):
            y = slice(top, min(top + high, rows.stop))
            yield y, slice(left, min(left + wide, part.size[-1]))


def _widened(core: Box, overlap: tuple[int, int], size: Sequence[int]) -> tuple[slice, slice]:
    y, x = (
        slice(max(side.start - more, 0), min(side.stop + more, n))
        for side, more, n in zip(core, overlap, size, strict=True)
    )
    return y, x


def _moved(
    table: Table, box: Mapping[str, slice], sizes: Mapping[str, int], um: Mapping[str, float]
) -> Table:
    """Bring places within a part to those within the image."""
    moved = dict(table)
    touches = np.zeros(len(table["label"]), np.bool_)
    for axis in sizes:
        start = box[axis].start if axis in box else 0
        moved[f"centroid_{axis}_px"] = table[f"centroid_{axis}_px"] + start
        if axis in um:
            moved[f"centroid_{axis}_um"] = moved[f"centroid_{axis}_px"] * um[axis]
        for end in ("min", "max"):
            moved[f"bbox_{axis}_{end}_px"] = table[f"bbox_{axis}_{end}_px"] + start
        if sizes[axis] > 1:
            touches |= moved[f"bbox_{axis}_min_px"] == 0
            touches |= moved[f"bbox_{axis}_max_px"] == sizes[axis]
    return {**moved, "touches_border": touches}
