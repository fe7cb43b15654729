"""Outlines from ImageJ ROI, GeoJSON and COCO files, and the label masks that they define."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bmz.base.arrays import AnyArray
from bmz.base.errors import not_none
from bmz.base.values import dataclass
from bmz.image.decoding import decoding
from bmz.image.faults import ImageUnreadable

if TYPE_CHECKING:
    from roifile import ImagejRoi

Points: TypeAlias = NDArray[np.float64]
"""(n, 2) x and y in px, where the first pixel of the image extends from 0 to 1."""

Runs: TypeAlias = NDArray[np.int64]
"""(n, 3) row, first column, and last column plus 1 of each run of pixels."""

Kind = Literal["polygon", "box", "line", "points"]


@dataclass(frozen=True)
class Shape:
    """One shape of a file.

    Parameters
    ----------
    number : label of the shape: its name, if that is a number, or else its position in the file,
        from 1
    name : name in the file; empty if it has none
    kind : kind of the shape; a box is an axis-aligned rectangle, a line is open
    rings : closed rings, without repeating the first point; pixels within an odd number of them
        belong to the object. A line or points have one ring, the list of their points
    runs : pixels of an object that is stored as a mask, instead of rings
    c, z, t : channel, plane and frame from 0; None if it lies in all, or the file does not say
    """

    number: int
    name: str
    kind: Kind
    rings: tuple[Points, ...] = ()
    runs: Runs | None = None
    c: int | None = None
    z: int | None = None
    t: int | None = None

    @property
    def has_area(self) -> bool:
        """Whether the shape encloses pixels."""
        return self.kind in ("polygon", "box")

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The bounding box: minimum x and y, maximum x and y, px."""
        if self.runs is not None:
            y, start, stop = self.runs.T
            return float(start.min()), float(y.min()), float(stop.max()), float(y.max() + 1)
        points = np.concatenate(self.rings)
        low, high = points.min(axis=0), points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


@dataclass(frozen=True)
class ShapeFile:
    """The shapes of a file.

    Parameters
    ----------
    shapes : shapes in the order of the file
    size : height and width of the image, px; None if the file does not state it
    """

    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None

    def sizes(self) -> dict[str, int]:
        """Return the smallest sizes along t, z, y and x of an image that contains all shapes."""
        boxes = np.array([shape.box for shape in self.shapes if shape.has_area]).reshape(-1, 4)
        width, height = (int(np.ceil(n)) for n in boxes[:, 2:].max(axis=0, initial=0))
        planes = {
            axis: max((place + 1 for place in places if place is not None), default=1)
            for axis, places in (
                ("t", [shape.t for shape in self.shapes]),
                ("z", [shape.z for shape in self.shapes]),
            )
        }
        height, width = self.size or (height, width)
        return {**planes, "y": max(height, 1), "x": max(width, 1)}


def is_shape_file(path: Path) -> bool:
    """Return whether a path is an existing file with the suffix of a file of outlines."""
    return path.suffix.lower() in SHAPE_READERS and path.is_file()


def read_shapes(path: Path) -> ShapeFile:
    """Read the shapes of a file of outlines.

    Parameters
    ----------
    path : file with one of the suffixes in `SHAPE_READERS`

    Raises
    ------
    ImageUnreadable
        The file contains no shapes, or is damaged.
    ImageForbidden
        The operating system does not permit reading it.
    """
    return SHAPE_READERS[path.suffix.lower()](path)


def painted(shapes: Iterable[Shape], sizes: Mapping[str, int]) -> AnyArray:
    """Draw the label mask of shapes; a pixel belongs to an object that contains its centre.

    If shapes overlap, the last one takes the pixel. A shape without a plane or frame is drawn in
    all of them. Shapes are clipped to the image.

    Parameters
    ----------
    shapes : shapes to draw; those without an area are ignored
    sizes : axis -> size of the mask along it: y and x, optionally preceded by t and z

    Returns
    -------
    ((t,) (z,) y, x) int64
        the number of the shape at each pixel, 0 for none
    """
    planes = [axis for axis in sizes if axis in "tz"]
    mask = np.zeros(tuple(sizes.values()), np.int64)
    for place in np.ndindex(*(sizes[axis] for axis in planes)):
        at = dict(zip(planes, place, strict=True))
        here = [
            shape
            for shape in shapes
            if shape.has_area and all(getattr(shape, a) in (None, i) for a, i in at.items())
        ]
        _paint(mask[place], here)
    return mask


_POINTS_AT_ONCE = 2**20


