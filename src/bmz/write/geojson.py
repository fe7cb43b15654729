"""The output kind ``geojson``: objects as detections that QuPath imports."""

from __future__ import annotations

import colorsys
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, pairwise
from pathlib import Path
from typing import Final

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import not_none
from bmz.process.object_columns import CLASS
from bmz.write.outlines import Outlines, numbers_at, outlines
from bmz.write.result import Result
from bmz.write.tables import as_json, cells

_AT_ONCE = 2048
"""Number of objects whose text is held in memory at once."""


def write_geojson(result: Result, path: Path) -> None:
    """Write a FeatureCollection with one feature and line per object and plane, sorted by label.

    Coordinates are in px of the full image. Each feature is a detection named after its label, with
    its measurements, and its class if there are classes. The additional member ``bmz`` holds the
    size of the image, the pixel size and the provenance.

    Source: RFC 7946; the class ``QuPathTypeAdapters`` of QuPath for the properties and planes.
    """
    labels = not_none(result.labels)
    sizes = dict(zip(labels.axes, labels.shape, strict=True))
    about = {"size_px": sizes, "pixel_um": dict(result.pixel_um), **result.provenance}
    # file names need not be UTF-8; surrogates for undecodable bytes are escaped, as in JSON
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        head = {"type": "FeatureCollection", "bmz": about}
        file.write(f'{json.dumps(as_json(head), ensure_ascii=False)[:-1]}, "features": [')
        separator = "\n"
        for part, table in zip(outlines(result), result.rows("table"), strict=True):
            for start in range(0, len(part.labels), _AT_ONCE):
                some = range(start, min(start + _AT_ONCE, len(part.labels)))
                geometries = _geometries(part, some)
                rows = numbers_at(table, part.labels[some.start : some.stop])
                known = {name: np.asarray(column)[rows] for name, column in table.items()}
                texts = map(_feature, geometries, _properties(known))
                file.write(separator + ",\n".join(texts))
                separator = ",\n"
        file.write("\n]}\n")


def _feature(geometry: str, properties: str) -> str:
    return f'{{"type": "Feature", "geometry": {geometry}, "properties": {properties}}}'


def _geometries(part: Outlines, some: range) -> Iterator[str]:
    """Yield the geometries of some objects; all corners are formatted at once for speed."""
    rings = part.first_rings[some.start : some.stop + 1].tolist()
    ends = part.first_points[rings[0] : rings[-1] + 1]
    points = part.points[ends[0] : ends[-1]]
    corners = ("[%d,%d]\n" * len(points) % tuple(points.ravel().tolist())).split("\n")
    ends = (ends - ends[0]).tolist()
    texts = [f"[{','.join(corners[i:j])},{corners[i]}]" for i, j in pairwise(ends)]
    for k, (first, last) in zip(some, pairwise(rings), strict=True):
        if last == first + 1:
            coordinates = f'"Polygon", "coordinates": [{texts[first - rings[0]]}]'
        else:
            coordinates = _pieces(
                [[texts[n - rings[0]] for n in piece] for piece in part.pieces(k)]
            )
        yield f'{{"type": {coordinates}{_plane(part.place(k))}}}'


def _pieces(pieces: Sequence[Sequence[str]]) -> str:
    polygons = [f"[{','.join(rings)}]" for rings in pieces]
    if len(polygons) == 1:
        return f'"Polygon", "coordinates": {polygons[0]}'
    return f'"MultiPolygon", "coordinates": [{",".join(polygons)}]'


def _plane(at: Mapping[str, int]) -> str:
    """Return the plane in QuPath's format, for all channels; empty if there is only one plane."""
    return f', "plane": {{"c": -1, "z": {at.get("z", 0)}, "t": {at.get("t", 0)}}}' if at else ""


