"""Generate the pages of the reference from the code: JSON documents, recipes and findings.

``python -m bmz.report.reference docs/reference`` writes the pages into that folder and, next to
this module, a JSON Schema 2020-12 for each document that commands print. A field may be added to a
document, so schemas allow fields that they do not name; a change of meaning raises the number of
the document.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from inspect import getdoc
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import Doc, override

from bmz.check.codes import CODES, FindingCode
from bmz.plan.recipe_settings import TABLE
from bmz.process.recipe import FINISH, Parameter, Recipe
from bmz.process.recipes import RECIPES
from bmz.results import image_documents, model_documents

FOLDER = Path(__file__).parent / "schemas"
DRAFT = GenerateJsonSchema.schema_dialect
_WORDS = {"string": "str", "integer": "int", "number": "num", "boolean": "bool", None: "any"}

DOCUMENTS_INTRODUCTION = """# JSON documents

`--json` (or `--format json`) prints one document on stdout, whose field `schema` names its kind.
Fields may be added to a document; a change of meaning raises the number. The JSON Schema files are
installed with bmz, in `bmz/report/schemas`, and tests validate what every command prints against
them. A `?` after a type means that the value may be null; a `?` after a name means that the field
may be left out.

This page is made from the code: `python -m bmz.report.reference docs/reference`.
"""


def _name_of(kind: type) -> str | None:
    schema = getattr(kind, "__annotations__", {}).get("schema")
    named = schema and get_args(get_type_hints(kind)["schema"])
    return named[0] if named else None


DOCUMENTS: Mapping[str, type] = {
    name: kind
    for kind in (vars(model_documents) | vars(image_documents)).values()
    if isinstance(kind, type) and kind is not image_documents.RunFacts and (name := _name_of(kind))
}
"""Name, such as ``bmz.check/1`` -> the type of the document."""


class _Generator(GenerateJsonSchema):
    """Generator of schemas that include every field of a dataclass, each with its meaning."""

    @override
    def field_is_required(self, field: Any, total: bool) -> bool:
        return field["type"] == "dataclass-field" or super().field_is_required(field, total)

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    @override
    def default_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    @override
    def typed_dict_schema(self, schema: Any) -> dict[str, Any]:
        return _described(super().typed_dict_schema(schema), schema["cls"])

    @override
    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        return _described(super().dataclass_schema(schema), schema["cls"])


def _described(schema: dict[str, Any], kind: type) -> dict[str, Any]:
    meanings = {"schema": "what this document is"} | _meanings(kind)
    fields = sorted(schema["properties"].items(), key=lambda field: field[0] != "schema")
    summary = (getdoc(kind) or "").partition("\n")[0].removesuffix(".")
    described = {name: {**field, "description": meanings.get(name, "")} for name, field in fields}
    return {**schema, "description": summary, "properties": described}


def _meanings(kind: type) -> dict[str, str]:
    """Read the meaning of each field from its `Doc` or from the parameters in the docstring."""
    _, _, parameters = (getdoc(kind) or "").partition("Parameters\n----------\n")
    entries = re.findall(r"^(\w[\w, ]*?)(?: : |\n +)(.+(?:\n +.+)*)", parameters, re.MULTILINE)
    meanings = {name: _plain(text) for names, text in entries for name in names.split(", ")}
    hints = get_type_hints(kind, include_extras=True)
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return meanings | {
        n: doc.documentation for n, m in marks.items() for doc in m if isinstance(doc, Doc)
    }


def _plain(text: str) -> str:
    """Convert a text of a docstring to Markdown about JSON."""
    return re.sub(r"\s+", " ", text).replace("``", "`").replace("None", "null")


@cache
def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a document such as ``bmz.check/1``.

    Raises
    ------
    KeyError
        There is no such document.
    """
    schema = TypeAdapter(DOCUMENTS[name]).json_schema(schema_generator=_Generator)
    return {"$schema": DRAFT, **schema, "title": name}


def file_of(name: str) -> Path:
    """Return the file of a document: ``bmz.check/1`` is in ``bmz.check.1.json``."""
    return FOLDER / f"{name.replace('/', '.')}.json"


def schema_text(name: str) -> str:
    """Return the content of the file of a document."""
    return json.dumps(schema_of(name), indent=2, ensure_ascii=False) + "\n"


def schemas_page() -> str:
    """Return the page about JSON documents in Markdown."""
    schemas = {name: schema_of(name) for name in DOCUMENTS}
    parts = {
        part: of for schema in schemas.values() for part, of in schema.get("$defs", {}).items()
    }
    sections = [
        f"\n## {name}\n\n{of['description']}\n\n{_table(of)}" for name, of in schemas.items()
    ]
    shared = [
        f"\n## {part}\n\n{of['description']}.\n\n{_table(of)}" for part, of in sorted(parts.items())
    ]
    return "".join([DOCUMENTS_INTRODUCTION, *sections, "\n# Parts of documents\n", *shared])


def _table(schema: Mapping[str, Any]) -> str:
    return "| field | type | meaning |\n|---|---|---|\n" + "".join(_rows(schema))


def _rows(schema: Mapping[str, Any]) -> Iterator[str]:
    for name, field in schema["properties"].items():
        left_out = "" if name in schema["required"] else "?"
        yield f"| `{name}{left_out}` | {_words(field)} | {field['description']} |\n"


