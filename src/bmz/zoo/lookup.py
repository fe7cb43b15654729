"""Find a model of the zoo by its alias, another name, or a DOI."""

from __future__ import annotations

import difflib
from pathlib import Path

from bmz.base.progress import Listener
from bmz.zoo.address import Alias, Doi
from bmz.zoo.catalogue import (
    JUST_NOW_S,
    Catalogue,
    Listed,
    Version,
    load_catalogue,
    noted_exceptions,
)
from bmz.zoo.elsewhere import without_index
from bmz.zoo.errors import (
    DescriptionDiffers,
    IndexUnavailable,
    ModelAmbiguous,
    ModelNotFound,
    Offline,
)
from bmz.zoo.http import Client
from bmz.zoo.index import IndexEntry, sync, unsynced
from bmz.zoo.manifests import Kept, fetch_version, kept_version
from bmz.zoo.package import Package, Remote
from bmz.zoo.store import BY_INDEX, Origin, renew_origin


def by_alias(word: str, address: Alias, client: Client, listener: Listener) -> Package:
    """Give the package of an alias; only the index and that one manifest are fetched.

    Raises
    ------
    DescriptionDiffers
        The description is not the one that the index lists.
    ModelNotFound, ModelAmbiguous
        The hint names the nearest three aliases, or the versions there are.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        See ``bmz.zoo.locate``.
    """
    try:
        catalogue = load_catalogue(client, listener)
    except IndexUnavailable as why:
        return without_index(word, address, client, listener, why)
    model = _named(word, address.alias, catalogue, client)
    if model is None and not client.settings.offline:
        catalogue = load_catalogue(client, listener, max_age_s=JUST_NOW_S)
        model = _named(word, address.alias, catalogue, client)
    if model is None:
        raise _unknown(word, address.alias, catalogue)
    return _package(model, _version(word, address, model), client, listener)


def by_doi(word: str, address: Doi, client: Client, listener: Listener) -> Package:
    """Give the package of a DOI; every manifest is looked into, since the index has no DOIs.

    Raises
    ------
    ModelNotFound, ModelAmbiguous, IndexUnavailable
        No model has it, several have, or there is no index.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        See ``bmz.zoo.locate``.
    """
    catalogue = load_catalogue(client, listener)
    known = unsynced(client.settings, catalogue)
    model = _by_other_name(word, address.doi, catalogue, known)
    if model is None and len(known) < len(catalogue.models):
        known = sync(client, listener).entries
        model = _by_other_name(word, address.doi, catalogue, known)
    if model is None:
        hint = "bmz search lists the models there are; not all of them have a DOI"
        raise ModelNotFound(word, "no description in the zoo has this DOI", hint=hint)
    return _package(model, model.versions[-1], client, listener)


def path_hint(word: str) -> str:
    """Say how to write `word` when it is meant as a path; empty when nothing lies there."""
    path = Path(word)
    try:
        kind = "folder" if path.is_dir() else "file" if path.exists() else ""
    except OSError:
        return ""  # too long for a path, or in a folder that is not for us
    return f"for the {kind} here, write ./{word}" if kind else ""


def _package(model: Listed, version: Version, client: Client, listener: Listener) -> Package:
    kept = kept_version(client.settings, version, noted_exceptions(client.settings))
    if kept is None:
        try:
            version, kept = _fetched(model, version, client, listener)
        except Offline as why:
            raise Offline(f"the description of '{model.id}'", model.id) from why
    elif kept.sha256 == version.sha256:
        origin = Origin(model.id, version.label, version.source, vouched=BY_INDEX)
        renew_origin(kept.manifest.parent, origin)
    return Package(model.id, kept.manifest, Remote(version.source, version.label, version.sha256))


def _fetched(
    model: Listed, version: Version, client: Client, listener: Listener
) -> tuple[Version, Kept]:
    """Fetch a description; where it is not the one of our index, a newer index may list it."""
    try:
        return version, fetch_version(client, model, version, listener)
    except DescriptionDiffers:
        newer = load_catalogue(client, listener, max_age_s=JUST_NOW_S).find(model.id)
        same = [v for v in (newer.versions if newer else ()) if v.label == version.label]
        if not same or same[0].sha256 == version.sha256:
            raise
        kept = kept_version(client.settings, same[0], noted_exceptions(client.settings))
        return same[0], kept or fetch_version(client, model, same[0], listener)


def _version(word: str, address: Alias, model: Listed) -> Version:
    if not address.version:
        return model.versions[-1]
    for version in model.versions:
        if version.label == address.version:
            return version
    there = ", ".join(f"{model.id}/{version.label}" for version in model.versions)
    raise ModelNotFound(word, "the zoo has no such version", hint=f"there is: {there}")


def _named(word: str, name: str, catalogue: Catalogue, client: Client) -> Listed | None:
    """Give the model with this alias, else the one whose kept manifest has this name."""
    found = catalogue.find(name)
    if found is not None:
        return found
    return _by_other_name(word, name, catalogue, unsynced(client.settings, catalogue))


def _by_other_name(
    word: str, name: str, catalogue: Catalogue, entries: tuple[IndexEntry, ...]
) -> Listed | None:
    found = tuple(entry.id for entry in entries if name in entry.aliases)
    if len(found) > 1:
        raise ModelAmbiguous(word, found)
    return catalogue.find(found[0]) if found else None


def _unknown(word: str, alias: str, catalogue: Catalogue) -> ModelNotFound:
    known = [model.id for model in catalogue.models]
    near = difflib.get_close_matches(alias, known, n=3, cutoff=0.0)
    hint = f"the nearest names are {', '.join(near)}" if near else "the index is empty"
    return ModelNotFound(word, "the zoo has none of this name", hint=hint)
