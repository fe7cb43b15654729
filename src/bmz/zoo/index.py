"""The index of the zoo and the manifests that it lists: fetch, verify, cache and read them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from bmz.base.errors import CouldNotTell
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.base.values import dataclass
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
    """Return the manifest of a version if the cache holds it.

    Parameters
    ----------
    exceptions : result of ``noted_exceptions``
    """
    manifest = kept_manifest(settings, version.sha256)
    if manifest is not None:
        return Kept(manifest, version.sha256)
    allowed = exceptions.get(version.sha256, {}).get("allowed", "")
    manifest = kept_manifest(settings, allowed)
    return None if manifest is None else Kept(manifest, allowed)


def fetch_version(client: Client, model: Listed, version: Version, listener: Listener) -> Kept:
    """Fetch the manifest of a version and cache it.

    A manifest whose sha256 differs from that of the index was damaged in transfer, or is another
    document: a login page, the manifest of a mirror, or one that has changed since the index was
    written. It is requested again, but never cached, unless the settings allow it and two answers
    agree; `listener` is then notified.

    Raises
    ------
    DescriptionDiffers
        The manifest is not the one that the index lists.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        It cannot be downloaded, or cannot be cached.
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
            expected=version.sha256,
            actual=_sha256(raw),
            page=is_web_page(raw),
        )
    if raw not in others[:-1]:
        raise Unreachable(url, "its content differs each time")
    return _kept_as_it_is(client, model, version, raw, listener)


_TRIES = 3
"""How many times a description is requested that differs from the index."""


def _kept_as_it_is(
    client: Client, model: Listed, version: Version, raw: bytes, listener: Listener
) -> Kept:
    if not is_description(raw):
        raise NotAPackage(version.source, "it is not a description of a model")
    origin = Origin(model.id, version.label, version.source, vouched=BY_USER)
    manifest = keep_manifest(client.settings, raw, _name_of(version.source), origin)
    sha256 = _sha256(raw)
    note_exception(client.settings, version.sha256, allowed=sha256)
    change = f"accepting {model.id} {version.label} as it is: the index lists sha256"
    listener(Note(f"{change} {version.sha256}, the description is {sha256}"))
    return Kept(manifest, sha256)


def fetch_first(client: Client, urls: tuple[str, ...], model: str, version: str = "") -> Package:
    """Fetch the manifest from the first of `urls` that has one, and note its sha256.

    Raises
    ------
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        See ``fetch_version``; ``Refused`` with status 404 if none has one.
    NotAPackage
        It is not a description: a web page, such as a login page, or another text.
    """
    for number, url in enumerate(urls):
        try:
            raw = client.get(silent(url))
        except Refused as why:
            if why.status != HTTPStatus.NOT_FOUND or number == len(urls) - 1:
                raise
            continue
        if not is_description(raw):
            raise NotAPackage(url, "it is not a description of a model")
        origin = Origin(model, version, url)
        manifest = keep_manifest(client.settings, raw, _name_of(url), origin)
        note_address(client.settings, url, _sha256(raw))
        return Package(model, manifest, Remote(url, version))
    raise NotAPackage(model, "it has no address")


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _name_of(url: str) -> str:
    name = urlsplit(url).path.rsplit("/", 1)[-1]
    return name if name in MANIFESTS else MANIFESTS[0]


MANIFESTS_STAGE = "manifests"
"""Stage of the progress while manifests are fetched."""

_SURELY_NOT = frozenset({404, 410, 500})
"""Answers that a manifest does not exist, so that it is not requested again until a new index."""

_GIVE_UP = 3
"""Number of addresses without an answer after which the network counts as down."""


@dataclass(frozen=True)
class IndexEntry:
    """One model of the zoo in its newest version.

    Parameters
    ----------
    id : its alias, such as ``affable-shark``
    version : such as ``v0``
    sha256 : sha256 of the cached manifest, else the one that the index states
    created_at : ISO 8601, as in the index
    aliases : other names: DOIs (of concept and version) and nickname
    manifest : path of the manifest; None if it could not be fetched
    problem : the reason why it could not be fetched
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
    stale : whether a refresh, requested or due after a day, failed, so that the index is old
    """

    entries: tuple[IndexEntry, ...]
    fetched_at: float
    stale: bool