def _paint(plane: AnyArray, shapes: Sequence[Shape]) -> None:
    """Draw shapes into a plane, in batches to limit memory."""
    flat = plane.reshape(-1)
    for some in _lots(shapes):
        owner, runs = _runs_of(some, plane.shape[0])
        numbers = np.array([shape.number for shape in some], np.int64)
        start = np.clip(runs[:, 1], 0, plane.shape[1])
        lengths = np.clip(runs[:, 2], 0, plane.shape[1]) - start
        inside = (lengths > 0) & (runs[:, 0] >= 0) & (runs[:, 0] < plane.shape[0])
        first, lengths = (runs[:, 0] * plane.shape[1] + start)[inside], lengths[inside]
        ends = np.cumsum(lengths)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
        # for repeated indices, NumPy keeps the last value
        flat[np.repeat(first, lengths) + within] = np.repeat(numbers[owner[inside]], lengths)


def _lots(shapes: Sequence[Shape]) -> Iterator[Sequence[Shape]]:
    lot: list[Shape] = []
    held = 0.0
    for shape in shapes:
        low_x, low_y, high_x, high_y = shape.box
        held += (high_x - low_x + 1) * (high_y - low_y + 1)
        lot.append(shape)
        if held > _POINTS_AT_ONCE:
            yield lot
            lot, held = [], 0.0
    if lot:
        yield lot


def _runs_of(shapes: Sequence[Shape], height: int) -> tuple[NDArray[np.int64], Runs]:
    """Return the index of the shape of each run, and the runs, in the order of the shapes."""
    owners, runs = [np.zeros(0, np.int64)], [np.zeros((0, 3), np.int64)]
    rings = [(k, ring) for k, shape in enumerate(shapes) for ring in shape.rings if len(ring)]
    if rings:
        owner, found = _filled(rings, height)
        owners.append(owner)
        runs.append(found)
    for k, shape in enumerate(shapes):
        if shape.runs is not None:
            owners.append(np.full(len(shape.runs), k))
            runs.append(shape.runs)
    owner, whole = np.concatenate(owners), np.concatenate(runs)
    order = np.argsort(owner, kind="stable")
    return owner[order], whole[order]


