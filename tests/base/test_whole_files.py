from __future__ import annotations

import os
from pathlib import Path

import pytest

from bmz.base.files import FolderNotWritable, whole_file, whole_files, writable_folder


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"

    with whole_file(target) as temporary:
        temporary.write_text("whole")
        seen_before = target.exists()

    assert not seen_before
    assert target.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def half() -> None:
        with whole_file(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_files_of_one_result_appear_together_or_not_at_all(tmp_path: Path) -> None:
    files = {"a": tmp_path / "a.txt", "b": tmp_path / "b.txt"}

    def half() -> None:
        with whole_files(files, tmp_path) as staged:
            staged["a"].write_text("written")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()

    assert list(tmp_path.iterdir()) == []


def test_whole_files_move_to_their_names(tmp_path: Path) -> None:
    files = {"a": tmp_path / "a.txt", "b": tmp_path / "b.txt"}

    with whole_files(files, tmp_path) as staged:
        for kind, path in staged.items():
            path.write_text(kind)

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.txt": "a",
        "b.txt": "b",
    }


def test_a_new_file_has_the_rights_that_the_mask_grants(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    old = os.umask(0o027)
    try:
        with whole_file(target) as temporary:
            temporary.write_text("x")
    finally:
        os.umask(old)

    assert target.stat().st_mode & 0o777 == 0o640


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(FolderNotWritable) as caught:
        writable_folder(tmp_path / "taken" / "inside")

    assert caught.value.exit_status == 3
    assert "taken" in caught.value.message
