"""Settings: where models come from, where they are cached, and whose code the user trusts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bmz.base.errors import CouldNotTell
from bmz.base.files import whole_file, writable_folder
from bmz.base.notes import read_json, value_of
from bmz.base.values import dataclass
from bmz.zoo.errors import LimitUnclear, MirrorUnclear

if TYPE_CHECKING:
    from filelock import FileLock


INDEX = "https://bioimage-io.github.io/collection/index.json"
"""The static index: identity, versions and sha256 of every manifest."""

ARTIFACTS = "https://hypha.aicell.io/bioimage-io/artifacts"
"""The artifacts of the collection; the files of a model lie below ``<alias>/files/``."""

HUGGING_FACE = "https://huggingface.co"
"""Repositories that hold a package in their folder ``package``."""


ANSWER_VARIABLE, DOWNLOAD_VARIABLE = "BMZ_ANSWER_SECONDS", "BMZ_DOWNLOAD_SECONDS"

ANSWER_S = 300.0
"""Limit for a list or a description, which have at most some 100 kB."""

DOWNLOAD_S = 86_400.0
"""Limit for a file; weights may have some GB."""


@dataclass(frozen=True)
class ZooSettings:
    """Where a model comes from, and where it is cached.

    Parameters
    ----------
    cache : the cache folder of the user
    layers : further cache folders, which are only read, in order
    index_url : address of the index, http(s) or file
    offline : whether the network may not be used
    mirrors : pairs of prefixes; a URL that starts with the first goes to the second
    allow_changed : accept the description of a model although the index lists another sha256
    answer_s : seconds that a list or a description may take, including all attempts
    download_s : seconds that a file may take, including all attempts
    models : packages of the user, or folders of several, that ``bmz fit`` ranks with the zoo
    """

    cache: Path
    layers: tuple[Path, ...] = ()
    index_url: str = INDEX
    offline: bool = False
    mirrors: tuple[tuple[str, str], ...] = ()
    allow_changed: bool = False
    answer_s: float = ANSWER_S
    download_s: float = DOWNLOAD_S
    models: tuple[str, ...] = ()

    def mirrored(self, url: str) -> str:
        """Return the URL that is used instead of `url`; the longest prefix decides.

        A prefix ends between parts of the URL, so that ``https://a.org`` is not a prefix of
        ``https://a.org.example``.
        """
        fitting = [pair for pair in self.mirrors if _starts(url, pair[0])]
        if not fitting:
            return url
        start, instead = max(fitting, key=lambda pair: len(pair[0]))
        return instead + url[len(start) :]


def _starts(url: str, start: str) -> bool:
    rest = url[len(start) :]
    return url.startswith(start) and (not rest or start.endswith("/") or rest[0] in "/?#")


def settings_from_environment(environment: Mapping[str, str] | None = None) -> ZooSettings:
    """Read ``BMZ_CACHE_DIR``, ``_CACHE_PATH``, ``_INDEX_URL``, ``_OFFLINE``, ``_MIRROR``.

    It also reads ``BMZ_MODELS`` and the limits ``BMZ_ANSWER_SECONDS`` and ``BMZ_DOWNLOAD_SECONDS``.

    Raises
    ------
    MirrorUnclear
        A part of ``BMZ_MIRROR`` is not ``FROM=TO`` with two addresses.
    LimitUnclear
        A limit is not a number of seconds above 0.
    """
    import platformdirs  # imported here, since other users of this module need no cache

    variables = os.environ if environment is None else environment
    named = variables.get("BMZ_CACHE_DIR")
    layers, models = (
        tuple(filter(None, variables.get(name, "").split(os.pathsep)))
        for name in ("BMZ_CACHE_PATH", "BMZ_MODELS")
    )
    return ZooSettings(
        cache=Path(named) if named else Path(platformdirs.user_cache_dir("bmz")),
        layers=tuple(map(Path, layers)),
        index_url=variables.get("BMZ_INDEX_URL") or INDEX,
        offline=variables.get("BMZ_OFFLINE", "").lower() not in {"", "0", "false", "no"},
        mirrors=_mirrors(variables.get("BMZ_MIRROR", "")),
        answer_s=_seconds(variables, ANSWER_VARIABLE, ANSWER_S),
        download_s=_seconds(variables, DOWNLOAD_VARIABLE, DOWNLOAD_S),
        models=models,
    )


def _seconds(variables: Mapping[str, str], variable: str, usual: float) -> float:
    text = variables.get(variable, "")
    if not text:
        return usual
    try:
        seconds = float(text)
    except ValueError as why:
        raise LimitUnclear(variable, text) from why
    if not 0 < seconds < float("inf"):
        raise LimitUnclear(variable, text)
    return seconds


def _mirrors(text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        start, _, instead = part.partition("=")
        if "://" not in start or "://" not in instead:
            raise MirrorUnclear(part)
        pairs.append((start, instead))
    return tuple(pairs)


SCHEMA = "bmz.trust/1"


class TrustUnreadable(CouldNotTell):
    """The list of trusted code is damaged; bmz never guesses its content."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the list of trusted code '{path}' cannot be read: {why}",
            hint="remove the file, and add the models that you trust again: bmz trust add MODEL",
            code="trust.unreadable",
        )


@dataclass(frozen=True)
class TrustedCode:
    """Code that may run.

    Parameters
    ----------
    sha256 : sha256 of the code; this alone decides
    model : the name by which the user trusted it, for messages
    weights_format : format of the weights entry
    what : the code in one line
    added : date and time, ISO 8601
    """

    sha256: str
    model: str
    weights_format: str
    what: str
    added: str


def read_trust(settings: ZooSettings) -> tuple[TrustedCode, ...]:
    """Return the trusted code, the oldest first. Shared cache folders have no influence on it.

    Raises
    ------
    TrustUnreadable
    """
    path = place(settings)
    try:
        document = read_json(path)
        if document["schema"] != SCHEMA:
            raise TrustUnreadable(path, f"wanted {SCHEMA}, found {document['schema']}")
        return tuple(value_of(TrustedCode, entry) for entry in document["trusted"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as why:
        raise TrustUnreadable(path, str(why) or type(why).__name__) from why


def add_trust(settings: ZooSettings, entries: Iterable[TrustedCode]) -> None:
    """Add code to the list; code that is on it keeps its date.

    Raises
    ------
    TrustUnreadable, FolderNotWritable
    """
    with _locked(settings):
        held = {entry.sha256: entry for entry in read_trust(settings)}
        for entry in entries:
            held.setdefault(entry.sha256, entry)
        _write(settings, held.values())


def remove_trust(settings: ZooSettings, sha256s: Iterable[str]) -> tuple[TrustedCode, ...]:
    """Remove code from the list, and return what was removed.

    Raises
    ------
    TrustUnreadable, FolderNotWritable
    """
    unwanted = set(sha256s)
    with _locked(settings):
        held = read_trust(settings)
        gone = tuple(entry for entry in held if entry.sha256 in unwanted)
        if gone:
            _write(settings, [entry for entry in held if entry not in gone])
    return gone


def place(settings: ZooSettings) -> Path:
    """Return the path of the list."""
    return settings.cache / "trust.json"


def _locked(settings: ZooSettings) -> FileLock:
    from filelock import FileLock  # imported here, since reading needs no lock

    return FileLock(writable_folder(settings.cache) / "trust.lock")


def _write(settings: ZooSettings, entries: Iterable[TrustedCode]) -> None:
    document = {"schema": SCHEMA, "trusted": [asdict(entry) for entry in entries]}
    with whole_file(place(settings)) as temporary:
        temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
