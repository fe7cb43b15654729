"""Finding the files of a model from its address: in the index, in the cache, or elsewhere."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Note, nobody
from bmz.zoo.address import (
    STARTER,
    Alias,
    Doi,
    ManifestUrl,
    OnDisk,
    Starter,
    Unclear,
    ZipUrl,
    artifact_manifests,
    read_address,
)
from bmz.zoo.archive import unpack
from bmz.zoo.catalogue import (
    JUST_NOW_S,
    Catalogue,
    Listed,
    Version,
    load_catalogue,
    noted_exceptions,
)
from bmz.zoo.errors import (
    DescriptionDiffers,
    IndexUnavailable,
    ModelAmbiguous,
    ModelNotFound,
    NotAPackage,
    Offline,
    Refused,
    Unreachable,
)
from bmz.zoo.fetch import adopt_zip, top_manifest
from bmz.zoo.http import Client
from bmz.zoo.index import IndexEntry, Kept, fetch_first, fetch_version, kept_version, sync, unsynced
from bmz.zoo.package import Package, Remote
from bmz.zoo.settings import ARTIFACTS, ZooSettings, settings_from_environment
from bmz.zoo.store import (
    BY_INDEX,
    Origin,
    keeping,
    kept_manifest,
    noted_address,
    packages_in,
    read_origin,
    renew_origin,
)


def at_url(source: str, address: ManifestUrl, client: Client, listener: Listener) -> Package:
    """Return the package at the URL of a manifest; without a network, the cached one.

    Raises
    ------
    ModelNotFound, NotAPackage, Offline, Unreachable, Refused, CertificateRefused
        It cannot be fetched.
    """
    return _fresh_or_kept(
        source,
        lambda: fetch_first(client, address.urls, address.id),
        lambda: _kept_at(address, client.settings),
        listener,
    )


def in_zip(source: str, address: ZipUrl, client: Client, listener: Listener) -> Package:
    """Return the package at the URL of a zip; once downloaded, it is cached until it is removed.

    Raises
    ------
    ModelNotFound, NotAPackage, ArchiveRefused, Offline, Unreachable, Refused
        It cannot be fetched.
    """
    try:
        manifest = adopt_zip(client, address.url, address.id, listener)
    except Offline as why:
        raise Offline(f"the package {address.url}", source) from why
    except Refused as why:
        raise _nothing_there(source, why) from why
    return Package(address.id, manifest, Remote(address.url, is_zip=True))


def without_index(
    source: str, address: Alias, client: Client, listener: Listener, why: IndexUnavailable
) -> Package:
    """Return the package of an alias from the files of the artifact, while there is no index.

    Only TLS then verifies its manifest; `listener` is notified.

    Raises
    ------
    ModelNotFound, NotAPackage, Offline, Unreachable, Refused, CertificateRefused
        It cannot be fetched.
    """
    urls = artifact_manifests(f"{ARTIFACTS}/{address.alias}", address.version)

    def fresh() -> Package:
        package = fetch_first(client, urls, address.alias, address.version)
        listener(Note(f"fetched {address.alias} from its own address, because {why.message}"))
        return package

    return _fresh_or_kept(source, fresh, lambda: _kept_under(address, client.settings), listener)


def _fresh_or_kept(
    source: str,
    fresh: Callable[[], Package],
    cached: Callable[[], Package | None],
    listener: Listener,
) -> Package:
    try:
        return fresh()
    except Refused as why:
        raise _nothing_there(source, why) from why
    except (Offline, Unreachable) as why:
        package = cached()
        if package is not None:
            listener(Note(f"using the cached description of {source}: {why.message}"))
            return package
        if isinstance(why, Offline):
            raise Offline(f"the description of '{source}'", source) from why
        raise


def _nothing_there(source: str, why: Refused) -> ModelNotFound | Refused:
    # 500: the answer of the service for a version that it does not have
    if why.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.INTERNAL_SERVER_ERROR}:
        return ModelNotFound(source, why.message, hint=why.hint)
    return why


def _kept_at(address: ManifestUrl, settings: ZooSettings) -> Package | None:
    for url in address.urls:
        manifest = kept_manifest(settings, noted_address(settings, url) or "")
        if manifest is not None:
            return Package(address.id, manifest, Remote(url))
    return None


def _kept_under(address: Alias, settings: ZooSettings) -> Package | None:
    candidates = [
        ((bool(origin.vouched), origin.fetched_at), folder.name, origin)
        for cache in (settings.cache, *settings.layers)
        for folder in packages_in(cache)
        if (origin := read_origin(folder)) is not None
        and origin.id == address.alias
        and address.version in {"", origin.version}
    ]
    for _, sha256, origin in sorted(candidates, key=lambda candidate: candidate[0], reverse=True):
        manifest = kept_manifest(settings, sha256)
        if manifest is not None:
            remote = Remote(origin.url, origin.version, is_zip=origin.is_zip)
            return Package(origin.id, manifest, remote)
    return None


def by_alias(source: str, address: Alias, client: Client, listener: Listener) -> Package:
    """Return the package of an alias; only the index and this one manifest are fetched.

    Raises
    ------
    DescriptionDiffers
        The description is not the one that the index lists.
    ModelNotFound, ModelAmbiguous
        The hint names the three most similar aliases, or the existing versions.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        See ``bmz.zoo.locate``.
    """
    try:
        catalogue = load_catalogue(client, listener)
    except IndexUnavailable as why:
        return without_index(source, address, client, listener, why)
    model = _named(source, address.alias, catalogue, client)
    if model is None and not client.settings.offline:
        catalogue = load_catalogue(client, listener, max_age_s=JUST_NOW_S)
        model = _named(source, address.alias, catalogue, client)
    if model is None:
        raise _unknown(source, address.alias, catalogue)
    return _package(model, _version(source, address, model), client, listener)


def by_doi(source: str, address: Doi, client: Client, listener: Listener) -> Package:
    """Return the package of a DOI; all manifests are searched, since the index has no DOIs.

    Raises
    ------
    ModelNotFound, ModelAmbiguous, IndexUnavailable
        No model or several models have it, or there is no index.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        See ``bmz.zoo.locate``.
    """
    catalogue = load_catalogue(client, listener)
    known = unsynced(client.settings, catalogue)
    model = _by_other_name(source, address.doi, catalogue, known)
    if model is None and len(known) < len(catalogue.models):
        known = sync(client, listener).entries
        model = _by_other_name(source, address.doi, catalogue, known)
    if model is None:
        hint = "bmz search lists all models; not all of them have a DOI"
        raise ModelNotFound(source, "no description in the zoo has this DOI", hint=hint)
    return _package(model, model.versions[-1], client, listener)


def path_hint(source: str) -> str:
    """Return how to write `source` if it is meant as a path; empty if there is no such file."""
    path = Path(source)
    try:
        kind = "folder" if path.is_dir() else "file" if path.exists() else ""
    except OSError:
        return ""  # too long for a path, or in a folder without access
    return f"for the {kind} in this folder, write ./{source}" if kind else ""


def _package(model: Listed, version: Version, client: Client, listener: Listener) -> Package:
    cached = kept_version(client.settings, version, noted_exceptions(client.settings))
    if cached is None:
        try:
            version, cached = _fetched(model, version, client, listener)
        except Offline as why:
            raise Offline(f"the description of '{model.id}'", model.id) from why
    elif cached.sha256 == version.sha256:
        origin = Origin(model.id, version.label, version.source, vouched=BY_INDEX)
        renew_origin(cached.manifest.parent, origin)
    return Package(model.id, cached.manifest, Remote(version.source, version.label, version.sha256))


def _fetched(
    model: Listed, version: Version, client: Client, listener: Listener
) -> tuple[Version, Kept]:
    """Fetch a description; if it is not in the cached index, a newer index may list it."""
    try:
        return version, fetch_version(client, model, version, listener)
    except DescriptionDiffers:
        newer = load_catalogue(client, listener, max_age_s=JUST_NOW_S).find(model.id)
        same = [v for v in (newer.versions if newer else ()) if v.label == version.label]
        if not same or same[0].sha256 == version.sha256:
            raise
        cached = kept_version(client.settings, same[0], noted_exceptions(client.settings))
        return same[0], cached or fetch_version(client, model, same[0], listener)


def _version(source: str, address: Alias, model: Listed) -> Version:
    if not address.version:
        return model.versions[-1]
    for version in model.versions:
        if version.label == address.version:
            return version
    versions = ", ".join(f"{model.id}/{version.label}" for version in model.versions)
    raise ModelNotFound(source, "the zoo has no such version", hint=f"available: {versions}")


def _named(source: str, name: str, catalogue: Catalogue, client: Client) -> Listed | None:
    """Return the model with this alias, else the one whose cached manifest has this name."""
    model = catalogue.find(name)
    if model is not None:
        return model
    return _by_other_name(source, name, catalogue, unsynced(client.settings, catalogue))


def _by_other_name(
    source: str, name: str, catalogue: Catalogue, entries: tuple[IndexEntry, ...]
) -> Listed | None:
    aliases = tuple(entry.id for entry in entries if name in entry.aliases)
    if len(aliases) > 1:
        raise ModelAmbiguous(source, aliases)
    return catalogue.find(aliases[0]) if aliases else None


def _unknown(source: str, alias: str, catalogue: Catalogue) -> ModelNotFound:
    known = [model.id for model in catalogue.models]
    near = difflib.get_close_matches(alias, known, n=3, cutoff=0.0)
    hint = f"similar names are {', '.join(near)}" if near else "the index is empty"
    return ModelNotFound(source, "the zoo has no model with this name", hint=hint)


__all__ = ["STARTER", "Package", "Remote", "locate", "starter_folder", "starter_names"]


def starter_folder() -> Path:
    """Return the folder of the models that come with bmz."""
    return Path(__file__).parents[1] / "starter"


def starter_names() -> tuple[str, ...]:
    """Return the names of the models that come with bmz."""
    return tuple(sorted(p.parent.name for p in starter_folder().glob("*/bioimageio.yaml")))


def locate(
    source: str, settings: ZooSettings | None = None, *, listener: Listener = nobody
) -> Package:
    """Find the package that `source` names; for a package on the web, fetch only the manifest.

    A model of the zoo is looked up in the index, and its manifest verified against the
    sha256 there. If the index is not available, the files of the model itself are
    requested, and `listener` is notified. A zip on the web is downloaded whole, and only once.

    Parameters
    ----------
    source : ``starter/NAME``; an alias, ``alias/version`` or ``bioimage-io/alias``; a DOI; the
        URL of a manifest, a zip or a page of bioimage.io; ``huggingface/ORG/NAME``; the path
        of a folder, zip or manifest (a folder here is written ``./name``)
    settings : None takes them from the environment

    Raises
    ------
    ModelNotFound, ModelAmbiguous, NotAPackage, ArchiveRefused
        There is no model, more than one, no package, or an unsafe one.
    IndexUnavailable, Offline, Unreachable, Refused, CertificateRefused
        It cannot be fetched.
    CacheFull, CacheUnwritable
        It cannot be cached.
    """
    chosen = settings or settings_from_environment()
    address = read_address(source)
    if isinstance(address, Starter):
        return _starter(source, address)
    if isinstance(address, OnDisk):
        return _on_disk(source, address.path, chosen)
    if isinstance(address, Unclear):
        hint = path_hint(source) or "give an alias, a DOI, a URL, or a path such as ./folder"
        raise ModelNotFound(source, address.why, hint=hint)
    with Client(chosen) as client:
        if isinstance(address, Alias):
            return _of_the_zoo(source, address, client, listener)
        if isinstance(address, Doi):
            return by_doi(source, address, client, listener)
        if isinstance(address, ManifestUrl):
            return at_url(source, address, client, listener)
        return in_zip(source, address, client, listener)


def _of_the_zoo(source: str, address: Alias, client: Client, listener: Listener) -> Package:
    try:
        return by_alias(source, address, client, listener)
    except BmzError as why:
        if hint := path_hint(source):
            why.hint = f"{hint}; else {why.hint}"
        raise


def _starter(source: str, address: Starter) -> Package:
    manifest = starter_folder() / address.name / "bioimageio.yaml"
    if address.name not in starter_names():
        known = ", ".join(STARTER + name for name in starter_names())
        raise ModelNotFound(source, "it does not come with bmz", hint=f"available: {known}")
    return Package(source, manifest)


def _on_disk(source: str, path: Path, settings: ZooSettings) -> Package:
    hint = "check the path"
    try:
        is_there = path.exists()
    except OSError as why:
        raise ModelNotFound(source, f"the path cannot be read: {why.strerror}", hint=hint) from why
    if not is_there:
        raise ModelNotFound(source, "there is no such file or folder", hint=hint)
    if path.is_dir():
        return Package(path.resolve().name, top_manifest(path))
    if path.suffix.lower() in {".yaml", ".yml"}:
        return Package(path.resolve().parent.name, path)
    if path.suffix.lower() == ".zip":
        with keeping(settings):
            unpacked = unpack(path, settings.cache)
        return Package(path.stem, top_manifest(unpacked, called=path))
    raise NotAPackage(path, f"a file ending in '{path.suffix}'")
