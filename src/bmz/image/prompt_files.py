"""Prompts that tell a network where objects are: points, boxes and outlines from files."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bmz.base.arrays import BoolArray, FloatArray
from bmz.base.errors import CouldNotTell
from bmz.base.values import dataclass
from bmz.image.faults import ImageUnreadable
from bmz.image.shapes import SHAPE_READERS, Shape, painted, read_shapes

_CORNERS = ("y0", "x0", "y1", "x1")
_COLUMNS = ("y", "x", *_CORNERS)
_UNITS = ("", "_px", "_um")


class PromptsNotFound(CouldNotTell):
    """The file with the prompts does not exist."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"there is no prompt file '{path}'",
            hint="--prompts takes grid, none, a table, GeoJSON, ImageJ ROIs or a label mask; a "
            "pattern such as points/{stem}.csv gives the file for each image",
            code="prompts.not-found",
        )


class PromptsUnreadable(CouldNotTell):
    """A file contains no points, boxes or outlines that can be read."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' contains no prompts: {why}",
            hint="a table has the columns x,y for points or x0,y0,x1,y1 for boxes, in pixels of "
            "the whole image or, as x_um,y_um, in um; it may also have label, z and t",
            code="prompts.unreadable",
        )


class PromptsWithoutLength(CouldNotTell):
    """Prompts are in um, but the pixel size is unknown."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the prompts in '{path}' are in um, but the pixel size of the image is not known",
            hint="state it with --pixel-size, such as 0.5um; or give the prompts in pixels",
            code="prompts.no-pixel-size",
        )


@dataclass(frozen=True)
class Prompt:
    """The prompt for one object; the centre of the first pixel is (0, 0).

    Parameters
    ----------
    points : (n, 2) y and x of points of the object, px
    box : (4,) minimum y and x, and maximum y and x of the bounding box, px; None for none
    mask : (y, x), pixels of the object within their bounding box; None for none
    corner : y and x of the first pixel of `mask`
    at : position of the object along z and t; it is in all planes of an axis without an entry
    way : default kind of prompt for an object that is given by its mask
    name : label of the object or its position in the file, for tables
    """

    points: FloatArray
    box: FloatArray | None = None
    mask: BoolArray | None = None
    corner: tuple[int, int] = (0, 0)
    at: Mapping[str, int] = field(default_factory=dict)
    way: Literal["point", "box"] = "point"
    name: str = ""

    @classmethod
    def of_point(cls, y: float, x: float) -> Prompt:
        """Create a prompt from a point of the object."""
        return cls(np.array([[y, x]], np.float64))

    @classmethod
    def of_box(cls, ends: Sequence[float]) -> Prompt:
        """Create a prompt from a bounding box, whose corners may be given in any order."""
        corners = np.asarray(ends, np.float64).reshape(2, 2)
        return cls(np.zeros((0, 2)), np.concatenate([corners.min(axis=0), corners.max(axis=0)]))

    @classmethod
    def of_shape(cls, shape: Shape) -> Prompt:
        """Create a prompt from a shape that has an area."""
        left, top, right, bottom = shape.box
        at, name = _planes_of(shape), shape.name
        if shape.kind == "box":
            return replace(cls.of_box([top, left, bottom - 1, right - 1]), at=at, name=name)
        x, y = math.floor(left), math.floor(top)
        sizes = {"y": max(math.ceil(bottom) - y, 1), "x": max(math.ceil(right) - x, 1)}
        runs = None if shape.runs is None else shape.runs - (y, x, x)
        rings = tuple(ring - (x, y) for ring in shape.rings)
        moved = replace(shape, rings=rings, runs=runs, z=None, t=None)
        inside: BoolArray = painted([moved], sizes) > 0
        if not inside.any():  # thinner than a pixel
            inside = np.ones_like(inside)
        return cls(np.zeros((0, 2)), mask=inside, corner=(y, x), at=at, way="box", name=name)

    @property
    def centre(self) -> FloatArray:
        """The y and x of the centre of the prompt, px."""
        if len(self.points):
            return np.asarray(self.points.mean(axis=0))
        if self.box is not None:
            return (self.box[:2] + self.box[2:]) / 2
        size = np.zeros(2) if self.mask is None else np.array(self.mask.shape)
        return np.array(self.corner) + (size - 1) / 2

    def lies_within(self, sizes: Mapping[str, int]) -> bool:
        """Return whether the prompt lies in an image of these sizes."""
        planes = all(0 <= number < sizes.get(axis, 1) for axis, number in self.at.items())
        pixel = np.floor(self.centre + 0.5)
        return planes and bool((pixel >= 0).all() and (pixel < [sizes["y"], sizes["x"]]).all())

    def lies_at(self, at: Mapping[str, int]) -> bool:
        """Return whether the prompt lies in the plane at this position along z and t."""
        return all(at.get(axis, 0) == number for axis, number in self.at.items())


def read_prompts(path: Path, pixel_um: Mapping[str, float]) -> tuple[Prompt, ...]:
    """Read the prompts of a table, a GeoJSON file, or a file of ImageJ ROIs.

    Parameters
    ----------
    path : file with one of the suffixes in `PROMPT_FILES`
    pixel_um : pixel size of the image, um

    Raises
    ------
    PromptsNotFound, PromptsUnreadable, PromptsWithoutLength
    """
    if not path.is_file():
        raise PromptsNotFound(path)
    try:
        prompts = tuple(PROMPT_FILES[path.suffix.lower()](path, pixel_um))
    except OSError as why:
        raise PromptsUnreadable(path, why.strerror or str(why)) from why
    if not prompts:
        raise PromptsUnreadable(path, "it is empty")
    return with_names(prompts)


