"""The names under which a manifest may be asked for, read off its lines without parsing it.

A description is parsed in the room ``spec`` only, which takes seconds for the whole zoo. Here
we want no more than the identifiers at three known places, and a manifest that is no YAML at
all must do no harm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+): *(?P<value>.*?)\s*$")
_DOI = re.compile(r"10\.\d{4,9}/\S+")
_PLACES = (
    ("id",),
    ("config", "_conceptdoi"),
    ("config", "_doi"),
    ("config", "bioimageio", "nickname"),
)


def names_in(raw: bytes) -> tuple[str, ...]:
    """Give id, DOIs and nickname of a manifest, in lower case.

    The zoo writes the DOI of a model as ``<DOI of the concept>/<number of the version>``; both
    DOIs that are meant are given as well.
    """
    text = raw.decode("utf-8", "replace")
    try:
        found = _of_json(json.loads(text)) if text.lstrip().startswith("{") else _of_lines(text)
    except (ValueError, RecursionError):
        found = []
    return tuple(dict.fromkeys(name for one in found for name in _spellings(one.lower())))


_TYPES = frozenset({"model", "dataset", "application", "notebook", "generic", "collection"})


def is_description(raw: bytes) -> bool:
    """Say whether something looks like the description of a resource of the zoo.

    It is text, no web page, and says at its top level of which type or format it is. A login
    page, an error of the service or an empty answer is none.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if "\0" in text or is_web_page(raw):
        return False
    try:
        if text.lstrip().startswith("{"):
            node = json.loads(text)
            return "format_version" in node or node.get("type") in _TYPES
    except (ValueError, RecursionError, TypeError):
        pass  # it may be YAML that begins with a brace
    said = dict(_top_level(text))
    return "format_version" in said or said.get("type") in _TYPES


def is_web_page(raw: bytes) -> bool:
    """Say whether something begins as HTML or XML does."""
    return raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def _top_level(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None and not match["indent"]:
            yield match["key"], _scalar(match["value"])


def _of_json(node: object) -> list[str]:
    found = []
    for place in _PLACES:
        value = node
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str):
            found.append(value)
    return found


def _of_lines(text: str) -> list[str]:
    found = []
    above: list[tuple[int, str]] = []  # indent and key of the mappings that we are in
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        while above and above[-1][0] >= indent:
            above.pop()
        above.append((indent, match["key"]))
        if tuple(key for _, key in above) in _PLACES and (value := _scalar(match["value"])):
            found.append(value)
    return found


def _scalar(written: str) -> str:
    if written[:1] in {'"', "'"}:
        return written[1:].partition(written[0])[0]
    return "" if written[:1] in {"|", ">", "&", "*", "{", "["} else written.partition(" #")[0]


def _spellings(name: str) -> list[str]:
    if not _DOI.fullmatch(name):
        return [name]
    concept, _, version = name.rpartition("/")
    if "/" not in concept:
        return [name]
    return [name, concept, f"{concept.rpartition('.')[0]}.{version}"]
