"""A package on disk, and where the rest of its files comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

_SERVICE = re.compile(r"(?P<base>.*/artifacts/[^/]+)/(?:files/|create-zip-file$)")


@dataclass(frozen=True)
class Remote:
    """Where the files of a package come from.

    Parameters
    ----------
    url : of the manifest, or of a zip with the whole package
    version : of the zoo, such as ``v0``; empty when none was named
    index_sha256 : of the manifest, as the index states it; None when no index was asked
    is_zip : `url` is a zip
    """

    url: str
    version: str = ""
    index_sha256: str | None = None
    is_zip: bool = False

    def file_url(self, name: str) -> str:
        """Give the address of a file beside the manifest."""
        parts = urlsplit(self.url)
        beside = urljoin(urlunsplit(parts._replace(query="", fragment="")), quote(name))
        return silent(urlunsplit(urlsplit(beside)._replace(query=parts.query)))

    def listing_url(self, folder: str = "") -> str | None:
        """Give the address that lists the files of `folder`; None when it is no service."""
        found = _SERVICE.match(urlsplit(self.url).path)
        if found is None or self.is_zip:
            return None
        path = f"{found['base']}/files/" + (f"{quote(folder)}/" if folder else "")
        return silent(urlunsplit(urlsplit(self.url)._replace(path=path)))


@dataclass(frozen=True)
class Package:
    """A model package on disk.

    Parameters
    ----------
    id : the name by which it was asked for, in short
    manifest : path of its manifest; the files lie beside it once they are fetched
    remote : where they are fetched from; None for a package that is only here
    """

    id: str
    manifest: Path
    remote: Remote | None = None


def silent(url: str) -> str:
    """Ask the service not to count this download as one of its users."""
    parts = urlsplit(url)
    if _SERVICE.match(parts.path) is None or parts.scheme == "file":
        return url
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | {"silent": "true"}
    return urlunsplit(parts._replace(query=urlencode(query)))
