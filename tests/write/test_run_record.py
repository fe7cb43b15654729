from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmz.write.record import as_json, write_record

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)  # fmt: skip


class Device(Enum):
    CPU = "cpu"


@dataclass(frozen=True)
class Tile:
    size: tuple[int, ...]
    folder: Path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(record=st.dictionaries(st.text(), PLAIN))
def test_plain_records_come_back_as_they_were(tmp_path: Path, record: dict[str, object]) -> None:
    write_record(tmp_path / "a.run.json", record)

    assert json.loads((tmp_path / "a.run.json").read_text(encoding="utf-8")) == record


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(2**40), 2**40),
        (np.bool_(1), True),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.dtype(">u2"), "uint16"),
        (Path("a") / "b.tif", str(Path("a") / "b.tif")),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (Device.CPU, "cpu"),
        (frozenset({"b", "a"}), ["a", "b"]),
        (Tile((1, 2), Path("x")), {"size": [1, 2], "folder": "x"}),
        (MappingProxyType({1: (np.nan, np.inf)}), {"1": [None, None]}),
        (np.array([1.0, np.nan]), [1.0, None]),
    ],
)
def test_what_programs_hold_becomes_words_of_json(value: object, word: object) -> None:
    assert as_json(value) == word


@pytest.mark.parametrize("value", [object(), b"bytes", 1j])
def test_what_json_has_no_word_for_is_no_record(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match="no word for"):
        write_record(tmp_path / "a.run.json", {"a": value})

    assert list(tmp_path.iterdir()) == []


def test_records_are_read_by_people_too(tmp_path: Path) -> None:
    write_record(tmp_path / "a.run.json", {"unit": "µm"})

    assert (tmp_path / "a.run.json").read_text(encoding="utf-8") == '{\n  "unit": "µm"\n}\n'
