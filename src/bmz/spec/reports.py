"""How many tools reproduce the test output of a model of the zoo, by its published reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bmz.spec.facts import bare_alias

TABLE = Path(__file__).with_name("reports.json")
"""Model -> tools that passed and that failed, each in the newest version of which there is a
report; written by ``benchmarks/reports.py``."""


@dataclass(frozen=True)
class Reports:
    """The published reports about a model.

    Parameters
    ----------
    passed, failed : how many tools reproduce its test output, and how many do not
    """

    passed: int = 0
    failed: int = 0


def reports_of(alias: str) -> Reports:
    """Return the reports about a model of the zoo; none for one that is not in the table.

    Parameters
    ----------
    alias : such as ``affable-shark``, ``affable-shark/v0`` or ``bioimage-io/affable-shark``
    """
    return Reports(*_table().get(bare_alias(alias), ()))


@cache
def _table() -> Mapping[str, list[int]]:
    table: dict[str, list[int]] = json.loads(TABLE.read_text(encoding="utf-8"))["models"]
    return table
