"""``index.json`` of the zoo: which models there are, and how old our copy of it is."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bmz.base.errors import CouldNotTell
from bmz.base.files import whole_file
from bmz.base.progress import Listener, Note
from bmz.zoo.address import COLLECTION
from bmz.zoo.errors import CertificateRefused, IndexUnavailable
from bmz.zoo.http import TRIES, Client
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import SHA256, keeping, key_of

DAY_S = 86_400
"""An index that is older is read again; the zoo writes it anew at most daily."""


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
    """Read the models off an ``index.json``; other kinds and broken entries are left out.

    Raises
    ------
    ValueError
        It is no JSON, or no index.
    """
    content = json.loads(raw)
    if not isinstance(content, dict) or not isinstance(content.get("items"), list):
        raise ValueError("it has no list of items")  # noqa: TRY004  (as for broken JSON)
    found = (_listed(item) for item in content["items"] if isinstance(item, dict))
    return tuple(model for model in found if model is not None)


def _listed(item: dict[str, Any]) -> Listed | None:
    if item.get("type") != "model" or not isinstance(item.get("versions"), list):
        return None
    versions = []
    for one in item["versions"]:
        with suppress(KeyError, TypeError):
            version = Version(
                str(one["version"]),
                str(one["sha256"]).lower(),
                str(one.get("created_at", "")),
                str(one["source"]),
            )
            if SHA256.fullmatch(version.sha256):
                versions.append(version)
    name = str(item.get("id") or "").removeprefix(COLLECTION)
    return Listed(name, tuple(versions)) if name and versions else None


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


def note_exception(settings: ZooSettings, sha256: str, **found: str) -> None:
    """Note that a manifest is not what the index says: ``problem=`` or ``changed=`` sha256.

    The note holds until the index is read again.
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
                if entry.stat().st_mtime >= since:
                    text = Path(entry.path).read_text(encoding="utf-8")
                    found[entry.name.removesuffix(".json")] = json.loads(text)
    return found
