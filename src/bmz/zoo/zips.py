"""A whole package that lies on the net as a zip."""

from __future__ import annotations

import shutil
from pathlib import Path

from bmz.base.progress import Listener
from bmz.zoo.archive import unpack
from bmz.zoo.errors import NotAPackage
from bmz.zoo.http import Client
from bmz.zoo.package import silent
from bmz.zoo.stamps import hash_and_stamp, sha256_of
from bmz.zoo.store import (
    MANIFESTS,
    Origin,
    alone,
    files_in,
    folder_of,
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
    """Download a zip, take its files into the cache, and give the manifest there.

    Parameters
    ----------
    again : load it even if it is kept, since a file of it is damaged

    Raises
    ------
    NotAPackage, ArchiveRefused
        It is no zip, an unsafe one, or has no manifest.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        It cannot be had, or not be kept.
    """
    settings = client.settings
    room = settings.cache / "arrivals" / key_of(url)
    lock = settings.cache / "locks" / f"{key_of(url)}.lock"
    with keeping(settings), alone(lock, listener, model):
        kept = kept_manifest(settings, noted_address(settings, url) or "")
        if kept is not None and not again:
            renew_origin(kept.parent, Origin(model, "", url, is_zip=True))
            return kept
        arrival = bring(client, Parcel(silent(url), room, model), None, listener)
        if arrival.path is None:  # without a sha256 whatever came is wanted
            raise NotAPackage(url, "nothing came")
        try:
            unpacked = unpack(arrival.path, settings.cache, called=url)
            try:
                return _take_over(client, unpacked, Origin(model, "", url, is_zip=True))
            finally:
                shutil.rmtree(unpacked, ignore_errors=True)
        finally:  # what is no package must not be taken for it the next time
            shutil.rmtree(room, ignore_errors=True)


def _take_over(client: Client, unpacked: Path, origin: Origin) -> Path:
    found = top_manifest(unpacked, called=origin.url)
    sha256 = sha256_of(found)
    folder = folder_of(client.settings.cache, sha256)
    for name in files_in(found.parent):
        if name == found.name:
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (found.parent / name).replace(folder / name)
        hash_and_stamp(folder, name)
    # last, so that a package that is there has all its files
    manifest = keep_manifest(client.settings, found.read_bytes(), found.name, origin)
    note_address(client.settings, origin.url, sha256)
    return manifest


def top_manifest(folder: Path, *, called: Path | str = "") -> Path:
    """Find the manifest in `folder`, or in the only folders within it.

    Parameters
    ----------
    folder : of a package, or a zip unpacked
    called : what the user calls it, when that is not its path

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
