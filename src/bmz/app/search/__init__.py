"""``bmz search``: the models of the zoo that fit some words and filters, the best first."""

from __future__ import annotations

from bmz.app.search.query import (
    SearchRequest,
    fitting,
    rank,
    refuse_unknown,
    runs_here,
    with_terms,
)
from bmz.base.progress import Listener, nobody
from bmz.engine.cards import all_cards, whole_index
from bmz.predict.frameworks import usable_formats
from bmz.results.models import SearchHit, SearchView
from bmz.zoo.settings import ZooSettings


def search(
    request: SearchRequest, settings: ZooSettings, listener: Listener = nobody
) -> SearchView:
    """Find models of the zoo, and those that come with bmz.

    Raises
    ------
    FilterUnknown
        No model at all has the task, weights or tag.
    TermUnknown
        The modality or structure is not a term.
    IndexUnavailable
        The index cannot be read, and none is cached.
    """
    request = with_terms(request)
    index = whole_index(settings, listener, refresh=request.refresh)
    cards = all_cards(index, settings, listener=listener)
    refuse_unknown(request, cards)
    usable = {name for name, install in usable_formats().items() if not install}
    hits = rank(fitting(request, cards, usable), request.words)
    search_hits = tuple(SearchHit(card, score, runs_here(card, usable)) for score, card in hits)
    return SearchView(search_hits, len(cards), index.fetched_at, index.stale)
