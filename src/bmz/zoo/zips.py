"""Zipped packages: found in an archive, and taken into the cache."""

from __future__ import annotations

import shutil
from pathlib import Path

from bmz.base.files import sha256_of
from bmz.base.progress import Listener
from bmz.zoo.archive import unpack
from bmz.zoo.errors import NotAPackage
from bmz.zoo.http import Client
from bmz.zoo.package import silent
from bmz.zoo.store import (
    MANIFESTS,
    Origin,
    alone,
    files_in,
    folder_of,
    hash_and_stamp,
    keep_manifest,
    keeping,
    kept_manifest,
    key_of,
    note_address,
    noted_address,
    renew_origin,
)
from bmz.zoo.transfer import Parcel, bring


def adopt_zip(
    client: Client, url: str, model: str, listener: Listener, *, again: bool = False
) -> Path:
    """Download a zip, move its files into the cache, and return the manifest there.

    Parameters
    ----------
    again : download it even if it is cached, since one of its files is damaged

    Raises
    ------
    NotAPackage, ArchiveRefused
        It is no zip, is unsafe, or has no manifest.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        It cannot be downloaded, or cannot be cached.
    """
    settings = client.settings
    room = settings.cache / "arrivals" / key_of(url)
    lock = settings.cache / "locks" / f"{key_of(url)}.lock"
    with keeping(settings), alone(lock, listener, model):
        cached = kept_manifest(settings, noted_address(settings, url) or "")
        if cached is not None and not again:
            renew_origin(cached.parent, Origin(model, "", url, is_zip=True))
            return cached
        arrival = bring(client, Parcel(silent(url), room, model), None, listener)
        if arrival.path is None:  # without a sha256, anything that arrives is accepted
            raise NotAPackage(url, "nothing came")
        try:
            unpacked = unpack(arrival.path, settings.cache, called=url)
            try:
                return _take_over(client, unpacked, Origin(model, "", url, is_zip=True))
            finally:
                shutil.rmtree(unpacked, ignore_errors=True)
        finally:  # what is no package must not be used the next time
            shutil.rmtree(room, ignore_errors=True)


def _take_over(client: Client, unpacked: Path, origin: Origin) -> Path:
    source = top_manifest(unpacked, called=origin.url)
    sha256 = sha256_of(source)
    folder = folder_of(client.settings.cache, sha256)
    for name in files_in(source.parent):
        if name == source.name:
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (source.parent / name).replace(folder / name)
        hash_and_stamp(folder, name)
    # last, so that a package with a manifest has all its files
    manifest = keep_manifest(client.settings, source.read_bytes(), source.name, origin)
    note_address(client.settings, origin.url, sha256)
    return manifest


def top_manifest(folder: Path, *, called: Path | str = "") -> Path:
    """Find the manifest in `folder`, or in the only folders within it.

    Parameters
    ----------
    folder : of a package, or a zip unpacked
    called : the name by which the user knows it, if it is not its path

    Raises
    ------
    NotAPackage
        There is none.
    """
    tops = [folder, *(p for p in sorted(folder.iterdir()) if p.is_dir())]
    for top in tops:
        for name in MANIFESTS:
            if (top / name).is_file():
                return top / name
    raise NotAPackage(called or folder, f"it holds none of {', '.join(MANIFESTS)}")
