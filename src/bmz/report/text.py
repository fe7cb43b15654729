"""What all reports are written with: lines of a kind, and documents of JSON.

A line is a pair of a kind (``answer``, ``error``, ``warning``, ``note``, ``hint``) and a text, so
that whoever prints it decides where it goes and in which colour.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from bmz.base.errors import BmzError

if TYPE_CHECKING:
    from bmz.results.documents import Failure

Line = tuple[str, str]


def encodable(text: str) -> str:
    """Put a mark for what UTF-8 cannot hold: the name of a file may be any bytes.

    Examples
    --------
    >>> encodable(f"a{chr(0xDCFF)}.tif")
    'a?.tif'
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def document_text(document: Mapping[str, object]) -> str:
    """Write a document with indentation; dataclasses become objects, and paths text.

    Parameters
    ----------
    document : of ``bmz.results.documents``

    Raises
    ------
    TypeError
        It holds a value that JSON has no word for.
    """
    return json.dumps(document, indent=2, default=_plain)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"JSON has no word for {type(value).__name__}")


def failure_of(error: BmzError, message: str | None = None) -> Failure:
    """Give what a document says of an error; `message` stands in for its own."""
    return {"code": error.code, "message": message or error.message, "hint": error.hint}
