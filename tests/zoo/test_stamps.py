"""A file is trusted without being read only where nothing can have happened to it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bmz.base.files import sha256_of
from bmz.zoo.store import (
    NOTES,
    Stamp,
    distrust,
    hash_and_stamp,
    read_stamp,
    stamp_as,
    stamp_of,
    write_stamp,
)

ONE, TWO = (hashlib.sha256(body).hexdigest() for body in (b"one", b"two"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "w.onnx").write_bytes(b"one")
    return tmp_path


def old(stamp: Stamp) -> Stamp:
    """Give the stamp as if the file had been hashed a day after its last change."""
    return replace(stamp, checked_ns=max(stamp.mtime_ns, stamp.ctime_ns) + 86_400 * 10**9)


def test_a_stamp_is_trusted_only_when_it_is_older_than_a_tick_of_the_clock(folder: Path) -> None:
    path, stamp = folder / "w.onnx", hash_and_stamp(folder, "w.onnx")
    tick = 2 * 10**9  # ns, of FAT

    last = max(stamp.mtime_ns, stamp.ctime_ns)
    at_once, after = (replace(stamp, checked_ns=last + tick + n) for n in (0, 1))

    assert not at_once.is_of(path)
    assert after.is_of(path)


@pytest.mark.parametrize("shift_s", [3600, -3600])
def test_a_file_that_was_given_another_date_just_now_is_not_trusted(
    folder: Path, shift_s: int
) -> None:
    path = folder / "w.onnx"
    date = path.stat().st_mtime + shift_s
    os.utime(path, (date, date))

    stamp = hash_and_stamp(folder, "w.onnx")

    assert not stamp.is_of(path)


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns"])
def test_each_of_size_and_times_alone_tells_another_file(folder: Path, field: str) -> None:
    stamp = old(hash_and_stamp(folder, "w.onnx"))

    other = replace(stamp, **{field: getattr(stamp, field) + 1})

    assert stamp.is_of(folder / "w.onnx")
    assert not other.is_of(folder / "w.onnx")


def test_a_trusted_file_is_not_read_and_a_distrusted_one_is(folder: Path) -> None:
    wrong = replace(old(hash_and_stamp(folder, "w.onnx")), sha256=TWO)
    write_stamp(folder, wrong)

    trusted = stamp_of(folder, "w.onnx")
    distrust(folder, wrong)
    read = stamp_of(folder, "w.onnx")

    assert trusted == wrong
    assert read is not None
    assert (read.sha256, read.first) == (ONE, ONE)


def test_a_file_that_is_not_there_or_a_folder_was_never_seen(folder: Path) -> None:
    (folder / "sub").mkdir()

    assert stamp_of(folder, "absent") is None
    assert stamp_of(folder, "sub") is None
    assert not (folder / NOTES).exists()


def test_what_was_seen_first_outlives_every_change(folder: Path) -> None:
    hash_and_stamp(folder, "w.onnx")
    (folder / "w.onnx").write_bytes(b"two")

    hashed = hash_and_stamp(folder, "w.onnx")
    told = stamp_as(folder, "w.onnx", TWO)

    assert [(s.sha256, s.first, s.allowed) for s in (hashed, told)] == [(TWO, ONE, False)] * 2
    assert read_stamp(folder, "w.onnx") == told


def test_what_was_allowed_stays_so_until_the_file_is_another(folder: Path) -> None:
    stamp_as(folder, "w.onnx", ONE, allowed=True)

    same = hash_and_stamp(folder, "w.onnx")
    (folder / "w.onnx").write_bytes(b"two")
    other = hash_and_stamp(folder, "w.onnx")

    assert (same.allowed, other.allowed) == (True, False)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": "w.onnx"}', "null", '{"new": 1}'])
def test_a_note_that_cannot_be_read_is_no_note_and_is_written_anew(folder: Path, text: str) -> None:
    hash_and_stamp(folder, "w.onnx")
    (note,) = (folder / NOTES / "stamps").iterdir()
    note.write_text(text)

    before, stamp = read_stamp(folder, "w.onnx"), stamp_of(folder, "w.onnx")

    assert before is None
    assert stamp is not None
    assert json.loads(note.read_text()) == asdict(stamp)


def test_stamps_are_told_apart_by_the_whole_name(folder: Path) -> None:
    names = ("b", "sub/b", "Sub/B", "gr\xf6\xdfe", "a")
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
        hash_and_stamp(folder, name)

    found = [read_stamp(folder, name) for name in names]

    assert [stamp and stamp.name for stamp in found] == list(names)
    assert [stamp and stamp.sha256 for stamp in found] == [sha256_of(folder / n) for n in names]


def test_notes_that_cannot_be_kept_cost_time_and_nothing_else(folder: Path) -> None:
    (folder / NOTES).write_text("a file where the notes would lie")

    first, again = stamp_of(folder, "w.onnx"), stamp_of(folder, "w.onnx")

    assert first is not None
    assert again is not None
    assert first.sha256 == again.sha256 == ONE
    assert read_stamp(folder, "w.onnx") is None
