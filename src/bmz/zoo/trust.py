"""The code of models that the user trusts, by its sha256."""

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
    sha256 : of the code; this alone decides
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
