"""The index of the zoo, ``index.json``: the models, and the age of the cached copy."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from bmz.base.errors import CouldNotTell
from bmz.base.files import whole_file
from bmz.base.notes import read_json
from bmz.base.progress import Listener, Note
from bmz.base.values import dataclass
from bmz.zoo.address import COLLECTION
from bmz.zoo.errors import CertificateRefused, IndexUnavailable
from bmz.zoo.http import TRIES, Client
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import SHA256, keeping, key_of

JUST_NOW_S = 60.0
"""An index that is as recent as this is not read again for an unknown name."""

DAY_S = 86_400
"""An index that is older is read again; the zoo rewrites it at most once a day."""


class IndexFormError(ValueError):
    """JSON whose parts have other types than those of the index, or of a note on it."""


@dataclass(frozen=True)
class Version:
    """One version of a model; its label may be given to other content later."""

    label: str
    sha256: str
    created_at: str
    source: str


@dataclass(frozen=True)
class Listed:
    """A model of the index with its versions, the oldest first."""

    id: str
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Catalogue:
    """All models of the index; `stale` if it is old and cannot be read again."""

    models: tuple[Listed, ...]
    fetched_at: float
    stale: bool

    def find(self, alias: str) -> Listed | None:
        """Return the model with this alias."""
        return next((model for model in self.models if model.id == alias), None)


def load_catalogue(
    client: Client, listener: Listener, *, refresh: bool = False, max_age_s: float = DAY_S
) -> Catalogue:
    """Return the cached index if it is recent, or else a new one, or an old one as a last resort.

    Raises
    ------
    IndexUnavailable
        The index cannot be downloaded, and none is cached.
    """
    settings = client.settings
    cached = _kept(settings)
    if cached is not None and not refresh and 0 <= time.time() - cached.fetched_at < max_age_s:
        return cached
    try:
        raw = client.get(settings.index_url, tries=2 if cached else TRIES)
        models = parse_catalogue(raw)
    except (CouldNotTell, ValueError) as why:
        reason = why.message if isinstance(why, CouldNotTell) else str(why)
        if cached is None:
            hint = why.hint if isinstance(why, CertificateRefused) else ""
            raise IndexUnavailable(settings.index_url, reason, hint=hint) from why
        return _stale(cached, reason, listener)
    _keep(settings, raw)
    return Catalogue(models, time.time(), stale=False)


def _stale(cached: Catalogue, reason: str, listener: Listener) -> Catalogue:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(cached.fetched_at))
    listener(Note(f"using the list of models from {when}, which could not be refreshed: {reason}"))
    return Catalogue(cached.models, cached.fetched_at, stale=True)


def parse_catalogue(raw: bytes) -> tuple[Listed, ...]:
    """Read the models from an ``index.json``.

    Other kinds of resources and incompletely described models are left out. A file in which
    something has the wrong type is not an index: it did not come from the zoo.

    Raises
    ------
    ValueError
        The content is not JSON, or not an index.
    """
    try:
        content = json.loads(raw)
    except RecursionError as why:
        raise ValueError("it is nested too deeply") from why
    if not isinstance(content, dict) or not isinstance(content.get("items"), list):
        raise IndexFormError("it has no list of items")
    models = [_listed(number, item) for number, item in enumerate(content["items"])]
    return tuple(model for model in models if model is not None)


def _listed(number: int, item: object) -> Listed | None:
    of_item = f"item {number}"
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        raise IndexFormError(f"{of_item} is not a mapping with a type")
    if item["type"] != "model" or item.get("versions") is None:
        return None
    if not isinstance(item["versions"], list):
        raise IndexFormError(f"{of_item} has no list of versions")
    versions = [_version(of_item, entry) for entry in item["versions"]]
    known = tuple(version for version in versions if version is not None)
    name = str(item.get("id") or "").removeprefix(COLLECTION)
    return Listed(name, known) if name and known else None


def _version(of_item: str, entry: object) -> Version | None:
    if not isinstance(entry, dict):
        raise IndexFormError(f"a version of {of_item} is not a mapping")
    words = [entry.get(key) for key in ("version", "sha256", "source")]
    if not all(word is None or isinstance(word, str) for word in words):
        raise IndexFormError(f"a version of {of_item} has a value that is not text")
    label, sha256, source = (str(word or "") for word in words)
    if not label or not source or SHA256.fullmatch(sha256.lower()) is None:
        return None
    try:
        urlsplit(source)
    except ValueError as why:
        raise ValueError(f"a version of {of_item} has no address ({why})") from why
    return Version(label, sha256.lower(), str(entry.get("created_at") or ""), source)


def index_folder(cache: Path, index_url: str) -> Path:
    """Return the folder of the cached index from an address, with notes on its manifests."""
    return cache / "index" / key_of(index_url)


def _keep(settings: ZooSettings, raw: bytes) -> None:
    folder = index_folder(settings.cache, settings.index_url)
    with keeping(settings):
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "index.json") as temporary:
            temporary.write_bytes(raw)


def _kept(settings: ZooSettings) -> Catalogue | None:
    catalogues = []
    for cache in (settings.cache, *settings.layers):
        path = index_folder(cache, settings.index_url) / "index.json"
        with suppress(OSError, ValueError):
            catalogues.append(
                Catalogue(parse_catalogue(path.read_bytes()), _fetched_at(path), stale=False)
            )
    return max(catalogues, key=lambda catalogue: catalogue.fetched_at, default=None)


def _fetched_at(path: Path) -> float:
    return path.stat().st_mtime


def kept_catalogue(settings: ZooSettings) -> Catalogue | None:
    """Return the cached index, however old it is; None if there is none."""
    return _kept(settings)


def note_exception(settings: ZooSettings, sha256: str, **facts: str) -> None:
    """Write a note that a manifest is not the one that the index lists.

    Parameters
    ----------
    settings : settings with the cache and the address of the index
    sha256 : sha256 that the index states
    **facts : ``problem=`` is why it cannot be fetched, valid until the index is read again;
        ``allowed=`` is the sha256 of the manifest that the user accepts instead, valid as long as
        the index states this `sha256`
    """
    folder = index_folder(settings.cache, settings.index_url) / "exceptions"
    with keeping(settings):
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / f"{sha256}.json") as temporary:
            temporary.write_text(json.dumps(facts), encoding="utf-8")


def noted_exceptions(settings: ZooSettings) -> dict[str, dict[str, str]]:
    """Return the sha256 in the index -> note, for manifests that differ from the index."""
    folder = index_folder(settings.cache, settings.index_url)
    exceptions: dict[str, dict[str, str]] = {}
    with suppress(OSError):
        since = (folder / "index.json").stat().st_mtime
        for entry in os.scandir(folder / "exceptions"):
            with suppress(ValueError, OSError):
                note = _texts(read_json(Path(entry.path)))
                if "allowed" in note or entry.stat().st_mtime >= since:
                    exceptions[entry.name.removesuffix(".json")] = note
    return exceptions


def _texts(note: object) -> dict[str, str]:
    if not isinstance(note, dict):
        raise IndexFormError("it is not a mapping")
    return {str(key): value for key, value in note.items() if isinstance(value, str)}
