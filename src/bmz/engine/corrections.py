"""Label masks with corrections that were made on a page: a layer of its own beside the model's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bmz.base.files import writable_folder, write_whole_text
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.region import read_image
from bmz.process.edits import Edit, edited
from bmz.write.tiff import write_labels


def corrected(labels: Pixels, edits: Sequence[Edit], box: Mapping[str, slice]) -> Pixels:
    """Correct labels of a part of an image; what was done in planes beside it is left out."""
    loops = [axis for axis in labels.axes if axis not in "yx"]
    done = []
    for edit in edits:
        plane = tuple(edit.at.get(axis, 0) - _start(box, axis) for axis in loops)
        if all(0 <= n < labels.sizes[axis] for n, axis in zip(plane, loops, strict=True)):
            done.append((edit.moved(_start(box, "y"), _start(box, "x")), plane))
    return replace(labels, array=edited(labels.array, done))


CORRECTED = "corrected"
"""Folder of the corrected masks, beside those of the model."""


def write_corrected(mask: Path, edits: Sequence[Edit]) -> Path:
    """Write a label mask with corrections, under its name in a folder of its own.

    Parameters
    ----------
    mask : as ``bmz run`` wrote it

    Returns
    -------
    Path
        of the corrected mask; the list of corrections lies next to it as JSON
    """
    labels = read_image(inspect_image(mask))
    path = mask.parent / CORRECTED / mask.name
    writable_folder(path.parent)
    write_labels(path, corrected(labels, edits, {}))
    listed = [{"kind": e.kind, "points_yx_px": e.points, "at": dict(e.at)} for e in edits]
    name = mask.name.removesuffix(".tif").removesuffix(".labels")
    write_whole_text(path.with_name(f"{name}.edits.json"), json.dumps(listed, indent=1) + "\n")
    return path


def _start(box: Mapping[str, slice], axis: str) -> int:
    return box[axis].start if axis in box else 0
