"""Functions that all reports share, for lines with a kind, JSON documents and verdicts.

A line is a pair of a kind (``answer``, ``error``, ``warning``, ``note``, ``hint``) and a text; the
caller that prints it decides where it goes and in which colour.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from bmz.base.axes import PLACES
from bmz.base.errors import BmzError
from bmz.image.given_names import with_given_names

if TYPE_CHECKING:
    from bmz.results.images import ImageCheck
    from bmz.results.model_documents import Failure


Line = tuple[str, str]

Row = tuple[str, str]
"""A heading (empty to continue the previous one) and a text."""


def encodable(text: str) -> str:
    """Replace characters that UTF-8 cannot encode, as in file names of arbitrary bytes, by ``?``.

    Examples
    --------
    >>> encodable(f"a{chr(0xDCFF)}.tif")
    'a?.tif'
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def document_text(document: Mapping[str, object]) -> str:
    """Return a document as indented JSON; dataclasses become objects, and paths become text.

    Parameters
    ----------
    document : a type of ``bmz.results.image_documents`` or ``bmz.results.model_documents``

    Raises
    ------
    TypeError
        The document contains a value that JSON cannot express.
    """
    return json.dumps(document, indent=2, default=_plain)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"JSON cannot express {type(value).__name__}")


def failure_of(error: BmzError, message: str | None = None) -> Failure:
    """Return the form of an error in a document; `message` replaces that of the error."""
    told = message or error.message
    return {
        "code": error.code,
        "message": with_given_names(told),
        "hint": with_given_names(error.hint),
    }


_WORDS = {
    ("fits", False): "fits as it is",
    ("adapts", False): "fits: bmz run will adapt it",
    ("fits", True): "fits, with warnings",
    ("adapts", True): "fits, with warnings: bmz run will adapt it",
}
_NO_FIT = {"mismatch": "does not fit", None: "could not be checked"}


def verdict_words(verdict: str | None, warnings: int) -> str:
    """Return a verdict in words: fits, fits with warnings, or does not fit.

    Parameters
    ----------
    verdict : ``fits``, ``adapts`` or ``mismatch``; None if there is none
    warnings : number of warnings
    """
    return _NO_FIT.get(verdict) or _WORDS[str(verdict), warnings > 0]


def short_verdict(verdict: str | None, warnings: int) -> str:
    """Return a verdict for a table cell: its name, and whether there are warnings."""
    if verdict in _NO_FIT:
        return verdict or ""
    return f"{verdict}, with warnings" if warnings else str(verdict)


def image_words(image: ImageCheck) -> str:
    """Return the verdict of an image in words."""
    return verdict_words(image.verdict, image.warnings)


def counted(objects: int, apart: Mapping[str, int], joined: Mapping[str, int]) -> str:
    """Describe how many objects there are, and in how many planes and frames they were counted.

    Parameters
    ----------
    objects : number of objects; objects joined over t are tracks
    apart : positions along t and z at which objects were counted separately
    joined : positions along t and z over which objects were joined

    Examples
    --------
    >>> counted(344, {"z": 31}, {})
    '344 objects in 31 planes'
    >>> counted(41, {"t": 8}, {"z": 31})
    '41 objects in 8 frames, joined over 31 planes'
    >>> counted(1, {}, {})
    '1 object'
    """
    noun = "track" if "t" in joined else "object"
    return f"{objects} {noun}{'s' * (objects != 1)}{within(apart, joined)}"


def within(apart: Mapping[str, int], joined: Mapping[str, int]) -> str:
    """Describe in how many planes and frames objects were counted, to follow a number.

    Examples
    --------
    >>> within({"t": 8, "z": 31}, {})
    ' in 8 frames of 31 planes'
    """
    counted_in = f" in {_places(apart)}" if apart else ""
    if not joined:
        return counted_in
    return f"{counted_in}{',' * bool(apart)} joined over {_places(joined)}"


def _places(positions: Mapping[str, int]) -> str:
    return " of ".join(f"{positions[a]} {PLACES[a]}" for a in "tz" if a in positions)
