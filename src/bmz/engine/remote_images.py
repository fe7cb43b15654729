"""Images that lie on servers: files are brought into the cache, OME-Zarr by what is read of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.files import whole_file
from bmz.base.progress import Listener, Note, nobody
from bmz.base.values import dataclass
from bmz.engine.s3 import is_s3, s3_settings, signature, url_of
from bmz.image.given_names import remember_names
from bmz.image.ome_zarr import is_node
from bmz.image.remote import (
    MARK,
    address_in_zip,
    bring_metadata,
    follow_marks_below,
    forget_absent,
    is_address,
    is_zipped,
    use_fetcher,
)
from bmz.zoo.errors import Refused
from bmz.zoo.http import Client
from bmz.zoo.settings import ZooSettings, settings_from_environment
from bmz.zoo.store import alone, keeping, key_of
from bmz.zoo.transfer import Download, Parcel

HOSTS_VARIABLE = "BMZ_IMAGE_HOSTS"

_NOT_THERE = frozenset({404, 410})
_DENIED = 403
_NOT_DENIED = re.compile(r"<Code>(?!AccessDenied|AllAccessDisabled)\w+</Code>")
"""What a store says that takes the credentials for wrong, rather than having no such file."""

_REFUSED_HINT = "check the address, and for a bucket the credentials; --resume goes on afterwards"

_ZARR = re.compile(r"(?P<root>\w+://(?:[^/]+/)?.*?\.zarr)(?=/|$)(?P<within>.*)")


class HostRefused(CouldNotTell):
    """Images of this server are not allowed here."""

    def __init__(self, address: str, hosts: str) -> None:
        super().__init__(
            f"images of {urlsplit(address).netloc} are not allowed: {HOSTS_VARIABLE} is {hosts}",
            hint=f"add the host to {HOSTS_VARIABLE}, or copy the image to this computer",
            code="image.host",
        )


class AddressLeadsNowhere(CouldNotTell):
    """The server has no image there."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"there is no image at {address}",
            hint="check the address; of an OME-Zarr name the folder with zarr.json or .zattrs"
            + "; what is not public needs AWS_PROFILE or AWS_ACCESS_KEY_ID" * is_s3(address),
            code="image.not-found",
        )


def local_image(
    source: str, settings: ZooSettings | None = None, listener: Listener = nobody
) -> Path:
    """Give a path under which an image on a server can be read.

    A file is brought whole, and is kept. Of an OME-Zarr only metadata are brought; chunks follow
    when they are read, and are kept, too; of one that is zipped on this computer likewise.
    ``s3://bucket/key`` is read with the credentials and at the endpoint that
    `bmz.engine.s3.s3_settings` finds, else without credentials at that of Amazon.

    Parameters
    ----------
    source : an address; anything else is given back as a path
    settings : of the cache and the network; None for those of the environment

    Raises
    ------
    HostRefused
        ``BMZ_IMAGE_HOSTS`` does not name the server, or one that it leads to.
    KeysMissing
        The credentials for a bucket are not whole.
    AddressLeadsNowhere
        There is no image.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        It cannot be had, or not be kept.
    """
    chosen = settings or settings_from_environment()
    if is_zipped(source):
        with keeping(chosen):
            return _unzipped(Path(source).expanduser(), chosen)
    if not is_address(source):
        return Path(source).expanduser()
    _refuse_host(_url(source))
    with keeping(chosen):
        zarr = _ZARR.fullmatch(source.partition("?")[0])
        if zarr is not None:
            return _zarr(zarr["root"], zarr["within"].strip("/"), chosen)
        return _file(source, chosen, listener)


@dataclass(frozen=True)
class LocalImages:
    """The words of a call, in which paths stand in for addresses.

    Parameters
    ----------
    words : in the order of the call
    names : path -> the address that it stands for, or the zipped OME-Zarr
    absent : an address that leads to no image, and why
    """

    words: tuple[str, ...]
    names: Mapping[Path, str]
    absent: Mapping[str, BmzError]


