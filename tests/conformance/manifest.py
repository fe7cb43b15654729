"""What a manifest says of its tensors, read without bmz, so that its reading is tested too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Content = dict[str, Any]

_NAMES = {"b": "batch", "i": "index", "t": "time", "c": "channel", "z": "z", "y": "y", "x": "x"}
"""The letters of format 0.4 in the words of format 0.5."""

SPACE = ("z", "y", "x")


@dataclass(frozen=True)
class Rule:
    """How many entries an axis may have.

    Parameters
    ----------
    least : the smallest size; with `step` 0 the only one
    step : between legal sizes
    follows : tensor and axis whose size times `factor` plus `added` is this size
    free : any number of entries, known only once the network has run
    """

    least: int = 1
    step: int = 0
    follows: tuple[str, str] | None = None
    factor: float = 1.0
    added: int = 0
    free: bool = False


@dataclass(frozen=True)
class Axis:
    """One axis, by its name in format 0.5."""

    name: str
    rule: Rule
    halo: int = 0


@dataclass(frozen=True)
class Tensor:
    """One input or output.

    Parameters
    ----------
    steps : pre- or postprocessing as written
    limits : declared range of values; None for open
    """

    name: str
    axes: tuple[Axis, ...]
    dtype: str
    steps: tuple[Mapping[str, Any], ...]
    limits: tuple[float | None, float | None]
    optional: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Give the names of the axes."""
        return tuple(axis.name for axis in self.axes)

    @property
    def space(self) -> tuple[str, ...]:
        """Give those of z, y and x that it has, in its own order."""
        return tuple(name for name in self.names if name in SPACE)


@dataclass(frozen=True)
class Manifest:
    """A manifest as written, and its tensors.

    Parameters
    ----------
    alias : the name of its folder
    old : of format 0.4
    """

    alias: str
    content: Content
    old: bool
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def formats(self) -> tuple[str, ...]:
        """Give the weights formats that it names."""
        return tuple(name for name, entry in self.content["weights"].items() if entry)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest of format 0.4 or 0.5.

    Raises
    ------
    ValueError
        It is not a YAML mapping.
    """
    from bioimageio.spec.utils import read_yaml
    from ruyaml.error import YAMLError

    try:
        content: Any = read_yaml(path)
    except YAMLError as why:
        raise ValueError(f"it is not YAML: {str(why).splitlines()[0]}") from why
    if not isinstance(content, dict):
        raise TypeError("it is not a mapping")
    old = str(content["format_version"]).startswith("0.4")
    read = _old_tensors if old else _new_tensors
    return Manifest(
        path.parent.name,
        content,
        old,
        read(content["inputs"], "preprocessing"),
        read(content["outputs"], "postprocessing"),
    )


def _old_tensors(written: Sequence[Any], steps: str) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            name=one["name"],
            axes=tuple(_old_axes(one)),
            dtype=one["data_type"],
            steps=tuple(one.get(steps) or ()),
            limits=_limits(one.get("data_range")),
        )
        for one in written
    )


def _old_axes(tensor: Mapping[str, Any]) -> list[Axis]:
    names = [_NAMES[letter] for letter in tensor["axes"]]
    shape, halo = tensor["shape"], tensor.get("halo") or [0] * len(names)
    if isinstance(shape, list):
        rules = [Rule(size) for size in shape]
    elif "min" in shape:
        pairs = zip(shape["min"], shape["step"], strict=True)
        rules = [Rule(least, step) for least, step in pairs]
    else:
        numbers = zip(names, shape["scale"], shape["offset"], strict=True)
        rules = [
            Rule(follows=(shape["reference_tensor"], name), factor=scale, added=round(2 * offset))
            if scale
            else Rule(round(2 * offset))  # scale 0: twice the offset, whatever the input
            for name, scale, offset in numbers
        ]
    return [Axis(*parts) for parts in zip(names, rules, halo, strict=True)]


def _new_tensors(written: Sequence[Any], steps: str) -> tuple[Tensor, ...]:
    scales = {
        (one["id"], axis.get("id") or axis["type"]): float(axis.get("scale") or 1)
        for one in written
        for axis in one["axes"]
    }
    return tuple(
        Tensor(
            name=one["id"],
            axes=tuple(_new_axis(axis, scales) for axis in one["axes"]),
            dtype=(one.get("data") or {}).get("type", "float32"),
            steps=tuple(one.get(steps) or ()),
            limits=_limits((one.get("data") or {}).get("range")),
            optional=bool(one.get("optional")),
        )
        for one in written
    )


def _new_axis(axis: Mapping[str, Any], scales: Mapping[tuple[str, str], float]) -> Axis:
    name = axis.get("id") or axis["type"]
    halo = int(axis.get("halo") or 0)
    size: Any = axis.get("size")
    if axis["type"] == "channel":
        return Axis(name, Rule(len(axis["channel_names"])))
    if axis["type"] == "batch":
        return Axis(name, Rule(size or 1, 0 if size else 1))
    if isinstance(size, int):
        return Axis(name, Rule(size), halo)
    if "tensor_id" in size:
        other = (size["tensor_id"], size["axis_id"])
        factor = scales.get(other, 1.0) / float(axis.get("scale") or 1)
        return Axis(name, Rule(follows=other, factor=factor, added=size.get("offset") or 0), halo)
    if "min" in size and "step" in size:
        return Axis(name, Rule(size["min"], size["step"]), halo)
    return Axis(name, Rule(free=True), halo)


def _limits(written: Sequence[Any] | None) -> tuple[float | None, float | None]:
    low, high = written or (None, None)
    return _finite(low), _finite(high)


def _finite(bound: Any) -> float | None:
    number = None if bound is None else float(str(bound).replace(".inf", "inf"))
    return None if number is None or number in (float("inf"), -float("inf")) else number
