"""The declared steps once more, from the formulas of the specification and with NumPy alone.

The expected outputs of a stand-in come from here, not from ``bmz.process``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Kwargs = Mapping[str, Any]

_LETTERS = {"b": "batch", "i": "index", "t": "time", "c": "channel"}
_EPS = 1e-6  # default of both formats


def applied(steps: Sequence[Mapping[str, Any]], x: Array, names: Sequence[str]) -> Array:
    """Apply steps of format 0.4 or 0.5.

    Parameters
    ----------
    x : any dtype
    names : of its axes, in the words of format 0.5

    Returns
    -------
    float64, or the dtype that an ``ensure_dtype`` at the end asks for

    Raises
    ------
    KeyError
        There is no formula here for a step.
    """
    for step in steps:
        name = step.get("id") or step["name"]
        x = FORMULAS[name](x, step.get("kwargs") or {}, names)
    return x


def _ensure_dtype(x: Array, kwargs: Kwargs, _names: Sequence[str]) -> Array:
    return x.astype(kwargs["dtype"])


def _binarize(x: Array, kwargs: Kwargs, names: Sequence[str]) -> Array:
    return np.asarray(x > _along(kwargs["threshold"], kwargs, x, names)).astype(np.float64)


def _scale_linear(x: Array, kwargs: Kwargs, names: Sequence[str]) -> Array:
    gain, offset = kwargs.get("gain", 1.0), kwargs.get("offset", 0.0)
    scaled = x.astype(np.float64) * _along(gain, kwargs, x, names)
    return np.asarray(scaled + _along(offset, kwargs, x, names))


def _sigmoid(x: Array, _kwargs: Kwargs, _names: Sequence[str]) -> Array:
    return np.asarray(1 / (1 + np.exp(-x.astype(np.float64))))


def _fixed(x: Array, kwargs: Kwargs, names: Sequence[str]) -> Array:
    mean, std = (_along(kwargs[key], kwargs, x, names) for key in ("mean", "std"))
    return np.asarray((x.astype(np.float64) - mean) / std)


def _normalised(x: Array, kwargs: Kwargs, names: Sequence[str]) -> Array:
    if kwargs.get("mode") == "fixed":
        return _fixed(x, kwargs, names)
    axes = _jointly(kwargs, names)
    mean = x.mean(axes, dtype=np.float64, keepdims=True)
    std = x.std(axes, dtype=np.float64, keepdims=True)
    return np.asarray((x - mean) / (std + kwargs.get("eps", _EPS)))


def _scale_range(x: Array, kwargs: Kwargs, names: Sequence[str]) -> Array:
    axes, wide = _jointly(kwargs, names), x.astype(np.float64)
    shares = [kwargs.get("min_percentile", 0.0), kwargs.get("max_percentile", 100.0)]
    low, high = np.percentile(wide, shares, axis=axes, keepdims=True)
    return np.asarray((wide - low) / (high - low + kwargs.get("eps", _EPS)))


def _clip(x: Array, kwargs: Kwargs, names: Sequence[str]) -> Array:
    axes = _jointly(kwargs, names)
    low, high = (
        np.percentile(x, kwargs[f"{end}_percentile"], axis=axes, keepdims=True)
        if f"{end}_percentile" in kwargs
        else kwargs[end]
        for end in ("min", "max")
    )
    return np.asarray(np.clip(x.astype(np.float64), low, high))


def _jointly(kwargs: Kwargs, names: Sequence[str]) -> tuple[int, ...]:
    """Give the dimensions whose values are looked at together."""
    axes = kwargs.get("axes")
    if axes is None:
        return tuple(range(len(names)))
    wanted = {_LETTERS.get(axis, axis) for axis in axes}
    if kwargs.get("mode") == "per_dataset":
        wanted |= {"batch"}
    return tuple(i for i, name in enumerate(names) if name in wanted)


def _along(value: Any, kwargs: Kwargs, x: Array, names: Sequence[str]) -> Array:
    """Lay one value per entry along its axis: the one it names, in 0.4 the one it leaves out."""
    values = np.asarray(value, np.float64)
    if values.ndim == 0 or values.size == 1:
        return values.reshape(())
    axis = kwargs.get("axis")
    if axis is None:
        together = {_LETTERS.get(letter, letter) for letter in kwargs["axes"]} | {"batch"}
        (axis,) = (name for name in names if name not in together)
    at = names.index(axis)
    return values.reshape([-1 if i == at else 1 for i in range(x.ndim)])


FORMULAS: Mapping[str, Callable[[Array, Kwargs, Sequence[str]], Array]] = {
    "binarize": _binarize,
    "clip": _clip,
    "ensure_dtype": _ensure_dtype,
    "fixed_zero_mean_unit_variance": _fixed,
    "scale_linear": _scale_linear,
    "scale_range": _scale_range,
    "sigmoid": _sigmoid,
    "zero_mean_unit_variance": _normalised,
}
"""The steps that live manifests declare."""
