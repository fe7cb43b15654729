"""No pinned version is older than a year without a reason."""

from __future__ import annotations

import importlib.util
import sys
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ages", ROOT / ".ci/ages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module


def test_every_pinned_version_has_its_day_and_no_old_one_lacks_a_reason(ages: ModuleType) -> None:
    table = ages.read_table()

    # as of the day on which the table was made; `make ages` asks as of today
    pinned = ages.pins(ages.CONSTRAINTS.read_text(encoding="utf-8"))
    assert ages.faults(pinned, table, table.made) == []


def test_an_old_version_is_told_unless_there_is_a_reason_or_none_is_newer(ages: ModuleType) -> None:
    today = date(2026, 11, 30)
    dates = {f"{name}==1": today - timedelta(days=366) for name in ("a", "b", "c")}
    dates["d==2"] = today - timedelta(days=365)
    table = ages.Table(today, {"b": "why", "d": "needless"}, dates, ["c==1"])

    told = ages.faults(["a==1", "b==1", "c==1", "d==2", "e==1"], table, today)

    assert told == [
        "e==1 has no date: make ages-update",
        "a==1 is 366 days old: update it, or give a reason in .ci/ages.toml",
        "d has a reason and needs none",
    ]


def test_what_is_written_of_ages_is_read_again(ages: ModuleType, tmp_path: Path) -> None:
    table = ages.Table(date(2026, 1, 2), {"a": "why"}, {"a==1": date(2025, 1, 2)}, ["b==2"])
    (tmp_path / "ages.toml").write_text(ages.table_text(table), encoding="utf-8")

    assert ages.read_table(tmp_path / "ages.toml") == table
