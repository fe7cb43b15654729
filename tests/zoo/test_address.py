"""What each form of the word MODEL means, without asking anybody."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.zoo.address import (
    Address,
    Alias,
    Doi,
    ManifestUrl,
    OnDisk,
    Starter,
    Unclear,
    ZipUrl,
    names_in,
    read_address,
)
from bmz.zoo.errors import MirrorUnclear
from bmz.zoo.http import read_retry_after, wait_s
from bmz.zoo.package import Remote
from bmz.zoo.settings import ZooSettings, settings_from_environment

SERVICE = "https://hypha.aicell.io/bioimage-io/artifacts/affable-shark"
HF = "https://huggingface.co/org/name/resolve"


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("affable-shark", Alias("affable-shark")),
        ("Affable-Shark", Alias("affable-shark")),
        ("affable-shark/v0", Alias("affable-shark", "v0")),
        ("affable-shark/latest", Alias("affable-shark")),
        ("bioimage-io/affable-shark", Alias("affable-shark")),
        ("bioimage-io/affable-shark/v1", Alias("affable-shark", "v1")),
        ("10.5281/zenodo.5874741/5874742", Doi("10.5281/zenodo.5874741/5874742")),
        ("doi:10.5281/zenodo.5874742", Doi("10.5281/zenodo.5874742")),
        ("https://doi.org/10.5281/Zenodo.5874742", Doi("10.5281/zenodo.5874742")),
        ("https://zenodo.org/records/5874742", Doi("10.5281/zenodo.5874742")),
        ("https://bioimage.io/#/artifacts/affable-shark", Alias("affable-shark")),
        ("https://bioimage.io/#/artifacts/affable-shark/v0", Alias("affable-shark", "v0")),
        ("https://bioimage.io/#/?id=10.5281%2Fzenodo.5874742", Doi("10.5281/zenodo.5874742")),
        ("https://bioimage.io/#/about", Unclear("the link to bioimage.io names no model")),
        (SERVICE, Alias("affable-shark")),
        (f"{SERVICE}?version=v0", Alias("affable-shark", "v0")),
        (f"{SERVICE}/files/rdf.yaml", ManifestUrl((f"{SERVICE}/files/rdf.yaml",), "affable-shark")),
        (f"{SERVICE}/create-zip-file", ZipUrl(f"{SERVICE}/create-zip-file", "affable-shark")),
        ("https://a.org/x/m.zip?x=1", ZipUrl("https://a.org/x/m.zip?x=1", "m")),
        ("https://a.org/x/rdf.yaml", ManifestUrl(("https://a.org/x/rdf.yaml",), "x")),
        (
            "huggingface/org/name",
            ManifestUrl(
                (f"{HF}/main/package/bioimageio.yaml", f"{HF}/main/package/rdf.yaml"), "org/name"
            ),
        ),
        (
            "huggingface/org/name/1.3",
            ManifestUrl(
                (f"{HF}/v1.3/package/bioimageio.yaml", f"{HF}/v1.3/package/rdf.yaml"), "org/name"
            ),
        ),
        (
            "huggingface/org/name/v2",
            ManifestUrl(
                (f"{HF}/v2/package/bioimageio.yaml", f"{HF}/v2/package/rdf.yaml"), "org/name"
            ),
        ),
        ("starter/nuclei", Starter("nuclei")),
        ("./affable-shark", OnDisk(Path("affable-shark"))),
        ("models/unet", OnDisk(Path("models/unet"))),
        ("file:///srv/m.zip", OnDisk(Path("/srv/m.zip"))),
        ("m.zip", OnDisk(Path("m.zip"))),
        ("rdf.yaml", OnDisk(Path("rdf.yaml"))),
    ],
)
def test_the_form_of_a_word_decides_what_it_means(word: str, meant: Address) -> None:
    assert read_address(word) == meant


@pytest.mark.parametrize(
    "word", ["x.txt", "ftp://a.org/rdf.yaml", "https://a.org/page", "huggingface/org", "a b", ""]
)
def test_a_word_of_no_known_form_is_not_guessed(word: str) -> None:
    assert isinstance(read_address(word), Unclear)


@given(st.text())
def test_any_word_at_all_has_some_meaning(word: str) -> None:
    assert read_address(word) is not None


@pytest.mark.parametrize("word", ["~\0", "./a\0b", "a\0.zip"])
def test_a_path_with_a_nul_is_unclear(word: str) -> None:
    assert isinstance(read_address(word), Unclear)


def test_files_lie_beside_their_manifest_and_ask_not_to_be_counted() -> None:
    remote = Remote(f"{SERVICE}/files/rdf.yaml?version=v0")

    assert remote.file_url("a b/w.pt") == f"{SERVICE}/files/a%20b/w.pt?version=v0&silent=true"
    assert remote.listing_url() == f"{SERVICE}/files/?version=v0&silent=true"
    assert Remote("https://a.org/x/rdf.yaml").file_url("w.pt") == "https://a.org/x/w.pt"
    assert Remote("https://a.org/x/rdf.yaml").listing_url() is None


def test_the_longest_prefix_of_a_mirror_decides_and_ends_at_a_border() -> None:
    pairs = (("https://a.org", "http://m"), ("https://a.org/x", "file:///srv/x"))
    settings = ZooSettings(Path(), mirrors=pairs)

    assert settings.mirrored("https://a.org/x/1?q=2") == "file:///srv/x/1?q=2"
    assert settings.mirrored("https://a.org/xy") == "http://m/xy"
    assert settings.mirrored("https://a.org.evil/x") == "https://a.org.evil/x"


def test_settings_are_read_from_the_environment(tmp_path: Path) -> None:
    found = settings_from_environment(
        {
            "BMZ_CACHE_DIR": str(tmp_path),
            "BMZ_CACHE_PATH": "/a:/b",
            "BMZ_MODELS": "/c:/d e",
            "BMZ_INDEX_URL": "file:///i.json",
            "BMZ_OFFLINE": "1",
            "BMZ_MIRROR": "https://a.org=http://b/?x=1, https://c.org=file:///c",
        }
    )

    assert found == ZooSettings(
        tmp_path,
        (Path("/a"), Path("/b")),
        "file:///i.json",
        offline=True,
        mirrors=(("https://a.org", "http://b/?x=1"), ("https://c.org", "file:///c")),
        models=("/c", "/d e"),
    )
    assert not settings_from_environment({"BMZ_OFFLINE": "0"}).offline


def test_a_mirror_that_is_no_pair_of_addresses_is_wrong_usage() -> None:
    with pytest.raises(MirrorUnclear) as caught:
        settings_from_environment({"BMZ_MIRROR": "a.org"})

    assert (caught.value.exit_status, caught.value.code) == (2, "zoo.mirror")


def test_waiting_doubles_obeys_the_service_and_ends() -> None:
    assert [wait_s(n, None) for n in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 4.0, None]
    assert wait_s(1, 7.0) == 7.0
    assert wait_s(1, 3600.0) is None


def test_retry_after_is_a_number_or_a_date() -> None:
    assert read_retry_after("2", 0.0) == 2.0
    assert read_retry_after("Thu, 01 Jan 1970 00:00:10 GMT", 4.0) == 6.0
    assert read_retry_after("soon", 0.0) is None
    assert read_retry_after(None, 0.0) is None


def test_names_stand_at_known_places_only() -> None:
    raw = b"""%YAML 1.2
---
inputs:
  - id: input0
    config:
      bioimageio:
        nickname: not-me
config:
  _conceptdoi: 10.5281/zenodo.1
  other:
    id: not-me-either
  bioimageio:
    nickname: "Kind-Seashell" # a comment
description: |
  config:
    bioimageio:
      nickname: nor-me
id: 10.5281/zenodo.5874841/6630266
"""

    assert set(names_in(raw)) == {
        "kind-seashell",
        "10.5281/zenodo.1",
        "10.5281/zenodo.5874841/6630266",
        "10.5281/zenodo.5874841",
        "10.5281/zenodo.6630266",
    }


def test_names_of_a_manifest_in_json_are_found() -> None:
    raw = b'{"id": "kind-seashell", "config": {"bioimageio": {"nickname": "friendly-one"}}}'

    assert names_in(raw) == ("kind-seashell", "friendly-one")


@given(st.binary())
def test_no_bytes_at_all_stop_the_search_for_names(raw: bytes) -> None:
    assert isinstance(names_in(raw), tuple)
