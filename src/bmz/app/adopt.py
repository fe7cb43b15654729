"""``bmz adopt`` and ``describe``: packages from checkpoints, and completed descriptions."""

from __future__ import annotations

from pathlib import Path

from bmz.app.model_test import ModelTestRequest, check_model
from bmz.base.errors import BmzError
from bmz.base.progress import Listener, Progress, nobody
from bmz.engine.adoption import AdoptRequest, adopted
from bmz.engine.description import DescribeRequest, described
from bmz.results.models import ModelTestResult
from bmz.results.packages import AdoptedPackage, AdoptFailure, AdoptSummary, DescribedPackage
from bmz.zoo.settings import ZooSettings, settings_from_environment

__all__ = ["AdoptRequest", "DescribeRequest", "adopt", "describe"]


def adopt(
    request: AdoptRequest, settings: ZooSettings | None = None, listener: Listener = nobody
) -> AdoptSummary:
    """Write a package from each checkpoint, and test it; a failure never stops the others.

    Parameters
    ----------
    listener : called after each checkpoint
    """
    settings = settings or settings_from_environment()
    outcomes: list[tuple[AdoptedPackage, ModelTestResult] | AdoptFailure] = []
    for number, path in enumerate(request.checkpoints, start=1):
        try:
            package = adopted(path, request, settings, listener)
        except BmzError as why:
            outcomes.append(AdoptFailure(str(path), why))
        else:
            outcomes.append((package, _tested(package.package, listener)))
        listener(Progress("models", number, len(request.checkpoints), str(path)))
    return AdoptSummary(tuple(outcomes))


def _tested(package: Path, listener: Listener) -> ModelTestResult:
    words = str(package) if package.is_absolute() else f"./{package.as_posix()}"
    return check_model(words, ModelTestRequest((words,)), listener)


def describe(
    request: DescribeRequest, settings: ZooSettings | None = None, listener: Listener = nobody
) -> DescribedPackage:
    """Write a copy of a package with a completed description, and a text about the changes.

    Raises
    ------
    BmzError
        See ``bmz.engine.description.described``.
    """
    return described(request, settings or settings_from_environment(), listener)