def local_images(
    words: Iterable[str], settings: ZooSettings | None = None, listener: Listener = nobody
) -> LocalImages:
    """Give each word as it is, and addresses as paths; see `local_image`.

    Images are called by their addresses from now on; see `bmz.image.given_names`.
    """
    local: list[str] = []
    names: dict[Path, str] = {}
    absent: dict[str, BmzError] = {}
    for word in words:
        local.append(word)
        if not (is_address(word) or is_zipped(word)):
            continue
        names[Path(word)] = word  # a path has one slash where an address has two
        try:
            path = local_image(word, settings, listener)
        except BmzError as why:
            absent[word] = why
            continue
        names[path], local[-1] = word, str(path)
    remember_names(names)
    return LocalImages(tuple(local), names, absent)


def _url(address: str) -> str:
    return url_of(address, s3_settings(os.environ))


def _signature(address: str) -> Mapping[str, str]:
    if not is_s3(address):
        return {}
    settings = s3_settings(os.environ)
    return signature(url_of(address, settings), settings)


def _refuse_host(address: str) -> None:
    allowed = os.environ.get(HOSTS_VARIABLE, "")
    hosts = [host.strip().lower() for host in allowed.split(",") if host.strip()]
    parts = urlsplit(address)
    if hosts and not {parts.netloc.lower(), (parts.hostname or "").lower()} & set(hosts):
        raise HostRefused(address, allowed)


def _file(address: str, settings: ZooSettings, listener: Listener) -> Path:
    name = Path(unquote(urlsplit(address).path)).name
    if not name:
        raise AddressLeadsNowhere(address)
    folder = settings.cache / "images" / key_of(_url(address))
    target = folder / name
    with alone(folder.with_suffix(".lock"), listener, name):
        if not target.is_file():
            listener(Note(f"{name} is brought from {urlsplit(_url(address)).netloc}, and kept"))
            if not _brought(settings, address, target, listener):
                raise AddressLeadsNowhere(address)
    return target


def _unzipped(path: Path, settings: ZooSettings) -> Path:
    state = path.stat()
    key = key_of(f"{path.absolute()} {state.st_size} {state.st_mtime_ns}")
    name = re.sub(r"(\.ome)?\.(ozx|zarr\.zip)$", ".zarr", path.name, flags=re.IGNORECASE)
    folder = settings.cache / "images" / key / name
    _mark(folder, address_in_zip(path))
    bring_metadata(folder)
    return folder


def _mark(folder: Path, address: str) -> None:
    follow_marks_below(folder.parent.parent)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARK).is_file():
        with whole_file(folder / MARK) as temporary:
            temporary.write_text(address, encoding="utf-8")


def _zarr(root: str, within: str, settings: ZooSettings) -> Path:
    use_fetcher(partial(_brought, settings))
    name = Path(unquote(urlsplit(root).path)).name or urlsplit(root).netloc
    folder = settings.cache / "images" / key_of(_url(root)) / name
    _mark(folder, root)
    image = folder / within
    if not is_node(image):
        forget_absent(image)  # it may be there another time
        raise AddressLeadsNowhere(f"{root}/{within}".rstrip("/"))
    return image


def _brought(
    settings: ZooSettings, address: str, target: Path, listener: Listener = nobody
) -> bool:
    notes, key = target.parent / ".bmz", key_of(address)
    parcel = Parcel(_url(address), notes / key, target.name, partial(_signature, address))
    # other processes may read the same image; few locks for what may be very many chunks
    with keeping(settings), alone(notes / f"{key[:2]}.lock", nobody, target.name):
        if target.is_file():
            return True
        parcel.folder.mkdir(parents=True, exist_ok=True)
        whole = parcel.folder / "whole"
        try:
            Download(_client(settings), parcel, listener)(parcel.url, str(whole), None)
        except Refused as why:
            if _says_absent(why):
                return False
            raise Refused(parcel.url, why.status, why.why, _REFUSED_HINT) from why
        whole.replace(target)
        with suppress(OSError):  # it is only in the way
            parcel.folder.rmdir()
        return True


def _says_absent(refusal: Refused) -> bool:
    """Say whether a server has no such file; a store that does not list its files says 403."""
    if refusal.status == _DENIED:
        return _NOT_DENIED.search(refusal.message) is None
    return refusal.status in _NOT_THERE


@cache
def _client(settings: ZooSettings) -> Client:
    # one set of connections for all chunks of all images
    return Client(settings, _refuse_host)


def follow_addresses(settings: ZooSettings) -> None:
    """Let this process read images in folders of the cache that stand for a server's."""
    follow_marks_below(settings.cache / "images")
    use_fetcher(partial(_brought, settings))
