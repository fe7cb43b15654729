"""What was fetched of each model."""

from __future__ import annotations

from dataclasses import dataclass

from bmz.base.errors import BmzError
from bmz.zoo.fetch import FetchedFile


@dataclass(frozen=True)
class Fetched:
    """A model that lies in the cache with what was asked for.

    Parameters
    ----------
    model : the name by which it was asked for
    folder : where its files lie
    weights : the formats whose files are there
    files : what became of each
    """

    model: str
    folder: str
    weights: tuple[str, ...]
    files: tuple[FetchedFile, ...]


@dataclass(frozen=True)
class NotFetched:
    """Why a model could not be fetched whole."""

    model: str
    error: BmzError


@dataclass(frozen=True)
class FetchSummary:
    """The fate of every model, in the order of the call."""

    outcomes: tuple[Fetched | NotFetched, ...]

    @property
    def exit_status(self) -> int:
        """Say 0 when all are there, the common status when all failed alike, else 1."""
        failed = {o.error.exit_status for o in self.outcomes if isinstance(o, NotFetched)}
        if not failed:
            return 0
        some = any(isinstance(outcome, Fetched) for outcome in self.outcomes)
        return failed.pop() if not some and len(failed) == 1 else 1
