"""What is told of the cache, of downloads and of trust: counts, sizes, hashes, statuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.base.errors import CouldNotTell
from bmz.report.computer_text import (
    cache_json,
    cache_summary,
    cache_table,
    carried_json,
    carried_words,
    fetch_json,
    fetch_lines,
    removed_json,
    removed_words,
    size_words,
    verify_json,
    verify_lines,
)
from bmz.report.model_text import added_words, code_words, trust_json, trust_table
from bmz.report.model_text import removed_words as distrusted_words
from bmz.results.models import FetchFailure, FetchSummary, ModelFetch
from bmz.spec.package_files import CodeFile, ModelCode
from bmz.zoo.cache import CachedPackage, CarriedPackages, FileState, RemovedPackages
from bmz.zoo.fetch import FetchedFile
from bmz.zoo.settings import TrustedCode

CAT = CachedPackage("a-cat", "v0", "0123456789abcdef", Path("/c/a"), 2, 1500, read_only=False)
WEIGHTS = FetchedFile("w.onnx", "downloaded", 1500, "ab")
CODE = TrustedCode("ef" * 32, "a-cat", "pytorch_state_dict", "Net of net.py", "2026-01-02T03:04:05")
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (999_949_999, "999.9 MB"),
        (999_950_001, "1.0 GB"),
        (1_234_500_000_000, "1234.5 GB"),
        (None, "size unknown"),
    ],
)
def test_a_size_is_rounded_into_the_next_unit(size: int | None, words: str) -> None:
    assert size_words(size) == words


@given(size=st.integers(0, 10**12))
def test_a_size_is_told_to_a_tenth_of_its_unit_and_never_as_thousands_of_a_smaller_one(
    size: int,
) -> None:
    number, unit = size_words(size).split()

    assert abs(float(number) * UNITS[unit] - size) <= 0.051 * UNITS[unit]
    assert float(number) < 1000 or unit == "GB"
    assert float(number) >= 1 or size == 0


@pytest.mark.parametrize(
    ("packages", "words"),
    [((), "0 models, 0 B"), ((CAT,), "1 model, 1.5 kB"), ((CAT, CAT), "2 models, 3.0 kB")],
)
def test_the_models_of_the_cache_are_counted(
    packages: tuple[CachedPackage, ...], words: str
) -> None:
    assert cache_summary(packages) == words


def test_an_empty_cache_has_no_line_and_a_document_all_the_same() -> None:
    assert cache_table(()) == []
    assert json.loads(cache_json(())) == {"schema": "bmz.cache/1", "packages": []}


def test_the_document_tells_the_whole_hash_and_the_folder() -> None:
    (package,) = json.loads(cache_json([CAT]))["packages"]

    assert package == {
        "id": "a-cat",
        "version": "v0",
        "sha256": "0123456789abcdef",
        "folder": "/c/a",
        "files": 2,
        "bytes": 1500,
        "read_only": False,
        "note_damaged": False,
    }


def test_whole_files_are_counted_and_nothing_is_to_be_done() -> None:
    states = (FileState("a", "x", "whole", "1", "1"), FileState("a", "y", "unknown", None, "2"))

    assert verify_lines(states) == [
        ("answer", "1 of 2 files are intact; 1 without a stated sha256")
    ]
    assert json.loads(verify_json(states))["files"][1] == {
        "package": "a", "name": "y", "status": "unknown", "wanted": None, "found": "2",
        "why": "",
    }  # fmt: skip


def test_the_next_step_is_told_once_for_all_damaged_files() -> None:
    states = (FileState("a", "x", "damaged", "1", "2"), FileState("a", "y", "damaged", "3", "4"))

    lines = verify_lines(states)

    assert [kind for kind, _ in lines] == ["error", "error", "hint", "answer"]
    assert lines[2][1] == "bmz fetch downloads it again; bmz cache remove removes it"
    assert lines[3][1] == "0 of 2 files are intact"


def test_what_was_removed_is_told_by_name_and_size() -> None:
    removed = RemovedPackages((CAT, replace(CAT, id="b-dog")), 3_000_000)

    assert removed_words(removed) == "removed 2 models (a-cat, b-dog), 3.0 MB"
    assert removed_words(RemovedPackages((CAT,), 900)) == "removed 1 model (a-cat), 900 B"
    document = json.loads(removed_json(removed))
    assert (document["schema"], document["bytes"]) == ("bmz.cache-remove/1", 3_000_000)
    assert [one["id"] for one in document["packages"]] == ["a-cat", "b-dog"]


def test_an_archive_of_one_file_holds_one_file() -> None:
    carried = CarriedPackages(Path("m.zip"), ("ab", "cd"), 1, 20)

    assert carried_words("imported", carried) == "imported 2 models, 1 file, 20 B: m.zip"
    assert json.loads(carried_json(carried)) == {
        "schema": "bmz.cache-archive/1",
        "archive": "m.zip",
        "packages": ["ab", "cd"],
        "files": 1,
        "bytes": 20,
    }


@pytest.mark.parametrize(
    ("weights", "files", "words"),
    [
        (("onnx",), (WEIGHTS,), "a-cat: onnx, 1 file, 1.5 kB downloaded"),
        (("onnx",), (replace(WEIGHTS, action="cached"),), "a-cat: onnx, 1 file, nothing new"),
        (
            ("onnx", "torchscript"),
            (WEIGHTS, replace(WEIGHTS, action="cached"), WEIGHTS),
            "a-cat: onnx, torchscript, 3 files, 3.0 kB downloaded",
        ),
        ((), (), "a-cat: no weights, 0 files, nothing new"),
    ],
    ids=["new", "there already", "some of each", "no weights"],
)
def test_a_fetched_model_is_told_with_what_was_downloaded(
    weights: tuple[str, ...], files: tuple[FetchedFile, ...], words: str
) -> None:
    done = ModelFetch("a-cat", "/c/a", weights, files)

    assert fetch_lines(FetchSummary((done,))) == [("answer", words), ("answer", "  /c/a")]


def test_the_document_of_a_download_tells_each_file_and_each_failure() -> None:
    gone = FetchFailure("b", CouldNotTell("no answer", hint="try again", code="zoo.unreachable"))

    document = json.loads(fetch_json(FetchSummary((ModelFetch("a", "/c", (), (WEIGHTS,)), gone))))

    assert document["models"] == [
        {
            "status": "fetched",
            "model": "a",
            "folder": "/c",
            "weights": [],
            "files": [{"name": "w.onnx", "action": "downloaded", "bytes": 1500, "sha256": "ab"}],
            "error": None,
        },
        {
            "model": "b",
            "status": "failed",
            "error": {"code": "zoo.unreachable", "message": "no answer", "hint": "try again"},
        },
    ]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (CodeFile("net.py", "", None, None), "net.py"),
        (CodeFile("net.py", "", 0, ()), "net.py, 0 B"),
        (CodeFile("net.py", "ab" * 32, None, ("os",)), "net.py, sha256 abababababab, imports os"),
        (
            CodeFile("net.py", "", None, tuple("abcdefgh")),
            "net.py, imports a, b, c, d, e, f, g, h",
        ),
        (
            CodeFile("net.py", "", None, tuple("abcdefghi")),
            "net.py, imports a, b, c, d, e, f, g, h and 1 more",
        ),
    ],
    ids=["name alone", "empty", "no size", "eight", "nine"],
)
def test_a_file_of_code_is_told_as_far_as_it_is_known(file: CodeFile, words: str) -> None:
    code = ModelCode("pytorch_state_dict", "Net builds it", (file,), "cd" * 32)

    assert code_words(code) == f"Net builds it ({words})"


def test_code_without_files_is_told_by_what_it_is() -> None:
    assert code_words(ModelCode("keras_v3", "a Lambda layer", (), "cd")) == "a Lambda layer"


def test_trust_is_told_with_twelve_letters_of_the_hash_and_kept_with_all() -> None:
    assert trust_table([CODE]) == [
        ("a-cat", "pytorch_state_dict", "efefefefefef", "2026-01-02T03:04:05", "Net of net.py")
    ]
    assert json.loads(trust_json([CODE]))["trusted"][0]["sha256"] == "ef" * 32


def test_what_is_trusted_or_no_longer_is_a_sentence_each() -> None:
    where = "[pytorch_state_dict, sha256 efefefefefef]"

    assert added_words([CODE]) == [
        f"a-cat may run its code from now on, confined: Net of net.py {where}"
    ]
    assert distrusted_words([CODE]) == [f"a-cat may no longer run its code {where}"]
    assert added_words(()) == distrusted_words(()) == []
