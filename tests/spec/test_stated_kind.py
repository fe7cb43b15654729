"""What the user says an image is."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.cli.completion import offered_kinds, offered_modalities, offered_structures
from bmz.spec.made_for import MODALITIES, STRUCTURES, StatedKind, stated_kind

KINDS = st.builds(
    StatedKind, st.sampled_from(list(MODALITIES)), st.sampled_from([None, *STRUCTURES])
)


@given(KINDS)
def test_the_words_of_a_kind_are_read_as_the_same_kind(kind: StatedKind) -> None:
    assert stated_kind(str(kind)) == kind
    assert stated_kind(f" {str(kind).upper().replace(',', ' , ')}") == kind


@pytest.mark.parametrize(
    ("words", "strange", "terms"),
    [
        ("fluo", "'fluo' is not a modality", MODALITIES),
        ("", "'' is not a modality", MODALITIES),
        ("nuclei", "'nuclei' is not a modality", MODALITIES),
        ("em,axons", "'axons' is not a structure", STRUCTURES),
        ("em,", "'' is not a structure", STRUCTURES),
        ("em,nuclei,cells", "'nuclei,cells' is not a structure", STRUCTURES),
    ],
)
def test_a_word_that_is_no_term_is_refused_with_all_terms(
    words: str, strange: str, terms: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=strange) as refused:
        stated_kind(words)

    assert str(refused.value).endswith(", ".join(terms))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("vol", ["volume-em"]),
        ("em,mem", ["em,membranes"]),
        ("em,neur", ["em,neurites", "em,neurons"]),
        ("", list(MODALITIES)),
    ],
)
def test_the_shell_offers_modalities_and_behind_a_comma_structures(
    typed: str, offered: list[str]
) -> None:
    context = click.Context(click.Command("check"))

    found = offered_kinds(context, click.Option(["--kind"]), typed)

    assert [word.value for word in found] == offered


def test_the_shell_offers_the_terms_of_a_search_with_their_plain_names() -> None:
    context = click.Context(click.Command("search"))

    ways = offered_modalities(context, click.Option(["--modality"]), "p")
    things = offered_structures(context, click.Option(["--structure"]), "mu")

    assert [(item.value, item.help) for item in ways] == [
        ("phase", "phase contrast"),
        ("photograph", "photographs"),
        ("prediction", "predictions of another network"),
    ]
    assert [(item.value, item.help) for item in things] == [("muscle-fibres", "muscle fibres")]
