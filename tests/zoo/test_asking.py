"""Where the zoo is asked, how long we wait for it, and what odd words and answers mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.zoo.address import Alias, Doi, ManifestUrl, OnDisk, Unclear, ZipUrl, read_address
from bmz.zoo.catalogue import Listed, Version, parse_catalogue
from bmz.zoo.errors import MirrorUnclear, Refused, Unreachable
from bmz.zoo.http import PIECE, TRIES, Client, read_retry_after, wait_s
from bmz.zoo.settings import ARTIFACTS, INDEX, ZooSettings, settings_from_environment

if TYPE_CHECKING:
    from tests.zoo.conftest import Service

NO_MODEL = Unclear("the link to bioimage.io names no model")
RECORD = "https://zenodo.org/records/1/files/net.zip?download=1"
NET = "https://a.org/artifacts/Net"


@given(text=st.text() | st.from_regex(r"\w{3}, \d+ Jan \d+ \d\d:\d\d:\d\d GMT", fullmatch=True))
def test_no_words_for_a_wait_stop_us_or_make_it_negative(text: str) -> None:
    found = read_retry_after(text, 0.0)

    assert found is None or found >= 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("-3", 0.0),
        ("nan", None),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        (f"1 Jan {10**20} 00:00:00 GMT", None),
        ("", None),
    ],
)
def test_odd_words_for_a_wait_are_no_wait(text: str, seconds: float | None) -> None:
    assert read_retry_after(text, 20.0) == seconds


@given(failed=st.integers(1, TRIES), asked=st.none() | st.floats(0, 1e9))
def test_no_wait_is_longer_than_a_minute_and_none_follows_the_last_try(
    failed: int, asked: float | None
) -> None:
    wait = wait_s(failed, asked)

    gives_up = failed == TRIES or (asked is not None and asked > 60)
    assert (wait is None) == gives_up
    assert wait is None or 0 <= wait <= 60


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_as_many_tries_are_made_as_were_asked_for(
    service: Service, tmp_path: Path, tries: int
) -> None:
    service.faults.busy = 99

    with Client(service.settings(tmp_path)) as client, pytest.raises(Unreachable):
        client.get(f"{ARTIFACTS}/affable-shark/files/rdf.yaml", tries=tries)

    assert len(service.log) == tries


VERSION = {"version": "v0", "sha256": "A" * 64, "source": "https://a.org/rdf.yaml"}


@pytest.mark.parametrize("name", [None, "", "bioimage-io/", 0])
def test_a_model_without_a_name_is_left_out_of_the_index(name: object) -> None:
    items = [
        {"id": name, "type": "model", "versions": [VERSION]},
        {"id": "own/net", "type": "model", "versions": [VERSION, {**VERSION, "sha256": "a"}]},
        {"id": "net", "type": "notebook", "versions": [VERSION]},
    ]

    found = parse_catalogue(json.dumps({"items": items}).encode())

    assert found == (Listed("own/net", (Version("v0", "a" * 64, "", "https://a.org/rdf.yaml"),)),)


@pytest.mark.parametrize(
    ("word", "offline"),
    [("", False), ("0", False), ("No", False), ("FALSE", False), ("1", True), ("yes", True)],
)
def test_the_network_is_forbidden_by_any_word_but_no(word: str, *, offline: bool) -> None:
    assert settings_from_environment({"BMZ_OFFLINE": word}).offline == offline


def test_empty_settings_are_those_that_nobody_made() -> None:
    named = ("CACHE_DIR", "CACHE_PATH", "INDEX_URL", "OFFLINE", "MIRROR")

    empty = settings_from_environment({f"BMZ_{name}": "" for name in named})

    assert empty == settings_from_environment({})
    assert (empty.layers, empty.index_url, empty.mirrors) == ((), INDEX, ())


@pytest.mark.parametrize("part", ["https://a.org", "https://a.org=b", "a.org=https://b.org", "="])
def test_a_mirror_that_is_no_pair_is_shown_with_what_is_wanted(part: str) -> None:
    with pytest.raises(MirrorUnclear) as caught:
        settings_from_environment({"BMZ_MIRROR": f"https://a.org=https://b.org, {part},"})

    wanted = "wanted FROM=TO, two addresses with ://"
    assert caught.value.message == f"BMZ_MIRROR holds '{part}'; {wanted}"


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://a.org", "http://m"),
        ("https://a.org?x=1", "http://m?x=1"),
        ("https://a.org#x", "http://m#x"),
        ("https://a.org:8080/x", "https://a.org:8080/x"),
        ("HTTPS://a.org/x", "HTTPS://a.org/x"),
        ("https://b.org/x", "file:///srv/x"),
        ("https://b.org", "https://b.org"),
    ],
)
def test_a_mirror_takes_what_begins_with_it_up_to_a_border(url: str, asked: str) -> None:
    pairs = (("https://a.org", "http://m"), ("https://b.org/", "file:///srv/"))

    assert ZooSettings(Path(), mirrors=pairs).mirrored(url) == asked


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("https://www.bioimage.io/#/artifacts/Affable-Shark", Alias("affable-shark")),
        ("https://bioimage.io/artifacts/affable-shark/latest", Alias("affable-shark")),
        ("https://bioimage.io/#/?id=affable-shark", Alias("affable-shark")),
        ("https://bioimage.io/#/?id=https://a.org/rdf.yaml", NO_MODEL),
        ("https://zenodo.org/record/5874742/", Doi("10.5281/zenodo.5874742")),
        (RECORD, ZipUrl(RECORD, "net")),
        ("https://a.org/rdf.yml", ManifestUrl(("https://a.org/rdf.yml",), "rdf.yml")),
        (
            f"{NET}?version=v2",
            ManifestUrl(
                (f"{NET}/files/bioimageio.yaml?version=v2", f"{NET}/files/rdf.yaml?version=v2"),
                "Net",
            ),
        ),
        ("https://[a/rdf.yaml", Unclear("it is not a URL (Invalid IPv6 URL)")),
        ("affable-shark/1.2", Alias("affable-shark", "1.2")),
        ("MODEL.Zip", OnDisk(Path("MODEL.Zip"))),
        ("-shark", Unclear("it is neither an alias, a DOI, a URL nor a path")),
    ],
)
def test_odd_spellings_of_an_address_mean_one_thing(word: str, meant: object) -> None:
    assert read_address(word) == meant


def test_files_of_a_file_address_are_read_from_disk_piece_by_piece(tmp_path: Path) -> None:
    body = bytes(range(256)) * 65  # a little more than one piece
    (tmp_path / "a b.bin").write_bytes(body)

    with Client(ZooSettings(tmp_path, offline=True)) as client:
        whole = client.get((tmp_path / "a b.bin").as_uri())
        with client.stream((tmp_path / "a b.bin").as_uri()) as answer:
            pieces = [len(piece) for piece in answer.pieces]
        with pytest.raises(Refused, match="answered 404: No such file or directory") as caught:
            client.get((tmp_path / "absent").as_uri())

    assert whole == body
    assert pieces == [PIECE, len(body) - PIECE]
    assert caught.value.status == 404
