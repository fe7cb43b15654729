"""Models ranked by a query: its words, what is kept of each model, and those that come with bmz."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from bmz.base.computer import version
from bmz.base.errors import BmzError
from bmz.base.notes import Notes
from bmz.base.progress import Listener, Progress, nobody
from bmz.base.values import dataclass
from bmz.engine.load import describe
from bmz.plan.recipe_choice import choose_recipe
from bmz.results.models import Card
from bmz.spec.facts import dims_of, task_of
from bmz.spec.made_for import MODALITIES, MORE_EXACT, MadeForInvalid, made_for
from bmz.spec.model import ModelSpec
from bmz.spec.package_files import (
    PackageInvalid,
    PackageNewer,
    PackageUnreadable,
    PathLeavesPackage,
)
from bmz.zoo.index import Index, IndexEntry
from bmz.zoo.locate import STARTER, locate, starter_names
from bmz.zoo.settings import ZooSettings

_LEAST = 3
"""Letters of a word before its plural s."""

_SINGULAR: Mapping[str, str] = {
    "nuclei": "nucleus",
    "nuclear": "nucleus",
    "mitochondria": "mitochondrion",
    "mitochondrial": "mitochondrion",
    "bacteria": "bacterium",
    "bacterial": "bacterium",
    "leaves": "leaf",
    "boundaries": "boundary",
    "labelling": "labeling",
}

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
"""Each term of `bmz.spec.made_for` and what people call it."""


@dataclass(frozen=True)
class Wanted:
    """A word of a search, or several that mean one thing.

    Parameters
    ----------
    tokens : as `tokens` gives them
    terms : the modalities or structures that they mean; empty for other words
    """

    tokens: tuple[str, ...]
    terms: tuple[str, ...] = ()


def tokens(text: str) -> list[str]:
    """Part a text into lower-case words in the singular.

    Examples
    --------
    >>> tokens("Nuclei of 3D-cells")
    ['nucleus', 'of', '3d', 'cell']
    """
    return [_singular(word) for word in re.findall(r"[^\W_]+", text.lower())]


def _singular(word: str) -> str:
    if word in _SINGULAR:
        return _SINGULAR[word]
    ends = len(word) > _LEAST and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if ends else word


def wanted_of(words: Iterable[str]) -> list[Wanted]:
    """Find what words mean together, whatever their order; the longest phrases go first.

    Examples
    --------
    >>> wanted_of(["electron", "mouse", "microscopy"])
    [Wanted(tokens=('electron', 'microscopy'), terms=('em',)), Wanted(tokens=('mouse',), terms=())]
    """
    left, phrases = list(words), []
    for phrase, terms in _phrases().items():
        while set(phrase) <= set(left):
            for token in phrase:
                left.remove(token)
            phrases.append(Wanted(phrase, terms))
    return [*phrases, *(Wanted((token,)) for token in left)]


def meaning(word: str, terms: Iterable[str]) -> str | None:
    """Give the one of `terms` that a word names or means; None where none does.

    Examples
    --------
    >>> meaning("Electron microscopy", ["em", "phase"])
    'em'
    """
    known = tuple(terms)
    if word.strip().lower() in known:
        return word.strip().lower()
    meant = _phrases().get(tuple(sorted(tokens(word))), ())
    return next((term for term in meant if term in known), None)


@cache
def _phrases() -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Give the tokens of each phrase, in order of the alphabet, and the terms that they mean."""
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
"""How much a word counts by the place where it stands."""

_PREFIX, _PREFIX_LEAST = 0.5, 3
"""A word that only begins one of the model counts half, from three letters on."""

_TERM = 8.0
"""How much it counts that a model is made for what a word means."""

_COVERED, _ALIKE, _SECOND, _NOT_SEGMENTED = 0.7, 0.25, 0.6, 0.5
"""Shares of that: for a modality that covers the one that is meant, as light microscopy covers
phase contrast; for one of the same family; for a structure that is not the first; for one that is
shown but not segmented."""


