"""Words and filters of a search, and the models that match them, the best first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache

from bmz.base.errors import WrongUsage
from bmz.base.values import dataclass
from bmz.results.models import Card
from bmz.spec.facts import TASKS, has_task, tokens
from bmz.spec.made_for import MODALITIES, MORE_EXACT, STRUCTURES

MEANINGS: Mapping[str, tuple[str, ...]] = {
    "fluorescence": ("fluorescence", "fluorescent", "immunofluorescence"),
    "widefield": ("widefield", "wide field"),
    "confocal": ("confocal",),
    "light-sheet": ("light sheet", "lightsheet", "SPIM"),
    "light-field": ("light field", "lightfield"),
    "phase": ("phase", "phase contrast"),
    "dic": ("DIC", "differential interference contrast", "Nomarski"),
    "brightfield": ("brightfield", "bright field"),
    "transmitted": ("transmitted light", "transmission light"),
    "light": ("light microscopy", "LM"),
    "he": ("H&E", "HE", "HnE", "hematoxylin", "haematoxylin", "histology", "histopathology"),
    "ihc": ("IHC", "immunohistochemistry", "DAB"),
    "em": ("EM", "electron microscopy", "electron"),
    "tem": ("TEM", "transmission electron microscopy"),
    "sem": ("SEM", "scanning electron microscopy"),
    "volume-em": ("volume EM", "volume electron microscopy", "FIB-SEM", "SBF-SEM"),
    "shg": ("SHG", "second harmonic"),
    "gel": ("gel", "electrophoresis"),
    "photograph": ("photograph", "photo"),
    "nuclei": ("nucleus", "DAPI", "Hoechst"),
    "cells": ("cell", "cytoplasm"),
    "membranes": ("membrane", "cell membrane", "boundary", "cell boundary"),
    "bacteria": ("bacterium", "E. coli"),
    "yeast": ("yeast",),
    "mitochondria": ("mitochondrion",),
    "neurites": ("neurite", "axon", "dendrite", "neuron"),
    "neurons": ("neuron",),
    "vesicles": ("vesicle", "exosome"),
    "spots": ("spot", "puncta", "foci", "smFISH"),
    "filaments": ("filament", "actin", "microtubule", "tubulin"),
    "tissue": ("tissue", "histology"),
    "oocytes": ("oocyte",),
    "myotubes": ("myotube",),
    "muscle-fibres": ("muscle fibre", "muscle fiber", "myofiber"),
    "embryos": ("embryo",),
    "leaves": ("leaf",),
    "gel-bands": ("gel band",),
}
"""Terms of `bmz.spec.made_for`, and the common names of each."""


@dataclass(frozen=True)
class Phrase:
    """A word of a search, or several words with one meaning.

    Parameters
    ----------
    tokens : as `tokens` gives them
    terms : the modalities or structures that they mean; empty for other words
    """

    tokens: tuple[str, ...]
    terms: tuple[str, ...] = ()


def phrases_of(words: Iterable[str]) -> list[Phrase]:
    """Group words into phrases, in any order of the words; the longest phrases come first.

    Examples
    --------
    >>> phrases_of(["electron", "mouse", "microscopy"])
    [Phrase(tokens=('electron', 'microscopy'), terms=('em',)), Phrase(tokens=('mouse',), terms=())]
    """
    left, phrases = list(words), []
    for phrase, terms in _phrases().items():
        while set(phrase) <= set(left):
            for token in phrase:
                left.remove(token)
            phrases.append(Phrase(phrase, terms))
    return [*phrases, *(Phrase((token,)) for token in left)]


def meaning(name: str, terms: Iterable[str]) -> str | None:
    """Return the term that a word names or means; None if there is none among `terms`.

    Examples
    --------
    >>> meaning("Electron microscopy", ["em", "phase"])
    'em'
    """
    known = tuple(terms)
    if name.strip().lower() in known:
        return name.strip().lower()
    meant = _phrases().get(tuple(sorted(tokens(name))), ())
    return next((term for term in meant if term in known), None)


@cache
def _phrases() -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Return the terms that each phrase means, by its tokens in alphabetical order."""
    phrases: dict[tuple[str, ...], tuple[str, ...]] = {}
    for term, names in MEANINGS.items():
        for name in names:
            phrase = tuple(sorted(tokens(name)))
            phrases[phrase] = (*phrases.get(phrase, ()), term)
    return dict(sorted(phrases.items(), key=lambda entry: (-len(entry[0]), entry[0])))


