"""Which format a description is written in, and whether it is one that can be read here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bmz.spec.errors import PackageInvalid, PackageNewer

OLDEST = (0, 3)
"""Of what bioimageio.spec turns into the format of today."""

NEWEST = (0, 5)
"""What is translated here; the last number is that of the installed bioimageio.spec."""

_VERSION = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?((?:[a-z.+-][a-z0-9.+-]*)?)")


@dataclass(frozen=True)
class FormatVersion:
    """The format of a description.

    Parameters
    ----------
    text : as written
    numbers : the same as numbers, such as (0, 5, 4)
    known : the newest that can be read
    """

    text: str
    numbers: tuple[int, int, int]
    known: tuple[int, int, int]

    @property
    def newer(self) -> bool:
        """Say whether it is newer than what is known, if only by its last number."""
        return self.numbers > self.known

    @property
    def why_newer(self) -> str:
        """Say that it is newer, as a sentence without its end."""
        return f"it is written in format {self.text}, and {dotted(self.known)} is the newest known"


def format_version(
    manifest: Path, content: Mapping[str, Any], known: tuple[int, int, int]
) -> FormatVersion:
    """Read the format of a description that is not validated yet.

    A description that is newer by its last number alone is given back: it may well be readable.

    Parameters
    ----------
    known : the newest format of the installed bioimageio.spec

    Raises
    ------
    PackageInvalid
        It names no format, or one that is too old.
    PackageNewer
        It is written in a format of which nothing is known here.
    """
    if "format_version" not in content:
        raise PackageInvalid(manifest, "it does not say its format_version")
    written = content["format_version"]
    if not isinstance(written, str):
        raise PackageInvalid(manifest, f"its format_version is {_kind(written)}; {_WANTED}")
    match = _VERSION.fullmatch(written.strip())
    if match is None:
        raise PackageInvalid(manifest, f"its format_version is '{written[:40]}'; {_WANTED}")
    major, minor, patch = (int(part or 0) for part in match.groups()[:3])
    found = FormatVersion(written, (major, minor, patch), known)
    if found.numbers[:2] > NEWEST:
        raise PackageNewer(manifest, found.why_newer)
    if match[3] is None or match[4]:
        raise PackageInvalid(manifest, f"its format_version is '{written[:40]}'; {_WANTED}")
    if found.numbers[:2] < OLDEST:
        older = f"it is written in format {written}, which is older than {dotted(OLDEST)}"
        raise PackageInvalid(manifest, older)
    return found


_WANTED = "wanted text of three numbers, such as '0.5.4'"

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a truth value"),
    ((int, float), "a number"),
    (list, "a list"),
    (Mapping, "a mapping"),
)


def _kind(written: object) -> str:
    if written is None:
        return "empty"
    name = next((word for kind, word in _KINDS if isinstance(written, kind)), "no text")
    return f"{name}, {written}" if isinstance(written, int | float) else name


def dotted(numbers: tuple[int, ...]) -> str:
    """Write the numbers of a version with dots."""
    return ".".join(map(str, numbers))


def unknown_words(content: Mapping[str, Any], where: list[tuple[str | int, ...]]) -> list[str]:
    """Name the steps, axes and weights formats of a description that its validator does not know.

    Parameters
    ----------
    content : of the manifest
    where : places that the validator refuses since they have a kind that it does not know
    """
    found = (_unknown(content, place) for place in where)
    return list(dict.fromkeys(word for word in found if word))


def _unknown(content: Mapping[str, Any], place: tuple[str | int, ...]) -> str:
    if len(place) == 2 and place[0] == "weights":  # noqa: PLR2004  (weights.FORMAT)
        return f"the weights format '{str(place[1])[:40]}'"
    kinds = {"preprocessing": "step", "postprocessing": "step", "axes": "axis type"}
    kind = next((kinds[str(part)] for part in place if part in kinds), None)
    node: Any = content
    for part in place:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return ""  # the validator has a branch of its own in this place
    if kind is None or not isinstance(node, Mapping):
        return ""
    names = ("type",) if kind == "axis type" else ("id", "name")
    name = next((str(node[key]) for key in names if key in node), "")
    return f"the {kind} '{name[:40]}'" if name else ""
