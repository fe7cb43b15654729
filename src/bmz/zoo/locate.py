"""Turn the word MODEL into the folder and manifest of a package."""

from __future__ import annotations

from pathlib import Path

from bmz.base.errors import BmzError
from bmz.base.progress import Listener, nobody
from bmz.zoo.address import (
    STARTER,
    Alias,
    Doi,
    ManifestUrl,
    OnDisk,
    Starter,
    Unclear,
    read_address,
)
from bmz.zoo.archive import unpack
from bmz.zoo.elsewhere import at_url, in_zip
from bmz.zoo.errors import ModelNotFound, NotAPackage
from bmz.zoo.http import Client
from bmz.zoo.lookup import by_alias, by_doi, path_hint
from bmz.zoo.package import Package, Remote
from bmz.zoo.settings import ZooSettings, settings_from_environment
from bmz.zoo.store import keeping
from bmz.zoo.zips import top_manifest

__all__ = ["STARTER", "Package", "Remote", "locate", "starter_folder", "starter_names"]


def starter_folder() -> Path:
    """Give the folder of the models that come with bmz."""
    return Path(__file__).parents[1] / "starter"


def starter_names() -> tuple[str, ...]:
    """List the models that come with bmz."""
    return tuple(sorted(p.parent.name for p in starter_folder().glob("*/bioimageio.yaml")))


def locate(
    word: str, settings: ZooSettings | None = None, *, listener: Listener = nobody
) -> Package:
    """Find the package that `word` names; of one on the net, fetch only the manifest.

    A model of the zoo is looked up in the index, and its manifest verified against the
    sha256 there. When the index cannot be had, the files of the model itself are asked for,
    and `listener` is told. A zip on the net is loaded whole, and only once.

    Parameters
    ----------
    word : ``starter/NAME``; an alias, ``alias/version`` or ``bioimage-io/alias``; a DOI; the
        URL of a manifest, a zip or a page of bioimage.io; ``huggingface/ORG/NAME``; the path
        of a folder, zip or manifest (a folder here is written ``./name``)
    settings : from the environment when None

    Raises
    ------
    ModelNotFound, ModelAmbiguous, NotAPackage, ArchiveRefused
        There is nothing, more than one, no package, or an unsafe one.
    IndexUnavailable, Offline, Unreachable, Refused, CertificateRefused
        It cannot be had.
    CacheFull, CacheUnwritable
        It cannot be kept.
    """
    chosen = settings or settings_from_environment()
    address = read_address(word)
    if isinstance(address, Starter):
        return _starter(word, address)
    if isinstance(address, OnDisk):
        return _on_disk(word, address.path, chosen)
    if isinstance(address, Unclear):
        hint = path_hint(word) or "give an alias, a DOI, a URL, or a path such as ./folder"
        raise ModelNotFound(word, address.why, hint=hint)
    with Client(chosen) as client:
        if isinstance(address, Alias):
            return _of_the_zoo(word, address, client, listener)
        if isinstance(address, Doi):
            return by_doi(word, address, client, listener)
        if isinstance(address, ManifestUrl):
            return at_url(word, address, client, listener)
        return in_zip(word, address, client, listener)


def _of_the_zoo(word: str, address: Alias, client: Client, listener: Listener) -> Package:
    try:
        return by_alias(word, address, client, listener)
    except BmzError as why:
        if hint := path_hint(word):
            why.hint = f"{hint}; else {why.hint}"
        raise


def _starter(word: str, address: Starter) -> Package:
    manifest = starter_folder() / address.name / "bioimageio.yaml"
    if address.name not in starter_names():
        known = ", ".join(STARTER + name for name in starter_names())
        raise ModelNotFound(word, "it does not come with bmz", hint=f"there is: {known}")
    return Package(word, manifest)


def _on_disk(word: str, path: Path, settings: ZooSettings) -> Package:
    hint = "look at the path again"
    try:
        is_there = path.exists()
    except OSError as why:
        raise ModelNotFound(word, f"cannot look there: {why.strerror}", hint=hint) from why
    if not is_there:
        raise ModelNotFound(word, "there is no such file or folder", hint=hint)
    if path.is_dir():
        return Package(path.resolve().name, top_manifest(path))
    if path.suffix.lower() in {".yaml", ".yml"}:
        return Package(path.resolve().parent.name, path)
    if path.suffix.lower() == ".zip":
        with keeping(settings):
            unpacked = unpack(path, settings.cache)
        return Package(path.stem, top_manifest(unpacked, called=path))
    raise NotAPackage(path, f"a file ending in '{path.suffix}'")
