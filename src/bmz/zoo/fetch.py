"""Fetch the files of a package into the cache: one by one, or all in a zip archive."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Literal

from bmz.base.errors import CouldNotTell
from bmz.base.files import move, sha256_of
from bmz.base.progress import Listener, nobody
from bmz.base.values import dataclass
from bmz.zoo.archive import unpack
from bmz.zoo.errors import FileNotInPackage, HashRefused, NotAPackage, Offline, Refused, Unreachable
from bmz.zoo.http import Client
from bmz.zoo.package import Package, Remote, silent, stand_in
from bmz.zoo.settings import ZooSettings
from bmz.zoo.store import (
    MANIFESTS,
    NOTES,
    Origin,
    Stamp,
    alone,
    files_in,
    folder_of,
    forget,
    hash_and_stamp,
    inside,
    keep_manifest,
    keeping,
    kept_manifest,
    key_of,
    note_address,
    noted_address,
    read_stamp,
    renew_origin,
    stamp_as,
    stamp_of,
)
from bmz.zoo.transfer import Arrival, Parcel, bring, bring_settled


def adopt_zip(
    client: Client, url: str, model: str, listener: Listener, *, again: bool = False
) -> Path:
    """Download a zip, move its files into the cache, and return the manifest there.

    Parameters
    ----------
    again : whether to download it even if it is cached, since one of its files is damaged

    Raises
    ------
    NotAPackage, ArchiveRefused
        The file is not a zip, is unsafe, or has no manifest.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        The zip cannot be downloaded, or cannot be cached.
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
            raise NotAPackage(url, "the answer was empty")
        try:
            unpacked = unpack(arrival.path, settings.cache, called=url)
            try:
                return _take_over(client, unpacked, Origin(model, "", url, is_zip=True))
            finally:
                shutil.rmtree(unpacked, ignore_errors=True)
        finally:  # what is not a package must not be used the next time
            shutil.rmtree(room, ignore_errors=True)


def _take_over(client: Client, unpacked: Path, origin: Origin) -> Path:
    source = top_manifest(unpacked, called=origin.url)
    sha256 = sha256_of(source)
    folder = folder_of(client.settings.cache, sha256)
    for name in files_in(source.parent):
        if name == source.name:
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        move(source.parent / name, folder / name)
        hash_and_stamp(folder, name)
    # last, so that a package with a manifest has all its files
    manifest = keep_manifest(client.settings, source.read_bytes(), source.name, origin)
    note_address(client.settings, origin.url, sha256)
    return manifest


def top_manifest(folder: Path, *, called: Path | str = "") -> Path:
    """Find the manifest in `folder`, or in the one folder within it that has one.

    Parameters
    ----------
    folder : folder of a package, or of an unpacked zip
    called : the name by which the user knows it, if it is not its path

    Raises
    ------
    NotAPackage
        There is none, or there are several.
    """
    if (own := _manifest_in(folder)) is not None:
        return own
    inner = [manifest for manifest in map(_manifest_in, packages_in_folder(folder)) if manifest]
    if len(inner) > 1:
        names = ", ".join(manifest.parent.name for manifest in inner)
        raise NotAPackage(called or folder, f"it contains {len(inner)} packages: {names}")
    if inner:
        return inner[0]
    raise NotAPackage(called or folder, f"it contains none of {', '.join(MANIFESTS)}")


def packages_in_folder(folder: Path) -> tuple[Path, ...]:
    """Return the package folders directly in a folder that is not itself a package, sorted."""
    if not folder.is_dir() or _manifest_in(folder) is not None:
        return ()
    return tuple(top for top in sorted(folder.iterdir()) if _manifest_in(top) is not None)


def _manifest_in(folder: Path) -> Path | None:
    named = (folder / name for name in MANIFESTS)
    return next((manifest for manifest in named if manifest.is_file()), None)


def sizes_of(
    package: Package, names: Iterable[str], settings: ZooSettings
) -> Mapping[str, int | None]:
    """Return the sizes of files in bytes; None for a size that is unknown.

    Without a network, sizes that are not known from disk are None.
    """
    paths = tuple(names)
    folder = package.manifest.parent
    sizes: dict[str, int | None] = {
        name: (folder / name).stat().st_size if (folder / name).is_file() else None
        for name in paths
    }
    missing = [name for name, size in sizes.items() if size is None]
    if not missing or package.remote is None or settings.offline:
        return sizes
    with Client(settings) as client:
        listed = _listed(client, package, "")
        for inner in sorted({str(PurePosixPath(name).parent) for name in missing} - {"."}):
            listed |= {f"{inner}/{k}": v for k, v in _listed(client, package, inner).items()}
    return sizes | {name: listed.get(name) for name in missing}


