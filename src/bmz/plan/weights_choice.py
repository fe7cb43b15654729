"""Choose the weights to run: code-free formats first, of those that can run here."""

from __future__ import annotations

from collections.abc import Mapping

from bmz.base.errors import WrongUsage
from bmz.plan.errors import WeightsUnusable
from bmz.spec.model import ModelSpec, Weights

ORDER = (
    "onnx",
    "torchscript",
    "tensorflow_saved_model_bundle",
    "keras_v3",
    "keras_hdf5",
    "pytorch_state_dict",
    "tensorflow_js",
)
"""Formats without code first; ONNX is the fastest of them on a CPU."""


class WeightsNotShipped(WrongUsage):
    """The model has no weights of the wanted format."""

    def __init__(self, model: ModelSpec, wanted: str) -> None:
        shipped = ", ".join(weights.format for weights in model.weights)
        super().__init__(
            f"'{model.id}' has no weights in format '{wanted}'",
            hint=f"it ships: {shipped}",
            code="weights.not-shipped",
        )


def choose_weights(model: ModelSpec, usable: Mapping[str, str], wanted: str | None) -> Weights:
    """Choose one weights entry.

    Parameters
    ----------
    model : the model
    usable : format -> empty when it can run here, else the line that installs what is missing;
        formats that bmz cannot run are left out
    wanted : the user's word

    Raises
    ------
    WeightsNotShipped
        The model has no entry of the wanted format.
    WeightsUnusable
        No (or not the wanted) entry can run here.
    """
    entries = {weights.format: weights for weights in model.weights}
    if wanted is not None and wanted not in entries:
        raise WeightsNotShipped(model, wanted)
    candidates = [wanted] if wanted else [name for name in ORDER if name in entries]
    for name in candidates:
        if usable.get(name) == "":
            return entries[name]
    installs = [usable[name] for name in candidates if usable.get(name)]
    shown = ", ".join(candidates) or "no format that bmz knows"
    if installs:
        raise WeightsUnusable(
            model.id, f"it ships {shown}, whose framework is not installed", hint=installs[0]
        )
    raise WeightsUnusable(
        model.id,
        f"it ships {shown}",
        hint=f"this version runs {', '.join(usable)}; convert the weights, or take another model",
    )
