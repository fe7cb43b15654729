from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bmz.engine.load import (
    alias_of,
    describe,
    environment_files,
    find_model,
    load_model,
    tensor_files,
    weights_files,
)
from bmz.spec.model import ModelSpec, PackagedFile, Weights
from bmz.spec.package_files import PackageUnreadable
from bmz.testing.package import sha256_of, write_package
from bmz.zoo.package import Package, Remote
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import folder_of, notes_folders

pytest.importorskip("onnx")


def test_a_note_that_a_package_brings_along_is_not_believed(tmp_path: Path) -> None:
    settings = ZooSettings(tmp_path / "cache")
    manifest = write_package(tmp_path / "m")
    honest = load_model(str(manifest), settings)
    kept = next(tmp_path.glob("cache/descriptions/*/description.*.json"))
    forged = tmp_path / "m" / ".bmz" / kept.name
    forged.parent.mkdir()
    forged.write_text(kept.read_text().replace("Identity", "Forged"))

    assert load_model(str(manifest), settings) == honest
    kept.unlink()
    assert load_model(str(manifest), settings) == honest


def test_notes_lie_beside_a_manifest_only_in_the_cache_and_its_layers(tmp_path: Path) -> None:
    settings = ZooSettings(tmp_path / "cache", layers=(tmp_path / "layer",))
    own = tmp_path / "cache" / "descriptions" / "ab"

    def places(folder: Path) -> tuple[Path, ...]:
        return notes_folders(folder / "rdf.yaml", "ab", settings)

    inside, shared = folder_of(settings.cache, "ab"), folder_of(settings.layers[0], "ab")
    assert places(inside) == (inside / ".bmz",)
    assert places(shared) == (shared / ".bmz", own)
    assert places(tmp_path / "m") == (own,)
    assert places(inside.with_name("cd")) == (own,)
    assert places(settings.cache / "unpacked" / "ab") == (own,)


def test_what_is_no_file_is_unreadable(tmp_path: Path) -> None:
    folder = tmp_path / "rdf.yaml"
    folder.mkdir()

    with pytest.raises(PackageUnreadable):
        describe(folder, ZooSettings(tmp_path / "cache"))


def test_every_file_that_weights_need_is_wanted_with_its_hash(tmp_path: Path) -> None:
    settings = ZooSettings(tmp_path / "cache")
    manifest = write_package(tmp_path / "m")
    _, model = find_model(str(manifest), settings)
    code = PackagedFile(model.folder / "src" / "net.py", "ab", "https://example.com/net.py")
    weights = replace(
        model.weights[0], beside=(code,), environment=PackagedFile(model.folder / "env.yaml")
    )

    wanted = tuple(weights_files(model, weights))

    assert [(file.name, file.sha256) for file in wanted] == [
        ("weights.onnx", sha256_of(tmp_path / "m" / "weights.onnx")),
        ("src/net.py", "ab"),
    ]
    assert wanted[1].url == "https://example.com/net.py"
    assert [file.name for file in environment_files(model, weights)] == ["env.yaml"]
    assert [file.what for file in tensor_files(model)] == ["test input image", "test output map"]


def test_weights_without_an_environment_want_none(tmp_path: Path) -> None:
    model = ModelSpec("m", "M", tmp_path, "", "0.5.4", (), (), ())
    weights = Weights("onnx", PackagedFile(tmp_path / "w.onnx"))

    assert list(environment_files(model, weights)) == []


def test_the_index_tells_the_alias_and_a_folder_of_that_name_does_not(tmp_path: Path) -> None:
    settings = ZooSettings(tmp_path / "cache")
    manifest = write_package(tmp_path / "affable-shark")
    remote = Remote("https://example.org/rdf.yaml", "v0", "ab")

    assert alias_of(Package("affable-shark", manifest, remote)) == "affable-shark"
    assert alias_of(Package("affable-shark", manifest, replace(remote, index_sha256=None))) == ""
    assert load_model(str(manifest.parent), settings).alias == ""