def _listed(client: Client, package: Package, folder: str) -> dict[str, int]:
    url = package.remote.listing_url(folder) if package.remote else None
    if url is None:
        return {}
    try:
        entries = json.loads(client.get(url, tries=2))
    except (CouldNotTell, ValueError, RecursionError):
        return {}
    if not isinstance(entries, list):
        return {}
    mappings = (entry for entry in entries if isinstance(entry, dict))
    return {
        e["name"]: e["size"]
        for e in mappings
        if isinstance(e.get("size"), int) and isinstance(e.get("name"), str)
    }


Action = Literal["cached", "downloaded", "changed-allowed"]


@dataclass(frozen=True)
class WantedFile:
    """A file that the manifest names.

    Parameters
    ----------
    name : its path within the package, with ``/``
    sha256 : sha256 that the manifest states; None if it states none
    what : role of the file, for messages, such as ``"onnx weights"``
    url : address of the file if the manifest states a full URL; None for a file of the package
    """

    name: str
    sha256: str | None
    what: str
    url: str | None = None


@dataclass(frozen=True)
class FetchedFile:
    """The result of fetching one file.

    Parameters
    ----------
    action : ``changed-allowed`` if it is not the file described, but the user accepts it
    sha256 : sha256 of the file on disk
    """

    name: str
    action: Action
    bytes: int
    sha256: str


@dataclass(frozen=True)
class FetchContext:
    """The package and the options of one call that fetches files."""

    package: Package
    client: Client
    listener: Listener
    allow_changed: bool

    @property
    def folder(self) -> Path:
        """Return the folder of the package."""
        return self.package.manifest.parent


def judge(stamp: Stamp | None, sha256: str | None, *, allow_changed: bool) -> Action | None:
    """Decide whether an existing file may be used; None if it must be fetched.

    Parameters
    ----------
    stamp : stamp of the file as it is now; None if it does not exist
    sha256 : sha256 in the manifest; if None, the file must be the one that was fetched first
    """
    if stamp is None:
        return None
    if stamp.sha256 == (sha256 or stamp.first):
        return "cached"
    return "changed-allowed" if allow_changed and stamp.allowed else None


def bring_beside(context: FetchContext, file: WantedFile, sha256: str | None) -> FetchedFile:
    """Fetch a file that does not exist or is not the right one; its lock must be held.

    Raises
    ------
    HashRefused, FileNotInPackage, Offline, Unreachable, Refused, CertificateRefused
        The file cannot be fetched.
    OSError
        The file cannot be cached.
    """
    remote = context.package.remote
    if sha256 and _linked(context, file, sha256):
        stamp = hash_and_stamp(context.folder, file.name)
        return FetchedFile(file.name, "cached", stamp.size, stamp.sha256)
    if remote is not None and remote.is_zip and file.url is None:
        return _out_of_zip(context, file, sha256, remote)
    url = file.url or (remote.file_url(file.name) if remote else "")
    return _downloaded(context, file, sha256, url)


def _linked(context: FetchContext, file: WantedFile, sha256: str) -> bool:
    for layer in context.client.settings.layers:
        layer_file = folder_of(layer, context.folder.name) / file.name
        if layer_file.is_file() and sha256_of(layer_file) == sha256:
            target = context.folder / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = context.folder / NOTES / f"link-{key_of(file.name)}"
            temporary.unlink(missing_ok=True)
            _link_or_copy(layer_file.absolute(), temporary)
            move(temporary, target)
            return True
    return False


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError:  # Windows requires a permission to create links
        shutil.copyfile(source, target)


def _out_of_zip(
    context: FetchContext, file: WantedFile, sha256: str | None, remote: Remote
) -> FetchedFile:
    try:
        adopt_zip(context.client, remote.url, context.package.id, context.listener, again=True)
    except Offline as why:
        raise _offline(context, file) from why
    stamp = stamp_of(context.folder, file.name)
    if stamp is None:
        raise _missing(context, file)
    action = judge(stamp, sha256, allow_changed=context.allow_changed)
    if action is None and not context.allow_changed:
        expected = sha256 or stamp.first
        raise HashRefused(context.package.id, file.name, expected=expected, actual=stamp.sha256)
    if action is None:
        stamp = stamp_as(context.folder, file.name, stamp.sha256, allowed=True)
    done: Action = "downloaded" if action == "cached" else "changed-allowed"
    return FetchedFile(file.name, done, stamp.size, stamp.sha256)


