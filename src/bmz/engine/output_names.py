"""Find out with the test tensors of a model which output of its network is which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.notes import Notes
from bmz.engine.known_tensors import KnownTensors, all_stepped
from bmz.engine.test_tensors import read_test_tensors
from bmz.predict.backend import Backend, LoadRequest
from bmz.predict.output_order import OutputsUnclear
from bmz.spec.model import ModelSpec

OUTPUTS = Notes.of("outputs", 2, tuple[str, ...], one_per_key=True)
"""Names of the outputs in the order of the description; the key is the format of the weights."""

_MISMATCHED = 1e-3  # of the values: enough to tell one output from another


def open_by_test(
    model: ModelSpec,
    weights_format: str,
    request: LoadRequest,
    opener: Callable[[str, LoadRequest], Backend],
    notes_of: Callable[[], Sequence[Path]],
) -> Backend:
    """Open weights; where nothing says which output is which, let the test tensors say it.

    What was found is kept with our notes on the package, so that it is found out once.

    Parameters
    ----------
    model : its test tensors are files of the package
    weights_format : as in model descriptions
    request : what the backend is opened with
    opener : loads weights, such as ``bmz.predict.formats.open_backend``
    notes_of : gives the folders for our notes; each is read, the last is written to

    Raises
    ------
    OutputsUnclear
        The test tensors are absent, or do not decide it either.
    """
    try:
        return opener(weights_format, request)
    except OutputsUnclear as unclear:
        notes = notes_of()
        known = OUTPUTS.find(notes, weights_format)
        if known in unclear.candidates:
            return opener(weights_format, replace(request, output_names=known))
        found = _by_test(model, unclear.candidates, lambda names: opener(
            weights_format, replace(request, output_names=names)))  # fmt: skip
        if found is None:
            raise
        OUTPUTS.keep(notes[-1], weights_format, found)
        return opener(weights_format, replace(request, output_names=found))


def _by_test(
    model: ModelSpec,
    candidates: Sequence[tuple[str, ...]],
    opened: Callable[[tuple[str, ...]], Backend],
) -> tuple[str, ...] | None:
    try:
        tensors = read_test_tensors(model, model.required_inputs)
    except (BmzError, OSError):
        return None  # the caller tells that the outputs are unclear; `bmz test` tells of the file
    inputs = [tensor.array for tensor in tensors.inputs]
    agree = []
    for names in candidates:
        with closing(opened(names)) as backend:
            tried = KnownTensors.of(model, tensors.taken, backend.run(inputs))
        if _agrees(model, tried, tensors.expected):
            agree.append(names)
    return agree[0] if len(agree) == 1 else None


def _agrees(model: ModelSpec, known: KnownTensors, wanted: Sequence[AnyArray]) -> bool:
    try:
        outputs = all_stepped(model, known)
    except BmzError:
        return False  # the steps of one output need not suit another
    return all(map(_same, outputs, wanted))


def _same(found: AnyArray, wanted: AnyArray) -> bool:
    if found.shape != wanted.shape:
        return False
    near = np.isclose(found.astype(np.float64), wanted.astype(np.float64), rtol=1e-3, atol=1e-3)
    return bool(1 - near.mean() <= _MISMATCHED)
