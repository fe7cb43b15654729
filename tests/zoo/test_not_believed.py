"""What is not what the index lists is neither kept nor believed, however often it comes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bmz.app import computer
from bmz.base.errors import BmzError
from bmz.base.progress import Event, Note
from bmz.zoo.address import is_description
from bmz.zoo.cache import list_cached, verify_cache
from bmz.zoo.catalogue import parse_catalogue
from bmz.zoo.errors import DescriptionDiffers, IndexUnavailable, NotAPackage, Unreachable
from bmz.zoo.fetch import WantedFile, fetch_files
from bmz.zoo.index import load_index
from bmz.zoo.locate import locate
from bmz.zoo.package import stand_in
from bmz.zoo.settings import ARTIFACTS, ZooSettings
from bmz.zoo.store import (
    BY_INDEX,
    BY_USER,
    NOTES,
    Origin,
    hash_and_stamp,
    keep_manifest,
    note_address,
    read_origin,
)

if TYPE_CHECKING:
    from tests.zoo.conftest import Service

RIGHT = b"type: model\nformat_version: 0.5.4\nname: right\n"

INSTEAD = {
    "a login page": b"<!DOCTYPE html><html><form>password</form></html>",
    "a word in JSON": b'{"error": "login required"}',
    "nothing": b"",
    "the beginning": RIGHT[:30],
    "one other bit": RIGHT[:-2] + b"u\n",
    "another model": b"type: model\nformat_version: 0.5.4\nname: swapped\n",
    "bytes": b"\xff\xfe\0\1",
}


@pytest.fixture
def settings(service: Service, tmp_path: Path) -> ZooSettings:
    service.packages["affable-shark"]["rdf.yaml"] = RIGHT
    service.index_sha256["affable-shark"] = hashlib.sha256(RIGHT).hexdigest()
    return service.settings(tmp_path / "cache")


def kept_in(settings: ZooSettings) -> set[bytes]:
    return {path.read_bytes() for path in settings.cache.glob("packages/*/*.yaml")}


@pytest.mark.parametrize("body", INSTEAD.values(), ids=INSTEAD)
def test_what_comes_in_place_of_a_description_is_not_kept_and_the_next_call_heals(
    body: bytes, service: Service, settings: ZooSettings
) -> None:
    service.packages["affable-shark"]["rdf.yaml"] = body

    with pytest.raises(DescriptionDiffers) as caught:
        locate("affable-shark", settings)
    kept = kept_in(settings)
    service.packages["affable-shark"]["rdf.yaml"] = RIGHT
    found = locate("affable-shark", settings)

    assert (caught.value.code, caught.value.exit_status) == ("package.hash-differs", 3)
    assert body not in kept
    assert found.manifest.read_bytes() == RIGHT
    assert len(service.asked_for("affable-shark/files/rdf.yaml")) == 3  # two, and then one


@pytest.mark.parametrize("body", INSTEAD.values(), ids=INSTEAD)
def test_a_list_of_all_models_believes_it_as_little(
    body: bytes, service: Service, settings: ZooSettings
) -> None:
    service.packages["affable-shark"]["rdf.yaml"] = body

    bad = {entry.id: entry for entry in load_index(settings).entries}["affable-shark"]
    service.packages["affable-shark"]["rdf.yaml"] = RIGHT
    good = {entry.id: entry for entry in load_index(settings).entries}["affable-shark"]

    assert bad.manifest is None
    assert "not the one that the index lists" in str(bad.problem)
    assert (good.problem, good.manifest and good.manifest.read_bytes()) == (None, RIGHT)


def test_a_mirror_cannot_swap_a_model(service: Service, settings: ZooSettings) -> None:
    service.packages["mirrored"] = {"rdf.yaml": INSTEAD["another model"]}
    source = f"{ARTIFACTS}/affable-shark"
    pair = (source, f"{service.url}/bioimage-io/artifacts/mirrored")

    with pytest.raises(DescriptionDiffers):
        locate("affable-shark", replace(settings, mirrors=(*settings.mirrors, pair)))


def test_a_model_that_a_newer_index_lists_is_taken(service: Service, settings: ZooSettings) -> None:
    locate("kind-seashell", settings)
    (path,) = settings.cache.glob("index/*/index.json")
    os.utime(path, (time.time() - 3600,) * 2)
    newer = INSTEAD["another model"]
    service.packages["affable-shark"]["rdf.yaml"] = newer
    service.index_sha256["affable-shark"] = hashlib.sha256(newer).hexdigest()

    found = locate("affable-shark", settings)

    assert found.manifest.read_bytes() == newer
    assert found.remote is not None
    assert found.remote.index_sha256 == hashlib.sha256(newer).hexdigest()


def test_a_search_reads_a_newer_index_where_a_description_differs(
    service: Service, settings: ZooSettings
) -> None:
    load_index(settings)
    (path,) = settings.cache.glob("index/*/index.json")
    os.utime(path, (time.time() - 3600,) * 2)
    old = hashlib.sha256(RIGHT).hexdigest()
    (settings.cache / "packages" / old / "rdf.yaml").unlink()
    newer = INSTEAD["another model"]
    service.packages["affable-shark"]["rdf.yaml"] = newer
    service.index_sha256["affable-shark"] = hashlib.sha256(newer).hexdigest()

    entries = {entry.id: entry for entry in load_index(settings).entries}

    assert entries["affable-shark"].problem is None


def test_a_description_that_was_changed_in_place_is_taken_where_the_user_says_so(
    service: Service, settings: ZooSettings
) -> None:
    service.packages["affable-shark"]["rdf.yaml"] = INSTEAD["another model"]
    events: list[Event] = []

    found = locate("affable-shark", replace(settings, allow_changed=True), listener=events.append)
    (path,) = settings.cache.glob("index/*/index.json")
    os.utime(path, (time.time() + 5,) * 2)  # the same index, read again
    again = locate("affable-shark", settings)

    origin = read_origin(found.manifest.parent)
    assert found.manifest.read_bytes() == INSTEAD["another model"]
    assert again.manifest == found.manifest
    assert origin is not None
    assert origin.vouched == BY_USER
    assert any("as it is: the index" in event.text for event in events if isinstance(event, Note))
    assert {state.status for state in verify_cache(settings, ["affable-shark"])} == {"whole"}


@pytest.mark.parametrize("kind", ["a login page", "a word in JSON", "nothing", "bytes"])
def test_a_page_is_not_taken_even_where_changes_are_allowed(
    kind: str, service: Service, settings: ZooSettings
) -> None:
    service.packages["affable-shark"]["rdf.yaml"] = INSTEAD[kind]

    with pytest.raises(NotAPackage):
        locate("affable-shark", replace(settings, allow_changed=True))


@pytest.mark.parametrize("kind", ["a login page", "a word in JSON", "nothing", "bytes"])
def test_what_is_no_description_is_not_kept_at_an_address_either(
    kind: str, service: Service, settings: ZooSettings
) -> None:
    address = "https://huggingface.co/me/net/resolve/main/rdf.yaml"
    service.packages["me/net"] = {"rdf.yaml": RIGHT}
    before = locate(address, settings)
    service.packages["me/net"] = {"rdf.yaml": INSTEAD[kind]}

    with pytest.raises(NotAPackage):
        locate(address, settings)

    offline = locate(address, replace(settings, offline=True))
    assert offline.manifest == before.manifest
    assert offline.manifest.read_bytes() == RIGHT


def poisoned(settings: ZooSettings, body: bytes) -> None:
    """Keep a description as it was kept before the index was obeyed."""
    source = f"{ARTIFACTS}/affable-shark/files/rdf.yaml?version=v0"
    keep_manifest(settings, body, "rdf.yaml", Origin("affable-shark", "v0", source))
    (folder,) = settings.cache.glob("index/*")
    (folder / "exceptions").mkdir(exist_ok=True)
    right = hashlib.sha256(RIGHT).hexdigest()
    note = {"changed": hashlib.sha256(body).hexdigest()}
    (folder / "exceptions" / f"{right}.json").write_text(json.dumps(note))


@pytest.mark.parametrize("body", INSTEAD.values(), ids=INSTEAD)
def test_a_description_that_was_believed_before_is_found_and_healed(
    body: bytes, settings: ZooSettings
) -> None:
    locate("kind-seashell", settings)  # brings the index
    poisoned(settings, body)

    states = verify_cache(settings)
    found = locate("affable-shark", settings)

    (damaged,) = [state for state in states if state.status == "damaged"]
    assert damaged.found == hashlib.sha256(body).hexdigest()
    assert damaged.why
    assert found.manifest.read_bytes() == RIGHT


def test_a_description_that_the_index_listed_once_stays_whole(
    service: Service, settings: ZooSettings
) -> None:
    first = locate("affable-shark", settings)
    newer = INSTEAD["another model"]
    service.packages["affable-shark"]["rdf.yaml"] = newer
    service.index_sha256["affable-shark"] = hashlib.sha256(newer).hexdigest()
    load_index(settings, refresh=True)

    origin = read_origin(first.manifest.parent)

    assert origin is not None
    assert origin.vouched == BY_INDEX
    assert {state.status for state in verify_cache(settings)} == {"whole"}


def test_a_description_from_an_address_that_is_cut_off_is_found_by_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ZooSettings(tmp_path)
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path))
    cut = b'type: model\nformat_version: 0.5.4\nname: "cut of'
    whole = b"type: model\nformat_version: 0.5.4\nname: but not valid\n"
    for number, body in enumerate((cut, whole)):
        url = f"https://a.org/{number}/rdf.yaml"
        keep_manifest(settings, body, "rdf.yaml", Origin(f"net-{number}", "", url))
        note_address(settings, url, hashlib.sha256(body).hexdigest())

    states = {state.package: state for state in computer.verify()}

    assert states["net-0"].status == "damaged"
    assert "not YAML" in states["net-0"].why
    assert states["net-1"].status == "whole"


@pytest.mark.parametrize(
    ("raw", "is_one"),
    [
        (b"format_version: 0.5.4\n", True),
        (b"# made by hand\n\ntype: model\n", True),
        (b'type: "dataset"\nname: x\n', True),
        (b'{"type": "model"}', True),
        (b"\xef\xbb\xbf  <html>", False),
        (b"type: error\n", False),
        (b"info:\n  type: model\n", False),
        (b'{"type": ["model"]}', False),
        (b"{" * 100_000, False),
        (b"[1, 2]", False),
        (b"a login page in plain words", False),
    ],
)
def test_a_description_is_told_from_what_is_none(raw: bytes, *, is_one: bool) -> None:
    assert is_description(raw) == is_one


VERSION = {"version": "v0", "sha256": "a" * 64, "source": "https://a.org/rdf.yaml"}
MODEL = {"id": "net", "type": "model", "versions": [VERSION]}

MISTYPED: dict[str, str] = {
    "no number": '{"items": [NaN]}',
    "nested without end": "[" * 200_000,
    "a mapping nested without end": '{"items": ' + "[" * 200_000,
    "numbers": '{"items": [1, 2]}',
    "texts": '{"items": ["net"]}',
    "a mapping of items": '{"items": {"net": 1}}',
    "no items": '{"models": []}',
    "a list": "[]",
    "a text": '"items"',
    "a number without end": '{"items": [' + "9" * 5000 + "]}",
    "type of a number": json.dumps({"items": [MODEL | {"type": 3}]}),
    "versions of a text": json.dumps({"items": [MODEL | {"versions": "v0"}]}),
    "versions of a mapping": json.dumps({"items": [MODEL | {"versions": {"v0": 1}}]}),
    "a version that is a number": json.dumps({"items": [MODEL | {"versions": [4]}]}),
    "a sha256 that is a number": json.dumps(
        {"items": [MODEL | {"versions": [VERSION | {"sha256": 4}]}]}
    ),
    "a source that is a list": json.dumps(
        {"items": [MODEL | {"versions": [VERSION | {"source": []}]}]}
    ),
    "a source that is not an address": json.dumps(
        {"items": [MODEL | {"versions": [VERSION | {"source": "http://[::1/x"}]}]}
    ),
    "not text": "\xff\xfe",
}


@pytest.mark.parametrize("text", MISTYPED.values(), ids=MISTYPED)
def test_an_index_of_wrong_types_is_told_and_not_kept(text: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_bytes(text.encode("latin-1"))
    settings = ZooSettings(tmp_path / "c", index_url=(tmp_path / "index.json").as_uri())

    with pytest.raises(IndexUnavailable) as caught:
        load_index(settings)

    assert caught.value.exit_status == 3
    assert not list(settings.cache.rglob("index.json"))


@pytest.mark.parametrize("text", MISTYPED.values(), ids=MISTYPED)
def test_an_index_of_wrong_types_that_was_kept_is_read_anew(
    text: str, service: Service, tmp_path: Path
) -> None:
    settings = service.settings(tmp_path / "cache")
    load_index(settings)
    (path,) = settings.cache.glob("index/*/index.json")
    path.write_bytes(text.encode("latin-1"))

    assert len(load_index(settings).entries) == 3


def test_what_the_index_says_more_does_no_harm() -> None:
    more: dict[str, object] = {"created_at": 3, "comment": None, "new": {"deep": []}}
    items = [MODEL | {"versions": [VERSION | more], "new": 1}, {"id": "data", "type": "dataset"}]

    assert len(parse_catalogue(json.dumps({"items": items, "total": 2}).encode())) == 1


DAMAGED_NOTES = {
    "a number": "3",
    "a list": "[]",
    "null": "null",
    "other types": json.dumps({"id": 3, "version": [], "url": None}),
    "an id that is a list": json.dumps({"id": [], "version": "", "url": ""}),
    "a time that is a text": json.dumps({"id": "a", "version": "", "url": "", "fetched_at": "x"}),
    "a time that is not a number": '{"id": "a", "version": "", "url": "", "fetched_at": NaN}',
    "another field": json.dumps({"id": "a", "version": "", "url": "", "more": 1}),
    "nested without end": "[" * 200_000,
    "half of it": '{"id": "a',
    "not text": "\udcff\udcfe",
}


@pytest.mark.parametrize("text", DAMAGED_NOTES.values(), ids=DAMAGED_NOTES)
def test_a_damaged_note_on_an_origin_is_told_and_written_anew(
    text: str, service: Service, tmp_path: Path
) -> None:
    settings = service.settings(tmp_path / "cache")
    found = locate("affable-shark", settings)
    note = found.manifest.parent / NOTES / "origin.json"
    note.write_bytes(text.encode("utf-8", "surrogateescape"))

    listed = list_cached(settings, manifests=True)
    (state,) = [state for state in verify_cache(settings) if state.status != "whole"]

    locate("affable-shark", settings)
    assert [package.note_damaged for package in listed] == [True]
    assert {state.status for state in verify_cache(settings)} == {"whole"}
    assert (state.name, state.status) == (f"{NOTES}/origin.json", "damaged")
    assert "cannot be read" in state.why


@pytest.mark.parametrize("text", DAMAGED_NOTES.values(), ids=DAMAGED_NOTES)
def test_no_damaged_note_of_the_cache_stops_a_call(
    text: str, service: Service, tmp_path: Path
) -> None:
    settings = service.settings(tmp_path / "cache")
    address = "https://huggingface.co/me/net/resolve/main/rdf.yaml"
    service.packages["me/net"] = {"rdf.yaml": RIGHT}
    service.packages["ghost"] = {}
    service.index_sha256["ghost"] = "0" * 64
    load_index(settings)
    locate(address, settings)
    for path in [*settings.cache.rglob("*.json")]:
        if path.name != "index.json":
            path.write_bytes(text.encode("utf-8", "surrogateescape"))

    assert len(load_index(settings).entries) == 5
    assert locate(address, settings).manifest.read_bytes() == RIGHT
    assert locate("affable-shark", settings).manifest.is_file()
    assert verify_cache(settings)


def test_the_error_names_the_page_and_the_next_step(
    service: Service, settings: ZooSettings
) -> None:
    service.packages["affable-shark"]["rdf.yaml"] = INSTEAD["a login page"]

    with pytest.raises(BmzError) as caught:
        locate("affable-shark", settings)

    assert "a web page was returned instead" in caught.value.message
    assert "bmz fetch affable-shark --allow-changed" in caught.value.hint


def array_file(shape: tuple[int, ...] = (3, 4)) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones(shape, np.float32))
    return stream.getvalue()


STAND_INS = {
    "a login page": b"<!DOCTYPE html><html>",
    "a page of another kind": b"\n <HTML><body>",
    "a word in JSON": b'{"error": "login required"}',
    "nothing": b"",
    "the beginning": array_file()[:-5],
}


@pytest.mark.parametrize("body", STAND_INS.values(), ids=STAND_INS)
def test_what_comes_in_place_of_a_file_without_a_sha256_is_not_kept_and_heals(
    body: bytes, service: Service, tmp_path: Path
) -> None:
    settings = service.settings(tmp_path / "cache")
    service.packages["affable-shark"]["in.npy"] = body
    package, file = locate("affable-shark", settings), WantedFile("in.npy", None, "test tensor")

    with pytest.raises(Unreachable, match=r"the answer is not 'in\.npy'"):
        fetch_files(package, [file], settings)
    service.packages["affable-shark"]["in.npy"] = array_file()
    report = fetch_files(package, [file], settings)

    assert report.files[0].action == "downloaded"
    assert (package.manifest.parent / "in.npy").read_bytes() == array_file()


@pytest.mark.parametrize("body", STAND_INS.values(), ids=STAND_INS)
def test_what_was_kept_in_place_of_a_file_is_found_and_healed(
    body: bytes, service: Service, tmp_path: Path
) -> None:
    settings = service.settings(tmp_path / "cache")
    service.packages["affable-shark"]["in.npy"] = array_file()
    package, file = locate("affable-shark", settings), WantedFile("in.npy", None, "test tensor")
    (package.manifest.parent / "in.npy").write_bytes(body)
    hash_and_stamp(package.manifest.parent, "in.npy")

    (damaged,) = [state for state in verify_cache(settings) if state.status == "damaged"]
    fetch_files(package, [file], settings)

    assert (damaged.name, bool(damaged.why)) == ("in.npy", True)
    assert (package.manifest.parent / "in.npy").read_bytes() == array_file()
    assert {state.status for state in verify_cache(settings)} == {"whole"}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("README.md", b"<html>"),
        ("cover.svg", b"<?xml"),
        ("net.py", b"{}"),
        ("environment.yaml", b"{}"),
        ("in.npy", array_file((0,))),
        ("in.npy", array_file() + b"more"),
        ("in.npy", b"\x93NUMPY\x01\x00\xff\xff{'descr': (("),
        ("w.onnx", b"\x08\x09"),
    ],
)
def test_what_may_be_the_file_itself_is_no_stand_in(name: str, body: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(body)

    assert stand_in(tmp_path / "file", name) == ""


def test_pixels_of_objects_and_odd_heads_are_left_to_the_reader(tmp_path: Path) -> None:
    for descr in ("'|O'", "[('a', '<f4')]", "3", "'<f4'}{"):
        head = f"{{'descr': {descr}, 'shape': (9,)}}".encode()
        body = b"\x93NUMPY\x02\x00" + len(head).to_bytes(4, "little") + head
        (tmp_path / "a.npy").write_bytes(body)

        assert stand_in(tmp_path / "a.npy", "a.npy") == ""
