from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.app.search import search
from bmz.app.search.query import (
    MEANINGS,
    FilterUnknown,
    SearchRequest,
    TermUnknown,
    fitting,
    has_modality,
    phrases_of,
    rank,
    refuse_unknown,
    relevance,
    with_terms,
)
from bmz.base.computer import version
from bmz.base.progress import Event, Progress
from bmz.engine.cards import all_cards, starters
from bmz.results.models import Card
from bmz.spec import read as read_module
from bmz.spec.facts import tokens
from bmz.spec.made_for import MODALITIES, STRUCTURES
from bmz.testing.package import SmallZoo, description, small_zoo, write_package
from bmz.zoo.index import Index, IndexEntry
from bmz.zoo.settings import ZooSettings

NUCLEI = Card("a-shark", "v0", "1", name="Nuclei in 2D", tags=("nuclei",), task="segmentation")
CELLS = Card(
    "b-shark", "v0", "2", name="Cells", description="Not for nuclei.", weights=("onnx",), dims="3d"
)
BROKEN = Card("c-shark", "v0", "3", status="broken", reason="it is not YAML")
CARDS = (CELLS, BROKEN, NUCLEI)
BUNDLED = ("starter/nuclei", "starter/nuclei-contour", "starter/nuclei-flows")


def ids(cards: Any) -> list[str]:
    return [card.id for card in cards]


def ranked(*words: str) -> list[str]:
    return ids(card for _, card in rank(CARDS, words))


def test_a_word_in_the_name_counts_more_than_one_in_the_description() -> None:
    assert ranked("nuclei") == ["a-shark", "b-shark"]


@pytest.mark.parametrize("word", ["nucleus", "Nuclei", "NUCLEI", "nuc"])
def test_number_case_and_the_end_of_a_word_do_not_matter(word: str) -> None:
    assert ranked(word)[0] == "a-shark"


def test_every_word_must_fit() -> None:
    assert ranked("nuclei", "onnx") == ["b-shark"]
    assert ranked("nuclei", "spleen") == []


def test_without_words_all_are_listed_and_the_unreadable_come_last() -> None:
    assert ranked() == ["a-shark", "b-shark", "c-shark"]


@given(st.text(), st.text())
def test_the_order_of_words_does_not_matter(one: str, other: str) -> None:
    there, back = tokens(f"{one} {other}"), tokens(f"{other} {one}")

    assert relevance(NUCLEI, there) == pytest.approx(relevance(NUCLEI, back))


@given(st.text())
def test_a_singular_is_its_own_singular(text: str) -> None:
    once = tokens(text)

    assert tokens(" ".join(once))[: len(once)] == once or any(w.endswith("s") for w in once)


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (SearchRequest(), ["b-shark", "c-shark", "a-shark"]),
        (SearchRequest(task="segmentation"), ["a-shark"]),
        (SearchRequest(task="Segment"), []),
        (SearchRequest(weights="on"), ["b-shark"]),
        (SearchRequest(dims="3d"), ["b-shark"]),
        (SearchRequest(tags=("Nucleus",)), ["a-shark"]),
        (SearchRequest(runs_here=True), ["b-shark"]),
        (SearchRequest(labels=True), []),
    ],
    ids=str,
)
def test_filters_let_through_what_fits(request_: SearchRequest, wanted: list[str]) -> None:
    assert ids(fitting(request_, CARDS, {"onnx"})) == wanted


@pytest.mark.parametrize(
    ("request_", "hint"),
    [
        (SearchRequest(task="counting"), "denoising"),
        (SearchRequest(weights="onxn"), "onnx"),
        (SearchRequest(tags=("nucleos",)), "nuclei"),
    ],
    ids=str,
)
def test_a_filter_that_fits_nothing_at_all_is_wrong_usage(
    request_: SearchRequest, hint: str
) -> None:
    with pytest.raises(FilterUnknown) as caught:
        refuse_unknown(request_, CARDS)

    assert caught.value.exit_status == 2
    assert hint in caught.value.hint


@pytest.fixture
def zoo(tmp_path: Path) -> Iterator[SmallZoo]:
    """Three models: one whole, one invalid, one that is not YAML."""
    pytest.importorskip("onnx")
    write_package(tmp_path / "zoo" / "whole-cat", description(space="zyx"))
    write_package(tmp_path / "zoo" / "invalid-dog", change=lambda content: content.pop("name"))
    broken = tmp_path / "zoo" / "broken-pig" / "rdf.yaml"
    broken.parent.mkdir()
    broken.write_text("a: b: c")
    with small_zoo(tmp_path / "zoo") as served:
        yield served


