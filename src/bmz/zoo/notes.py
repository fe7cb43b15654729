"""Read our own notes in the cache: whoever damaged them, they are right or they are absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

Note = TypeVar("Note")

_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
}


def read_json(path: Path) -> Any:  # noqa: ANN401  (any JSON)
    """Read a JSON file.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is no JSON, or nested without end.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as why:
        raise ValueError("it is nested too deeply") from why


def read_note(path: Path, kind: type[Note]) -> Note | None:
    """Read a note that was written as the fields of a dataclass.

    Parameters
    ----------
    kind : a dataclass whose fields are text, numbers and truth values

    Returns
    -------
    an instance, or None
        None where there is none, or it is damaged
    """
    try:
        return note_of(read_json(path), kind)
    except (OSError, ValueError):
        return None


def note_of(said: object, kind: type[Note]) -> Note:
    """Make a note of what was read.

    Raises
    ------
    ValueError
        A field has another type, is missing or is not known.
    """
    if not isinstance(said, dict):
        raise ValueError("it is no mapping")  # noqa: TRY004  (as for broken JSON)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if not said.keys() <= known.keys():
        raise ValueError("it has fields that are not known")
    for name, field in known.items():
        if name not in said and field.default is MISSING:
            raise ValueError(f"it has no {name}")
        if name in said and not _is_of(said[name], str(field.type)):
            raise ValueError(f"its {name} has another type")
    return kind(**said)


def _is_of(value: object, annotation: str) -> bool:
    kinds = _KINDS[annotation]
    if isinstance(value, bool) and bool not in kinds:
        return False
    return isinstance(value, kinds) and value == value  # noqa: PLR0124  (NaN equals nothing)
