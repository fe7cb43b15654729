"""Models ranked by a query, and what is kept of each for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.base.notes import Notes
from bmz.base.progress import Listener, Progress, nobody
from bmz.base.version import version
from bmz.engine.load import describe
from bmz.plan.recipe_choice import choose_recipe
from bmz.results.search import Card
from bmz.spec.errors import PackageInvalid, PackageNewer, PackageUnreadable, PathLeavesPackage
from bmz.spec.facts import dims_of, task_of
from bmz.spec.model import ModelSpec
from bmz.zoo.index import Index, IndexEntry
from bmz.zoo.settings import ZooSettings

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


CARDS = Notes.of("cards", 4, dict[str, Card])
"""Cards by the sha256 of the manifest; the key is the version of bmz that made them."""


def all_cards(
    index: Index, settings: ZooSettings, *, listener: Listener = nobody
) -> tuple[Card, ...]:
    """Give a card for every model of the index; one that cannot be read says why.

    Only manifests that were never seen by this version are parsed. Tells `listener` ``Progress``
    of the stage ``descriptions`` while that is done.
    """
    folders = [cache / "descriptions" for cache in (settings.cache, *settings.layers)]
    kept = CARDS.find(folders, version()) or {}
    new = [e for e in index.entries if e.manifest is not None and e.sha256 not in kept]
    made = dict(_made(new, settings, listener))
    cards = tuple(_card(entry, kept | made) for entry in index.entries)
    if made:
        known = {card.sha256: card for card in cards if card.sha256 in kept | made}
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
    return replace(
        empty,
        name=model.name,
        description=model.description,
        task=task_of(model),
        dims=dims_of(model),
        weights=tuple(weights.format for weights in model.weights),
        tags=tuple(dict.fromkeys(model.tags)),
        labels=_labels(model),
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