def _properties(table: Mapping[str, AnyArray]) -> Iterator[str]:
    """Yield the properties of the objects of a table."""
    labels = table["label"].tolist()
    classes = [f"{name}" for name in table[CLASS].tolist()] if CLASS in table else []
    known = {name: json.dumps(_classification(name)) for name in set(classes)}
    words = {name: column for name, column in table.items() if column.dtype.kind in "UO"}
    titles = {name: _title(name) for name in table if _is_measurement(name) and name not in words}
    starts = [f"{json.dumps(title, ensure_ascii=False)}: " for title in titles.values()]
    every = ", ".join(f"{start.replace('%', '%%')}%s" for start in starts)
    rows = list(zip(*(cells(_as_number(table[name])) for name in titles), strict=True))
    # columns about the image are written once, in the head of the file
    names = [name for name in words if name not in (CLASS, *_IN_FRONT)]
    texts = [words[name].tolist() for name in names]
    for row, label in enumerate(labels):
        values = rows[row] if rows else ()
        if "" in values:  # an empty cell is an unknown value
            measured = ", ".join(compress(map(str.__add__, starts, values), values))
        else:
            measured = every % values
        told = classes and classes[row]
        more = f', "classification": {known[classes[row]]}' if told else ""
        if names:
            metadata = {name: f"{column[row]}" for name, column in zip(names, texts, strict=True)}
            more += f', "metadata": {json.dumps(metadata, ensure_ascii=False)}'
        yield (
            f'{{"objectType": "detection", "name": "{label}", "isLocked": false{more}, '
            f'"measurements": {{{measured}}}}}'
        )


def _as_number(column: AnyArray) -> AnyArray:
    return column.astype(np.uint8) if column.dtype.kind == "b" else column


def _classification(name: str) -> dict[str, str | list[int]]:
    return {"name": name, "color": class_colour(name)}


def class_colour(name: str) -> list[int]:
    """Return the colour of a class, RGB from 0 to 255, which depends only on its name."""
    turn = zlib.crc32(name.encode("utf-8")) / 2**32
    return [round(255 * part) for part in colorsys.hsv_to_rgb(turn, 0.7, 0.9)]


_UNITS: Final = {
    "um": "µm", "um2": "µm^2", "um3": "µm^3", "px": "px", "rad": "rad", "s": "s",
}  # fmt: skip
"""Unit at the end of a heading -> unit as QuPath writes it."""

_POWERS: Final = {"area": "^2", "volume": "^3"}
"""Power of the unit of a measurement in pixels whose heading ends in ``px``."""

_IN_FRONT = ("image", "series")
"""Columns that are the same for all objects."""

_BRIGHTNESS = re.compile(r"intensity_(mean|median|max|min|sum)_?(.*)$")
_NO_MEASUREMENT = re.compile(r"(label|t|z|bbox_.*)$")
"""Columns with the name, plane and bounding box of an object, which its feature already states."""


def _is_measurement(heading: str) -> bool:
    return not _NO_MEASUREMENT.match(heading)


def _title(heading: str) -> str:
    """Return a heading as QuPath writes its measurements.

    Examples
    --------
    >>> _title("area_um2"), _title("centroid_x_um"), _title("intensity_mean_dapi")
    ('Area µm^2', 'Centroid X µm', 'dapi: Mean')
    >>> _title("axis_major_length_px"), _title("area_px"), _title("solidity")
    ('Axis major length px', 'Area px^2', 'Solidity')
    """
    if match := _BRIGHTNESS.match(heading):
        way, channel = match[1].capitalize(), match[2]
        return f"{channel}: {way}" if channel else f"Intensity: {way}"
    first, *rest = heading.split("_")
    unit = _UNITS.get(rest[-1]) if rest else None
    words: Sequence[str] = rest[:-1] if unit else rest
    if unit == "px":
        unit += _POWERS.get(first, "")
    named = [word.upper() if word in tuple("zyx") else word for word in words]
    return " ".join([first.capitalize(), *named, *([unit] if unit else [])])
