"""The output kind ``rois``: objects as ImageJ ROIs for the ROI Manager."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.write.outlines import Outlines, Ring, outlines
from bmz.write.result import Result

if TYPE_CHECKING:
    from roifile import ImagejRoi

_LARGEST = 60535
"""ImageJ reads larger integers as negative numbers."""

_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
"""Steps of a path, as ``java.awt.geom.PathIterator`` numbers them."""

_DAY = (1980, 1, 1, 0, 0, 0)
"""Date of every ZIP entry, the earliest possible, so that equal masks give equal bytes."""


def write_rois(result: Result, path: Path) -> None:
    """Write a ZIP with one ROI per object and plane, sorted by label.

    An object of one piece without holes is a traced polygon, as from ImageJ's wand tool; all others
    are composites. The name is the label. If an object lies in several planes or frames, all but
    the first also have these in their name, counted from 1, such as ``12-t2-z4``. ROIs state the
    plane and frame if the mask has several, but never a channel, since labels apply to all.

    Source: the class ``RoiEncoder`` of ImageJ, as the package roifile writes it.
    """
    axes = result.labels.axes if result.labels is not None else ""
    _write(
        path,
        (
            (label, {a: i for a, i in part.place(k).items() if a in axes}, _traced(part, k))
            for part in outlines(result)
            for k, label in enumerate(part.labels.tolist())
        ),
    )


def write_subpixel_rois(result: Result, path: Path) -> None:
    """Write the polygons by which a recipe found the objects, with subpixel corners.

    Names, planes and frames are those of `write_rois`. A star polygon is clipped only at the border
    of the image, not where a better object covers it.
    """
    height, width = result.labels.shape[-2:] if result.labels is not None else (0, 0)
    _write(
        path,
        (
            (label, at, _polygon(corners, (width, height)))
            for at, labels, polygons in result.polygons()
            for label, corners in zip(labels.tolist(), polygons, strict=True)
        ),
    )


def _write(path: Path, rois: Iterable[tuple[int, Mapping[str, int], ImagejRoi]]) -> None:
    """Write ROIs, each given with its label and its position along t and z, from 0."""
    named: set[int] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for label, at, roi in rois:
            roi.name = f"{label}"
            if label in named:
                roi.name += "".join(f"-{axis}{at[axis] + 1}" for axis in "tz" if axis in at)
            named.add(label)
            roi.t_position, roi.z_position = (at.get(axis, -1) + 1 for axis in "tz")
            entry = zipfile.ZipInfo(f"{roi.name}.roi", _DAY)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, roi.tobytes())


def _traced(part: Outlines, k: int) -> ImagejRoi:
    from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi  # here: few runs write ROIs

    rings = part.rings(k)
    corners = rings[0] if len(rings) == 1 else np.concatenate(rings)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    roi = ImagejRoi(roitype=ROI_TYPE.TRACED, left=left, top=top, right=right, bottom=bottom)
    if len(rings) > 1:
        roi.roitype = ROI_TYPE.RECT
        roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings])
        roi.shape_roi_size = len(roi.multi_coordinates)
        return roi
    roi.n_coordinates = len(corners)
    roi.integer_coordinates = corners - np.array([left, top], np.int32)
    if max(right, bottom) > _LARGEST:
        roi.options |= ROI_OPTIONS.SUB_PIXEL_RESOLUTION
        roi.subpixel_coordinates = corners.astype(np.float32)
    return roi


def _polygon(corners: AnyArray, sides: tuple[int, int]) -> ImagejRoi:
    """Return a polygon of corners (n, 2), y and x, where the centre of the first pixel is 0.

    It is clipped to an image with these sides along x and y.
    """
    from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

    # in ImageJ, 0 is the corner of the first pixel
    points = _cut(corners[:, ::-1] + 0.5, sides).astype(np.float32)
    first = np.floor(points.min(axis=0)).astype(np.int32)
    right, bottom = np.ceil(points.max(axis=0)).astype(int).tolist()
    return ImagejRoi(
        roitype=ROI_TYPE.POLYGON, left=int(first[0]), top=int(first[1]), right=right,
        bottom=bottom, n_coordinates=len(points), options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION,
        integer_coordinates=np.rint(points).astype(np.int32) - first, subpixel_coordinates=points,
    )  # fmt: skip


def _cut(points: FloatArray, sides: tuple[int, int]) -> FloatArray:
    """Clip a polygon, (n, 2) x and y, at the borders of an image, one after another.

    Source: Sutherland and Hodgman 1974, doi 10.1145/360767.360802.
    """
    for axis, limit, inward in ((0, 0, 1), (0, sides[0], -1), (1, 0, 1), (1, sides[1], -1)):
        depth = inward * (points[:, axis] - limit)
        if depth.min(initial=0) >= 0:
            continue
        kept = []
        for k in range(len(points)):
            before, here = depth[k - 1], depth[k]
            if (before < 0) != (here < 0):
                share = before / (before - here)
                kept.append(points[k - 1] + share * (points[k] - points[k - 1]))
            if here >= 0:
                kept.append(points[k])
        points = np.array(kept).reshape(-1, 2)
    return points


def _path(ring: Ring) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the path of a ring: move to the first corner, lines to the others, and close."""
    steps = np.full((len(ring), 3), _LINE, np.float32)
    steps[0, 0] = _MOVE
    steps[:, 1:] = ring
    return np.append(steps.reshape(-1), np.float32(_CLOSE))
