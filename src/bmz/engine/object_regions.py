"""Iterate over regions of a label mask that contain whole objects, and measure these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bmz.base.arrays import AnyArray, BoolArray, FloatArray
from bmz.base.axes import Neighbourhood
from bmz.engine.label_stack import Labels, LabelStack
from bmz.image.pixels import Pixels
from bmz.image.region import ImageSource
from bmz.process.measure import Table, measure_objects, placed
from bmz.process.neighbours import Contacts, Neighbours, contacts_in, summed_contacts
from bmz.process.object_columns import NO_COLUMNS, OUTLINE, Columns
from bmz.write.result import Region


def bands(labels: LabelStack) -> Iterator[tuple[int, Mapping[str, int], slice]]:
    """Iterate over the rows of blocks of a mask whose objects are processed together.

    In a plane, each band is one row of blocks, since labels are numbered from the top. In a stack,
    or in a plane whose labels were joined to those of others, labels are not in this order, and
    all blocks form one band.

    Yields
    ------
    int, dict, slice
        the number of the part of the mask, its position along the axes of the loop, and the rows
    """
    together = "z" in labels.space or labels.renumbered is not None
    for number, at in enumerate(labels.positions()):
        part = labels.parts[number]
        high = part.block[0] if not together else max(part.size[-2], 1)
        for top in range(0, part.size[-2], high):
            yield number, at, slice(top, min(top + high, part.size[-2]))


def object_regions(labels: LabelStack) -> Iterator[tuple[Mapping[str, int], Iterator[Region]]]:
    """Yield the position along the axes of the loop and the regions of each of the `bands`."""
    for number, at, rows in bands(labels):
        yield at, _regions(labels, number, rows)


def _regions(labels: LabelStack, number: int, rows: slice) -> Iterator[Region]:
    part = labels.parts[number]
    planes = tuple(slice(0, n) for n in part.size[:-2])
    for y, x, own in part.cores(rows):
        if not own.any():
            continue
        window = part.window((y, x))
        numbers = part[(*planes, *window)]
        if not own[1:].all():
            numbers = np.where(own[numbers], numbers, 0)
        yield Region(labels.in_whole(number, numbers), window[0].start, window[1].start)


def measured_in_blocks(
    labels: LabelStack, image: ImageSource, near: Neighbourhood | None = None
) -> Iterator[Table]:
    """Measure every object in the block in which it begins.

    Parameters
    ----------
    near : what counts as a neighbour, for columns of neighbours; None for no such columns

    Yields
    ------
    dict of (n,) arrays
        table of each of the `bands`, sorted by label, with the columns that
        `bmz.process.measure.measure_objects` computes for a whole image
    """
    known: tuple[int, Columns] = (-1, NO_COLUMNS)
    for number, at, rows in bands(labels):
        if near is not None and number != known[0]:
            neighbours = neighbours_of(labels, number, _lengths(image, labels.space), near)
            known = number, neighbours.columns(_names(labels, number))
        yield _of_rows(labels, number, image, rows, at, known[1])


def edges_in_blocks(labels: LabelStack, image: ImageSource, near: Neighbourhood) -> Iterator[Table]:
    """Iterate over tables of the pairs of neighbours of each plane or stack.

    Yields
    ------
    dict of (p,) arrays
        table of `bmz.process.neighbours.Neighbours.edges`, with the position along the loop
    """
    um = _lengths(image, labels.axes)
    for number, at in enumerate(labels.positions()):
        neighbours = neighbours_of(labels, number, _lengths(image, labels.space), near)
        for edges in neighbours.edges(_names(labels, number)):
            yield placed(edges, at, um)


def neighbours_of(
    labels: LabelStack, number: int, um: Mapping[str, float], near: Neighbourhood
) -> Neighbours:
    """Find the neighbours of the objects of one plane or stack, block by block."""
    part = labels.parts[number]
    planes = tuple(slice(0, n) for n in part.size[:-2])
    found: list[Contacts] = []
    for y, x, own in part.cores(slice(0, part.size[-2])):
        if found and not own.any():
            continue
        window = (*planes, *part.window((y, x), margin=1))
        found.append(contacts_in(part[window], [side.start for side in window], own))
    return Neighbours.of(summed_contacts(found), labels.space, um, near)


def _names(labels: LabelStack, number: int) -> AnyArray:
    """Return the number in the whole image of each label of a part, at its own number."""
    return labels.in_whole(number, np.arange(labels.parts[number].count + 1))


def _of_rows(
    labels: LabelStack,
    number: int,
    image: ImageSource,
    rows: slice,
    at: Mapping[str, int],
    known: Columns,
) -> Table:
    tables = list(_blocks(labels, labels.parts[number], image, rows, at))
    whole = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    whole |= {name: column[whole["label"] - 1] for name, column in known.items()}
    whole["label"] = labels.in_whole(number, whole["label"])
    order = np.argsort(whole["label"], kind="stable")
    whole = {name: column[order] for name, column in whole.items()}
    return placed(whole, at, _lengths(image, labels.axes))


def _blocks(
    labels: LabelStack, part: Labels, image: ImageSource, rows: slice, at: Mapping[str, int]
) -> Iterator[Table]:
    """Measure the objects that begin in some rows of a plane or stack, block by block."""
    columns = part.objects.columns_by(part.numbers, {*part.objects.headings} - {OUTLINE})
    sizes = dict(zip(labels.space, part.size, strict=True))
    um = _lengths(image, labels.space)
    plane = {axis: slice(i, i + 1) for axis, i in at.items()}
    for y, x, own in part.cores(rows):
        if y.start + x.start > rows.start and not own.any():
            continue  # the first block is measured anyway, for its headings
        window = part.window((y, x))
        owned = _owned(part, window, own)
        box = {**plane, **dict(zip("yx", window, strict=True))}
        shown = image.region(box).part(dict.fromkeys(plane, 0))
        mine = Pixels(owned, tuple(labels.space), um)
        measured = _moved(measure_objects(mine, shown, columns), box, sizes, um)
        yield _with_confidences(measured, part.confidences)


def _owned(part: Labels, window: tuple[slice, slice], own: BoolArray) -> AnyArray:
    """Return the labels of a window, of which only those that begin in its block are left."""
    numbers = part[(*(slice(0, n) for n in part.size[:-2]), *window)]
    return np.where(own[numbers], numbers, 0)


def _with_confidences(table: Table, confidences: FloatArray | None) -> Table:
    """Insert a column with the confidence of each object before the intensity columns."""
    if confidences is None:
        return table
    column = confidences.astype(np.float64)[table["label"] - 1]
    names = list(table)
    first = next(i for i, name in enumerate(names) if name.startswith("intensity_"))
    before, after = ({n: table[n] for n in some} for some in (names[:first], names[first:]))
    return {**before, "confidence": column, **after}


def _lengths(image: ImageSource, axes: str) -> dict[str, float]:
    return {axis: um for axis, um in image.info.pixel_um.items() if axis in axes}


def _moved(
    table: Table, box: Mapping[str, slice], sizes: Mapping[str, int], um: Mapping[str, float]
) -> Table:
    """Convert positions within a region to positions within the image."""
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
