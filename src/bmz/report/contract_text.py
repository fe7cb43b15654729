"""A contract as TOML: written with comments, and read without guessing."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, get_args

from bmz.base.axes import checked_channels
from bmz.base.errors import CouldNotTell
from bmz.base.files import given_text
from bmz.base.progress import printable
from bmz.check.contract import Contract, Range
from bmz.spec.made_for import STRUCTURES, Family, stated_kind

SCHEMA = "bmz.contract/1"

TOP = """# Requirements for images of this lab, and for what {model} finds in them.
# Written by 'bmz check ... --lock', checked by 'bmz check ... --contract'. You may edit the ranges
# and delete lines that do not matter.
"""

_PARTS: Mapping[str, Mapping[str, type]] = {
    "model": {"name": str, "sha256": str},
    "words": {"axes": str, "channels": list, "pixel_um": dict, "scale": object, "kind": str},
    "image": {
        "axes": str,
        "dtype": str,
        "channels": int,
        "pixel_um": dict,
        "family": str,
        "structure": str,
        "signal": list,
    },
    "objects": {"count": list, "diameter_px": list},
}
IMAGE_WORDS = ("axes", "dtype", "channels", "family", "structure")
"""Fields of a contract with a word or a number about the images."""

_RANGES = {"signal", "count", "diameter_px"}


class ContractUnreadable(CouldNotTell):
    """A file is not a contract."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path}' is not a contract: {why}",
            hint="make one from images known to be good: bmz check MODEL IMAGE... --lock lab.toml",
            code="contract.unreadable",
        )


def contract_toml(contract: Contract) -> str:
    """Return the text of the file."""
    image = {name: getattr(contract, name) for name in IMAGE_WORDS}
    parts: dict[str, dict[str, Any]] = {
        "model": {"name": contract.model, "sha256": contract.model_sha256},
        "words": dict(contract.words),
        "image": {**image, "pixel_um": contract.pixel_um, "signal": contract.signal},
        "objects": {"count": contract.objects, "diameter_px": contract.diameter_px},
    }
    lines = [TOP.format(model=printable(contract.model)), f"schema = {json.dumps(SCHEMA)}"]
    for part, values in parts.items():
        entries = [f"{k} = {_value(v)}" for k, v in values.items() if v not in (None, {}, ())]
        lines += ["", f"[{part}]", *entries] if entries else []
    return "\n".join(lines) + "\n"


def contract_words(contract: Contract) -> str:
    """Return what a contract requires, on one line."""
    sides = {
        "signal": contract.signal,
        "objects": contract.objects,
        "median diameter in px": contract.diameter_px,
    }
    lengths = ", ".join(f"{axis} {um:g} um" for axis, um in contract.pixel_um.items())
    clauses = [f"axes {contract.axes}", f"{contract.dtype}", f"channels {contract.channels}"]
    clauses += [f"pixel {lengths}"] if lengths else []
    clauses += [word for word in (contract.family, contract.structure) if word is not None]
    clauses += [f"{name} {allowed}" for name, allowed in sides.items() if allowed is not None]
    return "; ".join(clauses)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_value, value)) + "]"
    # TOML writes words and numbers as JSON does, but for DEL
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_contract(path: Path) -> Contract:
    """Read a contract.

    Raises
    ------
    ContractUnreadable
        The file does not exist, is not TOML, has another form, or names something unknown.
    """
    try:
        document = tomllib.loads(given_text(path))
    except (OSError, ValueError, RecursionError) as why:
        raise ContractUnreadable(path, str(why)) from why
    if document.pop("schema", None) != SCHEMA:
        raise ContractUnreadable(path, f"it does not say schema = '{SCHEMA}'")
    for part, values in document.items():
        _refuse_unknown(path, part, values)
    model, image = document.get("model", {}), dict(document.get("image", {}))
    if model.keys() != _PARTS["model"].keys():
        raise ContractUnreadable(path, "[model] must have a name and a sha256")
    objects = document.get("objects", {})
    signal = image.pop("signal", None)
    return Contract(
        model["name"],
        model["sha256"],
        document.get("words", {}),
        **image,
        signal=_range(signal),
        objects=_range(objects.get("count")),
        diameter_px=_range(objects.get("diameter_px")),
    )


def _refuse_unknown(path: Path, part: str, values: object) -> None:
    known = _PARTS.get(part)
    if known is None or not isinstance(values, dict):
        raise ContractUnreadable(path, f"it has no part '{part}'; parts are {', '.join(_PARTS)}")
    for key, value in values.items():
        if key not in known:
            raise ContractUnreadable(path, f"[{part}] has no '{key}'; it has {', '.join(known)}")
        if not isinstance(value, known[key]) or not _can_be_meant(key, value):
            raise ContractUnreadable(path, f"{part}.{key} = {value!r} is not a possible value")
        if key in _RANGES and not _is_range(value):
            raise ContractUnreadable(path, f"{part}.{key} must be two numbers, the lower one first")


def _can_be_meant(key: str, value: object) -> bool:
    if key == "pixel_um" and isinstance(value, Mapping):
        return all(_is_number(length) for length in value.values())
    if key == "channels":
        return type(value) is int or _are_channels(value)
    if key in _TERMS:
        return value in _TERMS[key]
    if key == "kind":
        return _is_kind(value)
    return key != "scale" or value == "auto" or _is_number(value)


_TERMS: Mapping[str, Container[str]] = {"family": get_args(Family), "structure": STRUCTURES}


def _is_kind(words: object) -> bool:
    try:
        return isinstance(words, str) and bool(stated_kind(words))
    except ValueError:
        return False


def _are_channels(words: Any) -> bool:  # noqa: ANN401  (whatever TOML holds)
    try:
        return all(type(word) in (int, str) for word in words) and bool(checked_channels(words))
    except (TypeError, ValueError):
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_range(value: object) -> bool:
    match value:
        case [int() | float() as low, int() | float() as high]:
            return _is_number(low) and _is_number(high) and low <= high
    return False


def _range(ends: list[float] | None) -> Range | None:
    return None if ends is None else Range(*ends)
