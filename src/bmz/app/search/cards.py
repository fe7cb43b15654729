"""What is known of every model of the zoo, kept in one file so that a search is quick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
