"""Defects of published models that their descriptions do not tell: our table of facts.

Source: the published packages of 2026-05-20, looked at file by file. A model that was mended
since has another version or sha256; the table then still says what was wrong on that day.
"""

from __future__ import annotations

from collections.abc import Mapping

SEEN = "2026-05-20"
"""The day of the packages that the table speaks of."""

_MISSING = "the zoo answers 404 for a file that its description names"
_CHANGED = "is another file than described (its sha256 differs); --allow-changed fetches it"

KNOWN_DEFECTS: Mapping[str, str] = {
    "brave-monkey": "a sample tensor has another number of axes than the description says",
    "efficient-raccoon": f"environment.yaml {_CHANGED}",
    "modest-spider": _MISSING,
    "plucky-leopard": f"test-output.npy {_CHANGED}",
    "romantic-shark": _MISSING,
    "shy-lobster": _MISSING,
    "talkative-mouse": _MISSING,
}
"""By alias."""


def defects_of(alias: str) -> tuple[str, ...]:
    """Say what was wrong with a model of the zoo when it was looked at."""
    return (f"{KNOWN_DEFECTS[alias]} (seen {SEEN})",) if alias in KNOWN_DEFECTS else ()
