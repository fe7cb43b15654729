"""bioimageio.core as the engine: in a confined process."""

from __future__ import annotations

from collections.abc import Sequence

from bmz.predict.backend import CPU, Backend, LoadRequest
from bmz.predict.confined import open_confined
from bmz.predict.core import CORE
from bmz.spec.model import ModelSpec, Weights


def open_reference(
    model: ModelSpec, weights: Weights, inputs: Sequence[str] | None = None
) -> Backend:
    """Open a model in bioimageio.core, confined, whether it runs code of its own or not.

    Whether its code may run is decided before.

    Parameters
    ----------
    inputs : ids of those that will be given; None for all that are not optional

    Raises
    ------
    NotConfinable, ChildRefused, ChildDied
        See ``bmz.predict.confined.open_confined``.
    """
    manifest = next(
        path for name in ("bioimageio.yaml", "rdf.yaml") if (path := model.folder / name).is_file()
    )
    required = tuple(tensor.id for tensor in model.required_inputs)
    request = LoadRequest(
        path=weights.file.path,
        input_ids=required if inputs is None else tuple(inputs),
        output_ids=tuple(tensor.id for tensor in model.outputs),
        device=CPU,
        manifest=manifest.absolute(),
        weights_format=weights.format,
    )
    return open_confined(CORE, request, [model.folder])
