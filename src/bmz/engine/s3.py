"""Addresses ``s3://bucket/key``: where they lead to, and the signature of who may read there."""

from __future__ import annotations

import configparser
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

from bmz.base.errors import CouldNotTell
from bmz.base.values import dataclass

_S3 = "s3"
_REGION = "us-east-1"
_ALGORITHM = "AWS4-HMAC-SHA256"
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class KeysMissing(CouldNotTell):
    """Credentials for a bucket are asked for, and are not whole."""

    def __init__(self, why: str, profile: str) -> None:
        command = f"eval $(aws configure export-credentials --profile {profile} --format env)"
        super().__init__(
            f"the credentials for the bucket are not whole: {why}",
            hint=f"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for sign-on: {command}",
            code="image.credentials",
        )


@dataclass(frozen=True)
class S3Settings:
    """How buckets are read.

    Parameters
    ----------
    endpoint : the start of the address of a store; empty for Amazon's
    region : of the signature
    key_id, secret, token : credentials; empty where buckets are read without
    """

    endpoint: str = ""
    region: str = ""
    key_id: str = ""
    secret: str = ""
    token: str = ""


def is_s3(address: str) -> bool:
    """Say whether an address is that of a bucket.

    Examples
    --------
    >>> is_s3("S3://bucket/a.tif"), is_s3("https://bucket.s3.amazonaws.com/a.tif")
    (True, False)
    """
    return urlsplit(address).scheme.lower() == _S3


def s3_settings(variables: Mapping[str, str]) -> S3Settings:
    """Read the variables and files of Amazon's own tools.

    Keys are ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_SESSION_TOKEN``, or those of
    the profile in ``AWS_PROFILE``; with neither, buckets are read without. The region is
    ``AWS_REGION``, ``AWS_DEFAULT_REGION`` or that of the profile, the endpoint
    ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL`` or that of the profile.
    Source: https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html

    Raises
    ------
    KeysMissing
        One of two keys is there, or the profile is not, or it has no keys in the files.
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
    """Give the two files of profiles, and what the profile is called in each."""
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
    """Give the address by which a server is asked; that of no bucket is given back.

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
    if "." in bucket:  # no certificate is for such a name before Amazon's
        region = f".{settings.region}" if settings.region else ""
        return f"https://s3{region}.amazonaws.com/{bucket}{place}"
    return f"https://{bucket}.s3.amazonaws.com{place}"


def signature(
    url: str,
    settings: S3Settings,
    now: datetime | None = None,
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Give the headers that sign a request for what lies at an address; none without keys.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html

    Parameters
    ----------
    url : as it is sent
    now : time of the request, UTC
    more : other headers that are signed, by their names in small letters
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
