"""The index of the zoo and the manifests that it names: brought, checked, kept and read."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from bmz.base.errors import CouldNotTell
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.zoo.address import is_description, is_web_page, names_in
from bmz.zoo.catalogue import (
    JUST_NOW_S,
    Catalogue,
    Listed,
    Version,
    load_catalogue,
    note_exception,
    noted_exceptions,
)
from bmz.zoo.errors import (
    CacheFull,
    CacheUnwritable,
    DescriptionDiffers,
    NotAPackage,
    Refused,
    Unreachable,
)
from bmz.zoo.http import AT_ONCE, Client
from bmz.zoo.package import Package, Remote, silent
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import (
    BY_INDEX,
    BY_USER,
    MANIFESTS,
    Origin,
    keep_manifest,
    kept_manifest,
    note_address,
)


@dataclass(frozen=True)
class Kept:
    """A manifest in the cache, with its sha256, which may not be the one of the index."""

    manifest: Path
    sha256: str


def kept_version(
    settings: ZooSettings, version: Version, exceptions: Mapping[str, Mapping[str, str]]
) -> Kept | None:
    """Give the manifest of a version when the cache holds it.

    Parameters
    ----------
    exceptions : from ``noted_exceptions``
    """
    manifest = kept_manifest(settings, version.sha256)
    if manifest is not None:
        return Kept(manifest, version.sha256)
    allowed = exceptions.get(version.sha256, {}).get("allowed", "")
    manifest = kept_manifest(settings, allowed)
    return None if manifest is None else Kept(manifest, allowed)


def fetch_version(client: Client, model: Listed, version: Version, listener: Listener) -> Kept:
    """Fetch the manifest of a version and keep it.

    One whose sha256 is not that of the index was damaged on its way, or is another one: a login
    page, that of a mirror, or a model that was changed under its label since the index was
    written. It is asked for again, and neither kept nor believed however often it comes; only
    where the settings allow it, and two answers agree, it is kept, and `listener` is told.

    Raises
    ------
    DescriptionDiffers
        It is not the one that the index lists.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        It cannot be had, or not be kept.
    """
    url, settings = silent(version.source), client.settings
    others: list[bytes] = []
    for _ in range(_TRIES):
        raw = client.get(url)
        if _sha256(raw) == version.sha256:
            origin = Origin(model.id, version.label, version.source, vouched=BY_INDEX)
            return Kept(keep_manifest(settings, raw, _name_of(url), origin), version.sha256)
        others.append(raw)
        if raw in others[:-1]:
            break
    if not settings.allow_changed:
        raise DescriptionDiffers(
            model.id,
            version.label,
            wanted=version.sha256,
            found=_sha256(raw),
            page=is_web_page(raw),
        )
    if raw not in others[:-1]:
        raise Unreachable(url, "it comes different each time")
    return _kept_as_it_is(client, model, version, raw, listener)


_TRIES = 3
"""How often a description is asked for that is not the one of the index."""


def _kept_as_it_is(
    client: Client, model: Listed, version: Version, raw: bytes, listener: Listener
) -> Kept:
    if not is_description(raw):
        raise NotAPackage(version.source, "what lies there is no description of a model")
    origin = Origin(model.id, version.label, version.source, vouched=BY_USER)
    manifest = keep_manifest(client.settings, raw, _name_of(version.source), origin)
    found = _sha256(raw)
    note_exception(client.settings, version.sha256, allowed=found)
    told = f"{model.id} {version.label} is taken as it is: the index lists sha256"
    listener(Note(f"{told} {version.sha256}, the description is {found}"))
    return Kept(manifest, found)


def fetch_first(client: Client, urls: tuple[str, ...], model: str, version: str = "") -> Package:
    """Fetch the manifest from the first of `urls` that has one, and note its sha256.

    Raises
    ------
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        See ``fetch_version``; ``Refused`` with status 404 when none has one.
    NotAPackage
        It is no description: a web page, such as a login page, or another text.
    """
    for number, url in enumerate(urls):
        try:
            raw = client.get(silent(url))
        except Refused as why:
            if why.status != HTTPStatus.NOT_FOUND or number == len(urls) - 1:
                raise
            continue
        if not is_description(raw):
            raise NotAPackage(url, "what lies there is no description of a model")
        origin = Origin(model, version, url)
        manifest = keep_manifest(client.settings, raw, _name_of(url), origin)
        note_address(client.settings, url, _sha256(raw))
        return Package(model, manifest, Remote(url, version))
    raise NotAPackage(model, "there is no address to ask")


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _name_of(url: str) -> str:
    name = urlsplit(url).path.rsplit("/", 1)[-1]
    return name if name in MANIFESTS else MANIFESTS[0]


MANIFESTS_STAGE = "manifests"
"""Stage of the progress of a sync."""

_SURELY_NOT = frozenset({404, 410, 500})
"""Answers of a service that is sure not to have it, so that it is not asked again today."""

_GIVE_UP = 3
"""Addresses without any answer after which the network counts as away."""


@dataclass(frozen=True)
class IndexEntry:
    """One model of the zoo, in its last version.

    Parameters
    ----------
    id : its alias, such as ``affable-shark``
    version : such as ``v0``
    sha256 : of the manifest that is kept, else of the one that the index states
    created_at : ISO 8601, as the index says it
    aliases : other names: DOIs (of concept and version) and nickname
    manifest : where it lies; None when it could not be had
    problem : why not
    """

    id: str
    version: str
    sha256: str
    created_at: str
    aliases: tuple[str, ...] = ()
    manifest: Path | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Index:
    """All models of the zoo.

    Parameters
    ----------
    entries : in the order of the index
    fetched_at : seconds since 1970
    stale : it could not be read again though it is older than a day, or was asked to be
    """

    entries: tuple[IndexEntry, ...]
    fetched_at: float
    stale: bool


def load_index(
    settings: ZooSettings, *, listener: Listener = nobody, refresh: bool = False
) -> Index:
    """Give all models of the zoo, fetching index and manifests where they are not kept.

    The index is read again when it is older than a day. Tells `listener` ``Progress`` of the
    stage ``manifests``. A manifest that cannot be had never stops the others.

    Raises
    ------
    IndexUnavailable
        The index cannot be had, and none is kept.
    CacheFull, CacheUnwritable
        It cannot be kept.
    """
    with Client(settings) as client:
        return sync(client, listener, refresh=refresh)


def sync(client: Client, listener: Listener, *, refresh: bool = False) -> Index:
    """Do what ``load_index`` does with connections that are open already."""
    catalogue = load_catalogue(client, listener, refresh=refresh)
    found, differing = _found(client, catalogue, listener)
    if differing and not catalogue.stale:
        newer = load_catalogue(client, listener, max_age_s=JUST_NOW_S)
        if newer.models != catalogue.models:
            catalogue = newer
            found, _ = _found(client, catalogue, listener)
    entries = tuple(_entry(model, found[model.id]) for model in catalogue.models)
    return Index(entries, catalogue.fetched_at, catalogue.stale)


def _found(
    client: Client, catalogue: Catalogue, listener: Listener
) -> tuple[dict[str, Kept | str], bool]:
    """Give the manifest of each model or why there is none, and if one is not that of the index."""
    found: dict[str, Kept | str] = {}
    missing = []
    known = noted_exceptions(client.settings)
    for model in catalogue.models:
        version = model.versions[-1]
        kept = kept_version(client.settings, version, known)
        if kept is not None:
            found[model.id] = kept
        elif problem := known.get(version.sha256, {}).get("problem"):
            found[model.id] = problem
        else:
            missing.append(model)
    one = _One(client, listener)
    found |= dict(_fetch_all(one, missing, listener))
    return found, one.differing


def unsynced(settings: ZooSettings, catalogue: Catalogue) -> tuple[IndexEntry, ...]:
    """Give the entries of a catalogue whose manifests are kept; fetches nothing."""
    known = noted_exceptions(settings)
    pairs = ((m, kept_version(settings, m.versions[-1], known)) for m in catalogue.models)
    return tuple(_entry(model, kept) for model, kept in pairs if kept is not None)


def _fetch_all(
    one: _One, missing: list[Listed], listener: Listener
) -> Iterator[tuple[str, Kept | str]]:
    if not missing:
        return
    if one.client.settings.offline:
        yield from ((model.id, "not in the cache, and BMZ_OFFLINE is set") for model in missing)
        return
    from concurrent.futures import Future, ThreadPoolExecutor, as_completed

    failed = 0
    with ThreadPoolExecutor(AT_ONCE, "manifest") as pool:
        waiting: dict[Future[Kept | str], Listed] = {pool.submit(one, m): m for m in missing}
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                model, found = waiting[future], future.result()
                failed += isinstance(found, str)
                listener(Progress(MANIFESTS_STAGE, done, len(missing), model.id))
                yield model.id, found
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        listener(Note(f"{failed} of {len(missing)} descriptions could not be fetched"))


class _One:
    """Fetch the manifest of one model; stops asking when the network seems to be away."""

    def __init__(self, client: Client, listener: Listener) -> None:
        self.client = client
        self.differing = False
        self._listener = listener
        self._lock = threading.Lock()
        self._unanswered = 0

    def __call__(self, model: Listed) -> Kept | str:
        if self._unanswered >= _GIVE_UP:
            return "not fetched, since the service does not answer"
        version = model.versions[-1]
        try:
            return fetch_version(self.client, model, version, self._listener)
        except Refused as why:
            if why.status in _SURELY_NOT:
                note_exception(self.client.settings, version.sha256, problem=why.message)
            return why.message
        except DescriptionDiffers as why:
            self.differing = True
            return why.message
        except (CacheFull, CacheUnwritable):
            raise
        except Unreachable as why:
            with self._lock:
                self._unanswered += 1
            return why.message
        except CouldNotTell as why:
            return why.message


def _entry(model: Listed, found: Kept | str) -> IndexEntry:
    version = model.versions[-1]
    if isinstance(found, str):
        return IndexEntry(
            model.id, version.label, version.sha256, version.created_at, (), None, found
        )
    names = names_in(found.manifest.read_bytes())
    aliases = tuple(name for name in names if name != model.id)
    return IndexEntry(
        model.id, version.label, found.sha256, version.created_at, aliases, found.manifest
    )
