"""Models of the zoo by alias, DOI and URL, and the index that lists them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bmz.base.files import sha256_of
from bmz.base.progress import Event, Note, Progress
from bmz.zoo.errors import IndexUnavailable, ModelAmbiguous, ModelNotFound, NotAPackage, Offline
from bmz.zoo.fetch import WantedFile, fetch_files
from bmz.zoo.index import load_index
from bmz.zoo.locate import locate
from bmz.zoo.settings import ARTIFACTS, ZooSettings

if TYPE_CHECKING:
    from tests.zoo.conftest import Service

SHARK = f"{ARTIFACTS}/affable-shark"


def offline(settings: ZooSettings) -> ZooSettings:
    return ZooSettings(settings.cache, offline=True)


def notes(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]


def age(settings: ZooSettings, seconds: float) -> None:
    (path,) = settings.cache.glob("index/*/index.json")
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.parametrize(
    ("word", "alias"),
    [
        ("affable-shark", "affable-shark"),
        ("affable-shark/v0", "affable-shark"),
        ("bioimage-io/affable-shark", "affable-shark"),
        ("https://bioimage.io/#/artifacts/affable-shark/v0", "affable-shark"),
        (SHARK, "affable-shark"),
        (f"{SHARK}/files/rdf.yaml?version=v0", "affable-shark"),
        (f"{SHARK}/create-zip-file?version=v0", "affable-shark"),
        ("10.5281/zenodo.5874841/6630266", "kind-seashell"),
        ("10.5281/zenodo.5874841", "kind-seashell"),
        ("https://doi.org/10.5281/zenodo.6630266", "kind-seashell"),
    ],
)
def test_every_kind_of_address_leads_to_the_same_manifest_also_offline_afterwards(
    service: Service, tmp_path: Path, word: str, alias: str
) -> None:
    settings = service.settings(tmp_path / "cache")

    found = locate(word, settings)
    again = locate(word, offline(settings))

    files = service.packages[alias]
    assert found.id == again.id == alias
    assert found.manifest.read_bytes() == files.get("rdf.yaml", files.get("bioimageio.yaml"))
    assert again.manifest == found.manifest
    assert not [line for line in service.log if "/files/" in line and "silent=true" not in line]


def test_one_model_by_alias_needs_the_index_and_its_own_manifest_only(
    service: Service, tmp_path: Path
) -> None:
    locate("affable-shark", service.settings(tmp_path))

    assert len(service.log) == 2


def test_a_package_on_hugging_face_is_found(service: Service, tmp_path: Path) -> None:
    files = {"rdf.yaml": b"type: model", "w.onnx": b"weights"}
    service.packages["org/name"] = files
    settings = service.settings(tmp_path)

    found = locate("huggingface/org/name/1.3", settings)
    fetch_files(found, [WantedFile("w.onnx", None, "weights")], settings)

    assert found.id == "org/name"
    assert (found.manifest.parent / "w.onnx").read_bytes() == b"weights"
    assert "/resolve/v1.3/package/rdf.yaml" in service.log[1]


def test_a_misspelt_alias_is_told_the_nearest_three(service: Service, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        locate("afable-shrak", service.settings(tmp_path))

    assert "affable-shark, broken-mouse, kind-seashell" in caught.value.hint


def test_a_version_that_is_not_there_is_told_those_that_are(
    service: Service, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        locate("affable-shark/v9", service.settings(tmp_path))

    assert "affable-shark/v0" in caught.value.hint


def test_a_folder_with_the_name_of_a_model_never_takes_its_place(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "affable-shark").mkdir()
    (tmp_path / "affable-shark" / "rdf.yaml").write_text("type: model")
    monkeypatch.chdir(tmp_path)

    found = locate("affable-shark", service.settings(tmp_path / "cache"))

    assert found.remote is not None


def test_a_doi_of_two_models_is_not_guessed(service: Service, tmp_path: Path) -> None:
    twin = service.packages["kind-seashell"]
    service.packages["unkind-seashell"] = twin | {"bioimageio.yaml": twin["bioimageio.yaml"] + b"#"}

    with pytest.raises(ModelAmbiguous, match="kind-seashell, unkind-seashell"):
        locate("10.5281/zenodo.5874841", service.settings(tmp_path))


def test_a_doi_of_no_model_is_not_found(service: Service, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        locate("10.1234/nothing", service.settings(tmp_path))


def test_a_model_that_is_newer_than_our_index_is_found(service: Service, tmp_path: Path) -> None:
    settings = service.settings(tmp_path)
    locate("affable-shark", settings)
    service.packages["new-fish"] = {"bioimageio.yaml": b"id: new-fish"}
    age(settings, 3600)

    assert locate("new-fish", settings).manifest.read_bytes() == b"id: new-fish"


@pytest.mark.parametrize("word", ["affable-shark", f"{SHARK}/files/rdf.yaml", f"{SHARK}/m.zip"])
def test_what_is_not_kept_is_named_offline(tmp_path: Path, word: str) -> None:
    with pytest.raises(Offline) as caught:
        locate(word, ZooSettings(tmp_path, offline=True))

    assert "bmz fetch" in caught.value.hint
    assert caught.value.exit_status == 3


def test_without_the_index_the_files_of_the_model_are_asked_for(
    service: Service, tmp_path: Path
) -> None:
    settings = service.settings(tmp_path, index_url=f"{service.url}/nothing/index.json")
    events: list[Event] = []

    found = locate("affable-shark", settings, listener=events.append)
    locate("affable-shark/v0", settings)

    assert found.manifest.read_bytes() == service.packages["affable-shark"]["rdf.yaml"]
    assert "its own address" in notes(events)[0]
    with pytest.raises(ModelNotFound):
        locate("no-model", settings)


def test_when_all_is_away_the_kept_manifest_is_used_with_a_note(
    service: Service, tmp_path: Path, waits: list[float]
) -> None:
    word = f"{SHARK}/files/rdf.yaml"
    kept = locate(word, service.settings(tmp_path))
    events: list[Event] = []
    service.faults.busy = 99

    found = locate(word, service.settings(tmp_path), listener=events.append)

    assert found == kept
    assert "cached" in notes(events)[0]
    assert waits == [0.5, 1.0, 2.0, 4.0]


def test_what_is_no_manifest_is_no_package(service: Service, tmp_path: Path) -> None:
    service.packages["page"] = {"rdf.yaml": b"<!doctype html>"}

    with pytest.raises(NotAPackage):
        locate(f"{ARTIFACTS}/page/files/rdf.yaml", service.settings(tmp_path))


def test_a_mirror_may_be_a_folder(tmp_path: Path) -> None:
    files = tmp_path / "artifacts" / "affable-shark" / "files"
    files.mkdir(parents=True)
    text = "type: model\nid: affable-shark"
    (files / "rdf.yaml").write_text(text)
    mirrors = ((ARTIFACTS, (tmp_path / "artifacts").as_uri()),)
    settings = ZooSettings(tmp_path / "cache", offline=True, mirrors=mirrors)

    found = locate(f"{SHARK}/files/rdf.yaml?version=v0", settings)

    assert found.manifest.read_text() == text


def test_the_index_lists_all_models_with_every_byte_of_their_manifests(
    service: Service, tmp_path: Path
) -> None:
    events: list[Event] = []

    index = load_index(service.settings(tmp_path), listener=events.append)

    kept = {e.id: e.manifest.read_bytes() for e in index.entries if e.manifest}
    sent = {
        alias: next(body for name, body in files.items() if name.endswith(".yaml"))
        for alias, files in service.packages.items()
    }
    assert kept == sent
    assert not [entry.problem for entry in index.entries if entry.problem]
    assert events[-1] == Progress("manifests", 3, 3, events[-1].what)  # type: ignore[union-attr]  # a Progress, says the left side
    assert index.entries[1].aliases == (
        "10.5281/zenodo.5874841/6630266",
        "10.5281/zenodo.5874841",
        "10.5281/zenodo.6630266",
    )


def test_a_young_index_is_not_asked_for_again_and_an_old_one_is(
    service: Service, tmp_path: Path
) -> None:
    settings = service.settings(tmp_path)
    load_index(settings)
    service.log.clear()

    load_index(settings)
    asked_young = len(service.log)
    load_index(settings, refresh=True)
    asked_to = len(service.log)
    age(settings, 90_000)
    index = load_index(settings)

    assert (asked_young, asked_to, len(service.log)) == (0, 1, 2)
    assert not index.stale


def test_an_old_index_is_used_with_a_note_when_the_net_is_away(
    service: Service, tmp_path: Path
) -> None:
    settings = service.settings(tmp_path)
    load_index(settings)
    age(settings, 90_000)
    service.faults.busy = 99
    events: list[Event] = []

    index = load_index(settings, listener=events.append)

    assert index.stale
    assert len(index.entries) == 3
    assert "could not be refreshed" in notes(events)[0]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"items": 3}'])
def test_what_is_no_index_is_unavailable_when_none_is_kept(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "index.json").write_bytes(body)

    with pytest.raises(IndexUnavailable) as caught:
        load_index(ZooSettings(tmp_path, index_url=(tmp_path / "index.json").as_uri()))

    assert (caught.value.code, caught.value.exit_status) == ("index.unavailable", 3)


def test_broken_entries_of_an_index_are_left_out(tmp_path: Path) -> None:
    version = {"version": "v0", "sha256": "../../etc", "source": "x"}
    items = [{"type": "model"}, {"type": "model", "id": "x", "versions": [version, {}]}]
    (tmp_path / "index.json").write_text(json.dumps({"items": items}))

    index = load_index(ZooSettings(tmp_path, index_url=(tmp_path / "index.json").as_uri()))

    assert index.entries == ()


def test_a_manifest_that_is_not_there_stops_no_other_and_is_asked_for_once(
    service: Service, tmp_path: Path
) -> None:
    service.packages["ghost"] = {}
    service.index_sha256["ghost"] = "0" * 64
    settings = service.settings(tmp_path)

    entries = load_index(settings).entries
    asked = len(service.log)
    again = load_index(settings).entries

    assert [entry.id for entry in entries if entry.problem] == ["ghost"]
    assert "404" in str(entries[-1].problem)
    assert (again, len(service.log)) == (entries, asked)


def test_a_manifest_damaged_on_its_way_is_asked_for_again(service: Service, tmp_path: Path) -> None:
    service.faults.flips = 1

    found = locate("affable-shark", service.settings(tmp_path))

    assert found.manifest.read_bytes() == service.packages["affable-shark"]["rdf.yaml"]


def test_a_manifest_damaged_in_the_cache_is_fetched_again(service: Service, tmp_path: Path) -> None:
    settings = service.settings(tmp_path)
    found = locate("affable-shark", settings)
    found.manifest.write_bytes(b"id: another")

    again = locate("affable-shark", settings)

    assert again.manifest.read_bytes() == service.packages["affable-shark"]["rdf.yaml"]


def test_the_service_is_obeyed_when_it_wants_us_to_wait(
    service: Service, tmp_path: Path, waits: list[float]
) -> None:
    service.faults.limited = 2

    index = load_index(service.settings(tmp_path))

    assert len(index.entries) == 3
    assert 4 < max(waits) <= 5


def test_a_net_that_fails_half_way_leaves_problems_that_vanish_with_it(
    service: Service, tmp_path: Path
) -> None:
    settings = service.settings(tmp_path)
    service.faults.refuse = 502
    events: list[Event] = []

    broken = load_index(settings, listener=events.append)
    service.faults.refuse = 0
    whole = load_index(settings)

    assert [bool(entry.problem) for entry in broken.entries] == [True] * 3
    assert "3 of 3" in notes(events)[-1]
    assert not [entry.problem for entry in whole.entries if entry.problem]


def test_a_sync_that_is_interrupted_goes_on_where_it_stopped(
    service: Service, tmp_path: Path
) -> None:
    settings = service.settings(tmp_path)

    def interrupt(_: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_index(settings, listener=interrupt)
    index = load_index(settings)

    assert len([entry for entry in index.entries if entry.manifest]) == 3


def test_a_service_that_never_answers_is_not_asked_for_every_model(
    service: Service, tmp_path: Path
) -> None:
    for number in range(60):
        service.packages[f"model-{number}"] = {"rdf.yaml": f"id: model-{number}".encode()}
    settings = service.settings(tmp_path)
    service.faults.refuse = 502

    index = load_index(settings)

    assert len([entry for entry in index.entries if entry.problem]) == 63
    assert len(service.log) < 100


def test_when_the_index_was_never_read_the_newest_kept_model_of_that_name_is_used(
    service: Service, tmp_path: Path
) -> None:
    kept = locate("affable-shark/v0", service.settings(tmp_path))
    elsewhere = ZooSettings(tmp_path, index_url="https://a.org/index.json", offline=True)
    events: list[Event] = []

    found = locate("affable-shark", elsewhere, listener=events.append)

    assert found.manifest == kept.manifest
    assert found.remote is not None
    assert found.remote.version == "v0"
    assert "cached" in notes(events)[0]


def test_an_index_in_a_folder_serves_models_of_that_folder(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "my-model" / "files"
    folder.mkdir(parents=True)
    (folder / "rdf.yaml").write_text("type: model\nid: my-model")
    (folder / "w.onnx").write_text("weights")
    version = {
        "version": "v0",
        "sha256": sha256_of(folder / "rdf.yaml"),
        "source": (folder / "rdf.yaml").as_uri(),
    }
    item = {"id": "my-model", "type": "model", "versions": [version]}
    (tmp_path / "index.json").write_text(json.dumps({"items": [item]}))
    settings = ZooSettings(
        tmp_path / "cache", index_url=(tmp_path / "index.json").as_uri(), offline=True
    )

    package = locate("my-model", settings)
    report = fetch_files(package, [WantedFile("w.onnx", None, "weights")], settings)

    assert report.files[0].action == "downloaded"
