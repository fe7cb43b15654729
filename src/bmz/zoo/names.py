"""The names under which a manifest may be asked for, read off its lines without parsing it.

A description is parsed in the room ``spec`` only, which takes seconds for the whole zoo. Here
we want no more than the identifiers at three known places, and a manifest that is no YAML at
all must do no harm.
"""

from __future__ import annotations

import json
import re

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
