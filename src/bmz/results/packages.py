"""What authors of models get: packages of checkpoints, and descriptions with what they lacked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bmz.base.errors import BmzError
from bmz.base.values import dataclass
from bmz.results.models import ModelTestResult


@dataclass(frozen=True)
class AdoptedPackage:
    """A package that was made of a checkpoint.

    Parameters
    ----------
    checkpoint : path of its file or folder
    package, archive : the folder and the zip that were written
    family : the program that the checkpoint is of
    why : how that was recognised
    notes : what the author should still state or look at
    """

    checkpoint: str
    package: Path
    archive: Path
    family: str
    why: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class AdoptFailure:
    """Why no package was made of a checkpoint."""

    checkpoint: str
    error: BmzError


@dataclass(frozen=True)
class AdoptSummary:
    """The fate of every checkpoint, in the order of the call.

    Parameters
    ----------
    outcomes : packages, each with what ``bmz test`` says of it, and failures
    """

    outcomes: tuple[tuple[AdoptedPackage, ModelTestResult] | AdoptFailure, ...]

    @property
    def exit_status(self) -> int:
        """Say 0 when all are adopted and pass, the common status when none is, else 1."""
        failed = {o.error.exit_status for o in self.outcomes if isinstance(o, AdoptFailure)}
        tests = [o[1] for o in self.outcomes if not isinstance(o, AdoptFailure)]
        if failed:
            return failed.pop() if not tests and len(failed) == 1 else 1
        return 0 if all(test.status == "passed" for test in tests) else 1


@dataclass(frozen=True)
class Proposal:
    """One entry that a description lacks.

    Parameters
    ----------
    where : the field of the description
    value : of the entry
    why : how it is known
    """

    where: str
    value: Any
    why: str


@dataclass(frozen=True)
class DescribedPackage:
    """A package that was written with what its description lacked.

    Parameters
    ----------
    model : the word by which it was asked for
    package : the new folder
    text : for a pull request
    proposals : what was added
    refused : what was left out, since the description would not be valid with it, and why
    """

    model: str
    package: Path
    text: Path
    proposals: tuple[Proposal, ...]
    refused: tuple[Proposal, ...] = ()
