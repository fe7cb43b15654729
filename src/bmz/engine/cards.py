"""Collect what is known about the models of the zoo without running them.

This comprises their cards and, requested at most once a day, the published file sizes and reports
of other tools.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from bmz.base.computer import version
from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.notes import Notes
from bmz.base.progress import Listener, Progress, nobody
from bmz.base.values import dataclass
from bmz.engine.load import describe
from bmz.plan.recipe_choice import choose_recipe
from bmz.results.models import Card, ToolReport
from bmz.spec.facts import dims_of, task_of
from bmz.spec.made_for import MadeForInvalid, made_for
from bmz.spec.model import ModelSpec
from bmz.spec.package_files import (
    PackageInvalid,
    PackageNewer,
    PackageUnreadable,
    PathLeavesPackage,
)
from bmz.zoo.errors import Refused
from bmz.zoo.fetch import sizes_of
from bmz.zoo.index import Index, IndexEntry, load_index
from bmz.zoo.locate import STARTER, locate, starter_names
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import notes_folders

CARDS = Notes.of("cards", 5, dict[str, Card])
"""Cards by the sha256 of their manifests; the key is the version of bmz that created them."""


def all_cards(
    index: Index, settings: ZooSettings, *, listener: Listener = nobody
) -> tuple[Card, ...]:
    """Return a card for every model of the index; one that cannot be read states why.

    Only manifests that this version has not parsed before are parsed. Meanwhile, ``Progress`` of
    the stage ``descriptions`` is reported to `listener`.
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
    """Fill a card that only identifies a model with the contents of its description."""
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
    except BmzError:  # there is no recipe; bmz show reports the reason
        return None


def _card(entry: IndexEntry, cards: Mapping[str, Card]) -> Card:
    card = cards.get(entry.sha256)
    if entry.problem is not None or card is None:
        reason = entry.problem or "its manifest is missing"
        card = Card(entry.id, entry.version, entry.sha256, status="broken", reason=reason)
    return replace(card, id=entry.id, version=entry.version, aliases=entry.aliases)


def whole_index(
    settings: ZooSettings, listener: Listener = nobody, *, refresh: bool = False
) -> Index:
    """Return the models of the zoo, followed by those that come with bmz.

    Parameters
    ----------
    refresh : read the index again even if it is recent

    Raises
    ------
    IndexUnavailable
        The index cannot be read, and none is cached.
    """
    index = load_index(settings, listener=listener, refresh=refresh)
    return replace(index, entries=(*index.entries, *starters()))


def starters() -> Iterator[IndexEntry]:
    """Yield an entry for each model that comes with bmz."""
    from bmz.base.files import sha256_of

    for name in starter_names():
        manifest = locate(STARTER + name).manifest
        yield IndexEntry(STARTER + name, "", sha256_of(manifest), "", manifest=manifest)


_DAY_S, _HOUR_S = 86400.0, 3600.0
_NOT_FOUND = 404


@dataclass(frozen=True)
class Published:
    """What the zoo publishes about a package, and when to request it again.

    Parameters
    ----------
    sizes : file name -> size in bytes; None if it is unknown
    reports : one report per tool; None if they could not be obtained
    again_at : time of the next request, seconds since 1970
    """

    sizes: Mapping[str, int | None] = field(default_factory=dict)
    reports: tuple[ToolReport, ...] | None = None
    again_at: float = 0.0


PUBLISHED = Notes.of("published", 2, Published)
"""The last answers; the key is the sha256 of the manifest."""


def published(
    package: Package, sha256: str, names: Sequence[str], settings: ZooSettings
) -> Published:
    """Return what the zoo publishes about a package, usually requesting it at most once a day.

    It is requested again after an hour if a part did not arrive, and at once for the sizes of files
    that were not asked for before. Without a network connection, the last answer or an empty one is
    returned, without an error.

    Parameters
    ----------
    sha256 : sha256 of the manifest
    names : names of the files whose sizes are needed
    """
    if package.remote is None:
        return Published(reports=())
    folder = notes_folders(package.manifest, sha256, settings)[-1]
    last_answer = PUBLISHED.find([folder], sha256) or Published()
    asked = set(names) <= set(last_answer.sizes)
    if settings.offline or (asked and time.time() < last_answer.again_at):
        return last_answer
    sizes, reports = _sizes(package, names, settings), _reports(package, sha256, settings)
    complete = sizes is not None and reports is not None
    answer = Published(
        {**dict.fromkeys(names), **last_answer.sizes, **(sizes or {})},
        last_answer.reports if reports is None else reports,
        time.time() + (_DAY_S if complete else _HOUR_S),
    )
    PUBLISHED.keep(folder, sha256, answer)
    return answer


def newest_reports(tests: Mapping[str, Any]) -> tuple[ToolReport, ...]:
    """Return the report of the newest version of each tool.

    Source: ``CompatibilitySummary.tests`` of bioimage-io/collection,
    ``src/backoffice/compatibility.py``: a report for each ``<tool>_<version>``.

    Parameters
    ----------
    tests : the field ``tests`` of a ``summary.json``
    """
    newest: dict[str, ToolReport] = {}
    for key, report in tests.items():
        tool, _, version = str(key).partition("_")
        status = report.get("status") if isinstance(report, Mapping) else None
        if status not in {"passed", "failed", "not-applicable"}:
            continue
        known = newest.get(tool)
        if known is None or _age(version) > _age(known.version):
            newest[tool] = ToolReport(tool, version, status)
    return tuple(newest[tool] for tool in sorted(newest))


def _age(version: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which 1.4.2b10 < 1.4.2rc1 < 1.4.2 < 1.4.2.post1 < 1.4.10."""
    parts = re.findall(r"\d+|[a-z]+", version.lower())
    numbers = [(2, int(p), "") if p.isdigit() else (3 * (p == "post"), 0, p) for p in parts]
    return [*numbers, (1, 0, "")]


def _sizes(
    package: Package, names: Sequence[str], settings: ZooSettings
) -> Mapping[str, int | None] | None:
    try:
        return sizes_of(package, names, settings) if names else {}
    except CouldNotTell:
        return None


def _reports(package: Package, sha256: str, settings: ZooSettings) -> tuple[ToolReport, ...] | None:
    """Return the reports, empty if there is no summary; None if it cannot be obtained."""
    from bmz.zoo.http import Client

    url = reports_url(package, settings)
    if url is None:
        return ()
    try:
        with Client(settings) as client:
            document = json.loads(client.get(url, tries=1))
        # the contents of a version may change, and reports on earlier contents do not apply
        same = document.get("rdf_yaml_sha256", sha256) == sha256
        return newest_reports(document["tests"]) if same else ()
    except Refused as why:
        return () if why.status == _NOT_FOUND else None
    except (CouldNotTell, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def reports_url(package: Package, settings: ZooSettings) -> str | None:
    """Return the URL of the summary of all reports, next to the index; None if there is none."""
    remote = package.remote
    alias = re.search(r"/artifacts/([^/]+)/files/", remote.url) if remote else None
    if remote is None or alias is None or not remote.version:
        return None
    base = settings.index_url.rpartition("/")[0]
    return f"{base}/reports/bioimage-io/{alias[1]}/{remote.version}/summary.json"