def with_names(prompts: Iterable[Prompt]) -> tuple[Prompt, ...]:
    """Name prompts that have no name by their position, from 1."""
    return tuple(
        replace(prompt, name=prompt.name or str(number))
        for number, prompt in enumerate(prompts, start=1)
    )


def _of_table(path: Path, pixel_um: Mapping[str, float]) -> Iterator[Prompt]:
    """Yield the prompts of a table; rows with points that share a label are one object."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as why:
        raise PromptsUnreadable(path, "it is not UTF-8 text") from why
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = csv.DictReader(text.splitlines(), delimiter=separator)
    headings = [str(name).strip().lower() for name in rows.fieldnames or ()]
    rows.fieldnames = headings
    return prompts_of_columns(path, headings, list(rows), pixel_um)


def prompts_of_columns(
    path: Path,
    headings: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    pixel_um: Mapping[str, float],
) -> Iterator[Prompt]:
    """Yield the prompts of the rows of a table; see `read_prompts`.

    Parameters
    ----------
    path : path of the table, for error messages
    headings : headings of its columns
    rows : rows as heading -> value
    pixel_um : pixel size of the image, um
    """
    lengths = _lengths(path, headings, pixel_um)
    point = {"y", "x"} <= set(lengths)
    if not point and not set(_CORNERS) <= set(lengths):
        raise PromptsUnreadable(path, f"its columns are {', '.join(headings) or 'none'}")
    asked: dict[tuple[object, ...], Prompt] = {}
    for number, row in enumerate(rows, start=1):
        try:
            prompt = _of_row(row, lengths)
        except ValueError as why:
            raise PromptsUnreadable(path, f"row {number} has {why}") from why
        label = str(row.get("label") or "").strip()
        place = (label or f"row {number}", *sorted(prompt.at.items()))
        before = asked.get(place)
        if before is not None and len(prompt.points):
            prompt = replace(before, points=np.concatenate([before.points, prompt.points]))
        elif before is not None:
            place = (f"row {number}",)
        asked[place] = replace(prompt, name=label or str(number))
    yield from asked.values()


def _lengths(
    path: Path, headings: Sequence[str], pixel_um: Mapping[str, float]
) -> dict[str, tuple[str, float]]:
    """Return the column of each coordinate, and the factor that converts its values to pixels."""
    lengths = {}
    for name in _COLUMNS:
        unit = next((unit for unit in _UNITS if f"{name}{unit}" in headings), None)
        if unit is None:
            continue
        if unit == "_um" and name[0] not in pixel_um:
            raise PromptsWithoutLength(path)
        factor = 1 / pixel_um[name[0]] if unit == "_um" else 1.0
        lengths[name] = (f"{name}{unit}", factor)
    return lengths


def _of_row(row: Mapping[str, Any], lengths: Mapping[str, tuple[str, float]]) -> Prompt:
    numbers = {name: _number(row, column) for name, (column, _) in lengths.items()}
    values = {name: n * lengths[name][1] for name, n in numbers.items() if n is not None}
    has_box = set(_CORNERS) <= set(values)
    prompt = Prompt(np.zeros((0, 2)))
    if has_box:
        prompt = Prompt.of_box([values[name] for name in _CORNERS])
    if {"y", "x"} <= set(values):
        prompt = replace(prompt, points=np.array([[values["y"], values["x"]]]))
    elif not has_box:
        raise ValueError("neither a point nor a box")
    planes = {axis: _number(row, axis) for axis in "zt"}
    return replace(prompt, at={axis: round(n) for axis, n in planes.items() if n is not None})


def _number(row: Mapping[str, Any], column: str) -> float | None:
    text = str(row.get(column) if row.get(column) is not None else "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as why:
        raise ValueError(f"'{text}' as {column}") from why
    if not math.isfinite(value):
        raise ValueError(f"'{text}' as {column}")
    return value


def _planes_of(shape: Shape) -> dict[str, int]:
    planes = {"z": shape.z, "t": shape.t}
    return {axis: number for axis, number in planes.items() if number is not None}


def _of_shapes(path: Path, _pixel_um: Mapping[str, float]) -> Iterator[Prompt]:
    """Yield the points, rectangles and outlines of ImageJ ROIs, GeoJSON or COCO."""
    try:
        for shape in read_shapes(path).shapes:
            if shape.has_area:
                yield Prompt.of_shape(shape)
            elif shape.kind == "points":
                for x, y in shape.rings[0]:
                    point = Prompt.of_point(y - 0.5, x - 0.5)
                    yield replace(point, at=_planes_of(shape), name=shape.name)
            else:
                raise PromptsUnreadable(path, f"'{shape.name}' is a line")
    except ImageUnreadable as why:
        raise PromptsUnreadable(path, str(why)) from why
    except (ValueError, OverflowError) as why:
        raise PromptsUnreadable(path, f"a corner of a shape is not a number ({why})") from why


PROMPT_FILES: Mapping[str, Callable[[Path, Mapping[str, float]], Iterator[Prompt]]] = {
    ".csv": _of_table,
    ".tsv": _of_table,
    **dict.fromkeys(SHAPE_READERS, _of_shapes),
}
"""Suffix of a file -> reader of its prompts; files with other suffixes are label masks."""