_FIELDS: Mapping[str, float] = {
    "id": 6.0,
    "name": 5.0,
    "tags": 4.0,
    "task": 4.0,
    "weights": 3.0,
    "dims": 3.0,
    "labels": 3.0,
    "description": 1.0,
}
"""Weight of a word by the field in which it is found."""

_PREFIX, _PREFIX_LEAST = 0.5, 3
"""Weight of a word that is only the beginning of a word of the model, and its least length."""

_TERM = 8.0
"""Weight of a model that is made for the meaning of a word."""

_COVERED, _ALIKE, _SECOND, _NOT_SEGMENTED = 0.7, 0.25, 0.6, 0.5
"""Shares of this weight: for a modality that includes the one meant, as light microscopy includes
phase contrast; for one of the same family; for a structure that is not the first one; for one that
is shown but not segmented."""


def rank(cards: Iterable[Card], words: Iterable[str]) -> list[tuple[float, Card]]:
    """Return the models that match every word, the most relevant first.

    Examples of the specification come behind all others.

    Parameters
    ----------
    cards : the models; all of them are given back, in order of their names, when there are no
        words
    words : as the user wrote them; one such as ``2d-nuclei`` counts as two

    Examples
    --------
    >>> card = Card("affable-shark", "v0", "", name="Nucleus segmentation")
    >>> [(score, card.id) for score, card in rank([card], ["nuclei"])]
    [(5.0, 'affable-shark')]
    """
    search_tokens = [token for word in words for token in tokens(word)]
    scored = [(relevance(card, search_tokens), card) for card in cards]
    hits = [(score, card) for score, card in scored if score > 0 or not search_tokens]
    return sorted(hits, key=_place)


_EXAMPLE = "ex-"
"""How the names of the zoo begin under which the specification tests itself."""


def _place(hit: tuple[float, Card]) -> tuple[bool, float, bool, str]:
    score, card = hit
    return card.id.startswith(_EXAMPLE), -score, card.status != "ok", card.id


def relevance(card: Card, words: Iterable[str]) -> float:
    """Sum up how well each word matches the purpose and the texts of a model.

    0 as soon as one fits nowhere.

    Parameters
    ----------
    words : as `tokens` gives them; several may mean one thing, as electron microscopy does
    """
    places = {name: set(tokens(_text(card, name))) for name in _FIELDS}
    total = 0.0
    for phrase in phrases_of(words):
        texts = [
            sum(_FIELDS[name] * _fit(token, there) for name, there in places.items())
            for token in phrase.tokens
        ]
        text = sum(texts) / len(texts) if all(texts) else 0.0
        score = text + _TERM * made_for_share(card, phrase.terms)
        if not score:
            return 0.0
        total += score
    return total


def made_for_share(card: Card, terms: Iterable[str]) -> float:
    """Return from 0 to 1 how well a model is made for one of the modalities or structures."""
    purpose = card.made_for
    segments = any(part in (card.task or "") for part in ("segmentation", "detection"))
    shares = [0.0]
    for term in terms:
        shares += [_modality_share(own, term) for own in purpose.modalities]
        if term in purpose.structures:
            first = 1.0 if purpose.structures[0] == term else _SECOND
            shares.append(first if segments else first * _NOT_SEGMENTED)
    return max(shares)


def _modality_share(own: str, term: str) -> float:
    if term not in MODALITIES:
        return 0.0
    if own == term or own in MORE_EXACT.get(term, ()):
        return 1.0
    if term in MORE_EXACT.get(own, ()):
        return _COVERED
    return _ALIKE if set(MODALITIES[own].families) & set(MODALITIES[term].families) else 0.0


def _text(card: Card, name: str) -> str:
    if name == "id":
        return " ".join((card.id, *card.aliases))
    value = getattr(card, name)
    return " ".join(value) if isinstance(value, tuple) else value or ""


