"""Fetch one manifest and keep it, verified where somebody states its sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from bmz.base.progress import Listener, Note
from bmz.zoo.catalogue import Listed, Version, note_exception
from bmz.zoo.errors import NotAPackage, Refused, Unreachable
from bmz.zoo.http import Client
from bmz.zoo.package import Package, Remote, silent
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import MANIFESTS, Origin, keep_manifest, kept_manifest, note_address


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
    changed = exceptions.get(version.sha256, {}).get("changed", "")
    manifest = kept_manifest(settings, changed)
    return None if manifest is None else Kept(manifest, changed)


def fetch_version(client: Client, model: Listed, version: Version, listener: Listener) -> Kept:
    """Fetch the manifest of a version and keep it.

    A version may change under its label before the index is written anew. So a manifest with
    another sha256 is asked for twice: when both agree, that is what the zoo has now; it is
    kept under its own sha256 and `listener` is told.

    Raises
    ------
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        It cannot be had, or not be kept.
    """
    url = silent(version.source)
    raw, last = client.get(url), b""
    for _ in range(2):
        if _sha256(raw) == version.sha256 or raw == last:
            break
        raw, last = client.get(url), raw
    found = _sha256(raw)
    if found != version.sha256 and raw != last:
        raise Unreachable(url, "it comes different each time")
    origin = Origin(model.id, version.label, version.source)
    manifest = keep_manifest(client.settings, raw, _name_of(url), origin)
    if found != version.sha256:
        note_exception(client.settings, version.sha256, changed=found)
        listener(Note(_changed(model, version, found)))
    return Kept(manifest, found)


def _changed(model: Listed, version: Version, found: str) -> str:
    return (
        f"{model.id} {version.label} was changed in place since the index was written: "
        f"it says sha256 {version.sha256}, the description is {found}"
    )


def fetch_first(client: Client, urls: tuple[str, ...], model: str, version: str = "") -> Package:
    """Fetch the manifest from the first of `urls` that has one, and note its sha256.

    Raises
    ------
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        See ``fetch_version``; ``Refused`` with status 404 when none has one.
    NotAPackage
        It is no text.
    """
    for number, url in enumerate(urls):
        try:
            raw = client.get(silent(url))
        except Refused as why:
            if why.status != HTTPStatus.NOT_FOUND or number == len(urls) - 1:
                raise
            continue
        if b"\0" in raw[:1000] or raw.lstrip()[:1] == b"<":
            raise NotAPackage(url, "what lies there is no manifest")
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
