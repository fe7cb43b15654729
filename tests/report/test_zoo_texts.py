from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bmz.base.errors import CouldNotTell, WrongUsage
from bmz.report.computer_text import (
    ahead_words,
    cache_summary,
    cache_table,
    carried_words,
    fetch_json,
    fetch_lines,
    size_words,
    verify_lines,
)
from bmz.report.zoo_text import search_json, search_summary, search_table
from bmz.results.models import Card, FetchFailure, FetchSummary, ModelFetch, SearchHit, SearchView
from bmz.zoo.cache import CachedPackage, CarriedPackages, FileState
from bmz.zoo.fetch import FetchedFile

GONE = CouldNotTell("no answer", hint="try again", code="zoo.unreachable")
ASKED = WrongUsage("no such weights", hint="it ships: onnx", code="weights.not-shipped")
DONE = ModelFetch(
    "a-cat", "/cache/a", ("onnx",), (FetchedFile("w.onnx", "downloaded", 1500, "ab"),)
)
PACKAGE = CachedPackage("a-cat", "v0", "0123456789abcdef", Path("/c"), 2, 1500, read_only=False)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (55_200_000, "55.2 MB"),
        (4_400_000_000, "4.4 GB"),
    ],
)
def test_a_size_is_told_in_the_unit_that_suits(size: int, words: str) -> None:
    assert size_words(size) == words


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"a": 1000}, "m: 1 file to download, 1.0 kB (a 1.0 kB)"),
        (
            {"a": 1000, "b": None},
            "m: 2 files to download, at least 1.0 kB (a 1.0 kB, b size unknown)",
        ),
        ({"a": None}, "m: 1 file to download, size unknown (a size unknown)"),
    ],
    ids=str,
)
def test_what_is_to_come_is_told_with_its_size(sizes: dict[str, int | None], told: str) -> None:
    assert ahead_words("m", sizes) == told


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ((DONE,), 0),
        ((DONE, FetchFailure("b", GONE)), 1),
        ((FetchFailure("b", GONE),), 3),
        ((FetchFailure("b", GONE), FetchFailure("c", ASKED)), 1),
        ((FetchFailure("c", ASKED),), 2),
    ],
    ids=["all", "some", "none", "none, for two reasons", "words"],
)
def test_the_status_tells_all_some_or_none(
    outcomes: tuple[ModelFetch | FetchFailure, ...], status: int
) -> None:
    assert FetchSummary(outcomes).exit_status == status


def test_a_file_that_was_changed_is_warned_of() -> None:
    changed = replace(DONE, files=(FetchedFile("w.onnx", "changed-allowed", 10, "ab"),))

    lines = fetch_lines(FetchSummary((changed, FetchFailure("b", GONE))))

    assert [kind for kind, _ in lines] == ["answer", "warning", "answer", "error", "hint"]
    assert "w.onnx of a-cat is not the file described" in lines[1][1]


def test_fetched_and_failed_models_stand_in_one_document() -> None:
    document = json.loads(fetch_json(FetchSummary((DONE, FetchFailure("b", GONE)))))

    assert document["schema"] == "bmz.fetch/1"
    assert [model["status"] for model in document["models"]] == ["fetched", "failed"]
    assert document["models"][1]["error"]["code"] == "zoo.unreachable"


def test_weights_are_named_in_short_and_once() -> None:
    card = Card("a", "v0", "", weights=("keras_hdf5", "keras_v3", "pytorch_state_dict"))

    (cells,) = search_table(SearchView((SearchHit(card, 0, runs_here=False),), 1, 0.0, stale=False))

    assert cells[3] == "keras, pytorch"


def test_an_old_list_says_so() -> None:
    view = SearchView((), 137, 0.0, stale=True)

    assert search_summary(view).startswith("0 of 137 models, as listed 1970-01-01 00:00 UTC (old")
    assert json.loads(search_json(view))["stale"] is True


def test_damaged_files_are_named_and_the_whole_ones_counted() -> None:
    states = (FileState("a", "x", "whole", "1", "1"), FileState("a", "y", "damaged", "1", "2"))

    lines = verify_lines(states)

    assert lines[0] == ("error", "y of a is damaged: wanted sha256 1, found 2")
    assert lines[-1] == ("answer", "1 of 2 files are intact")


def test_a_package_of_a_layer_says_where_it_lies() -> None:
    shared = replace(PACKAGE, read_only=True)

    assert cache_table([PACKAGE, shared]) == [
        ("a-cat", "v0", "0123456789ab", "2", "1.5 kB", "cache"),
        ("a-cat", "v0", "0123456789ab", "2", "1.5 kB", "layer /c"),
    ]
    assert cache_summary([PACKAGE, shared]) == "2 models, 3.0 kB"


def test_an_archive_is_told_with_what_it_holds() -> None:
    carried = CarriedPackages(Path("m.zip"), ("a-cat",), 3, 2_000_000)

    assert carried_words("exported", carried) == "exported 1 model, 3 files, 2.0 MB: m.zip"