@pytest.fixture
def settings(zoo: SmallZoo, tmp_path: Path) -> ZooSettings:
    return ZooSettings(tmp_path / "cache", index_url=zoo.index_url)


@pytest.mark.usefixtures("zoo")
def test_one_broken_manifest_never_hides_the_others(settings: ZooSettings) -> None:
    view = search(SearchRequest(), settings)

    told = {found.card.id: found.card for found in view.hits}
    assert {name: card.status for name, card in told.items()} == {
        "whole-cat": "ok",
        "invalid-dog": "invalid",
        "broken-pig": "broken",
        **dict.fromkeys(BUNDLED, "ok"),
    }
    assert told["invalid-dog"].reason == "name: Field required"
    assert "not YAML" in (told["broken-pig"].reason or "")
    assert told["whole-cat"].dims == "3d"
    assert told["whole-cat"].labels == "components"


def test_the_second_search_parses_nothing(
    settings: ZooSettings, zoo: SmallZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(SearchRequest(), settings)
    asked = len(zoo.log)
    monkeypatch.delattr(read_module, "read_model")
    told: list[Event] = []

    second = search(SearchRequest(), settings, told.append)

    assert second.hits == first.hits
    assert len(zoo.log) == asked
    assert not [event for event in told if isinstance(event, Progress)]


def test_a_damaged_file_of_cards_is_made_anew(settings: ZooSettings) -> None:
    first = search(SearchRequest(), settings)
    (kept,) = (settings.cache / "descriptions").glob("cards.*.json")
    kept.write_text(kept.read_text()[:100])

    second = search(SearchRequest(), settings)

    assert second.hits == first.hits
    assert json.loads(kept.read_text())["note"]["key"] == version()


def test_a_cache_of_others_is_read_but_not_written(settings: ZooSettings, tmp_path: Path) -> None:
    filled = search(SearchRequest(), settings)
    before = sorted(settings.cache.rglob("*"))
    mine = replace(settings, cache=tmp_path / "mine", layers=(settings.cache,))

    found = search(SearchRequest(), mine)

    after = [path for path in settings.cache.rglob("*") if path.suffix != ".lock"]
    assert [one.card for one in found.hits] == [one.card for one in filled.hits]
    assert set(after) <= set(before)


def test_an_entry_without_a_manifest_says_why(tmp_path: Path) -> None:
    gone = IndexEntry("a", "v0", "0" * 64, "", problem="answered 404")

    (card,) = all_cards(Index((gone,), 0.0, stale=False), ZooSettings(tmp_path))

    assert (card.status, card.reason) == ("broken", "answered 404")


def test_a_description_that_leaves_its_package_is_invalid(tmp_path: Path) -> None:
    pytest.importorskip("onnx")

    def outside(content: dict[str, Any]) -> None:
        content["weights"]["onnx"]["source"] = "../weights.onnx"

    manifest = write_package(tmp_path / "m", change=outside)
    entry = IndexEntry("a", "v0", "0" * 64, "", manifest=manifest)

    (card,) = all_cards(Index((entry,), 0.0, stale=False), ZooSettings(tmp_path / "cache"))

    assert card.status == "invalid"
    assert "weights.onnx" in (card.reason or "")


def test_a_cache_that_cannot_be_written_hides_nothing(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    manifest = write_package(tmp_path / "m")
    entry = IndexEntry("a", "v0", "0" * 64, "", manifest=manifest)
    (tmp_path / "cache").write_text("a file in the place of the folder")

    (card,) = all_cards(Index((entry,), 0.0, stale=False), ZooSettings(tmp_path / "cache"))

    assert card.status == "ok"


@pytest.fixture(scope="module")
def live(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Card, ...]:
    """Cards of every live model of the zoo, of the examples of the specification, and of ours."""
    manifests = sorted((shared / "zoo" / "models").glob("*/rdf.yaml"))
    entries = tuple(
        IndexEntry(path.parent.name, "v0", f"{number:064}", "", manifest=path)
        for number, path in enumerate(manifests)
    )
    told: list[Event] = []
    settings = ZooSettings(tmp_path_factory.mktemp("live"))

    cards = all_cards(
        Index((*entries, *starters()), 0.0, stale=False), settings, listener=told.append
    )

    count = len(manifests) + len(BUNDLED)
    assert told[-1] == Progress("descriptions", count, count, BUNDLED[-1])
    return cards


def test_all_live_models_are_listed(live: tuple[Card, ...]) -> None:
    cards = [card for card in live if not card.id.startswith(("ex-", "starter/"))]

    status = Counter(card.status for card in cards)
    named = {card.id: card.reason or "" for card in cards if card.status != "ok"}
    assert status == {"ok": 135, "invalid": 1, "broken": 1}
    assert "axes" in named["modest-spider"]
    assert "not YAML" in named["independent-mouse"]
    assert sum(card.task is not None for card in cards) >= 130


@pytest.mark.parametrize(
    ("words", "modality", "structure", "least"),
    [
        ("mitochondria em", "em", "mitochondria", 15),
        ("Mitochondria electron microscopy", "em", "mitochondria", 15),
        ("nuclei", None, "nuclei", 15),
        ("cells", None, "cells", 6),
        ("bacteria widefield", "widefield", "bacteria", 10),
        ("membranes plant", "fluorescence", "membranes", 5),
        ("H&E", "he", None, 2),
        ("phase-contrast", "phase", None, 4),
        ("electron microscopy", "em", None, 25),
        ("bright field bacteria", "brightfield", "bacteria", 1),
        ("spots", None, "spots", 1),
        ("actin fluorescence", "fluorescence", "filaments", 3),
    ],
)
def test_models_made_for_what_words_mean_come_first(
    live: tuple[Card, ...], words: str, modality: str | None, structure: str | None, least: int
) -> None:
    first = [card for _, card in rank(live, words.split())][:least]

    assert len(first) == least
    for card in first:
        assert modality is None or has_modality(card, modality), card.id
        assert structure is None or structure in card.made_for.structures, card.id


def test_examples_of_the_specification_are_listed_last(live: tuple[Card, ...]) -> None:
    found = [card.id.startswith("ex-") for _, card in rank(live, ["nuclei"])]

    assert found == sorted(found)
    assert any(found)
    assert [card.id for _, card in rank(live, ["nuclei"])][: len(BUNDLED)] == list(BUNDLED)


def test_a_model_that_segments_comes_before_one_that_only_shows(live: tuple[Card, ...]) -> None:
    found = [card.id for _, card in rank(live, ["nuclei"])]

    assert found.index("affable-shark") < found.index("jolly-ox")


def test_what_people_call_a_kind_means_terms_that_exist() -> None:
    assert set(MEANINGS) <= set(MODALITIES) | set(STRUCTURES)
    for term, names in MEANINGS.items():
        for name in names:
            (wanted,) = phrases_of(tokens(name))
            assert term in wanted.terms, name


def kinds(request: SearchRequest, cards: tuple[Card, ...]) -> set[str]:
    return {card.id for card in fitting(with_terms(request), cards, set())}


def test_filters_by_kind_take_terms_and_what_people_call_them(live: tuple[Card, ...]) -> None:
    em = kinds(SearchRequest(modality="em"), live)

    assert kinds(SearchRequest(modality="Electron Microscopy"), live) == em
    assert {"joyful-deer", "creative-panda", "noisy-ox"} <= em
    assert "hiding-blowfish" not in em  # it takes predictions
    assert kinds(SearchRequest(modality="prediction"), live) == {
        "amiable-crocodile",
        "determined-chipmunk",
        "hiding-blowfish",
        "independent-shrimp",
    }
    assert "famous-fish" in kinds(SearchRequest(modality="phase"), live)
    assert "affable-shark" not in kinds(SearchRequest(modality="phase"), live)
    assert kinds(SearchRequest(modality="em", structure="nucleus"), live) == {
        "organized-badger",
        "noisy-ox",
        "humorous-crab",
        "greedy-whale",
    }


@pytest.mark.parametrize(
    ("request_", "option", "terms"),
    [
        (SearchRequest(modality="banana"), "modality", MODALITIES),
        (SearchRequest(modality="nuclei"), "modality", MODALITIES),
        (SearchRequest(structure="banana"), "structure", STRUCTURES),
    ],
    ids=str,
)
def test_a_kind_that_is_no_term_is_refused_with_all_terms(
    request_: SearchRequest, option: str, terms: Mapping[str, object]
) -> None:
    with pytest.raises(TermUnknown, match=f"is not a known {option}") as caught:
        with_terms(request_)

    assert caught.value.exit_status == 2
    assert caught.value.hint == f"choose one of {', '.join(terms)}"


def test_a_block_that_is_not_of_its_form_makes_a_model_invalid(tmp_path: Path) -> None:
    pytest.importorskip("onnx")

    def misspelt(content: dict[str, Any]) -> None:
        content["config"] = {"bmz": {"made_for": {"modality": ["electrons"]}}}

    manifest = write_package(tmp_path / "m", change=misspelt)
    entry = IndexEntry("a", "v0", "0" * 64, "", manifest=manifest)

    (card,) = all_cards(Index((entry,), 0.0, stale=False), ZooSettings(tmp_path / "cache"))

    assert card.status == "invalid"
    assert "modality has electrons" in (card.reason or "")
