"""The zoo on loopback answers as the live one does, and ends with its block."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import pytest

from bmz.testing.package import SmallZoo, small_zoo


@pytest.fixture
def zoo(tmp_path: Path) -> Iterator[SmallZoo]:
    """Serve three packages: a new one, one with an old name of its manifest, and one without."""
    for name, content in (
        ("new/bioimageio.yaml", b"type: model"),
        ("new/my weights.onnx", bytes(range(256))),
        ("new/folder/inside.txt", b"deep"),
        ("old/rdf.yaml", b"type: old"),
        ("none/README.md", b"# nothing"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with small_zoo(tmp_path) as served:
        yield served


def fetched(url: str) -> bytes:
    with urlopen(url, timeout=10) as answer:  # noqa: S310  (of loopback)
        body: bytes = answer.read()
    assert int(answer.headers["Content-Length"]) == len(body)
    return body


def refused(url: str) -> int:
    with pytest.raises(HTTPError) as caught:
        fetched(url)
    caught.value.close()
    return caught.value.code


def test_the_index_names_every_folder_with_a_manifest(zoo: SmallZoo) -> None:
    index = json.loads(fetched(zoo.index_url))

    assert [item["id"] for item in index["items"]] == ["bioimage-io/new", "bioimage-io/old"]
    assert {item["type"] for item in index["items"]} == {"model"}


def test_the_source_of_a_version_gives_the_manifest_of_its_hash(zoo: SmallZoo) -> None:
    items = json.loads(fetched(zoo.index_url))["items"]

    versions = [version for item in items for version in item["versions"]]

    found = [fetched(version["source"]) for version in versions]
    assert found == [b"type: model", b"type: old"]
    hashes = [hashlib.sha256(content).hexdigest() for content in found]
    assert [version["sha256"] for version in versions] == hashes


def test_a_manifest_that_changes_has_another_hash_in_the_index(zoo: SmallZoo) -> None:
    before = zoo.index()["items"][0]["versions"][0]

    (zoo.folder / "new" / "bioimageio.yaml").write_bytes(b"type: other")

    after = json.loads(fetched(zoo.index_url))["items"][0]["versions"][0]
    assert after["sha256"] == hashlib.sha256(b"type: other").hexdigest() != before["sha256"]
    assert after["source"] == before["source"]


def test_the_files_of_a_package_are_listed_with_their_sizes_and_given(zoo: SmallZoo) -> None:
    files = f"{zoo.url}/bioimage-io/artifacts/new/files"

    listed = json.loads(fetched(files))

    assert listed == [
        {"type": "file", "name": "bioimageio.yaml", "size": 11},
        {"type": "file", "name": "my weights.onnx", "size": 256},
    ]
    for one in listed:
        assert len(fetched(f"{files}/{quote(one['name'])}?version=v0")) == one["size"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "collection",
        "collection/reports/bioimage-io/new/v0/summary.json",
        "bioimage-io/artifacts/new/files/absent.onnx",
        "bioimage-io/artifacts/new/files/folder",
        "bioimage-io/artifacts/absent/files",
        "bioimage-io/artifacts/absent/files/bioimageio.yaml",
        "new/bioimageio.yaml",
    ],
)
def test_what_does_not_lie_there_is_not_found(zoo: SmallZoo, path: str) -> None:
    assert refused(f"{zoo.url}/{path}") == 404
    assert zoo.body(path) is None


def test_reports_are_those_that_a_test_puts_there(zoo: SmallZoo) -> None:
    zoo.reports["new"] = {"tests": [{"status": "passed"}]}

    body = fetched(f"{zoo.url}/collection/reports/bioimage-io/new/v0/summary.json")

    assert json.loads(body) == {"tests": [{"status": "passed"}]}


def test_the_log_holds_every_path_in_order_found_or_not(zoo: SmallZoo) -> None:
    fetched(zoo.index_url)
    refused(f"{zoo.url}/absent?version=v0")
    fetched(f"{zoo.url}/bioimage-io/artifacts/new/files/my%20weights.onnx")

    assert zoo.log == [
        "collection/index.json",
        "absent",
        "bioimage-io/artifacts/new/files/my weights.onnx",
    ]


def test_the_zoo_is_on_loopback_and_gone_after_its_block(tmp_path: Path) -> None:
    def stopped() -> str:
        with small_zoo(tmp_path) as served, small_zoo(tmp_path) as other:
            assert json.loads(fetched(served.index_url)) == {"items": []}
            assert served.url != other.url
            urls.append(served.index_url)
            raise RuntimeError

    urls: list[str] = []
    with pytest.raises(RuntimeError):
        stopped()

    assert urlsplit(urls[0]).hostname == "127.0.0.1"
    with pytest.raises(URLError, match="refused"):
        fetched(urls[0])
