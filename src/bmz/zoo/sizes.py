"""How large files are before they are fetched."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from bmz.base.errors import CouldNotTell
from bmz.zoo.http import Client
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings


def sizes_of(
    package: Package, names: Iterable[str], settings: ZooSettings
) -> Mapping[str, int | None]:
    """Give the size of files in bytes; None where neither disk nor service says it.

    Never fails for want of a network: what cannot be asked for is None.
    """
    wanted = tuple(names)
    folder = package.manifest.parent
    sizes: dict[str, int | None] = {
        name: (folder / name).stat().st_size if (folder / name).is_file() else None
        for name in wanted
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
    found = (entry for entry in entries if isinstance(entry, dict))
    return {
        e["name"]: e["size"]
        for e in found
        if isinstance(e.get("size"), int) and isinstance(e.get("name"), str)
    }
