"""Read images from servers: fetch files into the cache, and of an OME-Zarr only what is read.

Requests to addresses ``s3://bucket/key`` are signed if there are credentials.
"""

from __future__ import annotations

import configparser
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from bmz.base.errors import BmzError, CouldNotTell
from bmz.base.files import move, whole_file
from bmz.base.progress import Listener, Note, nobody
from bmz.base.values import dataclass
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

_S3 = "s3"
_REGION = "us-east-1"
_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class KeysMissing(CouldNotTell):
    """Credentials for a bucket are configured but incomplete."""

    def __init__(self, why: str, profile: str) -> None:
        command = f"eval $(aws configure export-credentials --profile {profile} --format env)"
        super().__init__(
            f"the credentials for the bucket are incomplete: {why}",
            hint=f"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for sign-on: {command}",
            code="image.credentials",
        )


@dataclass(frozen=True)
class S3Settings:
    """Settings for reading buckets.

    Parameters
    ----------
    endpoint : base address of the store; empty for Amazon's
    region : region of the signature
    key_id, secret, token : credentials; empty to read buckets without
    """

    endpoint: str = ""
    region: str = ""
    key_id: str = ""
    secret: str = ""
    token: str = ""


def is_s3(address: str) -> bool:
    """Return whether an address has the scheme ``s3``.

    Examples
    --------
    >>> is_s3("S3://bucket/a.tif"), is_s3("https://bucket.s3.amazonaws.com/a.tif")
    (True, False)
    """
    return urlsplit(address).scheme.lower() == _S3


def s3_settings(variables: Mapping[str, str]) -> S3Settings:
    """Read the environment variables and files of Amazon's own tools.

    Keys are ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_SESSION_TOKEN``, or those of
    the profile in ``AWS_PROFILE``; with neither, buckets are read without keys. The region is
    ``AWS_REGION``, ``AWS_DEFAULT_REGION`` or that of the profile, the endpoint
    ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL`` or that of the profile.
    Source: https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html

    Raises
    ------
    KeysMissing
        Only one of the two keys is set, or the profile does not exist or has no keys.
    """
    name = variables.get("AWS_PROFILE", "")
    profile = _profile(name, variables) if name else {}
    own = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    keys = [variables.get(word, "") for word in own]
    if not any(keys[:2]) and name:
        keys = [profile.get(word.lower(), "") for word in own]
        if not any(keys[:2]):
            raise KeysMissing(f"the profile '{name}' has no keys in {_files(variables)}", name)
    if bool(keys[0]) != bool(keys[1]):
        absent = own[1] if keys[0] else own[0]
        raise KeysMissing(f"{absent} is not set", name or "default")
    endpoints = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    endpoint = _first(variables, *endpoints) or profile.get("endpoint_url", "")
    region = _first(variables, "AWS_REGION", "AWS_DEFAULT_REGION") or profile.get("region", "")
    return S3Settings(endpoint.rstrip("/"), region, *keys)


def _first(variables: Mapping[str, str], *names: str) -> str:
    return next((variables[name] for name in names if variables.get(name)), "")


def _files(variables: Mapping[str, str]) -> str:
    return " and ".join(str(path) for path, _ in _profile_files("", variables))


def _profile_files(name: str, variables: Mapping[str, str]) -> list[tuple[Path, str]]:
    """Return the two files of profiles, and the section name of the profile in each."""
    folder = "~/.aws"
    credentials = variables.get("AWS_SHARED_CREDENTIALS_FILE") or f"{folder}/credentials"
    config = variables.get("AWS_CONFIG_FILE") or f"{folder}/config"
    section = name if name == "default" else f"profile {name}"
    return [(Path(config).expanduser(), section), (Path(credentials).expanduser(), name)]


def _profile(name: str, variables: Mapping[str, str]) -> dict[str, str]:
    profile: dict[str, str] = {}
    known = False
    for path, section in _profile_files(name, variables):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as why:
            first = str(why).partition("\n")[0]
            raise KeysMissing(f"'{path}' cannot be read ({first})", name) from why
        if parser.has_section(section):
            known = True
            profile |= dict(parser.items(section))
    if not known:
        raise KeysMissing(f"there is no profile '{name}' in {_files(variables)}", name)
    return profile


def url_of(address: str, settings: S3Settings) -> str:
    """Return the HTTP address of an S3 address; any other address is returned unchanged.

    Examples
    --------
    >>> url_of("s3://idr/zarr/a b.tif", S3Settings())
    'https://idr.s3.amazonaws.com/zarr/a%20b.tif'
    """
    if not is_s3(address):
        return address
    bucket, _, key = address.partition("://")[2].partition("/")
    place = quote(f"/{key}", safe="/-_.~")
    if settings.endpoint:
        return f"{settings.endpoint}/{bucket}{place}"
    if "." in bucket:  # Amazon's certificate does not cover such a name as a subdomain
        region = f".{settings.region}" if settings.region else ""
        return f"https://s3{region}.amazonaws.com/{bucket}{place}"
    return f"https://{bucket}.s3.amazonaws.com{place}"


