"""A note is what was written, or none."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.notes import Notes, plain_of, read_note, sealed, unsealed, value_of


@dataclass(frozen=True)
class Size:
    px: float
    how: Literal["blobs", "rings"] = "blobs"


@dataclass(frozen=True)
class Plane:
    shape: tuple[int, int]
    size: Size | None = None
    names: tuple[str, ...] = ()
    bits: int | None = None
    empty: bool = False


PLANE = Plane((3, 4), Size(2.5, "rings"), ("a", "b"), 12, empty=True)
PLANES = Notes.of("planes", 1, dict[int, Plane])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(note=JSON)
def test_a_note_comes_back_as_it_was_written(note: object) -> None:
    assert unsealed(sealed(note)) == note


@given(note=JSON, other=JSON)
def test_another_note_under_the_same_seal_is_none(note: object, other: object) -> None:
    document = json.loads(sealed(note)) | {"note": other}

    if json.dumps(other) != json.dumps(note):
        with pytest.raises(ValueError, match="damaged"):
            unsealed(json.dumps(document))


@pytest.mark.parametrize("text", ["3", "[]", "null", "{}", '{"note": 3}', "[" * 200_000, "", "{"])
def test_what_was_never_sealed_is_no_note(text: str) -> None:
    with pytest.raises(ValueError, match=r"note|nested|Expecting"):
        unsealed(text)


def test_a_flipped_bit_makes_no_other_note() -> None:
    note, dice = {"name": "cells", "numbers": [1.5, 2, 300]}, random.Random(0)  # noqa: S311
    body = sealed(note).encode()
    for _ in range(200):
        at = dice.randrange(len(body))
        flipped = body[:at] + bytes([body[at] ^ 1 << dice.randrange(7)]) + body[at + 1 :]
        try:
            assert unsealed(flipped.decode("utf-8", "replace")) == note
        except ValueError:
            continue


@pytest.mark.parametrize("value", [{}, {0: PLANE}, {0: PLANE, 7: Plane((1, 2))}])
def test_a_kept_value_is_found_under_its_key_alone(tmp_path: Path, value: dict[int, Plane]) -> None:
    PLANES.keep(tmp_path / "new", "of these", value)

    assert PLANES.find([tmp_path, tmp_path / "new"], "of these") == value
    assert PLANES.find([tmp_path / "new"], "of others") is None
    assert replace(PLANES, version=2).find([tmp_path / "new"], "of these") is None


def test_the_newest_key_replaces_the_last_one_unless_each_has_a_file(tmp_path: Path) -> None:
    beside = Notes.of("names", 1, tuple[str, ...], one_per_key=True)
    for key in ("first", "second"):
        PLANES.keep(tmp_path, key, {0: PLANE})
        beside.keep(tmp_path, key, (key,))

    assert [PLANES.find([tmp_path], key) is None for key in ("first", "second")] == [True, False]
    assert [beside.find([tmp_path], key) for key in ("first", "second")] == [
        ("first",),
        ("second",),
    ]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut off", "a digit", "empty"])
def test_a_damaged_note_is_none_and_is_written_anew(tmp_path: Path, damage: str) -> None:
    PLANES.keep(tmp_path, "key", {0: PLANE})
    (file,) = tmp_path.iterdir()
    whole = file.read_text()
    damaged = {"cut off": whole[:-9], "a digit": whole.replace("3", "4"), "empty": ""}
    file.write_text(damaged[damage])

    assert PLANES.find([tmp_path], "key") is None
    PLANES.keep(tmp_path, "key", {0: PLANE})
    assert file.read_text() == whole


def test_bytes_and_folders_in_the_place_of_a_note_are_none(tmp_path: Path) -> None:
    (tmp_path / PLANES.file("")).write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b" / PLANES.file("")).mkdir(parents=True)

    assert PLANES.find([tmp_path, tmp_path / "b"], "") is None


@pytest.mark.parametrize("note", [3, [], {}, {"key": "k"}, {"key": "k", "value": 3}, {"value": {}}])
def test_what_another_program_sealed_is_no_note(tmp_path: Path, note: object) -> None:
    (tmp_path / PLANES.file("k")).write_text(sealed(note))

    assert PLANES.find([tmp_path], "k") is None


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    PLANES.keep(tmp_path / "file" / "below", "key", {0: PLANE})

    assert PLANES.find([tmp_path / "file" / "below"], "key") is None


def test_a_value_without_a_word_in_json_is_not_kept(tmp_path: Path) -> None:
    def without_a_word(_: object) -> object:
        raise TypeError("a date")

    replace(PLANES, write=without_a_word).keep(tmp_path, "key", {0: PLANE})

    assert list(tmp_path.iterdir()) == []


def test_processes_that_keep_at_once_leave_a_whole_note_for_each_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from bmz.base.notes import Notes;"
        "each = Notes.of('each', 1, tuple[str, ...], one_per_key=True);"
        "last = Notes.of('last', 1, tuple[str, ...]);"
        "[notes.keep(Path(sys.argv[1]), sys.argv[2], (sys.argv[2],) * 999)"
        " for _ in range(50) for notes in (each, last)]"
    )
    calls = [[sys.executable, "-c", program, str(tmp_path), key] for key in ("a", "b")]
    for process in [subprocess.Popen(call) for call in calls]:
        assert process.wait() == 0

    each = Notes.of("each", 1, tuple[str, ...], one_per_key=True)
    last = Notes.of("last", 1, tuple[str, ...])
    assert [each.find([tmp_path], key) for key in ("a", "b")] == [("a",) * 999, ("b",) * 999]
    assert [last.find([tmp_path], key) is None for key in ("a", "b")].count(True) == 1
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "spoiled",
    [
        {"shape": [3]}, {"shape": [3, 4.5]}, {"shape": "34"}, {"shape": None}, {"size": 3},
        {"size": {"px": "2"}}, {"size": {"px": float("nan")}}, {"size": {"px": True}}, {"size": {}},
        {"size": {"px": 1, "how": "guess"}}, {"size": {"px": 1, "more": 1}}, {"names": ["a", 1]},
        {"names": "ab"}, {"bits": "12"}, {"bits": True}, {"empty": 0}, {"more": 1},
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(spoiled: dict[str, object]) -> None:
    plain = json.loads(json.dumps(plain_of(PLANE)))

    assert value_of(Plane, plain) == PLANE
    with pytest.raises(ValueError, match=r"it|its"):
        value_of(Plane, plain | spoiled)


def test_a_file_of_one_value_is_read_or_none(tmp_path: Path) -> None:
    (tmp_path / "size.json").write_text('{"px": 3}')
    (tmp_path / "other.json").write_text("[" * 200_000)

    assert read_note(tmp_path / "size.json", Size) == Size(3)
    assert [read_note(tmp_path / name, Size) for name in ("other.json", "none")] == [None, None]
