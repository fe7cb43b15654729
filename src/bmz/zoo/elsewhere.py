"""Packages that are found without the index: by URL, on Hugging Face, or when it is away."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from bmz.base.progress import Listener, Note
from bmz.zoo.address import Alias, ManifestUrl, ZipUrl, artifact_manifests
from bmz.zoo.errors import IndexUnavailable, ModelNotFound, Offline, Refused, Unreachable
from bmz.zoo.http import Client
from bmz.zoo.manifests import fetch_first
from bmz.zoo.package import Package, Remote
from bmz.zoo.settings import ARTIFACTS, ZooSettings
from bmz.zoo.store import kept_manifest, noted_address, packages_in, read_origin
from bmz.zoo.zips import adopt_zip


def at_url(word: str, address: ManifestUrl, client: Client, listener: Listener) -> Package:
    """Give the package of a manifest's URL: as it is now, or as kept when the net is away.

    Raises
    ------
    ModelNotFound, NotAPackage, Offline, Unreachable, Refused, CertificateRefused
        It cannot be had.
    """
    return _fresh_or_kept(
        word,
        lambda: fetch_first(client, address.urls, address.id),
        lambda: _kept_at(address, client.settings),
        listener,
    )


def in_zip(word: str, address: ZipUrl, client: Client, listener: Listener) -> Package:
    """Give the package of a zip's URL; once loaded it is kept until it is removed.

    Raises
    ------
    ModelNotFound, NotAPackage, ArchiveRefused, Offline, Unreachable, Refused
        It cannot be had.
    """
    try:
        manifest = adopt_zip(client, address.url, address.id, listener)
    except Offline as why:
        raise Offline(f"the package {address.url}", word) from why
    except Refused as why:
        raise _nothing_there(word, why) from why
    return Package(address.id, manifest, Remote(address.url, is_zip=True))


def without_index(
    word: str, address: Alias, client: Client, listener: Listener, why: IndexUnavailable
) -> Package:
    """Give the package of an alias while the index is away, from the files of the artifact.

    Its manifest is then verified by nobody but TLS; `listener` is told.

    Raises
    ------
    ModelNotFound, NotAPackage, Offline, Unreachable, Refused, CertificateRefused
        It cannot be had.
    """
    urls = artifact_manifests(f"{ARTIFACTS}/{address.alias}", address.version)

    def fresh() -> Package:
        found = fetch_first(client, urls, address.alias, address.version)
        listener(Note(f"asked for the files of {address.alias} themselves, since {why.message}"))
        return found

    return _fresh_or_kept(word, fresh, lambda: _kept_under(address, client.settings), listener)


def _fresh_or_kept(
    word: str,
    fresh: Callable[[], Package],
    kept: Callable[[], Package | None],
    listener: Listener,
) -> Package:
    try:
        return fresh()
    except Refused as why:
        raise _nothing_there(word, why) from why
    except (Offline, Unreachable) as why:
        package = kept()
        if package is not None:
            listener(Note(f"using the description of {word} that is kept: {why.message}"))
            return package
        if isinstance(why, Offline):
            raise Offline(f"the description of '{word}'", word) from why
        raise


def _nothing_there(word: str, why: Refused) -> ModelNotFound | Refused:
    # 500: what the service says to a version that it does not have
    if why.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.INTERNAL_SERVER_ERROR}:
        return ModelNotFound(word, why.message, hint=why.hint)
    return why


def _kept_at(address: ManifestUrl, settings: ZooSettings) -> Package | None:
    for url in address.urls:
        manifest = kept_manifest(settings, noted_address(settings, url) or "")
        if manifest is not None:
            return Package(address.id, manifest, Remote(url))
    return None


def _kept_under(address: Alias, settings: ZooSettings) -> Package | None:
    found = [
        ((bool(origin.vouched), origin.fetched_at), folder.name, origin)
        for cache in (settings.cache, *settings.layers)
        for folder in packages_in(cache)
        if (origin := read_origin(folder)) is not None
        and origin.id == address.alias
        and address.version in {"", origin.version}
    ]
    for _, sha256, origin in sorted(found, key=lambda one: one[0], reverse=True):
        manifest = kept_manifest(settings, sha256)
        if manifest is not None:
            remote = Remote(origin.url, origin.version, is_zip=origin.is_zip)
            return Package(origin.id, manifest, remote)
    return None
