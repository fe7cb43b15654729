"""Results for authors of models: packages made from checkpoints, and completed descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bmz.base.errors import BmzError
from bmz.base.values import dataclass
from bmz.results.models import ModelTestResult


@dataclass(frozen=True)
class AdoptedPackage:
    """A package that was made from a checkpoint.

    Parameters
    ----------
    checkpoint : path of its file or folder
    package, archive : the folder and the zip that were written
    family : the program that the checkpoint comes from
    why : how the program was recognised
    notes : what the author should still state or review
    """

    checkpoint: str
    package: Path
    archive: Path
    family: str
    why: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class AdoptFailure:
    """Why no package was made from a checkpoint."""

    checkpoint: str
    error: BmzError


@dataclass(frozen=True)
class AdoptSummary:
    """The outcome of every checkpoint, in the order of the call.

    Parameters
    ----------
    outcomes : packages, each with its result of ``bmz test``, and failures
    """

    outcomes: tuple[tuple[AdoptedPackage, ModelTestResult] | AdoptFailure, ...]

    @property
    def exit_status(self) -> int:
        """Return 0 if all were adopted and pass, the common status if none was, else 1."""
        failed = {o.error.exit_status for o in self.outcomes if isinstance(o, AdoptFailure)}
        tests = [o[1] for o in self.outcomes if not isinstance(o, AdoptFailure)]
        if failed:
            return failed.pop() if not tests and len(failed) == 1 else 1
        return 0 if all(test.status == "passed" for test in tests) else 1


@dataclass(frozen=True)
class Proposal:
    """One entry that is missing from a description.

    Parameters
    ----------
    where : field of the description
    value : value of the entry
    why : evidence for the value
    """

    where: str
    value: Any
    why: str


@dataclass(frozen=True)
class DescribedPackage:
    """A package that was written with the entries missing from its description.

    Parameters
    ----------
    model : model as named in the call
    package : the new folder
    text : text for a pull request
    proposals : entries that were added
    refused : what was left out because the description would be invalid with it, and why
    """

    model: str
    package: Path
    text: Path
    proposals: tuple[Proposal, ...]
    refused: tuple[Proposal, ...] = ()
