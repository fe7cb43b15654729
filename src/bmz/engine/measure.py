"""Measure the sample of a model once for all, and keep the measures with our notes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.notes import Notes
from bmz.check.axes import COLOURS
from bmz.check.measured import UNSEEN, PlaneMeasures, look_at, measure_plane
from bmz.engine.test_tensors import sample_tensor
from bmz.image.npy import npy_mapped
from bmz.spec.made_for import made_for
from bmz.spec.model import ModelSpec, TensorSpec
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import notes_folders

MEASURES = Notes.of("measures", 3, dict[int, PlaneMeasures])
"""Measures by channel of the model; the key is the sha256 of its manifest."""


def sample_measures(
    package: Package, model: ModelSpec, settings: ZooSettings
) -> dict[int, PlaneMeasures]:
    """Give the measures of a model's own sample, kept with our notes on its package."""
    return model_measures(model, notes_folders(package.manifest, model.sha256, settings))


def model_measures(model: ModelSpec, notes: Sequence[Path]) -> dict[int, PlaneMeasures]:
    """Give the measures of the sample (else the test tensor) of the first inputs of a model.

    They are taken once and kept in the last of `notes`. A model whose tensors are not here has
    none, and so has one whose tensor is another file than the description says.

    Parameters
    ----------
    notes : folders for our notes on the package; each is read, the last is written to
    """
    remembered = MEASURES.find(notes, model.sha256)
    if remembered is not None:
        return remembered
    measures = _measured(model)
    if measures:
        MEASURES.keep(notes[-1], model.sha256, measures)
    return measures


def _measured(model: ModelSpec) -> dict[int, PlaneMeasures]:
    measures_of: dict[int, PlaneMeasures] = {}
    for tensor in model.required_inputs:
        start = len(measures_of)
        planes = _planes(tensor, model)
        look = look_at(np.stack(planes, -1)) if planes and _takes_colours(tensor, model) else None
        for number, plane in enumerate(planes):
            measures = measure_plane(plane, UNSEEN if is_white_noise(plane) else look)
            if measures is not None:
                measures_of[start + number] = measures
    return measures_of


LEAST_LIKENESS = 0.1
"""From this correlation of neighbouring pixels on a plane is an image; of optics it is far more."""


def is_white_noise(plane: AnyArray) -> bool:
    """Say whether neighbouring pixels have nothing in common, as in a tensor of random numbers.

    Parameters
    ----------
    plane : (y, x), any real dtype and unit
    """
    values = np.nan_to_num(plane.astype(np.float64))
    values -= values.mean()
    power = float((values * values).mean())
    beside = float((values[:, 1:] * values[:, :-1]).mean()) if values.shape[1] > 1 else 0.0
    return power > 0 and beside < LEAST_LIKENESS * power


def _takes_colours(tensor: TensorSpec, model: ModelSpec) -> bool:
    """Say whether the channels are red, green and blue: by their names, or as of stained tissue."""
    channels = tensor.axis("c")
    names = {name.lower() for name in channels.names} if channels else set()
    if tensor.channels != 3:  # noqa: PLR2004 - red, green and blue
        return False
    return (bool(names) and names <= COLOURS) or "stained" in made_for(model).families


def _planes(tensor: TensorSpec, model: ModelSpec) -> list[AnyArray]:
    array = sample_tensor(tensor, model, npy_mapped)
    if array is None or tensor.axis("y") is None:
        return []
    letters = tensor.letters
    middle = tuple(
        slice(None) if axis in "cyx" else size // 2
        for axis, size in zip(letters, array.shape, strict=True)
    )
    left = [axis for axis in letters if axis in "cyx"]
    planes = np.asarray(array[middle]).transpose([left.index(a) for a in "cyx" if a in left])
    return list(planes if "c" in left else planes[None])
