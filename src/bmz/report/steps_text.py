"""Declared steps in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bmz.base.axes import NAMES, Step

Kwargs = Mapping[str, Any]


def step_words(step: Step) -> str:
    """Say what a declared step does.

    Examples
    --------
    >>> step_words(Step("scale_range", {"axes": ("y", "x"), "max_percentile": 99.8}))
    'stretch percentiles 0 to 99.8 to 0-1, over y, x together'
    """
    words = _WORDS.get(step.name)
    return words(step.kwargs) if words else str(step)


def _over(kwargs: Kwargs) -> str:
    axes = kwargs.get("axes")
    if axes is None:
        return "over the whole tensor"
    return f"over {', '.join(NAMES.get(a, a) for a in axes)} together"


def _scale_range(kwargs: Kwargs) -> str:
    low, high = kwargs.get("min_percentile", 0), kwargs.get("max_percentile", 100)
    return f"stretch percentiles {low:g} to {high:g} to 0-1, {_over(kwargs)}"


def _clip(kwargs: Kwargs) -> str:
    low = kwargs.get("min", kwargs.get("min_percentile"))
    high = kwargs.get("max", kwargs.get("max_percentile"))
    unit = " percentiles" if "min_percentile" in kwargs or "max_percentile" in kwargs else ""
    return f"cut to{unit} {'-inf' if low is None else low} to {'inf' if high is None else high}"


def _along(kwargs: Kwargs) -> str:
    return f" along {NAMES.get(kwargs['axis'], kwargs['axis'])}" if "axis" in kwargs else ""


_WORDS: Mapping[str, Callable[[Kwargs], str]] = {
    "binarize": lambda k: f"1 above {k.get('threshold')}, else 0{_along(k)}",
    "clip": _clip,
    "ensure_dtype": lambda k: f"cast to {k.get('dtype')}",
    "fixed_zero_mean_unit_variance": lambda k: (
        f"subtract {k.get('mean')}, divide by {k.get('std')}{_along(k)}"
    ),
    "scale_linear": lambda k: (
        f"multiply by {k.get('gain', 1)}, add {k.get('offset', 0)}{_along(k)}"
    ),
    "scale_mean_variance": lambda k: f"give it mean and spread of '{k.get('reference_tensor')}'",
    "scale_range": _scale_range,
    "sigmoid": lambda _: "sigmoid: logits to probabilities",
    "softmax": lambda k: f"softmax{_along(k)}: logits to probabilities",
    "zero_mean_unit_variance": lambda k: f"subtract the mean, divide by the spread, {_over(k)}",
    "stardist_postprocessing": lambda k: (
        f"StarDist labels: probability above {k.get('prob_threshold')}, "
        f"overlap up to {k.get('nms_threshold')}"
    ),
    "cellpose_flow_dynamics": lambda k: (
        f"Cellpose labels: cell probability above {k.get('cellprob_threshold')}, "
        f"flow error up to {k.get('flow_threshold')}"
    ),
    "custom": lambda k: f"runs its own code: {k.get('callable')} of {k.get('source')}",
}
