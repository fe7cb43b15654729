"""The models that come with bmz, in the form of the index of the zoo."""

from __future__ import annotations

from collections.abc import Iterator

from bmz.zoo.index import IndexEntry
from bmz.zoo.locate import STARTER, locate, starter_names


def starters() -> Iterator[IndexEntry]:
    """Yield an entry for each."""
    from bmz.base.files import sha256_of

    for name in starter_names():
        manifest = locate(STARTER + name).manifest
        yield IndexEntry(STARTER + name, "", sha256_of(manifest), "", manifest=manifest)
