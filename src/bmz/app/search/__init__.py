"""``bmz search``: the models of the zoo that fit some words and filters, the best first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches

from bmz.app.search.ranking import all_cards, meaning, rank, starters, tokens
from bmz.base.errors import WrongUsage
from bmz.base.progress import Listener, nobody
from bmz.base.values import dataclass
from bmz.predict.frameworks import usable_formats
from bmz.results.models import Card, SearchHit, SearchView
from bmz.spec.facts import TASKS
from bmz.spec.made_for import MODALITIES, MORE_EXACT, STRUCTURES
from bmz.zoo.index import load_index
from bmz.zoo.settings import ZooSettings


@dataclass(frozen=True)
class SearchRequest:
    """The words of one call of ``bmz search``.

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
    """A filter names a kind of image that is no term."""

    def __init__(self, option: str, term: str, terms: Iterable[str]) -> None:
        super().__init__(
            f"'{term}' is no {option}",
            hint=f"choose one of {', '.join(terms)}",
            code="search.filter",
        )


class FilterUnknown(WrongUsage):
    """A filter names what no model has."""

    def __init__(self, option: str, value: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(value, names, n=3, cutoff=0.4) or names
        super().__init__(
            f"no model of the zoo has {option} '{value}'",
            hint=f"there is: {', '.join(near)}",
            code="search.filter",
        )


def search(
    request: SearchRequest, settings: ZooSettings, listener: Listener = nobody
) -> SearchView:
    """Find models of the zoo, and those that come with bmz.

    Raises
    ------
    FilterUnknown
        No model at all has the task, weights or tag.
    TermUnknown
        The modality or structure is no term.
    IndexUnavailable
        The index cannot be had, and none is kept.
    """
    request = with_terms(request)
    index = load_index(settings, listener=listener, refresh=request.refresh)
    index = replace(index, entries=(*index.entries, *starters()))
    cards = all_cards(index, settings, listener=listener)
    refuse_unknown(request, cards)
    usable = {name for name, install in usable_formats().items() if not install}
    hits = rank(fitting(request, cards, usable), request.words)
    search_hits = tuple(SearchHit(card, score, _runs(card, usable)) for score, card in hits)
    return SearchView(search_hits, len(cards), index.fetched_at, index.stale)


def with_terms(request: SearchRequest) -> SearchRequest:
    """Put the terms in the place of what people call them.

    Raises
    ------
    TermUnknown
        A word is no term and means none.
    """
    return replace(
        request,
        modality=_term("modality", request.modality, MODALITIES),
        structure=_term("structure", request.structure, STRUCTURES),
    )


def _term(option: str, word: str | None, terms: Iterable[str]) -> str | None:
    if word is None:
        return None
    term = meaning(word, terms)
    if term is None:
        raise TermUnknown(option, word, terms)
    return term


def refuse_unknown(request: SearchRequest, cards: Iterable[Card]) -> None:
    """See that each filter could fit a model.

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
            not request.runs_here or _runs(card, usable),
            not request.labels or card.labels is not None,
            not request.modality or has_modality(card, request.modality),
            not request.structure or request.structure in card.made_for.structures,
        )
        if all(conditions):
            yield card


def has_modality(card: Card, wanted: str) -> bool:
    """Say whether a model is made for a modality, a kind of it, or for one that covers it."""
    return any(
        own == wanted or own in MORE_EXACT.get(wanted, ()) or wanted in MORE_EXACT.get(own, ())
        for own in card.made_for.modalities
    )


def has_task(task: str | None, wanted: str) -> bool:
    """Say whether every word of `wanted` stands in the task of a model."""
    return task is not None and set(tokens(wanted)) <= set(tokens(task))


def _runs(card: Card, usable: set[str]) -> bool:
    return bool(usable & set(card.weights))