def _downloaded(
    context: FetchContext, file: WantedFile, sha256: str | None, url: str
) -> FetchedFile:
    expected = sha256 or _seen_first(context, file)
    room = context.folder / NOTES / "arrivals" / key_of(f"{file.name} {url}")
    arrival = _arrival(context, file, expected, Parcel(url, room, file.name))
    if arrival.path is None:
        raise HashRefused(
            context.package.id, file.name, expected=expected or "", actual=arrival.sha256
        )
    instead = "" if sha256 else stand_in(arrival.path, file.name)
    if instead:
        arrival.path.unlink()
        raise Unreachable(url, f"the answer is not '{file.name}': {instead}")
    target = context.folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    move(arrival.path, target)
    with suppress(OSError):
        room.rmdir()
    right = expected in {None, arrival.sha256}
    stamp = stamp_as(context.folder, file.name, arrival.sha256, allowed=not right)
    action: Action = "downloaded" if right else "changed-allowed"
    return FetchedFile(file.name, action, stamp.size, stamp.sha256)


def _seen_first(context: FetchContext, file: WantedFile) -> str | None:
    """Return the sha256 that a file without a stated one must keep; None if any is accepted."""
    before, here = read_stamp(context.folder, file.name), context.folder / file.name
    if before is not None and here.is_file() and stand_in(here, file.name):
        forget(context.folder, before)
        return None
    return before.first if before else None


def _arrival(
    context: FetchContext, file: WantedFile, sha256: str | None, parcel: Parcel
) -> Arrival:
    try:
        return bring_settled(
            context.client, parcel, sha256, context.listener, allow_changed=context.allow_changed
        )
    except Offline as why:
        raise _offline(context, file) from why
    except Refused as why:
        if why.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            raise _missing(context, file) from why
        raise


def _offline(context: FetchContext, file: WantedFile) -> Offline:
    what = f"file '{file.name}' ({file.what}) of '{context.package.id}'"
    return Offline(what, context.package.id)


def _missing(context: FetchContext, file: WantedFile) -> FileNotInPackage:
    hint = "tell the authors of the model, or choose other weights with --weights"
    return FileNotInPackage(context.package.id, file.name, file.what, hint=hint)


__all__ = ["Action", "FetchReport", "FetchedFile", "WantedFile", "fetch_files", "sizes_of"]


@dataclass(frozen=True)
class FetchReport:
    """The result of each file, in the order of the request."""

    package: Package
    files: tuple[FetchedFile, ...]


def fetch_files(
    package: Package,
    files: Sequence[WantedFile],
    settings: ZooSettings,
    *,
    listener: Listener = nobody,
    allow_changed: bool = False,
) -> FetchReport:
    """Fetch `files` next to the manifest of `package`, and verify each.

    An existing file is hashed if its size or times have changed since it was last hashed. A file
    without a stated sha256 must stay as it was when first fetched. A file in a read-only layer is
    linked. `listener` receives ``Progress`` of the stage ``bytes``.

    Parameters
    ----------
    package : package from ``locate``; if it has no remote, the files are only verified
    files : files to fetch
    settings : settings with the cache
    allow_changed : whether to accept a file whose sha256 differs from the manifest

    Raises
    ------
    HashRefused, FileNotInPackage, FileLeavesPackage
        A file is not the one described, does not exist, or is outside the package.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        A file cannot be downloaded, or cannot be cached.
    """
    for file in files:
        inside(package.id, file.name)
    with Client(settings) as client:
        context = FetchContext(package, client, listener, allow_changed=allow_changed)
        return FetchReport(package, tuple(_one(context, file) for file in files))


def _one(context: FetchContext, file: WantedFile) -> FetchedFile:
    sha256 = file.sha256.lower() if file.sha256 else None
    if context.package.remote is None and file.url is None:
        return _verified_here(context, file, sha256)
    done = _as_it_lies(context, file, sha256)
    if done is not None:
        return done
    lock = context.folder / NOTES / "locks" / f"{key_of(file.name)}.lock"
    with keeping(context.client.settings), alone(lock, context.listener, file.name):
        # another process may have fetched it while this one waited
        return _as_it_lies(context, file, sha256) or bring_beside(context, file, sha256)


def _as_it_lies(context: FetchContext, file: WantedFile, sha256: str | None) -> FetchedFile | None:
    stamp = stamp_of(context.folder, file.name)
    if stamp is not None and sha256 is None and stand_in(context.folder / file.name, file.name):
        return None
    action = judge(stamp, sha256, allow_changed=context.allow_changed)
    if stamp is None or action is None:
        return None
    return FetchedFile(file.name, action, stamp.size, stamp.sha256)


def _verified_here(context: FetchContext, file: WantedFile, sha256: str | None) -> FetchedFile:
    path = context.folder / file.name
    if not path.is_file():
        hint = "download the whole package again, or choose available weights with --weights"
        raise FileNotInPackage(context.package.id, file.name, file.what, hint=hint)
    actual = sha256_of(path)
    right = sha256 in {None, actual}
    if not right and not context.allow_changed:
        raise HashRefused(context.package.id, file.name, expected=sha256 or "", actual=actual)
    return FetchedFile(
        file.name, "cached" if right else "changed-allowed", path.stat().st_size, actual
    )
