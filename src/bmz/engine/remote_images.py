"""Images that lie on servers: files are brought into the cache, OME-Zarr by what is read of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bmz.base.errors import BmzError, CouldNotTell, not_none
from bmz.base.files import whole_file
from bmz.base.progress import Listener, Note, nobody
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

_S3 = "s3"
_NOT_THERE = frozenset({403, 404, 410})
"""Answers by which servers say that there is no such file; some stores say 403."""


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
            hint="check the address; of an OME-Zarr name the folder with zarr.json or .zattrs",
            code="image.not-found",
        )


def local_image(
    word: str, settings: ZooSettings | None = None, listener: Listener = nobody
) -> Path:
    """Give a path under which an image on a server can be read.

    A file is brought whole, and is kept. Of an OME-Zarr only metadata are brought; chunks follow
    when they are read, and are kept, too; of one that is zipped on this computer likewise.
    ``s3://bucket/key`` is read without credentials, at the endpoint in ``AWS_ENDPOINT_URL`` or at
    that of Amazon.

    Parameters
    ----------
    word : an address; anything else is given back as a path
    settings : of the cache and the network; None for those of the environment

    Raises
    ------
    HostRefused
        ``BMZ_IMAGE_HOSTS`` does not name the server.
    AddressLeadsNowhere
        There is no image.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        It cannot be had, or not be kept.
    """
    chosen = settings or settings_from_environment()
    if is_zipped(word):
        with keeping(chosen):
            return _unzipped(Path(word).expanduser(), chosen)
    if not is_address(word):
        return Path(word).expanduser()
    address = _https(word)
    _refuse_host(address)
    with keeping(chosen):
        if re.search(r"\.zarr(/|$)", urlsplit(address).path):
            return _zarr(address, chosen)
        return _file(address, chosen, listener)


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


def _https(word: str) -> str:
    if urlsplit(word).scheme.lower() != _S3:
        return word
    parts = urlsplit(word)
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "").rstrip("/")
    if endpoint:
        return f"{endpoint}/{parts.netloc}{parts.path}"
    return f"https://{parts.netloc}.s3.amazonaws.com{parts.path}"


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
    folder = settings.cache / "images" / key_of(address)
    target = folder / name
    with alone(folder.with_suffix(".lock"), listener, name):
        if not target.is_file():
            listener(Note(f"{name} is brought from {urlsplit(address).netloc}, and kept"))
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


def _zarr(address: str, settings: ZooSettings) -> Path:
    use_fetcher(partial(_brought, settings))
    parts = urlsplit(address)
    path = parts.path.rstrip("/")
    end = not_none(re.search(r"\.zarr(?=/|$)", path))
    root = f"{parts.scheme}://{parts.netloc}{path[: end.end()]}"
    folder = settings.cache / "images" / key_of(root) / Path(unquote(path[: end.end()])).name
    _mark(folder, root)
    image = folder / path[end.end() :].lstrip("/")
    if not is_node(image):
        forget_absent(image)  # it may be there another time
        raise AddressLeadsNowhere(address)
    return image


def _brought(
    settings: ZooSettings, address: str, target: Path, listener: Listener = nobody
) -> bool:
    with keeping(settings):
        parcel = Parcel(address, target.parent / ".bmz" / key_of(address), target.name)
        parcel.folder.mkdir(parents=True, exist_ok=True)
        whole = parcel.folder / "whole"
        try:
            Download(_client(settings), parcel, listener)(address, str(whole), None)
        except Refused as why:
            if why.status in _NOT_THERE:
                return False
            raise
        whole.replace(target)
        return True


@cache
def _client(settings: ZooSettings) -> Client:
    # one set of connections for all chunks of all images
    return Client(settings)


def follow_addresses(settings: ZooSettings) -> None:
    """Let this process read images in folders of the cache that stand for a server's."""
    follow_marks_below(settings.cache / "images")
    use_fetcher(partial(_brought, settings))