def rank(cards: Iterable[Card], words: Iterable[str]) -> list[tuple[float, Card]]:
    """Give the models that every word fits, the most relevant first.

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
    """Add up how well each word fits what the model is made for, and its texts.

    0 as soon as one fits nowhere.

    Parameters
    ----------
    words : as `tokens` gives them; several may mean one thing, as electron microscopy does
    """
    places = {name: set(tokens(_text(card, name))) for name in _FIELDS}
    total = 0.0
    for phrase in wanted_of(words):
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
    """Say from 0 to 1 how far a model is made for one of the modalities or structures."""
    purpose = card.made_for
    segments = any(part in (card.task or "") for part in ("segmentation", "detection"))
    shares = [0.0]
    for term in terms:
        shares += [_modality_share(own, term) for own in purpose.modalities]
        if term in purpose.structures:
            first = 1.0 if purpose.structures[0] == term else _SECOND
            shares.append(first if segments else first * _NOT_SEGMENTED)
    return max(shares)


def _modality_share(own: str, wanted: str) -> float:
    if wanted not in MODALITIES:
        return 0.0
    if own == wanted or own in MORE_EXACT.get(wanted, ()):
        return 1.0
    if wanted in MORE_EXACT.get(own, ()):
        return _COVERED
    return _ALIKE if set(MODALITIES[own].families) & set(MODALITIES[wanted].families) else 0.0


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


CARDS = Notes.of("cards", 5, dict[str, Card])
"""Cards by the sha256 of the manifest; the key is the version of bmz that made them."""


def all_cards(
    index: Index, settings: ZooSettings, *, listener: Listener = nobody
) -> tuple[Card, ...]:
    """Give a card for every model of the index; one that cannot be read says why.

    Only manifests that were never seen by this version are parsed. Tells `listener` ``Progress``
    of the stage ``descriptions`` while that is done.
    """
    folders = [cache / "descriptions" for cache in (settings.cache, *settings.layers)]
    kept_cards = CARDS.find(folders, version()) or {}
    new = [e for e in index.entries if e.manifest is not None and e.sha256 not in kept_cards]
    made_cards = dict(_made(new, settings, listener))
    cards = tuple(_card(entry, kept_cards | made_cards) for entry in index.entries)
    if made_cards:
        known = {card.sha256: card for card in cards if card.sha256 in kept_cards | made_cards}
        CARDS.keep(folders[0], version(), known)
    return cards


def _made(
    entries: list[IndexEntry], settings: ZooSettings, listener: Listener
) -> Iterator[tuple[str, Card]]:
    for number, entry in enumerate(entries, start=1):
        if entry.manifest is not None:
            yield entry.sha256, _read(entry, entry.manifest, settings)
        listener(Progress("descriptions", number, len(entries), entry.id))


def _read(entry: IndexEntry, manifest: Path, settings: ZooSettings) -> Card:
    empty = Card(entry.id, entry.version, entry.sha256)
    try:
        model = describe(manifest, settings, model_id=entry.id, alias=entry.id)
    except PackageUnreadable as why:
        return replace(empty, status="broken", reason=why.why)
    except (PackageInvalid, PackageNewer) as why:
        return replace(empty, status="invalid", reason=why.why)
    except PathLeavesPackage as why:
        return replace(empty, status="invalid", reason=why.message)
    return with_model(empty, model)


def with_model(empty: Card, model: ModelSpec) -> Card:
    """Put what a description says into a card of its name."""
    try:
        purpose = made_for(model)
    except MadeForInvalid as why:
        return replace(empty, status="invalid", reason=why.message)
    return replace(
        empty,
        name=model.name,
        description=model.description,
        task=task_of(model),
        dims=dims_of(model),
        weights=tuple(weights.format for weights in model.weights),
        tags=tuple(dict.fromkeys(model.tags)),
        labels=_labels(model),
        made_for=purpose,
    )


def _labels(model: ModelSpec) -> str | None:
    try:
        return choose_recipe(model).name
    except BmzError:  # there is none, and show tells why
        return None


def _card(entry: IndexEntry, cards: Mapping[str, Card]) -> Card:
    card = cards.get(entry.sha256)
    if entry.problem is not None or card is None:
        reason = entry.problem or "its manifest is not there"
        card = Card(entry.id, entry.version, entry.sha256, status="broken", reason=reason)
    return replace(card, id=entry.id, version=entry.version, aliases=entry.aliases)


def starters() -> Iterator[IndexEntry]:
    """Yield an entry for each."""
    from bmz.base.files import sha256_of

    for name in starter_names():
        manifest = locate(STARTER + name).manifest
        yield IndexEntry(STARTER + name, "", sha256_of(manifest), "", manifest=manifest)
