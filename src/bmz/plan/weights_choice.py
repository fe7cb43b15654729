"""Which weights are run, and in which precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bmz.base.errors import CouldNotTell, WrongUsage
from bmz.base.values import dataclass
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


class WeightsUnusable(CouldNotTell):
    """No weights of the model can run here."""

    def __init__(self, model: str, why: str, *, hint: str) -> None:
        super().__init__(
            f"no weights of '{model}' can run: {why}", hint=hint, code="weights.no-backend"
        )


class WeightsNotShipped(WrongUsage):
    """The model has no weights in the requested format."""

    def __init__(self, model: ModelSpec, format_name: str) -> None:
        shipped = ", ".join(weights.format for weights in model.weights)
        super().__init__(
            f"'{model.id}' has no weights in format '{format_name}'",
            hint=f"it ships: {shipped}",
            code="weights.not-shipped",
        )


def choose_weights(model: ModelSpec, usable: Mapping[str, str], format_name: str | None) -> Weights:
    """Choose one weights entry.

    Parameters
    ----------
    model : the model
    usable : format -> empty if it can run here, else the command that installs what is missing;
        formats that bmz cannot run are left out
    format_name : requested format; None for the first in `ORDER` that can run

    Raises
    ------
    WeightsNotShipped
        The model has no entry in the requested format.
    WeightsUnusable
        No entry, or not the requested one, can run here.
    """
    entries = {weights.format: weights for weights in model.weights}
    if format_name is not None and format_name not in entries:
        raise WeightsNotShipped(model, format_name)
    candidates = [format_name] if format_name else [name for name in ORDER if name in entries]
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
        hint=f"this version runs {', '.join(usable)}; convert the weights, or use another model",
    )


LEAST_F1 = 0.99
LEAST_IOU = 0.9
LEAST_GAIN = 1.1
"""A time gain below a tenth is not worth values that differ from those of float32."""

LEAST_GAIN_IN_FLOAT32 = 1.05
"""Gain from which another framework is worth its import; less is within the variation of times."""


@dataclass(frozen=True)
class Way:
    """A framework and a precision in which a network can be run.

    Parameters
    ----------
    precision : such as ``bfloat16``
    backend : the framework; empty for the one to which the format of the weights belongs
    """

    precision: str
    backend: str = ""

    def __str__(self) -> str:
        return f"{self.precision} by {self.backend}" if self.backend else self.precision


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision and framework in which a network is run, and why.

    Parameters
    ----------
    name : such as ``bfloat16``; ``auto`` if it is measured when the network first runs
    why : empty if nothing was weighed
    backend : the framework; empty for the one to which the format of the weights belongs
    gated : whether it was chosen because it gives the same labels as float32, not requested
    """

    name: str
    why: str
    backend: str = ""
    gated: bool = False

    @property
    def backend_word(self) -> str:
        """The value for ``--backend``."""
        return self.backend or "native"


FLOAT32 = PrecisionChoice("float32", "")
NOT_MEASURED = PrecisionChoice("auto", "measured when the network is first run on this device")


@dataclass(frozen=True)
class Trial:
    """The result of one way of running on the model's own test input.

    Parameters
    ----------
    precision : such as ``float16``
    took_s : the shortest of a few runs
    f1 : share of objects that agree with those of float32 to an IoU of `LEAST_IOU`; without
        objects 1 if the numbers agree, else 0
    backend : as in `Way`
    by_numbers : whether values were compared because there are no objects
    """

    precision: str
    took_s: float
    f1: float
    backend: str = ""
    by_numbers: bool = False

    def against(self, whole: Trial) -> str:
        """Return text on how much faster this is than another, and whether they agree."""
        agrees = f"F1 {self.f1:.3f}"
        if self.by_numbers:
            agrees = "the same numbers" if self.f1 else "other numbers"
        way = Way(self.precision, self.backend)
        return f"{way} {whole.took_s / self.took_s:.1f} x as fast, {agrees}"


def choose_precision(trials: Sequence[Trial]) -> PrecisionChoice:
    """Choose the fastest way of running whose labels agree with those of float32.

    Parameters
    ----------
    trials : that of float32 first; none if there was nothing to compare with

    Examples
    --------
    >>> whole, half = Trial("float32", 0.2, 1), Trial("bfloat16", 0.1, 0.995)
    >>> choose_precision([whole, half]).name
    'bfloat16'
    >>> choose_precision([whole, Trial("bfloat16", 0.1, 0.98)]).name
    'float32'
    >>> choose_precision([whole, Trial("float32", 0.1, 1, "openvino")]).backend
    'openvino'
    """
    if not trials:
        return PrecisionChoice(
            "float32", "the test input contains nothing to compare other precisions with"
        )
    whole, *others = trials
    agreeing = [trial for trial in others if trial.f1 >= LEAST_F1]
    chosen = whole
    for is_whole, least in ((True, LEAST_GAIN_IN_FLOAT32), (False, LEAST_GAIN)):
        candidates = [t for t in agreeing if (t.precision == whole.precision) == is_whole]
        best = min(candidates, key=lambda trial: trial.took_s, default=chosen)
        chosen = best if chosen.took_s >= least * best.took_s else chosen
    words = "; ".join(trial.against(whole) for trial in others) or "nothing else could run"
    reference = Way(whole.precision, whole.backend)
    why = f"compared with {reference} on the test input: {words}"
    gated = chosen.precision != whole.precision
    return PrecisionChoice(chosen.precision, why, chosen.backend, gated)
