"""Notes that bmz keeps to save work: what somebody or something changed in them is no note."""

from __future__ import annotations

import hashlib
import json
from typing import Any


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


def unsealed(text: str) -> Any:  # noqa: ANN401  (any JSON)
    """Give back the note that was sealed.

    Raises
    ------
    ValueError
        It is damaged, or was not written by `sealed`.
    """
    try:
        document = json.loads(text)
        if isinstance(document, dict) and "note" in document:
            note = document["note"]
            if document.get("sha256") == _sha256(json.dumps(note)):
                return note
    except RecursionError as why:
        raise ValueError("it is nested too deeply") from why
    raise ValueError("it is no note, or a damaged one")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
