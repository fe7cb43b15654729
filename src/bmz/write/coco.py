"""The output kind ``coco``: objects as COCO instances with compressed run-length encoding."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bmz.base.arrays import AnyArray
from bmz.base.errors import not_none
from bmz.base.values import dataclass
from bmz.process.object_columns import CLASS
from bmz.process.object_shapes import runs_of
from bmz.process.relabel import closed_up
from bmz.write.outlines import numbers_at
from bmz.write.result import Region, Result
from bmz.write.tables import as_json

Integers = NDArray[np.int64]

_AT_ONCE = 2048
"""Number of objects whose text is held in memory at once."""


def write_coco(result: Result, path: Path) -> None:
    """Write a COCO JSON document with one annotation per object and plane, sorted by label.

    Each plane of a stack or time series is a separate image with the additional fields ``t`` and
    ``z``, starting at 0. Each annotation has the additional field ``label``, its label in the mask,
    and ``info`` the pixel size and the provenance. Classes are categories.

    Source: https://cocodataset.org/#format-data
    """
    labels = not_none(result.labels)
    sizes = dict(zip(labels.axes, labels.shape, strict=True))
    planes = [axis for axis in labels.axes if axis not in "yx"]
    depths = [sizes[axis] for axis in planes]
    about = {"description": "made by bmz", "pixel_um": dict(result.pixel_um), **result.provenance}
    head = {"info": about, "images": _images(f"{result.provenance['image']}", sizes, planes)}
    categories: dict[str, int] = {}
    # file names need not be UTF-8; surrogates for undecodable bytes are escaped, as in JSON
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f'{json.dumps(as_json(head), ensure_ascii=False)[:-1]}, "annotations": [')
        number = 0
        for (at, regions), table in zip(result.regions(), result.rows("table"), strict=True):
            runs = _runs(regions, sizes["y"], [axis for axis in planes if axis not in at])
            rows = numbers_at(table, runs.labels)
            names = np.asarray(table[CLASS])[rows].tolist() if CLASS in table else None
            for start in range(0, len(rows), _AT_ONCE):
                some = range(start, min(start + _AT_ONCE, len(rows)))
                texts = compressed(runs, some, sizes["y"] * sizes["x"])
                for k, text in zip(some, texts, strict=True):
                    place = [at[axis] if axis in at else int(runs.z[k]) for axis in planes]
                    image = int(np.ravel_multi_index(place, depths)) + 1 if planes else 1
                    name = "object" if names is None else f"{names[k]}"
                    category = categories.setdefault(name, len(categories) + 1)
                    file.write("," if number else "")
                    number += 1
                    file.write(
                        f'\n{{"id": {number}, "image_id": {image}, "category_id": {category}, '
                        f'"label": {runs.labels[k]}, "iscrowd": 0, "area": {runs.areas[k]}, '
                        f'"bbox": {runs.box(k)}, "segmentation": '
                        f'{{"size": [{sizes["y"]}, {sizes["x"]}], "counts": {text}}}}}'
                    )
        kinds = [{"id": k, "name": name} for name, k in (categories or {"object": 1}).items()]
        file.write(f'\n], "categories": {json.dumps(kinds, ensure_ascii=False)}}}\n')


def _images(
    name: str, sizes: Mapping[str, int], planes: Sequence[str]
) -> list[dict[str, str | int]]:
    images: list[dict[str, str | int]] = []
    for place in np.ndindex(*(sizes[axis] for axis in planes)):
        at = dict(zip(planes, map(int, place), strict=True))
        number = len(images) + 1
        size = {"width": sizes["x"], "height": sizes["y"]}
        images.append({"id": number, "file_name": name, **size, **at})
    return images


@dataclass(frozen=True)
class ColumnRuns:
    """The pixels of objects as runs along y, in the order of labels, planes, x and y.

    Parameters
    ----------
    labels, z, areas : (n,) label, plane and area of each object in a plane
    boxes : (n, 4) minimum x and y, and maximum x and y plus 1
    firsts : (n + 1,) index of the first run of each object, and the number of runs
    starts, stops : (r,) start and stop of each run as column-major pixel indices of the plane
    """

    labels: Integers
    z: Integers
    areas: Integers
    boxes: Integers
    firsts: Integers
    starts: Integers
    stops: Integers

    def box(self, k: int) -> list[int]:
        """Return the bounding box of an object: x, y, width and height."""
        left, top, right, bottom = self.boxes[k].tolist()
        return [left, top, right - left, bottom - top]


def _runs(regions: Iterable[Region], height: int, space: Sequence[str]) -> ColumnRuns:
    """Find the runs of the objects of regions along y.

    Parameters
    ----------
    regions : regions with the objects
    height : height of the image, px
    space : contains ``z`` if the regions are stacks
    """
    found = [
        _runs_of_plane(plane, z, region, height)
        for region in regions
        for z, plane in enumerate(region.labels if space else region.labels[None])
    ]
    nothing = np.zeros((0, 6), np.int64)
    runs = np.concatenate([*found, nothing])
    runs = runs[np.lexsort((runs[:, 2], runs[:, 1], runs[:, 0]))]
    label, z, start, stop, x, y = runs.T
    new = np.flatnonzero((np.diff(label, prepend=-1) != 0) | (np.diff(z, prepend=-1) != 0))
    firsts = np.append(new, len(runs))
    if not len(new):
        return ColumnRuns(label, z, label, nothing[:, :4], firsts, start, stop)
    edges = [
        np.minimum.reduceat(x, new),
        np.minimum.reduceat(y, new),
        np.maximum.reduceat(x, new) + 1,
        np.maximum.reduceat(y + stop - start, new),
    ]
    areas = np.add.reduceat(stop - start, new)
    return ColumnRuns(label[new], z[new], areas, np.stack(edges, axis=1), firsts, start, stop)


def _runs_of_plane(plane: AnyArray, z: int, region: Region, height: int) -> Integers:
    """Return label, plane, start, stop, x and y of each run along y."""
    numbers, labels = closed_up(np.ascontiguousarray(plane.T))
    runs = runs_of(numbers)
    x, y = runs.others[0] + region.x, runs.first + region.y
    start = x * height + y
    stop = start + runs.last - runs.first + 1
    return np.stack([labels[runs.own].astype(np.int64), np.full(len(x), z), start, stop, x, y], 1)


_LETTERS = 13
"""Number of letters, of five bits each, that 64 bits need."""


def compressed(runs: ColumnRuns, some: range, size: int) -> list[str]:
    """Return the compressed run-length encoding of some objects as JSON strings.

    Source: ``rleToString`` of the COCO API.

    Parameters
    ----------
    runs : runs of all objects
    some : indices of the objects
    size : number of pixels of the plane
    """
    counts, lengths = _counts(runs, some, size)
    within = np.arange(len(counts)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    earlier = np.append(np.zeros(2, np.int64), counts[:-2])[: len(counts)]
    values = counts - np.where(within > 2, earlier, 0)  # noqa: PLR2004  (the first three are whole)
    letters = np.zeros((len(values), _LETTERS), np.uint8)
    going = np.ones(len(values), np.bool_)
    for k in range(_LETTERS):
        low = values & 0x1F
        values = values >> 5
        more = np.where((low & 0x10) > 0, values != -1, values != 0)
        letters[:, k] = np.where(going, low + 0x20 * more + 48, 0)
        going &= more
        if not going.any():
            break
    used = np.add.reduceat(np.count_nonzero(letters, axis=1), np.cumsum(lengths) - lengths)
    text = letters[letters > 0].tobytes().decode("ascii")
    ends = np.cumsum(used).tolist()
    # a backslash is the only letter among them that JSON escapes
    return [f'"{text[i:j]}"'.replace("\\", "\\\\") for i, j in zip([0, *ends], ends, strict=False)]


def _counts(runs: ColumnRuns, some: range, size: int) -> tuple[Integers, Integers]:
    """Return alternating pixel counts outside and inside each object, and their number."""
    low, high = int(runs.firsts[some.start]), int(runs.firsts[some.stop])
    starts, stops = runs.starts[low:high], runs.stops[low:high]
    firsts = runs.firsts[some.start : some.stop] - low
    first = np.zeros(len(starts), np.bool_)
    first[firsts] = True
    # a run that ends at the bottom continues at the top of the next column
    joined = np.append(False, starts[1:] == stops[:-1]) & ~first
    ending = np.append(~joined[1:], True)
    stops = stops[ending]
    starts, first = starts[~joined], first[~joined]
    before = np.where(first, 0, np.append(0, stops[:-1]))
    pairs = np.stack([starts - before, stops - starts], axis=1)
    begins = np.flatnonzero(first)
    ends = np.append(begins[1:], len(starts))
    rest = size - stops[ends - 1]
    at = 2 * ends[rest > 0]
    counts = np.insert(pairs.ravel(), at, rest[rest > 0])
    return counts, 2 * (ends - begins) + (rest > 0)