def _filled(
    rings: Sequence[tuple[int, Points]], height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the runs of pixels whose centre lies in an odd number of the rings of a shape."""
    owner = np.concatenate([np.full(len(ring), k) for k, ring in rings])
    here = np.concatenate([ring for _, ring in rings])
    there = np.concatenate([np.roll(ring, -1, axis=0) for _, ring in rings])
    upper, lower = np.minimum(here[:, 1], there[:, 1]), np.maximum(here[:, 1], there[:, 1])
    # an edge crosses the centres of rows from its upper end, inclusive, to its lower end, exclusive
    first = np.clip(np.ceil(upper - 0.5), 0, height).astype(np.int64)
    count = np.clip(np.ceil(lower - 0.5), 0, height).astype(np.int64) - first
    edge = np.repeat(np.arange(len(owner)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = there[edge] - here[edge]
    x = here[edge, 0] + (row + 0.5 - here[edge, 1]) * slope[:, 0] / slope[:, 1]
    order = np.lexsort((x, row, owner[edge]))
    owner, row, x = owner[edge][order], row[order], x[order]
    ends = np.ceil(x - 0.5).astype(np.int64)
    # each row of a closed ring is crossed an even number of times
    return owner[::2], np.stack([row[::2], ends[::2], ends[1::2]], axis=1)


_NUMBERED = re.compile(r"0*(\d+)(-[tz]\d+)*$")
"""Name of a shape that is a number, optionally followed by its frame and plane."""


def numbers_of(names: Sequence[str]) -> list[int]:
    """Return the labels of shapes: their names, if all are numbers, or else positions from 1.

    Examples
    --------
    >>> numbers_of(["7", "12-z3", "12-z4"]), numbers_of(["nucleus", "2"])
    ([7, 12, 12], [1, 2])
    """
    found = [_NUMBERED.match(name) for name in names]
    if all(found) and all(int(not_none(match)[1]) for match in found):
        return [int(not_none(match)[1]) for match in found]
    return list(range(1, len(names) + 1))


_ROI = "ImageJ ROI"
_MOST_BYTES = 2**28
"""Maximum size of one ROI."""


def read_rois(path: Path) -> ShapeFile:
    """Read ImageJ ROIs: one from a ``.roi`` file, or several from a ``.zip`` file.

    Source: the class ``RoiDecoder`` of ImageJ, as the package roifile reads it.

    Raises
    ------
    ImageUnreadable
        The file contains no ROI, or is damaged.
    """
    with decoding(path, _ROI):
        rois = list(_rois_in(path))
        shapes = [_shape(name, roi) for name, roi in rois]
    if not rois:
        raise ImageUnreadable(path, "contains no ImageJ ROI")
    numbers = numbers_of([name for name, _ in rois])
    return ShapeFile(
        tuple(
            Shape(number, name, kind, rings, c=_place(roi.c_position), z=_place(roi.z_position),
                  t=_place(roi.t_position))
            for number, (name, roi), (kind, rings) in zip(numbers, rois, shapes, strict=True)
        )
    )  # fmt: skip


def _rois_in(path: Path) -> Iterator[tuple[str, ImagejRoi]]:
    """Yield ROIs with their names; in a ZIP, these are the names of its entries, as in ImageJ."""
    from roifile import ImagejRoi  # here: few files are ROIs

    if not zipfile.is_zipfile(path):
        roi = ImagejRoi.frombytes(path.read_bytes())
        yield roi.name or path.stem, roi
        return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.lower().endswith(".roi"):
                if entry.file_size > _MOST_BYTES:
                    raise ValueError(f"{entry.filename} has {entry.file_size} bytes")
                roi = ImagejRoi.frombytes(archive.read(entry))
                yield Path(entry.filename).stem, roi


def _place(position: int) -> int | None:
    """Return a position counted from 0; ImageJ counts from 1, and 0 means none."""
    return position - 1 if position > 0 else None


def _shape(name: str, roi: ImagejRoi) -> tuple[Kind, tuple[Points, ...]]:
    from roifile import ROI_TYPE

    areas = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
    lines = (ROI_TYPE.LINE, ROI_TYPE.POLYLINE, ROI_TYPE.FREELINE, ROI_TYPE.ANGLE)
    if roi.composite:
        return "polygon", tuple(_open(ring) for ring in roi.coordinates(multi=True))
    if roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        left, top, right, bottom = _sides(roi)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        if roi.roitype == ROI_TYPE.RECT:
            return "box", (np.array(corners, np.float64),)
        return "polygon", (_ellipse(left, top, right, bottom),)
    if roi.roitype in areas:
        return "polygon", (_open(roi.coordinates()),)
    if roi.roitype in lines:
        return "line", (np.asarray(roi.coordinates(), np.float64),)
    if roi.roitype == ROI_TYPE.POINT:
        # integer coordinates denote the centre of a pixel
        middle = 0.0 if roi.subpixelresolution else 0.5
        return "points", (np.asarray(roi.coordinates(), np.float64) + middle,)
    raise ValueError(f"'{name}' is a kind of ROI without a shape")


def _sides(roi: ImagejRoi) -> tuple[float, float, float, float]:
    if roi.subpixelrect:
        return roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd
    return roi.left, roi.top, roi.right, roi.bottom


def _open(ring: ArrayLike) -> Points:
    """Remove a last point that repeats the first."""
    points = np.asarray(ring, np.float64)
    closed = len(points) > 1 and np.array_equal(points[0], points[-1])
    return points[:-1] if closed else points


_STEPS = 720
"""Corners of an ellipse; for one of 1000 px the error is less than 0.01 px."""


def _ellipse(left: float, top: float, right: float, bottom: float) -> Points:
    turn = np.linspace(0, 2 * np.pi, _STEPS, endpoint=False)
    x = (left + right) / 2 + np.cos(turn) * (right - left) / 2
    y = (top + bottom) / 2 + np.sin(turn) * (bottom - top) / 2
    return np.stack([x, y], axis=1)


Json = Any
"""Unvalidated content of a JSON file; `decoding` turns violations into errors of the file."""


def read_json_shapes(path: Path) -> ShapeFile:
    """Read the shapes of a GeoJSON or COCO file.

    Raises
    ------
    ImageUnreadable
        The file is neither, is damaged, or is COCO of several images.
    """
    with decoding(path, "JSON"):
        document = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(document, dict) and "annotations" in document:
        with decoding(path, "COCO"):
            images = document["images"]
            strangers = [image for image in images if not {"t", "z"} & set(image)]
            found = _coco(document) if len(images) == 1 or not strangers else None
        if found is None:
            raise ImageUnreadable(path, f"contains the masks of {len(images)} images, not of one")
        return found
    if isinstance(document, dict) and document.get("type") == "Feature":
        document = [document]
    features = document.get("features") if isinstance(document, dict) else document
    if not isinstance(features, list):
        raise ImageUnreadable(path, "is JSON, but neither GeoJSON nor COCO")
    with decoding(path, "GeoJSON"):
        return _geojson(features, document if isinstance(document, dict) else {})


_KINDS: Mapping[str, Kind] = {
    "Polygon": "polygon",
    "MultiPolygon": "polygon",
    "LineString": "line",
    "Point": "points",
    "MultiPoint": "points",
}
"""Geometry type of RFC 7946 -> kind of shape."""


def _geojson(features: Sequence[Json], document: Mapping[str, Json]) -> ShapeFile:
    """Read features; their labels are their names, if all are numbers, or else their positions.

    Source: RFC 7946; planes as the class ``QuPathTypeAdapters`` of QuPath writes them.
    """
    names = [f"{(feature.get('properties') or {}).get('name', '')}" for feature in features]
    # QuPath does not write the plane of features in the first plane
    first_plane = {"z": 0, "t": 0} if any("plane" in f["geometry"] for f in features) else {}
    shapes = []
    for number, name, feature in zip(numbers_of(names), names, features, strict=True):
        geometry = feature["geometry"]
        kind = _KINDS[geometry["type"]]
        stated = geometry.get("plane", first_plane)
        c, z, t = (int(stated[axis]) if stated.get(axis, -1) >= 0 else None for axis in "czt")
        rings = _rings(geometry["type"], geometry["coordinates"])
        shapes.append(Shape(number, name, kind, rings, c=c, z=z, t=t))
    size = document.get("bmz", {}).get("size_px")
    return ShapeFile(tuple(shapes), None if size is None else (int(size["y"]), int(size["x"])))


def _rings(kind: str, coordinates: Json) -> tuple[Points, ...]:
    if kind == "MultiPolygon":
        return tuple(ring for polygon in coordinates for ring in _rings("Polygon", polygon))
    if kind == "Polygon":
        return tuple(np.array(ring, np.float64)[:-1, :2] for ring in coordinates)
    points = [coordinates] if kind == "Point" else coordinates
    return (np.array(points, np.float64)[:, :2],)


def _coco(document: Mapping[str, Json]) -> ShapeFile:
    """Read annotations; the number of a shape is the label of its annotation, or else its id.

    Source: https://cocodataset.org/#format-data
    """
    images = {image["id"]: image for image in document["images"]}
    shapes = []
    for one in document["annotations"]:
        image = images[one["image_id"]]
        plane = {axis: image[axis] for axis in "tz" if axis in image}
        number, drawn = int(one.get("label", one["id"])), one["segmentation"]
        if isinstance(drawn, list):
            rings = tuple(np.array(ring, np.float64).reshape(-1, 2) for ring in drawn)
            shapes.append(Shape(number, f"{number}", "polygon", rings, **plane))
            continue
        counts = drawn["counts"]
        numbers = _counts(counts) if isinstance(counts, str) else np.array(counts, np.int64)
        runs = _row_runs(numbers, int(drawn["size"][0]))
        if len(runs):
            shapes.append(Shape(number, f"{number}", "polygon", runs=runs, **plane))
    first = next(iter(images.values()))
    return ShapeFile(tuple(shapes), (int(first["height"]), int(first["width"])))


def _counts(text: str) -> NDArray[np.int64]:
    """Decode the counts of compressed RLE: five bits per letter, as differences two counts apart.

    Source: ``rleFrString`` of the COCO API.
    """
    letters = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((letters & 0x20) == 0)
    starts = np.append(0, ends[:-1] + 1)
    place = np.arange(len(letters)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((letters & 0x1F) << (5 * place), starts)
    negative = (letters[ends] & 0x10) > 0
    values -= np.where(negative, np.int64(1) << (5 * (ends - starts + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _row_runs(counts: NDArray[np.int64], height: int) -> Runs:
    """Convert column-major run lengths of a mask to runs along rows."""
    ends = np.cumsum(counts)
    starts, stops = ends[:-1:2], ends[1::2]
    lengths = stops - starts[: len(stops)]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    x, y = np.divmod(np.repeat(starts[: len(stops)], lengths) + within, height)
    order = np.lexsort((x, y))
    y, x = y[order], x[order]
    new = np.ones(len(y), np.bool_)
    new[1:] = (np.diff(y) != 0) | (np.diff(x) != 1)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(y)) - 1
    return np.stack([y[first], x[first], x[last] + 1], axis=1)


SHAPE_READERS: Final[Mapping[str, Callable[[Path], ShapeFile]]] = {
    ".roi": read_rois,
    ".zip": read_rois,
    ".geojson": read_json_shapes,
    ".json": read_json_shapes,
}
"""Suffix of a file -> reader of its shapes."""

SHAPE_ENDINGS = (".zip", ".roi", ".geojson", ".coco.json")
"""Suffixes by which files of outlines are recognized in a folder."""
