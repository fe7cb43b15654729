"""Say whether a tag is a version that the changelog tells of, before it is released.

``python docs/changelog.py v0.2.0 --notes notes.md`` writes the section of that version, too.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from packaging.version import InvalidVersion, Version

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"

_HEADING = re.compile(r"(?m)^## (?P<version>\S+) \((?P<day>[^)]*)\)$")


class NotReady(ValueError):
    """The tag cannot be released."""


def section_of(tag: str, changelog: str) -> str:
    """Give what the changelog tells of the version of a tag, which must be its newest.

    Raises
    ------
    NotReady
        The tag is not a version, or the first section is of another one, has no date or no entry.
    """
    try:
        version = Version(tag.removeprefix("v"))
    except InvalidVersion as why:
        raise NotReady(f"the tag '{tag}' is not a version") from why
    if tag != f"v{version}" or version.local or version.is_devrelease:
        raise NotReady(f"the tag '{tag}' is not of the form v1.2.3, v1.2.3rc1 or the like")
    first, *others = _HEADING.finditer(changelog)
    wanted = version.base_version if version.is_prerelease else str(version)
    if first["version"] != wanted:
        raise NotReady(f"the first section is of {first['version']}, and the tag is '{tag}'")
    if not version.is_prerelease:
        try:
            date.fromisoformat(first["day"])
        except ValueError as why:
            told = f"the section of {wanted} says '({first['day']})' in place of the day"
            raise NotReady(told) from why
    text = changelog[first.end() : others[0].start() if others else None].strip()
    if not text.startswith("* "):
        raise NotReady(f"the section of {wanted} tells of nothing")
    return text + "\n"


def main(words: Sequence[str]) -> int:
    """Check a tag; exit status 1 where it cannot be released."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag")
    parser.add_argument("--notes", type=Path, help="file for the section")
    given = parser.parse_args(words)
    try:
        text = section_of(given.tag, CHANGELOG.read_text(encoding="utf-8"))
    except NotReady as why:
        sys.stderr.write(f"error: {why}\n")
        return 1
    if given.notes is not None:
        given.notes.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
