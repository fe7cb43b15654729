"""``index.json`` of the zoo: which models there are, and how old our copy of it is."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bmz.base.errors import CouldNotTell
from bmz.base.files import whole_file
from bmz.base.notes import read_json
from bmz.base.progress import Listener, Note
from bmz.zoo.address import COLLECTION
from bmz.zoo.errors import CertificateRefused, IndexUnavailable
from bmz.zoo.http import TRIES, Client
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import SHA256, keeping, key_of

JUST_NOW_S = 60.0
"""An index as young as this is not read again for what it does not know."""

DAY_S = 86_400
"""An index that is older is read again; the zoo writes it anew at most daily."""


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
    """All models of the index; `stale` when it is old and cannot be read again."""

    models: tuple[Listed, ...]
    fetched_at: float
    stale: bool

    def find(self, alias: str) -> Listed | None:
        """Give the model of this alias."""
        return next((model for model in self.models if model.id == alias), None)


def load_catalogue(
    client: Client, listener: Listener, *, refresh: bool = False, max_age_s: float = DAY_S
) -> Catalogue:
    """Give the index: the kept one while it is young, else a new one, else the old one.

    Raises
    ------
    IndexUnavailable
        It cannot be had, and none is kept.
    """
    settings = client.settings
    kept = _kept(settings)
    if kept is not None and not refresh and 0 <= time.time() - kept.fetched_at < max_age_s:
        return kept
    try:
        raw = client.get(settings.index_url, tries=2 if kept else TRIES)
        models = parse_catalogue(raw)
    except (CouldNotTell, ValueError) as why:
        reason = why.message if isinstance(why, CouldNotTell) else str(why)
        if kept is None:
            hint = why.hint if isinstance(why, CertificateRefused) else ""
            raise IndexUnavailable(settings.index_url, reason, hint=hint) from why
        return _stale(kept, reason, listener)
    _keep(settings, raw)
    return Catalogue(models, time.time(), stale=False)


def _stale(kept: Catalogue, reason: str, listener: Listener) -> Catalogue:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.fetched_at))
    listener(Note(f"the list of models is of {when}; it could not be read again: {reason}"))
    return Catalogue(kept.models, kept.fetched_at, stale=True)


def parse_catalogue(raw: bytes) -> tuple[Listed, ...]:
    """Read the models off an ``index.json``.

    Other kinds of resources, and models of which something is not said, are left out. An index
    in which something has another type than it must have is none: it came from somebody else.

    Raises
    ------
    ValueError
        It is no JSON, or no index.
    """
    try:
        content = json.loads(raw)
    except RecursionError as why:
        raise ValueError("it is nested too deeply") from why
    if not isinstance(content, dict) or not isinstance(content.get("items"), list):
        raise IndexFormError("it has no list of items")
    found = [_listed(number, item) for number, item in enumerate(content["items"])]
    return tuple(model for model in found if model is not None)


def _listed(number: int, item: object) -> Listed | None:
    of_item = f"item {number}"
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        raise IndexFormError(f"{of_item} is no mapping with a type")
    if item["type"] != "model" or item.get("versions") is None:
        return None
    if not isinstance(item["versions"], list):
        raise IndexFormError(f"{of_item} has no list of versions")
    versions = [_version(of_item, one) for one in item["versions"]]
    known = tuple(version for version in versions if version is not None)
    name = str(item.get("id") or "").removeprefix(COLLECTION)
    return Listed(name, known) if name and known else None


def _version(of_item: str, said: object) -> Version | None:
    if not isinstance(said, dict):
        raise IndexFormError(f"a version of {of_item} is no mapping")
    words = [said.get(key) for key in ("version", "sha256", "source")]
    if not all(word is None or isinstance(word, str) for word in words):
        raise ValueError(f"a version of {of_item} has something that is no text")
    label, sha256, source = (str(word or "") for word in words)
    if not label or not source or SHA256.fullmatch(sha256.lower()) is None:
        return None
    try:
        urlsplit(source)
    except ValueError as why:
        raise ValueError(f"a version of {of_item} has no address ({why})") from why
    return Version(label, sha256.lower(), str(said.get("created_at") or ""), source)


def index_folder(cache: Path, index_url: str) -> Path:
    """Give where the index of an address is kept, with notes on its manifests."""
    return cache / "index" / key_of(index_url)


def _keep(settings: ZooSettings, raw: bytes) -> None:
    folder = index_folder(settings.cache, settings.index_url)
    with keeping(settings):
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "index.json") as temporary:
            temporary.write_bytes(raw)


def _kept(settings: ZooSettings) -> Catalogue | None:
    found = []
    for cache in (settings.cache, *settings.layers):
        path = index_folder(cache, settings.index_url) / "index.json"
        with suppress(OSError, ValueError):
            found.append(Catalogue(parse_catalogue(path.read_bytes()), _age_of(path), stale=False))
    return max(found, key=lambda one: one.fetched_at, default=None)


def _age_of(path: Path) -> float:
    return path.stat().st_mtime


def kept_catalogue(settings: ZooSettings) -> Catalogue | None:
    """Give the index that is kept, however old; None where none is."""
    return _kept(settings)


def note_exception(settings: ZooSettings, sha256: str, **found: str) -> None:
    """Note that a manifest is not what the index says.

    Parameters
    ----------
    sha256 : as the index states it
    **found : ``problem=`` tells why it cannot be had, which holds until the index is read again;
        ``allowed=`` is the sha256 of the one that the user takes instead, for as long as the
        index states this `sha256`
    """
    folder = index_folder(settings.cache, settings.index_url) / "exceptions"
    with keeping(settings):
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / f"{sha256}.json") as temporary:
            temporary.write_text(json.dumps(found), encoding="utf-8")


def noted_exceptions(settings: ZooSettings) -> dict[str, dict[str, str]]:
    """Give the notes on manifests that are not what the index says, by its sha256."""
    folder = index_folder(settings.cache, settings.index_url)
    found: dict[str, dict[str, str]] = {}
    with suppress(OSError):
        since = (folder / "index.json").stat().st_mtime
        for entry in os.scandir(folder / "exceptions"):
            with suppress(ValueError, OSError):
                said = _texts(read_json(Path(entry.path)))
                if "allowed" in said or entry.stat().st_mtime >= since:
                    found[entry.name.removesuffix(".json")] = said
    return found


def _texts(said: object) -> dict[str, str]:
    if not isinstance(said, dict):
        raise IndexFormError("it is no mapping")
    return {str(key): value for key, value in said.items() if isinstance(value, str)}
