"""Which code of models the user trusts, remembered by sha256."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bmz.base.errors import CouldNotTell
from bmz.base.files import whole_file, writable_folder
from bmz.base.notes import read_json, value_of
from bmz.zoo.settings import ZooSettings

if TYPE_CHECKING:
    from filelock import FileLock

SCHEMA = "bmz.trust/1"


class TrustUnreadable(CouldNotTell):
    """The list of what is trusted is damaged; it is never guessed at."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"the list of trusted code '{path}' cannot be read: {why}",
            hint="remove the file and trust anew what you need: bmz trust add MODEL",
            code="trust.unreadable",
        )


@dataclass(frozen=True)
class Trusted:
    """Code that may run.

    Parameters
    ----------
    sha256 : of the code, see ``bmz.spec.code.ModelCode``; this alone decides
    model : by which name it was trusted, to be told
    weights_format : of the entry
    what : the code in one line
    added : date and time, ISO 8601
    """

    sha256: str
    model: str
    weights_format: str
    what: str
    added: str


def read_trust(settings: ZooSettings) -> tuple[Trusted, ...]:
    """Give what is trusted, the oldest first. Shared cache folders have no say in it.

    Raises
    ------
    TrustUnreadable
    """
    path = place(settings)
    try:
        document = read_json(path)
        if document["schema"] != SCHEMA:
            raise TrustUnreadable(path, f"wanted {SCHEMA}, found {document['schema']}")
        return tuple(value_of(Trusted, entry) for entry in document["trusted"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as why:
        raise TrustUnreadable(path, str(why) or type(why).__name__) from why


def add_trust(settings: ZooSettings, entries: Iterable[Trusted]) -> None:
    """Remember code; what is remembered already keeps its date.

    Raises
    ------
    TrustUnreadable, FolderNotWritable
    """
    with _locked(settings):
        held = {entry.sha256: entry for entry in read_trust(settings)}
        for entry in entries:
            held.setdefault(entry.sha256, entry)
        _write(settings, held.values())


def remove_trust(settings: ZooSettings, sha256s: Iterable[str]) -> tuple[Trusted, ...]:
    """Forget code, and give what was forgotten.

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
    """Give the path of the list."""
    return settings.cache / "trust.json"


def _locked(settings: ZooSettings) -> FileLock:
    from filelock import FileLock  # here: what is only read needs no lock

    return FileLock(writable_folder(settings.cache) / "trust.lock")


def _write(settings: ZooSettings, entries: Iterable[Trusted]) -> None:
    document = {"schema": SCHEMA, "trusted": [asdict(entry) for entry in entries]}
    with whole_file(place(settings)) as temporary:
        temporary.write_text(json.dumps(document, indent=1), encoding="utf-8")
