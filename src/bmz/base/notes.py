"""Cache computed values as JSON notes, which are either correct or treated as absent."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Any,
    Generic,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from bmz.base.files import whole_file
from bmz.base.values import dataclass

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
"""A value that JSON can represent."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Notes(Generic[Value]):
    """Cached values of one kind, each in a file.

    A file that is absent, damaged, or of another version or key is ignored: the value has to be
    computed again, and the file is rewritten. If a folder cannot be written, nothing is kept.

    Parameters
    ----------
    name : prefix of the file name
    version : version of the form and meaning of the value; increased when either changes
    read : inverse of `write`, applied after a round trip through JSON; raises ValueError,
        TypeError or KeyError for anything that `write` does not return
    write : function that returns JSON values; raises TypeError if JSON cannot represent the value
    one_per_key : keep one file per key; otherwise the newest value replaces the previous one
    """

    name: str
    version: int
    read: Callable[[Any], Value]
    write: Callable[[Value], Any]
    one_per_key: bool = False

    @classmethod
    def of(
        cls, name: str, version: int, kind: type[Value], *, one_per_key: bool = False
    ) -> Notes[Value]:
        """Return notes for values that `value_of` can read as `kind`."""
        return cls(name, version, partial(value_of, kind), plain_of, one_per_key)

    def file(self, key: str) -> str:
        """Return the name of the file of a key."""
        part = f".{_sha256(key)[:16]}" if self.one_per_key else ""
        return f"{self.name}.{self.version}{part}.json"

    def find(self, folders: Iterable[Path], key: str) -> Value | None:
        """Return the value from the first folder that has it; None if no folder does.

        Parameters
        ----------
        key : everything that the value depends on, besides the folders and the version
        """
        for folder in folders:
            with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
                note = unsealed((folder / self.file(key)).read_text(encoding="utf-8"))
                if isinstance(note, dict) and note["key"] == key:
                    return self.read(note["value"])
        return None

    def keep(self, folder: Path, key: str, value: Value) -> None:
        """Store a value, unless the folder cannot be written or JSON cannot represent the value."""
        try:
            plain = self.write(value)
        except TypeError:
            return
        keep_text(folder / self.file(key), sealed({"key": key, "value": plain}))


def keep_text(path: Path, text: str) -> None:
    """Write a file that can be recreated; ignore it if it cannot be written."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def sealed(note: object) -> str:
    """Return a note as JSON with the sha256 of its content.

    Parameters
    ----------
    note : JSON values

    Raises
    ------
    TypeError
        The note contains a value that JSON cannot represent.
    """
    text = json.dumps(note)
    return f'{{"sha256": "{_sha256(text)}", "note": {text}}}'


def unsealed(text: str) -> object:
    """Return the note in the result of `sealed`.

    Raises
    ------
    ValueError
        The text is damaged, or is not a result of `sealed`.
    """
    document = _parsed(text)
    if isinstance(document, dict) and "note" in document:
        note = document["note"]
        if document.get("sha256") == _sha256(json.dumps(note)):
            return note
    raise ValueError("it is not a note, or it is damaged")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parsed(text: str) -> object:
    try:
        document: object = json.loads(text)
    except RecursionError as why:
        raise ValueError("it is nested too deeply") from why
    return document


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that contains a JSON object.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The file is not JSON, is nested too deeply, or contains another value.
    """
    document = _parsed(path.read_text(encoding="utf-8"))
    if isinstance(document, dict):
        return document
    raise ValueError("it is not a JSON object")


def plain_of(value: object) -> object:
    """Convert a value of dataclasses, mappings and sequences to JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain_of(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_of(entry) for entry in value]
    return value


def value_of(kind: type[Value], plain: object) -> Value:
    """Convert the result of `plain_of` back to the value, after a round trip through JSON.

    Parameters
    ----------
    kind : type of the value: text, numbers, booleans and None, literals, unions, tuples, mappings,
        and dataclasses of these
    plain : JSON values

    Raises
    ------
    ValueError
        `plain` is of another kind.
    """
    return cast("Value", _value(kind, plain, "it"))


def _value(kind: object, plain: object, where: str) -> object:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(plain, list):
        kinds = arguments[:1] * len(plain) if arguments[-1] is ... else arguments
        if len(kinds) == len(plain):
            return tuple(_value(k, entry, where) for k, entry in zip(kinds, plain, strict=True))
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(plain, dict):
        of_key, of_value = arguments
        return {of_key(key): _value(of_value, entry, where) for key, entry in plain.items()}
    elif isinstance(kind, type) and is_dataclass(kind) and isinstance(plain, dict):
        return _instance(kind, plain)
    elif origin in (Union, UnionType):
        return _value(_one_of(arguments, plain), plain, where)
    elif _is_simple(kind, plain):
        return plain
    raise ValueError(f"{where} has the wrong type")


def _one_of(kinds: tuple[object, ...], plain: object) -> object:
    """Choose the simple type that fits, or else the last one that is not None."""
    known = [kind for kind in kinds if _is_simple(kind, plain)]
    return known[0] if known else [kind for kind in kinds if kind is not NoneType][-1]


def _is_simple(kind: object, plain: object) -> bool:
    if get_origin(kind) is Literal:
        return plain in get_args(kind)
    if isinstance(plain, bool):
        return kind is bool
    if kind is float:
        is_nan = isinstance(plain, float) and math.isnan(plain)
        return isinstance(plain, int | float) and not is_nan
    return kind in (str, int, NoneType) and type(plain) is kind


@cache
def _kinds(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _instance(kind: type, plain: Mapping[str, object]) -> object:
    known = {field.name: field for field in fields(kind)}
    if not plain.keys() <= known.keys():
        raise ValueError("it has unknown fields")
    for name, field in known.items():
        needed = field.default is MISSING and field.default_factory is MISSING
        if needed and name not in plain:
            raise ValueError(f"it has no {name}")
    kinds = _kinds(kind)
    return kind(**{name: _value(kinds[name], said, f"its {name}") for name, said in plain.items()})


def read_note(path: Path, kind: type[Value]) -> Value | None:
    """Read a file that contains one value of `kind` as JSON; None if it is absent or damaged."""
    try:
        return value_of(kind, _parsed(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
