"""How relevant a model is to words: by where they stand, in which number and how whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bmz.app.search.query import rank, relevance
from bmz.results.models import Card
from bmz.spec.facts import tokens
from bmz.spec.made_for import MadeFor

EMPTY = Card("z", "v0", "0")


@pytest.mark.parametrize(
    ("card", "score"),
    [
        (replace(EMPTY, id="spleen-cat"), 6),
        (replace(EMPTY, aliases=("10.5281/spleen",)), 6),
        (replace(EMPTY, name="The Spleen"), 5),
        (replace(EMPTY, tags=("organ", "spleen")), 4),
        (replace(EMPTY, task="spleen-segmentation"), 4),
        (replace(EMPTY, weights=("spleen",)), 3),
        (replace(EMPTY, dims="spleen"), 3),
        (replace(EMPTY, labels="spleen"), 3),
        (replace(EMPTY, description="Not for spleen."), 1),
        (replace(EMPTY, description="spleen, spleen and spleen"), 1),
        (replace(EMPTY, name="spleen", description="spleen"), 6),
        (replace(EMPTY, version="spleen", sha256="spleen", reason="spleen"), 0),
    ],
    ids=str,
)
def test_a_word_counts_by_where_it_stands_once_a_place(card: Card, score: float) -> None:
    assert relevance(card, ["spleen"]) == score


@pytest.mark.parametrize(
    ("word", "score"), [("nu", 0), ("nuc", 2.5), ("nucleu", 2.5), ("nucleus", 5), ("cleus", 0)]
)
def test_the_beginning_of_a_word_counts_half_from_three_letters_on(word: str, score: float) -> None:
    assert relevance(replace(EMPTY, name="Nuclei"), [word]) == score


def test_words_add_up_and_one_that_fits_nowhere_takes_all() -> None:
    card = replace(EMPTY, name="Nuclei", tags=("mouse",))

    assert relevance(card, ["nucleus", "mouse"]) == 9
    assert relevance(card, ["nucleus", "mouse", "rat"]) == 0
    assert relevance(card, []) == 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cells gas dogs", ["cell", "gas", "dog"]),
        ("class focus axis", ["class", "focus", "axis"]),
        ("Mitochondria, BACTERIA; nuclear", ["mitochondrion", "bacterium", "nucleus"]),
        ("keras_hdf5 2d-nuclei", ["kera", "hdf5", "2d", "nucleus"]),
        ("Zellkörper µm", ["zellkörper", "µm"]),
        (" ,;-_ ", []),
    ],
)
def test_a_text_is_parted_at_what_is_no_letter_or_digit_and_put_into_the_singular(
    text: str, wanted: list[str]
) -> None:
    assert tokens(text) == wanted


def test_a_word_of_the_description_alone_finds_a_model_and_no_word_of_it_does_not() -> None:
    told, silent = replace(EMPTY, id="told", description="A spleen."), replace(EMPTY, id="silent")

    assert rank([silent, told], ["spleen"]) == [(1, told)]
    assert rank([told, silent], []) == [(0, silent), (0, told)]


def test_equal_relevance_is_ordered_by_what_can_be_read_and_then_by_name() -> None:
    broken = Card("a-cell", "v0", "1", status="broken")
    fine = [Card(name, "v0", name) for name in ("c-cell", "b-cell")]
    better = Card("d-cell", "v0", "3", name="Cells")

    found = rank([broken, *fine, better], ["cells"])

    assert [(score, card.id) for score, card in found] == [
        (11, "d-cell"),
        (6, "b-cell"),
        (6, "c-cell"),
        (6, "a-cell"),
    ]


@pytest.mark.parametrize(
    ("made", "task", "words", "score"),
    [
        (MadeFor(("em",)), None, ["em"], 8),
        (MadeFor(("tem",)), None, ["electron", "microscopy"], 8),
        (MadeFor(("em",)), None, ["tem"], 8 * 0.7),
        (MadeFor(("light",)), None, ["phase", "contrast"], 8 * 0.7),
        (MadeFor(("brightfield",)), None, ["phase"], 8 * 0.25),
        (MadeFor(("em",)), None, ["phase"], 0),
        (MadeFor((), ("mitochondria",)), "instance-segmentation", ["mitochondrion"], 8),
        (MadeFor((), ("cells", "mitochondria")), "segmentation", ["mitochondrion"], 8 * 0.6),
        (MadeFor((), ("mitochondria",)), "denoising", ["mitochondrion"], 8 * 0.5),
        (MadeFor(("em",), ("neurites",)), "segmentation", ["neuron", "em"], 16),
        (MadeFor(("em",), ("neurites",)), "segmentation", ["neuron", "phase"], 0),
    ],
    ids=str,
)
def test_a_word_counts_by_what_the_model_is_made_for(
    made: MadeFor, task: str | None, words: list[str], score: float
) -> None:
    plain = replace(EMPTY, made_for=made)

    assert relevance(replace(plain, task=task), words) == pytest.approx(score)