def signature(
    url: str,
    settings: S3Settings,
    now: datetime | None = None,
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the headers that sign a GET request for an address; none without keys.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html

    Parameters
    ----------
    url : address as it is sent
    now : time of the request, UTC
    more : other headers to sign, by lowercase name
    """
    if not settings.key_id:
        return {}
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    own = {"x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": moment}
    if settings.token:
        own["x-amz-security-token"] = settings.token
    parts = urlsplit(url)
    headers = dict(sorted({"host": parts.netloc, **own, **(more or {})}.items()))
    names = ";".join(headers)
    lines = "".join(f"{name}:{value.strip()}\n" for name, value in headers.items())
    request = f"GET\n{parts.path or '/'}\n{parts.query}\n{lines}\n{names}\n{_EMPTY_SHA256}"
    scope = f"{moment[:8]}/{settings.region or _REGION}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{settings.secret}".encode()
    for word in (*scope.split("/"), f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}"):
        key = hmac.digest(key, word.encode(), "sha256")
    credential = f"Credential={settings.key_id}/{scope}"
    words = f"{_ALGORITHM} {credential},SignedHeaders={names},Signature={key.hex()}"
    return {**own, "Authorization": words}


HOSTS_VARIABLE = "BMZ_IMAGE_HOSTS"

_NOT_THERE = frozenset({404, 410})
_DENIED = 403
_NOT_DENIED = re.compile(r"<Code>(?!AccessDenied|AllAccessDisabled)\w+</Code>")
"""Response of a store that rejects the credentials, as opposed to having no such file."""

_REFUSED_HINT = "check the address, and for a bucket the credentials; then continue with --resume"

_ZARR = re.compile(r"(?P<root>\w+://(?:[^/]+/)?.*?\.zarr)(?=/|$)(?P<within>.*)")


class HostRefused(CouldNotTell):
    """Images from this server are not allowed."""

    def __init__(self, address: str, hosts: str) -> None:
        super().__init__(
            f"images from {urlsplit(address).netloc} are not allowed: {HOSTS_VARIABLE} is {hosts}",
            hint=f"add the host to {HOSTS_VARIABLE}, or copy the image to this computer",
            code="image.host",
        )


class AddressLeadsNowhere(CouldNotTell):
    """There is no image at an address."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"there is no image at {address}",
            hint="check the address; for an OME-Zarr, give the folder with zarr.json or .zattrs"
            + "; private data need AWS_PROFILE or AWS_ACCESS_KEY_ID" * is_s3(address),
            code="image.not-found",
        )


def local_image(
    source: str, settings: ZooSettings | None = None, listener: Listener = nobody
) -> Path:
    """Return a local path from which an image on a server can be read.

    A file is downloaded as a whole and cached. Of an OME-Zarr, including one zipped on this
    computer, only the metadata are fetched; chunks are fetched and cached when they are read.
    ``s3://bucket/key`` is read with the credentials and at the endpoint that
    `bmz.engine.remote_images.s3_settings` finds, else without credentials at that of Amazon.

    Parameters
    ----------
    source : an address; anything else is returned as a path
    settings : settings of the cache and the network; None for those of the environment

    Raises
    ------
    HostRefused
        ``BMZ_IMAGE_HOSTS`` does not name the server, or a server that it redirects to.
    KeysMissing
        The credentials for a bucket are incomplete.
    AddressLeadsNowhere
        There is no image.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        The image cannot be obtained or cached.
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
    """The arguments of a call, with addresses replaced by paths.

    Parameters
    ----------
    words : arguments in the order of the call
    names : path -> the address that it replaces, or the zipped OME-Zarr
    absent : address that leads to no image -> the error
    """

    words: tuple[str, ...]
    names: Mapping[Path, str]
    absent: Mapping[str, BmzError]


def local_images(
    words: Iterable[str], settings: ZooSettings | None = None, listener: Listener = nobody
) -> LocalImages:
    """Replace addresses by paths, using `local_image`; other words are unchanged.

    From then on, messages name images by their addresses; see `bmz.image.given_names`.
    """
    local: list[str] = []
    names: dict[Path, str] = {}
    absent: dict[str, BmzError] = {}
    for word in words:
        local.append(word)
        if not (is_address(word) or is_zipped(word)):
            continue
        names[Path(word)] = word  # Path reduces the two slashes of an address to one
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
            listener(
                Note(
                    f"downloading {name} from {urlsplit(_url(address)).netloc}; it stays in the "
                    "cache"
                )
            )
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
        forget_absent(image)  # it may exist later
        raise AddressLeadsNowhere(f"{root}/{within}".rstrip("/"))
    return image


def _brought(
    settings: ZooSettings, address: str, target: Path, listener: Listener = nobody
) -> bool:
    notes, key = target.parent / ".bmz", key_of(address)
    parcel = Parcel(_url(address), notes / key, target.name, partial(_signature, address))
    # other processes may read the same image; few locks, as there may be very many chunks
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
        move(whole, target)
        with suppress(OSError):  # a folder that is left behind does no harm
            parcel.folder.rmdir()
        return True


def _says_absent(refusal: Refused) -> bool:
    """Return whether a refusal means that there is no file; stores without listing answer 403."""
    if refusal.status == _DENIED:
        return _NOT_DENIED.search(refusal.message) is None
    return refusal.status in _NOT_THERE


@cache
def _client(settings: ZooSettings) -> Client:
    # one set of connections for all chunks of all images
    return Client(settings, _refuse_host)


def follow_addresses(settings: ZooSettings) -> None:
    """Let this process read images in folders of the cache that mirror those of a server."""
    follow_marks_below(settings.cache / "images")
    use_fetcher(partial(_brought, settings))
