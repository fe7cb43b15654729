"""The JSON documents that commands print, as JSON Schema 2020-12.

``python -m bmz.report.schemas`` writes a file for each beside this module and the page of the
reference. A field may be added to a document, so fields that a schema does not name are allowed; a
change of meaning raises the number of the document.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bmz.report.schema_fields import DOCUMENTS
from bmz.report.schema_parts import PARTS, Field, Fields

FOLDER = Path(__file__).parent / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TYPES = {"str": "string", "int": "integer", "num": "number", "bool": "boolean", "any": None}

INTRODUCTION = """# JSON documents

`--json` (or `--format json`) prints one document on stdout. Its field `schema` names what it is. A
field may be added to a document; a change of meaning raises the number. The JSON Schema files are
installed with bmz, in `bmz/report/schemas`, and tests hold what every command prints against them.
A `?` behind a type means that the value may be null, and one behind a name that it may be left out.

This page is made from the code: `python -m bmz.report.schemas docs/reference/json.md`.
"""


def schema_of(name: str) -> dict[str, Any]:
    """Give the JSON Schema of a document such as ``bmz.check/1``.

    Raises
    ------
    KeyError
        There is no such document.
    """
    title, fields = DOCUMENTS[name]
    used = sorted(_parts_in(fields))
    return {
        "$schema": DRAFT,
        "title": name,
        "description": title,
        **_object(fields),
        **({"$defs": {part: _object(PARTS[part]) for part in used}} if used else {}),
    }


def file_of(name: str) -> Path:
    """Give the file of a document: ``bmz.check/1`` is in ``bmz.check.1.json``."""
    return FOLDER / f"{name.replace('/', '.')}.json"


def schema_text(name: str) -> str:
    """Give the content of the file of a document."""
    return json.dumps(schema_of(name), indent=2, ensure_ascii=False) + "\n"


def _object(fields: Fields) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            key.rstrip("?"): {**_node(kind), "description": words}
            for key, (kind, words) in fields.items()
        },
        "required": [key for key in fields if not key.endswith("?")],
    }


def _node(kind: Field) -> dict[str, Any]:
    if isinstance(kind, Mapping):  # names that are not known beforehand
        return {"type": "object", "additionalProperties": _node(kind["*"])}
    if isinstance(kind, list):
        array = {"type": "array", "items": _node(kind[0])}
        return {"anyOf": [array, {"type": "null"}]} if kind[1:] else array
    if kind.endswith("?"):
        return {"anyOf": [_word(kind[:-1]), {"type": "null"}]}
    return _word(kind)


def _word(kind: str) -> dict[str, Any]:
    if "|" in kind:
        return {"enum": kind.split("|")}
    if kind in PARTS:
        return {"$ref": f"#/$defs/{kind}"}
    if kind.startswith("bmz."):
        return {"const": kind}
    word = _TYPES[kind]
    return {} if word is None else {"type": word}


def _parts_in(fields: Fields) -> set[str]:
    found: set[str] = set()
    for kind, _ in fields.values():
        while isinstance(kind, list | Mapping):
            kind = kind[0] if isinstance(kind, list) else kind["*"]  # noqa: PLW2901  (what is in it)
        name = kind.rstrip("?")
        if name in PARTS:
            found |= {name} | _parts_in(PARTS[name])
    return found


def schemas_page() -> str:
    """Give the page of the reference in Markdown."""
    sections = [f"\n## {name}\n\n{title}\n\n{_table(f)}" for name, (title, f) in DOCUMENTS.items()]
    parts = [f"\n## {name}\n\n{_table(fields)}" for name, fields in PARTS.items()]
    return "".join([INTRODUCTION, *sections, "\n# Parts of documents\n", *parts])


def _table(fields: Fields) -> str:
    return "| field | type | meaning |\n|---|---|---|\n" + "".join(_rows(fields))


def _rows(fields: Fields) -> Iterator[str]:
    for key, (kind, words) in fields.items():
        yield f"| `{key}` | {_words(kind)} | {words} |\n"


def _words(kind: Field) -> str:
    if isinstance(kind, Mapping):
        return f"any name → {_words(kind['*'])}"
    if isinstance(kind, list):
        return f"list of {_words(kind[0])}" + ", or null" * len(kind[1:])
    name = kind.rstrip("?")
    if name in PARTS:
        return f"[{kind}](#{name})"
    return f"`{kind}`".replace("|", "\\|")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for document in DOCUMENTS:
        file_of(document).write_text(schema_text(document), encoding="utf-8")
    for page in sys.argv[1:]:
        Path(page).write_text(schemas_page(), encoding="utf-8")
