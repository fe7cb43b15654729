"""Is a pinned version older than a year, and is there a reason?

``python .ci/ages.py`` asks nobody: it compares constraints.txt with `ages.toml`, beside this file,
and with today. ``python .ci/ages.py --update`` writes the dates into that file again, and which old
versions are the newest there are; uv reads both off the package index. Reasons stay.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
TABLE = Path(__file__).with_name("ages.toml")

MOST_DAYS = 365
_PUBLISHED = re.compile(r"was\s+published\s+at\s+(\d{4}-\d{2}-\d{2})T")

HEAD = """# When each version of constraints.txt was published: 'make ages-update' writes it again.
# A version older than a year needs a reason, which is written by hand, unless none is newer.
"""


@dataclass(frozen=True)
class Table:
    """What is known of the pinned versions.

    Parameters
    ----------
    made : the day on which the dates were read
    reasons : why a library is pinned to a version older than a year, by name
    dates : day of publication, by ``name==version``
    newest : pins older than a year of which there was no newer version on the day `made`
    """

    made: date
    reasons: Mapping[str, str]
    dates: Mapping[str, date]
    newest: Sequence[str] = ()


def pins(text: str) -> list[str]:
    """Give each ``name==version`` of a file of constraints."""
    return re.findall(r"(?m)^([\w.-]+==[\w.+!-]+)", text)


def read_table(path: Path = TABLE) -> Table:
    """Read `ages.toml`."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return Table(document["made"], document["reasons"], document["dates"], document["newest"])


def faults(pinned: Sequence[str], table: Table, today: date) -> list[str]:
    """Say what is wrong with pins: no date, a year old without a reason, a needless reason."""
    told = [f"{pin} has no date: make ages-update" for pin in pinned if pin not in table.dates]
    old = {
        pin: (today - table.dates[pin]).days
        for pin in old_pins(pinned, table.dates, today)
        if pin not in table.newest
    }
    names = {pin.partition("==")[0] for pin in old}
    told += [
        f"{pin} is {days} days old: update it, or give a reason in .ci/ages.toml"
        for pin, days in old.items()
        if pin.partition("==")[0] not in table.reasons
    ]
    return told + [
        f"{name} has a reason and needs none" for name in table.reasons if name not in names
    ]


def old_pins(pinned: Sequence[str], dates: Mapping[str, date], today: date) -> list[str]:
    """Give the pins that are older than a year."""
    return [pin for pin in pinned if pin in dates and (today - dates[pin]).days > MOST_DAYS]


def is_newest(pin: str, uv: str) -> bool:
    """Ask the package index whether there is no newer version."""
    done = subprocess.run(
        [uv, "pip", "compile", "--quiet", "--no-deps", "--no-header", "--no-annotate", "-"],
        input=pin.partition("==")[0], capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip() == pin


def published(pin: str, uv: str) -> date | None:
    """Ask the package index when a version was published; uv tells it when it may not take it."""
    done = subprocess.run(
        [uv, "pip", "compile", "--no-deps", "--exclude-newer", "2000-01-01", "-"],
        input=pin, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = _PUBLISHED.search(re.sub(r"\s+", " ", done.stderr))
    return None if found is None else date.fromisoformat(found[1])


def table_text(table: Table) -> str:
    """Give the content of `ages.toml`."""
    reasons = [f'{name} = "{why}"' for name, why in sorted(table.reasons.items())]
    dates = [f'"{pin}" = {day}' for pin, day in sorted(table.dates.items())]
    newest = ["newest = [", *(f'    "{pin}",' for pin in sorted(table.newest)), "]"]
    lines = [f"made = {table.made}", *newest, "", "[reasons]", *reasons, "", "[dates]", *dates]
    return HEAD + "\n".join(lines) + "\n"


def update(uv: str, today: date) -> list[str]:
    """Write the dates again; those of versions that are known are kept."""
    pinned = pins(CONSTRAINTS.read_text(encoding="utf-8"))
    known = read_table() if TABLE.exists() else Table(today, {}, {})
    absent = [pin for pin in pinned if pin not in known.dates]
    with ThreadPoolExecutor(4) as pool:
        days = dict(zip(absent, pool.map(partial(published, uv=uv), absent), strict=True))
        every = {**known.dates, **{pin: day for pin, day in days.items() if day is not None}}
        dates = {pin: every[pin] for pin in pinned if pin in every}
        old = old_pins(pinned, dates, today)
        newest = [
            pin for pin, so in zip(old, pool.map(partial(is_newest, uv=uv), old), strict=True) if so
        ]
    TABLE.write_text(table_text(Table(today, known.reasons, dates, newest)), encoding="utf-8")
    return [f"{pin}: the index tells no date" for pin, day in days.items() if day is None]


def main(words: Sequence[str]) -> int:
    """Check, or with ``--update [UV]`` write the dates."""
    today = datetime.now(UTC).date()
    if words[:1] == ["--update"]:
        told = update(*(words[1:] or ["uv"]), today)
    else:
        told = faults(pins(CONSTRAINTS.read_text(encoding="utf-8")), read_table(), today)
    print("\n".join(told) or "no pinned version is older than a year without a reason")
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
