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
from bmz.zoo.errors import DescriptionDiffers, NotAPackage, Refused, Unreachable
from bmz.zoo.http import Client
from bmz.zoo.names import is_description, is_web_page
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
