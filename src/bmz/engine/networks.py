"""From a weights entry of a model to a loaded network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bmz.engine.model_code import NeedsTrust, Permit, model_code
from bmz.engine.output_names import open_by_test
from bmz.predict.backend import CPU, Backend, Device, LoadRequest, Precision
from bmz.predict.confined import open_confined
from bmz.predict.formats import open_backend
from bmz.spec.model import ModelSpec, Weights


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
    device : from ``bmz.predict.devices.resolve_device``
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
    from bmz.engine.load import notes_folders  # here: to open a network takes few libraries
    from bmz.zoo.settings import settings_from_environment

    settings = settings_from_environment()
    return notes_folders(model.folder / "bioimageio.yaml", model.sha256, settings)
