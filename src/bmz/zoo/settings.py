"""Settings: where models come from, and where they are cached."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bmz.zoo.errors import LimitUnclear, MirrorUnclear

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
    index_url : http(s) or file
    offline : whether the network may not be used
    mirrors : pairs of prefixes; a URL that starts with the first goes to the second
    allow_changed : accept the description of a model although the index lists another sha256
    answer_s : seconds that a list or a description may take, including all attempts
    download_s : the same for a file
    """

    cache: Path
    layers: tuple[Path, ...] = ()
    index_url: str = INDEX
    offline: bool = False
    mirrors: tuple[tuple[str, str], ...] = ()
    allow_changed: bool = False
    answer_s: float = ANSWER_S
    download_s: float = DOWNLOAD_S

    def mirrored(self, url: str) -> str:
        """Return the URL that is used instead of `url`; the longest prefix decides.

        A prefix ends between parts of the URL, so that ``https://a.org`` is no prefix of
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

    It also reads the limits ``BMZ_ANSWER_SECONDS`` and ``BMZ_DOWNLOAD_SECONDS``.

    Raises
    ------
    MirrorUnclear
        A part of ``BMZ_MIRROR`` is no ``FROM=TO`` of two addresses.
    LimitUnclear
        A limit is no number of seconds above 0.
    """
    import platformdirs  # here: settings are also named where nothing is cached

    variables = os.environ if environment is None else environment
    named = variables.get("BMZ_CACHE_DIR")
    layers = variables.get("BMZ_CACHE_PATH", "").split(os.pathsep)
    return ZooSettings(
        cache=Path(named) if named else Path(platformdirs.user_cache_dir("bmz")),
        layers=tuple(Path(layer) for layer in layers if layer),
        index_url=variables.get("BMZ_INDEX_URL") or INDEX,
        offline=variables.get("BMZ_OFFLINE", "").lower() not in {"", "0", "false", "no"},
        mirrors=_mirrors(variables.get("BMZ_MIRROR", "")),
        answer_s=_seconds(variables, ANSWER_VARIABLE, ANSWER_S),
        download_s=_seconds(variables, DOWNLOAD_VARIABLE, DOWNLOAD_S),
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
