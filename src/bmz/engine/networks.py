"""How a network is opened, and which of its outputs is which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.notes import Notes
from bmz.engine.model_code import NeedsTrust, Permit, model_code
from bmz.engine.pipeline import KnownTensors, all_stepped
from bmz.engine.test_tensors import read_test_tensors
from bmz.predict.backend import CPU, Backend, Device, LoadRequest, Precision
from bmz.predict.confined import open_confined
from bmz.predict.formats import open_backend
from bmz.predict.output_order import OutputsUnclear
from bmz.spec.model import ModelSpec, Weights

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
        agreed = _by_test(model, unclear.candidates, lambda names: opener(
            weights_format, replace(request, output_names=names)))  # fmt: skip
        if agreed is None:
            raise
        OUTPUTS.keep(notes[-1], weights_format, agreed)
        return opener(weights_format, replace(request, output_names=agreed))


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


def _agrees(model: ModelSpec, known: KnownTensors, expected: Sequence[AnyArray]) -> bool:
    try:
        outputs = all_stepped(model, known)
    except BmzError:
        return False  # the steps of one output need not suit another
    return all(map(_same, outputs, expected))


def _same(output: AnyArray, expected: AnyArray) -> bool:
    if output.shape != expected.shape:
        return False
    near = np.isclose(output.astype(np.float64), expected.astype(np.float64), rtol=1e-3, atol=1e-3)
    return bool(1 - near.mean() <= _MISMATCHED)


def open_network(  # noqa: PLR0913  (four of them are keywords with defaults)
    model: ModelSpec,
    weights: Weights,
    device: Device = CPU,
    *,
    precision: Precision = "float32",
    permit: Permit = "no",
    inputs: Sequence[str] | None = None,
    threads: int | None = None,
) -> Backend:
    """Load the network of a weights entry, whose files are there and verified.

    Parameters
    ----------
    model, weights : the model, and the entry to load
    device : from ``bmz.predict.formats.resolve_device``
    precision : of the arithmetic
    permit : whether code of the model may run; numbers alone always may
    inputs : ids of those that will be given; None for all that are not optional
    threads : on a CPU, how many at most; None for as many as the process may use

    Raises
    ------
    NeedsTrust
        The entry runs code and is not permitted to.
    NoBackend, WeightsUnreadable, TensorCountDiffers, OutputsUnclear
        See ``bmz.predict.formats.open_backend``.
    NotConfinable, ChildRefused, ChildDied
        See ``bmz.predict.confined.open_confined``.
    """
    code = model_code(weights)
    if code is not None and permit == "no":
        raise NeedsTrust(model, code)
    required = tuple(tensor.id for tensor in model.required_inputs)
    request = LoadRequest(
        path=weights.file.path,
        input_ids=required if inputs is None else tuple(inputs),
        output_ids=tuple(tensor.id for tensor in model.outputs),
        device=device,
        precision=precision,
        threads=threads,
        architecture=weights.architecture,
        strict=weights.strict,
        # permitted by now; a network of a known library is built by code that needs no permit
        trusted=code is not None or weights.architecture is not None,
        output_axes=tuple(tensor.letters for tensor in model.outputs),
        output_channels=tuple(tensor.channels for tensor in model.outputs),
    )
    if code is not None and permit == "confined":
        files = (weights.file.path, *(file.path for file in weights.beside))
        return open_confined(weights.format, request, files)
    return open_by_test(model, weights.format, request, open_backend, partial(_notes, model))


def _notes(model: ModelSpec) -> tuple[Path, ...]:
    from bmz.zoo.settings import settings_from_environment
    from bmz.zoo.store import notes_folders

    settings = settings_from_environment()
    return notes_folders(model.folder / "bioimageio.yaml", model.sha256, settings)