def _words(field: Mapping[str, Any], null: str = "") -> str:
    if "anyOf" in field:
        return _words(field["anyOf"][0], "?")
    if "$ref" in field:
        part = field["$ref"].rpartition("/")[2]
        return f"[{part}{null}](#{part.lower()})"
    if "items" in field or "prefixItems" in field:
        return f"list of {_words(field.get('items', {}))}" + ", or null" * len(null)
    if "additionalProperties" in field:
        inner = field["additionalProperties"]
        return f"any name → {_words({} if inner is True else inner)}"
    choices = [field["const"]] if "const" in field else field.get("enum")
    kind = "\\|".join(choices) if choices else _WORDS[field.get("type")]
    return f"`{kind}{null}`"


RECIPES_INTRODUCTION = """# Label recipes

A recipe turns the output of a network into a label mask. `bmz show` prints the recipe of a model
and the evidence for it, which is the first of these: a declared step that gives labels; a block of
`config` (`config.bmz.recipe` with `name` and `parameters`, the thresholds in `config.stardist`, the
offsets in `config.mws`); the [curated facts](facts.md) of the model; names of channels; tags.
Without evidence, bmz asks for `--recipe`; it never guesses. `--set NAME=VALUE` changes a
parameter. `--recipe none` makes no labels.

Every recipe is a pure function in `bmz.process`. Labels are 1 to n without gaps, in raster order of
the objects; a mask has the smallest unsigned dtype that holds them. Tests compare each recipe with
its reference implementation or its published steps, and check that ideal maps reproduce the
objects they show, and that objects turn with the image.

This page is made from the code: `python -m bmz.report.reference docs/reference`.
"""


_RESCALED = {
    "maps": "the maps are resized to the image, and labels are made there",
    "labels": "labels are made first, and then resized to the image",
}

_HEAD = ("| parameter | default | range | meaning |", "|---|---|---|---|")


def recipes_page() -> str:
    """Return the page about recipes in Markdown."""
    return RECIPES_INTRODUCTION + _last_steps() + "".join(map(_recipe_section, RECIPES.values()))


def _last_steps() -> str:
    lines = ["", "## What every recipe does last", "", *_HEAD, *map(_parameter_row, FINISH)]
    lines += [
        "",
        "This happens on the grid of the image, after `--scale` is undone: smooth, fill, remove by",
        "size and place, renumber. A recipe that has a parameter with one of these names uses its",
        "own, such as `min_size` of `flows`, a step of the reference implementation.",
        "",
        "A length or an area on the network's grid, such as a smoothing width, is scaled with the",
        "maps when they are resized to the image, unless `--set` gives it: then it is in pixels of",
        "the image. Object sizes are always in pixels of the image.",
    ]
    return "\n".join(lines) + "\n"


def _recipe_section(recipe: Recipe) -> str:
    lines = [
        f"\n## {recipe.name}\n",
        f"{recipe.what[0].upper()}{recipe.what[1:]}.\n",
        f"Source: {recipe.source}.",
        "",
        f"If the image was resized, {_RESCALED[recipe.rescale]}: {recipe.rescale_why}.",
        "",
        f"Border of the image: {recipe.tiles}. Source: {recipe.tiles.source}.",
    ]
    if (own := recipe.own_tiles) is not None:
        lines += ["", f"For {own.family}: {own.tiles}. Source: {own.tiles.source}."]
    if recipe.parameters:
        lines += ["", *_HEAD]
        lines += [_parameter_row(parameter) for parameter in recipe.parameters]
    return "\n".join(lines) + "\n"


def _parameter_row(parameter: Parameter) -> str:
    default = str(parameter.default)
    if isinstance(parameter.default, bool):
        default = default.lower()
    limits = _limits(parameter)
    return f"| `{parameter.name}` | {default or 'empty'} | {limits} | {parameter.what} |"


def _limits(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(parameter.choices)
    return "true, false" if isinstance(parameter.default, bool) else parameter.limits


FINDINGS_INTRODUCTION = """# Findings

`bmz check` and `bmz run` report all findings of an image at once. Each has a code whose meaning
never changes. *Errors* stop the image, *warnings* ask you to look before you trust the result, and
*notes* say what is adapted or unknown. An image that fits has neither errors nor warnings. With
`bmz check --strict`, warnings count as errors; `bmz check --explain CODE` prints the same text.

This page is made from the code: `python -m bmz.report.reference docs/reference`.
"""


def findings_page() -> str:
    """Return the page about findings in Markdown."""
    sections = (_finding_section(code, page) for code, page in CODES.items())
    return FINDINGS_INTRODUCTION + "".join(sections)


def _finding_section(code: str, page: FindingCode) -> str:
    rows = (
        f"\n## {code}\n",
        f"*{page.severity}* - {page.cause}\n",
        f"**Fix.** {page.cure}\n",
        f"```\n{page.example}\n```",
    )
    return "\n".join(rows) + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "json.md": schemas_page,
    "recipes.md": recipes_page,
    "findings.md": findings_page,
}
"""File of the reference -> its text."""


def settings_table() -> str:
    """Return the parameters of every recipe as JSON, for code that must not load the recipes."""
    table = {
        name: [
            {"name": p.name, "value": p.default, "what": p.what, "limits": _limits(p)}
            for p in recipe.every
        ]
        for name, recipe in RECIPES.items()
    }
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for document in DOCUMENTS:
        file_of(document).write_text(schema_text(document), encoding="utf-8")
    for page, page_text in PAGES.items():
        Path(sys.argv[1], page).write_text(page_text(), encoding="utf-8")
    TABLE.write_text(settings_table(), encoding="utf-8")
