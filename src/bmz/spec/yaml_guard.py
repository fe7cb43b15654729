"""Look at a manifest before it is built in memory: how deep it is, and how far it would swell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MOST_BYTES = 2**23
"""The largest manifest of the zoo has a hundredth of this."""

MOST_DEPTH = 64
"""Mappings and lists within each other; those of the zoo reach ten."""

MOST_NODES = 500_000
"""Values after every alias stands for what it names."""


def fault_of(text: str) -> str:
    """Say why a text is not built; empty when it may be.

    Aliases are counted as what they stand for, so that a few lines that would swell to gigabytes
    are found before anything swells.

    Raises
    ------
    ruyaml.error.YAMLError
        It is no YAML.
    """
    from ruyaml import YAML

    if len(text) > MOST_BYTES:
        return f"it is longer than {MOST_BYTES} characters"
    return _fault_of_events(YAML(typ="safe", pure=True).parse(text))


def _fault_of_events(events: Iterable[Any]) -> str:
    named: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    for event in events:
        kind, anchor = type(event).__name__, getattr(event, "anchor", None)
        if kind in {"MappingStartEvent", "SequenceStartEvent"}:
            open_nodes.append((anchor, 1))
            if len(open_nodes) > MOST_DEPTH:
                return f"it is nested deeper than {MOST_DEPTH} levels"
            continue
        if kind in {"MappingEndEvent", "SequenceEndEvent"}:
            anchor, size = open_nodes.pop()
        elif kind in {"ScalarEvent", "AliasEvent"}:
            size = named.get(anchor or "", 1) if kind == "AliasEvent" else 1
        else:
            continue
        if anchor and kind != "AliasEvent":
            named[anchor] = size
        above, held = open_nodes.pop()
        open_nodes.append((above, held + size))
        if held + size > MOST_NODES:
            return f"its aliases would swell it to more than {MOST_NODES} values"
    return ""
