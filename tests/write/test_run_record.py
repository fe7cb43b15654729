from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmz.write.tables import as_json, write_record

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
    with pytest.raises(TypeError, match="cannot express"):
        write_record(tmp_path / "a.run.json", {"a": value})

    assert list(tmp_path.iterdir()) == []


def test_records_are_read_by_people_too(tmp_path: Path) -> None:
    write_record(tmp_path / "a.run.json", {"unit": "µm"})

    assert (tmp_path / "a.run.json").read_text(encoding="utf-8") == '{\n  "unit": "µm"\n}\n'


def test_the_name_of_a_file_need_not_be_utf_8(tmp_path: Path) -> None:
    image = Path(os.fsdecode(b"caf\xe9.tif"))

    write_record(tmp_path / "a.run.json", {"image": image, "unit": "µm"})

    text = (tmp_path / "a.run.json").read_bytes().decode("utf-8")
    assert text == '{\n  "image": "caf\\udce9.tif",\n  "unit": "µm"\n}\n'
    assert os.fsencode(json.loads(text)["image"]) == b"caf\xe9.tif"


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({PurePosixPath("a/b"): 1, Device.CPU: 2, np.int64(3): 3, None: 4},
         {"a/b": 1, "cpu": 2, "3": 3, "None": 4}),
        ({10, 9}, [10, 9]),
        (range(3), [0, 1, 2]),
        (date(2026, 1, 2), "2026-01-02"),
        (np.array(-np.inf), None),
        (np.str_("µ"), "µ"),
        ((1, (2.0, [None, True])), [1, [2.0, [None, True]]]),
        ([Tile((1,), Path("x"))], [{"size": [1], "folder": "x"}]),
        (2**70, 2**70),
        ("", ""),
    ],
)  # fmt: skip
def test_values_within_values_become_words_too(value: object, word: object) -> None:
    found = as_json(value)

    assert found == word
    assert json.loads(json.dumps(found, allow_nan=False)) == word


@pytest.mark.parametrize("value", [Tile, {"deep": [{"er": bytearray(b"x")}]}, np.array([1j])])
def test_a_record_that_cannot_be_written_keeps_the_old_one(tmp_path: Path, value: object) -> None:
    (tmp_path / "a.run.json").write_text("old", encoding="utf-8")

    with pytest.raises(TypeError, match="JSON cannot express"):
        write_record(tmp_path / "a.run.json", {"a": value})

    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["old"]