def _fit(token: str, there: set[str]) -> float:
    if token in there:
        return 1.0
    begins = len(token) >= _PREFIX_LEAST and any(word.startswith(token) for word in there)
    return _PREFIX if begins else 0.0


@dataclass(frozen=True)
class SearchRequest:
    """The options of one call of ``bmz search``.

    Parameters
    ----------
    words : each must stand somewhere in the model, or mean what it is made for
    task : or words of it, such as ``segmentation``
    weights : a weights format, or the beginning of its name
    dims : ``2d`` or ``3d``
    tags : each must be one of the model's
    runs_here : a framework for its weights must be installed
    labels : a label recipe must be known
    modality : a term of ``MODALITIES``, or what people call it
    structure : a term of ``STRUCTURES``, or what people call it
    refresh : read the index again even when it is young
    """

    words: tuple[str, ...] = ()
    task: str | None = None
    weights: str | None = None
    dims: str | None = None
    tags: tuple[str, ...] = ()
    runs_here: bool = False
    labels: bool = False
    refresh: bool = False
    modality: str | None = None
    structure: str | None = None


class TermUnknown(WrongUsage):
    """A filter names a kind of image that is not a term."""

    def __init__(self, option: str, term: str, terms: Iterable[str]) -> None:
        super().__init__(
            f"'{term}' is not a known {option}",
            hint=f"choose one of {', '.join(terms)}",
            code="search.filter",
        )


class FilterUnknown(WrongUsage):
    """A filter names a value that no model has."""

    def __init__(self, option: str, value: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(value, names, n=3, cutoff=0.4) or names
        super().__init__(
            f"no model of the zoo has {option} '{value}'",
            hint=f"available: {', '.join(near)}",
            code="search.filter",
        )


def with_terms(request: SearchRequest) -> SearchRequest:
    """Replace common names by the terms that they mean.

    Raises
    ------
    TermUnknown
        A word is not a term and means none.
    """
    return replace(
        request,
        modality=_term("modality", request.modality, MODALITIES),
        structure=_term("structure", request.structure, STRUCTURES),
    )


def _term(option: str, name: str | None, terms: Iterable[str]) -> str | None:
    if name is None:
        return None
    term = meaning(name, terms)
    if term is None:
        raise TermUnknown(option, name, terms)
    return term


def refuse_unknown(request: SearchRequest, cards: Iterable[Card]) -> None:
    """Check that each filter can match a model.

    Raises
    ------
    FilterUnknown
        It could not.
    """
    known = tuple(cards)
    if request.task and not any(has_task(task, request.task) for task in TASKS):
        raise FilterUnknown("task", request.task, TASKS)
    formats = {name for card in known for name in card.weights}
    if request.weights and not any(name.startswith(request.weights) for name in formats):
        raise FilterUnknown("weights", request.weights, formats)
    tags = {tag for card in known for tag in card.tags}
    for tag in request.tags:
        if not any(tokens(tag) == tokens(one) for one in tags):
            raise FilterUnknown("tag", tag, tags)


def fitting(request: SearchRequest, cards: Iterable[Card], usable: set[str]) -> Iterator[Card]:
    """Yield the models that pass every filter."""
    for card in cards:
        conditions = (
            not request.task or has_task(card.task, request.task),
            not request.weights or any(w.startswith(request.weights) for w in card.weights),
            not request.dims or card.dims == request.dims,
            all(any(tokens(tag) == tokens(one) for one in card.tags) for tag in request.tags),
            not request.runs_here or runs_here(card, usable),
            not request.labels or card.labels is not None,
            not request.modality or has_modality(card, request.modality),
            not request.structure or request.structure in card.made_for.structures,
        )
        if all(conditions):
            yield card


def has_modality(card: Card, modality: str) -> bool:
    """Return whether a model is made for a modality, a kind of it, or one that includes it."""
    return any(
        own == modality
        or own in MORE_EXACT.get(modality, ())
        or modality in MORE_EXACT.get(own, ())
        for own in card.made_for.modalities
    )


def runs_here(card: Card, usable: set[str]) -> bool:
    """Return whether a framework for one of the weights of a model is installed.

    Parameters
    ----------
    usable : formats for which there is one
    """
    return bool(usable & set(card.weights))
