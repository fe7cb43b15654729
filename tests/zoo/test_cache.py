"""What the cache says of itself, and how it travels."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bmz.base.files import sha256_of
from bmz.zoo.cache import export_archive, import_archive, list_cached, remove, verify_cache
from bmz.zoo.errors import ArchiveRefused, CacheDamaged, ExportDamaged, FileLeavesPackage, NotCached
from bmz.zoo.fetch import FetchReport, WantedFile, fetch_files
from bmz.zoo.index import load_index
from bmz.zoo.locate import locate
from bmz.zoo.settings import ZooSettings

if TYPE_CHECKING:
    from tests.zoo.conftest import Service

WEIGHTS = WantedFile("weights.onnx", None, "weights")


@pytest.fixture
def settings(service: Service, tmp_path: Path) -> ZooSettings:
    """Give a cache with all manifests and the weights of one model."""
    settings = service.settings(tmp_path / "cache")
    load_index(settings)
    fetch(settings)
    return settings


def fetch(settings: ZooSettings) -> FetchReport:
    return fetch_files(locate("affable-shark", settings), [WEIGHTS], settings)


def weights_in(settings: ZooSettings) -> Path:
    return locate("affable-shark", settings).manifest.parent / "weights.onnx"


def test_packages_with_files_are_listed_and_mere_manifests_on_demand(
    settings: ZooSettings,
) -> None:
    (listed,) = list_cached(settings)

    assert (listed.id, listed.version, listed.files) == ("affable-shark", "v0", 1)
    assert listed.bytes == sum(p.stat().st_size for p in listed.folder.iterdir() if p.is_file())
    assert not listed.read_only
    everything = [package.id for package in list_cached(settings, manifests=True)]
    assert everything == ["affable-shark", "broken-mouse", "kind-seashell"]


def test_packages_of_a_layer_are_listed_as_read_only(settings: ZooSettings, tmp_path: Path) -> None:
    (listed,) = list_cached(ZooSettings(tmp_path / "own", layers=(settings.cache,)))

    assert listed.read_only


def test_a_whole_cache_is_found_whole(settings: ZooSettings) -> None:
    assert {state.status for state in verify_cache(settings)} == {"whole"}


@pytest.mark.parametrize("name", ["weights.onnx", "rdf.yaml"])
def test_a_damaged_file_is_found_and_mended_on_its_next_use(
    settings: ZooSettings, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmz.zoo.store.SETTLED_S", -60.0)  # stamps are trusted at once
    path = weights_in(settings).with_name(name)
    before = path.read_bytes()
    path.write_bytes(before[:-1] + b"?")

    (damaged,) = (one for one in verify_cache(settings, ["affable-shark"]) if one.status != "whole")
    fetch(settings)

    assert (damaged.name, damaged.status) == (name, "damaged")
    assert damaged.wanted != damaged.found
    assert path.read_bytes() == before


def test_a_file_that_nobody_noted_is_unknown_once(settings: ZooSettings) -> None:
    weights_in(settings).with_name("cover.png").write_bytes(b"picture")

    first, second = verify_cache(settings), verify_cache(settings)

    assert [state.name for state in first if state.status == "unknown"] == ["cover.png"]
    assert {state.status for state in second} == {"whole"}


@pytest.mark.parametrize(
    "word", ["affable-shark", "affable-shark/v0", "bioimage-io/affable-shark", ""]
)
def test_a_package_is_removed_by_name_or_hash(settings: ZooSettings, word: str) -> None:
    (package,) = list_cached(settings)

    removed = remove(settings, [word or package.sha256[:12]])

    assert removed.bytes == package.bytes > 200_000
    assert not package.folder.exists()
    assert not list_cached(settings)


def test_nothing_is_removed_when_one_word_names_nothing(settings: ZooSettings) -> None:
    with pytest.raises(NotCached):
        remove(settings, ["affable-shark", "no-model"])

    assert list_cached(settings)
    assert remove(settings, []).packages == ()


def test_an_export_makes_an_empty_machine_work_offline(
    settings: ZooSettings, tmp_path: Path
) -> None:
    archive = tmp_path / "carry.zip"
    away = replace(settings, cache=tmp_path / "away", offline=True)

    out = export_archive(settings, archive)
    back = import_archive(away, archive)

    assert (out.packages, out.files, out.bytes) == (back.packages, back.files, back.bytes)
    assert fetch(away).files[0].action == "cached"
    assert weights_in(away).read_bytes() == weights_in(settings).read_bytes()
    assert locate("10.5281/zenodo.5874841", away).id == "kind-seashell"
    assert len([entry for entry in load_index(away).entries if entry.manifest]) == 3
    assert {state.status for state in verify_cache(away)} == {"whole"}


def test_an_export_of_one_model_carries_every_manifest_but_no_other_file(
    settings: ZooSettings, tmp_path: Path
) -> None:
    carried = export_archive(settings, tmp_path / "carry.zip", ["kind-seashell"])

    assert len(carried.packages) == carried.files == 3
    with pytest.raises(NotCached):
        export_archive(settings, tmp_path / "other.zip", ["no-model"])
    assert not (tmp_path / "other.zip").exists()


def test_a_damaged_file_is_not_exported(settings: ZooSettings, tmp_path: Path) -> None:
    weights_in(settings).write_bytes(b"damaged")

    with pytest.raises(CacheDamaged):
        export_archive(settings, tmp_path / "carry.zip")

    assert not (tmp_path / "carry.zip").exists()


def test_an_import_leaves_what_is_whole_here_and_mends_what_is_not(
    settings: ZooSettings, tmp_path: Path
) -> None:
    export_archive(settings, tmp_path / "carry.zip")
    right = weights_in(settings).read_bytes()
    weights_in(settings).write_bytes(b"damaged")

    import_archive(settings, tmp_path / "carry.zip")

    assert weights_in(settings).read_bytes() == right


def altered(archive: Path, change: Callable[[str, bytes], tuple[str, bytes]]) -> Path:
    """Write the archive again with changed members."""
    result = archive.with_name("altered.zip")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return result


def in_list(old: str, new: str) -> Callable[[str, bytes], tuple[str, bytes]]:
    def change(name: str, body: bytes) -> tuple[str, bytes]:
        return name, body.replace(old.encode(), new.encode()) if name.endswith(
            "cache.json"
        ) else body

    return change


@pytest.mark.parametrize("name", ["weights.onnx", "rdf.yaml", "index.json"])
def test_an_import_refuses_any_file_that_differs_from_its_hash(
    settings: ZooSettings, tmp_path: Path, name: str
) -> None:
    export_archive(settings, tmp_path / "carry.zip")
    bad = altered(
        tmp_path / "carry.zip", lambda n, body: (n, body[:-1] + b"!" if n.endswith(name) else body)
    )
    away = ZooSettings(tmp_path / "away", offline=True)

    with pytest.raises(ExportDamaged, match="has sha256"):
        import_archive(away, bad)

    assert not [path for path in away.cache.rglob("*") if path.is_file()]


def test_an_import_refuses_a_manifest_whose_hash_was_altered_with_it(
    settings: ZooSettings, tmp_path: Path
) -> None:
    export_archive(settings, tmp_path / "carry.zip")
    body = weights_in(settings).with_name("rdf.yaml")
    evil = tmp_path / "evil"
    evil.write_bytes(b"id: evil")

    def change(name: str, content: bytes) -> tuple[str, bytes]:
        if name.endswith(f"{sha256_of(body)}/rdf.yaml"):
            return name, b"id: evil"
        if name.endswith("cache.json"):
            listed = json.loads(content)
            for file in listed["files"]:
                if file["path"].endswith(f"{sha256_of(body)}/rdf.yaml"):
                    file["sha256"] = sha256_of(evil)
            return name, json.dumps(listed).encode()
        return name, content

    with pytest.raises(ExportDamaged, match="is not the manifest"):
        import_archive(ZooSettings(tmp_path / "away"), altered(tmp_path / "carry.zip", change))


def test_an_import_refuses_what_is_no_export(settings: ZooSettings, tmp_path: Path) -> None:
    export_archive(settings, tmp_path / "carry.zip")
    whole = (tmp_path / "carry.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    other = altered(tmp_path / "carry.zip", in_list("export/1", "export/9"))

    for archive in (tmp_path / "cut.zip", other, tmp_path / "nothing.zip"):
        with pytest.raises(ExportDamaged):
            import_archive(ZooSettings(tmp_path / "away"), archive)


@pytest.mark.parametrize("to", ["packages/../../evil", "bin/evil", "index/evil.py"])
def test_an_import_writes_nowhere_but_into_the_folders_of_a_cache(
    settings: ZooSettings, tmp_path: Path, to: str
) -> None:
    export_archive(settings, tmp_path / "carry.zip")
    with zipfile.ZipFile(tmp_path / "carry.zip") as opened:
        index = next(name for name in opened.namelist() if name.startswith("index/"))

    def change(name: str, body: bytes) -> tuple[str, bytes]:
        name, body = in_list(index, to)(name, body)
        return to if name == index else name, body

    with pytest.raises((ArchiveRefused, ExportDamaged, FileLeavesPackage)):
        import_archive(ZooSettings(tmp_path / "away"), altered(tmp_path / "carry.zip", change))

    assert not list(tmp_path.rglob("evil*"))
