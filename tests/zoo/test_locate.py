from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from bmz.base.errors import BmzError
from bmz.zoo.archive import refuse_unsafe, unpack
from bmz.zoo.errors import ArchiveRefused, ModelNotFound, NotAPackage
from bmz.zoo.locate import locate


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = {"version": "v0", "sha256": "0" * 64, "source": "https://hypha.aicell.io/rdf.yaml"}
    item = {"id": "bioimage-io/impartial-shark", "type": "model", "versions": [version]}
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"items": [item]}))
    monkeypatch.setenv("BMZ_INDEX_URL", index.as_uri())
    monkeypatch.setenv("BMZ_OFFLINE", "1")
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))


def package(folder: Path, manifest: str = "bioimageio.yaml") -> Path:
    folder.mkdir(parents=True)
    (folder / manifest).write_text("type: model")
    return folder


def zipped(archive: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(archive, "w") as opened:
        for name, text in members.items():
            opened.writestr(name, text)
    return archive


def test_a_folder_is_found_by_its_path(tmp_path: Path) -> None:
    folder = package(tmp_path / "shark")

    found = locate(str(folder))

    assert (found.id, found.manifest) == ("shark", folder / "bioimageio.yaml")


def test_the_newer_name_of_a_manifest_wins(tmp_path: Path) -> None:
    folder = package(tmp_path / "shark", "rdf.yaml")
    (folder / "bioimageio.yaml").write_text("type: model")

    assert locate(str(folder)).manifest.name == "bioimageio.yaml"


def test_a_manifest_is_found_by_its_path(tmp_path: Path) -> None:
    folder = package(tmp_path / "shark", "rdf.yaml")

    found = locate(str(folder / "rdf.yaml"))

    assert (found.id, found.manifest) == ("shark", folder / "rdf.yaml")


def test_a_folder_never_takes_the_place_of_a_name_of_the_zoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "affable-shark")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ModelNotFound) as caught:
        locate("affable-shark")

    assert "./affable-shark" in caught.value.hint
    assert locate("./affable-shark").id == "affable-shark"


def test_a_zip_is_unpacked_once(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "m.zip", {"rdf.yaml": "type: model", "weights.onnx": "x"})

    first, second = locate(str(archive)), locate(str(archive))

    assert first == second
    assert (first.manifest.parent / "weights.onnx").read_text() == "x"


def test_a_manifest_in_the_top_folder_of_a_zip_is_found(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "m.zip", {"top/bioimageio.yaml": "type: model"})

    assert locate(str(archive)).manifest.parent.name == "top"


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil", "a/../../evil", "C:/evil", "..\\evil"]
)
def test_a_zip_whose_member_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "m.zip", {name: "x", "rdf.yaml": ""})

    with pytest.raises(ArchiveRefused):
        unpack(archive, tmp_path / "cache")

    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


def test_a_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16

    with pytest.raises(ArchiveRefused, match="link"):
        refuse_unsafe(tmp_path / "m.zip", [link])


def test_a_zip_bomb_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    bomb = zipfile.ZipInfo("zeros")
    bomb.file_size, bomb.compress_size = 2**33, 2**20

    with pytest.raises(ArchiveRefused, match="would unpack to"):
        refuse_unsafe(tmp_path / "m.zip", [bomb])


def test_a_cut_zip_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "m.zip", {"rdf.yaml": "type: model" * 1000})
    archive.write_bytes(archive.read_bytes()[:500])

    with pytest.raises(NotAPackage):
        locate(str(archive))

    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name == "rdf.yaml"]


@pytest.mark.parametrize(
    "word", ["./nothing", "starter/nothing", "starter/../x", "nothing.zip", "some-name", "./x.txt"]
)
def test_what_is_not_there_is_could_not_tell_with_a_hint(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.txt").write_text("no model")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BmzError) as caught:
        locate(word)

    assert caught.value.exit_status == 3
    assert caught.value.hint


def test_a_folder_without_a_manifest_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(NotAPackage, match=r"bioimageio\.yaml"):
        locate(str(tmp_path))
