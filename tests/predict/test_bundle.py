"""Bundles of TensorFlow in folders and zips: found, unpacked, tidied away, or refused by name."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bmz.predict.backend import WeightsUnreadable
from bmz.predict.output_order import read_graph, unpacked_bundle

MEMBERS = {"saved_model.pb": b"graph", "variables/variables.index": b"numbers"}


def in_folder(folder: Path, within: str, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        file = folder / within / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def in_zip(folder: Path, within: str, members: dict[str, bytes]) -> Path:
    path = folder / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{within}{name}", content)
    return path


Way = Callable[[Path, str, dict[str, bytes]], Path]
WAYS: list[Way] = [in_folder, in_zip]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("within", ["", "model/", "a/b/"])
def test_a_bundle_is_found_at_the_top_or_within(way: Way, within: str, tmp_path: Path) -> None:
    path = way(tmp_path, within, MEMBERS)

    with unpacked_bundle(path) as folder:
        found = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.*")}

    assert found == MEMBERS
    assert read_graph(path) == b"graph"


def test_what_was_unpacked_is_removed_and_a_folder_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    zipped = in_zip(tmp_path, "model/", MEMBERS)
    folder = in_folder(tmp_path / "folder", "", MEMBERS)

    with unpacked_bundle(zipped) as unpacked:
        assert unpacked.parent.parent == tmp_path / "scratch"
    with unpacked_bundle(folder) as same:
        assert same == folder

    assert list((tmp_path / "scratch").iterdir()) == []
    assert (folder / "saved_model.pb").read_bytes() == b"graph"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"weights.pb": b""}, "it contains 0 files called saved_model.pb, not 1"),
        (
            {"a/saved_model.pb": b"", "b/saved_model.pb": b"", "saved_model.pb": b""},
            "it contains 3 files called saved_model.pb, not 1",
        ),
        (
            {"m/saved_model.pb": b"", "m/saved_model.pbtxt": b""},
            "'saved_model.pbtxt' is next to its saved_model.pb",
        ),
        (
            {"saved_model.pb": b"", "saved_model.cpb": b""},
            "'saved_model.cpb' is next to its saved_model.pb",
        ),
    ],
)
def test_a_bundle_that_is_not_clear_is_refused(
    way: Way, members: dict[str, bytes], why: str, tmp_path: Path
) -> None:
    path = way(tmp_path, "", members)

    with pytest.raises(WeightsUnreadable) as reading:
        read_graph(path)
    with pytest.raises(WeightsUnreadable) as unpacking, unpacked_bundle(path):
        pytest.fail("it was unpacked")

    assert reading.value.code == "package.weights-unreadable"
    assert reading.value.message == unpacking.value.message
    assert reading.value.message.endswith(why)


def test_another_graph_elsewhere_in_the_folder_does_not_matter(tmp_path: Path) -> None:
    path = in_folder(tmp_path, "", {**MEMBERS, "assets/saved_model.pbtxt": b""})

    assert read_graph(path) == b"graph"


def test_a_link_in_a_folder_is_refused(tmp_path: Path) -> None:
    path = in_folder(tmp_path, "", MEMBERS)
    (path / "variables/link").symlink_to("/")

    with pytest.raises(WeightsUnreadable, match="'link' is a link"):
        read_graph(path)


@pytest.mark.parametrize("damage", ["cut short", "another byte", "a secret"])
def test_a_damaged_or_encrypted_zip_is_unreadable(tmp_path: Path, damage: str) -> None:
    path = in_zip(tmp_path, "", MEMBERS)
    content = bytearray(path.read_bytes())
    if damage == "cut short":
        del content[-10:]
    elif damage == "another byte":
        content[content.index(b"graph")] ^= 1
    else:
        for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            content[content.index(mark) + flags] |= 1
    path.write_bytes(content)

    with pytest.raises(WeightsUnreadable, match=r"bundle\.zip"):
        read_graph(path)
    with pytest.raises(WeightsUnreadable, match=r"bundle\.zip"), unpacked_bundle(path):
        pytest.fail("it was unpacked")


@pytest.mark.parametrize("within", ["m//", "./m/", "m/./"])
def test_a_name_that_systems_write_in_two_ways_is_found(within: str, tmp_path: Path) -> None:
    path = in_zip(tmp_path, within, MEMBERS)

    with unpacked_bundle(path) as folder:
        unpacked = (folder / "saved_model.pb").read_bytes()

    assert read_graph(path) == unpacked == b"graph"