def load_index(
    settings: ZooSettings, *, listener: Listener = nobody, refresh: bool = False
) -> Index:
    """Return all models of the zoo; the index and manifests that are not cached are fetched.

    The index is read again if it is older than a day. `listener` receives ``Progress`` of the
    stage ``manifests``. A manifest that cannot be fetched never stops the others.

    Raises
    ------
    IndexUnavailable
        The index cannot be downloaded, and none is cached.
    CacheFull, CacheUnwritable
        It cannot be cached.
    """
    with Client(settings) as client:
        return sync(client, listener, refresh=refresh)


def sync(client: Client, listener: Listener, *, refresh: bool = False) -> Index:
    """Return all models of the zoo, as ``load_index`` does, with an open client."""
    catalogue = load_catalogue(client, listener, refresh=refresh)
    results, differing = _found(client, catalogue, listener)
    if differing and not catalogue.stale:
        newer = load_catalogue(client, listener, max_age_s=JUST_NOW_S)
        if newer.models != catalogue.models:
            catalogue = newer
            results, _ = _found(client, catalogue, listener)
    entries = tuple(_entry(model, results[model.id]) for model in catalogue.models)
    return Index(entries, catalogue.fetched_at, catalogue.stale)


def _found(
    client: Client, catalogue: Catalogue, listener: Listener
) -> tuple[dict[str, Kept | str], bool]:
    """Return each model's manifest or why it is missing, and whether one differs from the index."""
    results: dict[str, Kept | str] = {}
    missing = []
    known = noted_exceptions(client.settings)
    for model in catalogue.models:
        version = model.versions[-1]
        cached = kept_version(client.settings, version, known)
        if cached is not None:
            results[model.id] = cached
        elif problem := known.get(version.sha256, {}).get("problem"):
            results[model.id] = problem
        else:
            missing.append(model)
    fetch = _ManifestFetch(client, listener)
    results |= dict(_fetch_all(fetch, missing, listener))
    return results, fetch.differing


def unsynced(settings: ZooSettings, catalogue: Catalogue) -> tuple[IndexEntry, ...]:
    """Return the entries of a catalogue whose manifests are cached, without fetching anything."""
    known = noted_exceptions(settings)
    pairs = ((m, kept_version(settings, m.versions[-1], known)) for m in catalogue.models)
    return tuple(_entry(model, cached) for model, cached in pairs if cached is not None)


def _fetch_all(
    fetch: _ManifestFetch, missing: list[Listed], listener: Listener
) -> Iterator[tuple[str, Kept | str]]:
    if not missing:
        return
    if fetch.client.settings.offline:
        yield from ((model.id, "not in the cache, and BMZ_OFFLINE is set") for model in missing)
        return
    from concurrent.futures import Future, ThreadPoolExecutor, as_completed

    failed = 0
    with ThreadPoolExecutor(AT_ONCE, "manifest") as pool:
        waiting: dict[Future[Kept | str], Listed] = {pool.submit(fetch, m): m for m in missing}
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                model, result = waiting[future], future.result()
                failed += isinstance(result, str)
                listener(Progress(MANIFESTS_STAGE, done, len(missing), model.id))
                yield model.id, result
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        listener(Note(f"{failed} of {len(missing)} descriptions could not be fetched"))


class _ManifestFetch:
    """Fetches manifests, and stops when the network seems to be down."""

    def __init__(self, client: Client, listener: Listener) -> None:
        self.client = client
        self.differing = False
        self._listener = listener
        self._lock = threading.Lock()
        self._unanswered = 0

    def __call__(self, model: Listed) -> Kept | str:
        if self._unanswered >= _GIVE_UP:
            return "not fetched, because the service does not answer"
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


def _entry(model: Listed, result: Kept | str) -> IndexEntry:
    version = model.versions[-1]
    if isinstance(result, str):
        return IndexEntry(
            model.id, version.label, version.sha256, version.created_at, (), None, result
        )
    names = names_in(result.manifest.read_bytes())
    aliases = tuple(name for name in names if name != model.id)
    return IndexEntry(
        model.id, version.label, result.sha256, version.created_at, aliases, result.manifest
    )
