"""Notes that save work: values that bmz found once and keeps as JSON, right or absent."""

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
"""What JSON has words for."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Notes(Generic[Value]):
    """Values of one kind, each kept in a file until it is found again.

    A note that is absent, damaged, of another version or of another key is not a note: the value is
    found again, and the file is written again. Where nothing can be written, nothing is kept.

    Parameters
    ----------
    name : how the name of the file begins
    version : of the form and the meaning of the value; a change of either raises it
    read : gives the value of what `write` gave, after a way through JSON; raises ValueError,
        TypeError or KeyError where it is something else
    write : gives values of JSON; raises TypeError where JSON has no word for the value
    one_per_key : values of several keys lie side by side; else the newest replaces the last one
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
        """Return the notes whose values `value_of` can read as `kind`."""
        return cls(name, version, partial(value_of, kind), plain_of, one_per_key)

    def file(self, key: str) -> str:
        """Return the name of the file of a key."""
        part = f".{_sha256(key)[:16]}" if self.one_per_key else ""
        return f"{self.name}.{self.version}{part}.json"

    def find(self, folders: Iterable[Path], key: str) -> Value | None:
        """Return the value of the first folder that has it; None if none does.

        Parameters
        ----------
        key : everything that changes the value, and that neither the folders nor the version
            tell apart
        """
        for folder in folders:
            with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
                note = unsealed((folder / self.file(key)).read_text(encoding="utf-8"))
                if isinstance(note, dict) and note["key"] == key:
                    return self.read(note["value"])
        return None

    def keep(self, folder: Path, key: str, value: Value) -> None:
        """Keep a value, unless the folder cannot be written or JSON has no word for the value."""
        try:
            plain = self.write(value)
        except TypeError:
            return
        keep_text(folder / self.file(key), sealed({"key": key, "value": plain}))


def keep_text(path: Path, text: str) -> None:
    """Write a file that is made again where it is absent; skip it where it cannot be written."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def sealed(note: object) -> str:
    """Write a note as JSON with the sha256 of its content.

    Parameters
    ----------
    note : values of JSON

    Raises
    ------
    TypeError
        It holds a value that JSON has no word for.
    """
    text = json.dumps(note)
    return f'{{"sha256": "{_sha256(text)}", "note": {text}}}'


def unsealed(text: str) -> object:
    """Give back the note that was sealed.

    Raises
    ------
    ValueError
        It is damaged, or was not written by `sealed`.
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
    """Read a file that holds a JSON object.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is not JSON, nested without end, or holds another value.
    """
    document = _parsed(path.read_text(encoding="utf-8"))
    if isinstance(document, dict):
        return document
    raise ValueError("it is not a JSON object")


def plain_of(value: object) -> object:
    """Return a value of dataclasses, mappings and sequences as values of JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain_of(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_of(entry) for entry in value]
    return value


def value_of(kind: type[Value], plain: object) -> Value:
    """Return the value of what `plain_of` made of it, after a way through JSON.

    Parameters
    ----------
    kind : text, numbers, truth values and None, literals, unions, tuples, mappings, and
        dataclasses of these
    plain : values of JSON

    Raises
    ------
    ValueError
        It is of another kind.
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
    """Choose the simple type that suits; else the last that is not None."""
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
    """Read a file that holds one value of `kind` as JSON; None if it is absent or damaged."""
    try:
        return value_of(kind, _parsed(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
