"""Which models fit the words of a search, and how well."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bmz.results.search import Card

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

_SINGULAR: Mapping[str, str] = {
    "nuclei": "nucleus",
    "nuclear": "nucleus",
    "mitochondria": "mitochondrion",
    "bacteria": "bacterium",
    "labelling": "labeling",
}


def rank(cards: Iterable[Card], words: Iterable[str]) -> list[tuple[float, Card]]:
    """Give the models in which every word stands, the most relevant first.

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
    wanted = [token for word in words for token in tokens(word)]
    scored = [(relevance(card, wanted), card) for card in cards]
    hits = [(score, card) for score, card in scored if score > 0 or not wanted]
    return sorted(hits, key=lambda hit: (-hit[0], hit[1].status != "ok", hit[1].id))


def relevance(card: Card, wanted: Iterable[str]) -> float:
    """Add up how well each token fits; 0 as soon as one fits nowhere."""
    places = {name: set(tokens(_text(card, name))) for name in _FIELDS}
    total = 0.0
    for token in wanted:
        score = sum(_FIELDS[name] * _fit(token, there) for name, there in places.items())
        if not score:
            return 0.0
        total += score
    return total


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
    ends = (
        len(word) > _PREFIX_LEAST and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    )
    return word[:-1] if ends else word


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
