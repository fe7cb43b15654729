"""The output kind ``rois``: the objects as ROIs of ImageJ, which its ROI Manager opens."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmz.write.outlines import Outlines, Ring, outlines
from bmz.write.result import Result

if TYPE_CHECKING:
    from roifile import ImagejRoi

_LARGEST = 60535
"""ImageJ takes greater whole numbers for numbers below 0."""

_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
"""Steps of a path, as ``java.awt.geom.PathIterator`` numbers them."""

_DAY = (1980, 1, 1, 0, 0, 0)
"""Of every entry, so that equal masks give equal bytes: the first that a ZIP can name."""


def write_rois(result: Result, path: Path) -> None:
    """Write a ZIP of ROIs: one per object and plane, by label.

    An object of one piece without holes is a traced polygon, as the wand of ImageJ draws it, all
    others are composites. A name is the label; where an object lies in several planes or frames
    those behind the first have them in their name, too, such as ``12-t2-z4``, from 1. Planes and
    frames are stated where the mask has several; channels never are, for labels hold for all.

    Source: the class ``RoiEncoder`` of ImageJ, as the package roifile writes it.
    """
    axes = result.labels.axes if result.labels is not None else ""
    named: set[int] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for part in outlines(result):
            for k, label in enumerate(part.labels.tolist()):
                at = {axis: place + 1 for axis, place in part.place(k).items() if axis in axes}
                name = f"{label}"
                if label in named:
                    name += "".join(f"-{axis}{at[axis]}" for axis in "tz" if axis in at)
                named.add(label)
                entry = zipfile.ZipInfo(f"{name}.roi", _DAY)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, _roi(part, k, name, at).tobytes())


def _roi(part: Outlines, k: int, name: str, at: dict[str, int]) -> ImagejRoi:
    from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi  # here: few runs write ROIs

    rings = part.rings(k)
    corners = rings[0] if len(rings) == 1 else np.concatenate(rings)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    roi = ImagejRoi(
        roitype=ROI_TYPE.TRACED, name=name, left=left, top=top, right=right, bottom=bottom,
        t_position=at.get("t", 0), z_position=at.get("z", 0),
    )  # fmt: skip
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


def _path(ring: Ring) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Give the steps along a ring: to its first corner, along the others, and back."""
    steps = np.full((len(ring), 3), _LINE, np.float32)
    steps[0, 0] = _MOVE
    steps[:, 1:] = ring
    return np.append(steps.reshape(-1), np.float32(_CLOSE))
