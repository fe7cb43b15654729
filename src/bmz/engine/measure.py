"""Measure the sample of a model once for all, and keep the measures with our notes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.notes import Notes
from bmz.check.measured import PlaneMeasures, measure_plane
from bmz.engine.test_tensors import sample_tensor
from bmz.image.npy import npy_mapped
from bmz.spec.model import ModelSpec, TensorSpec
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import notes_folders

MEASURES = Notes.of("measures", 2, dict[int, PlaneMeasures])
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
        for number, plane in enumerate(_planes(tensor, model)):
            measures = measure_plane(plane)
            if measures is not None:
                measures_of[start + number] = measures
    return measures_of


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
