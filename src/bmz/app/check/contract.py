"""``bmz check --contract`` and ``--lock``: hold images and objects to a contract, or write one."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from bmz.app.run import run
from bmz.base.errors import AnswerIsNo
from bmz.base.progress import Event, Listener, Note, nobody
from bmz.check.contract import Contract, ImageFacts, broken, contract_of
from bmz.engine.image_header import read_spread, with_pixel_size
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.results.images import CheckSummary, ImageCheck, ImageRun

DIAMETER = "equivalent_diameter_area_px"


class NotLocked(AnswerIsNo):
    """An image does not fit, so no contract can be made from it."""

    def __init__(self, image: ImageCheck) -> None:
        why = image.error.message if image.error else image.report.errors[0].message
        super().__init__(
            f"no contract was written, because '{image.name}' does not fit: {why}",
            hint="make it from images that the model fits",
            code="lock.not-fitting",
        )


def with_words(request: RunRequest, contract: Contract) -> RunRequest:
    """Fill in the options of the contract that the call does not give."""
    unsaid = {key: value for key, value in contract.options.items() if not getattr(request, key)}
    return replace(request, **unsaid)


def held(
    summary: CheckSummary, request: RunRequest, contract: Contract, listener: Listener = nobody
) -> CheckSummary:
    """Add a finding to the check of an image for each rule of a contract that it breaks.

    Images that fit are run if the contract has rules on objects.

    Parameters
    ----------
    summary : of the check of all images
    request : the model, the images and their options
    """
    fitting = [checked.image for checked in summary.images if _fits(checked)]
    objects = _objects(request, fitting, listener) if contract.runs else {}
    images = []
    for checked in summary.images:
        if _fits(checked):
            facts = _facts(checked, request, objects.get(checked.image))
            more = broken(contract, facts, summary.model_sha256)
            images.append(replace(checked, report=checked.report.with_more(more)))
        else:
            images.append(checked)
    return replace(summary, images=tuple(images))


def locked(summary: CheckSummary, request: RunRequest, listener: Listener = nobody) -> Contract:
    """Run the model on images known to be good, and make a contract from the results.

    Raises
    ------
    NotLocked, ImagesDiffer
        An image does not fit, or they are not alike.
    """
    wrong = next((checked for checked in summary.images if not _fits(checked)), None)
    if wrong is not None:
        raise NotLocked(wrong)
    objects = _objects(request, [checked.image for checked in summary.images], listener)
    facts = [_facts(checked, request, objects.get(checked.image)) for checked in summary.images]
    options = {
        "axes": request.axes,
        "channels": request.channels,
        "pixel_um": dict(request.pixel_um),
        "scale": request.scale,
        "kind": None if request.kind is None else str(request.kind),
    }
    return contract_of(request.model, summary.model_sha256, options, facts)


def _fits(checked: ImageCheck) -> bool:
    return checked.error is None and not checked.report.errors


def _objects(
    request: RunRequest, images: Sequence[Path], listener: Listener
) -> Mapping[Path, tuple[int, float | None]]:
    """Run the model; return the number of objects and their median diameter for each image."""
    if not images:
        return {}
    with tempfile.TemporaryDirectory(prefix="bmz-") as folder:
        table_request = replace(
            request, images=tuple(images), folder=Path(folder), save=frozenset({"table"})
        )
        summary = run(table_request, _only_progress(listener))
        if summary.failed:
            raise summary.failed[0].error
        return {done.image: _measured(done) for done in summary.done}


def _only_progress(listener: Listener) -> Listener:
    # what the run notes of an image, the check has said
    def pass_progress(event: Event) -> None:
        if not isinstance(event, Note):
            listener(event)

    return pass_progress


def _measured(done: ImageRun) -> tuple[int, float | None]:
    with done.files["table"].open(encoding="utf-8", newline="") as file:
        diameters = [float(row[DIAMETER]) for row in csv.DictReader(file) if row.get(DIAMETER)]
    return done.objects or 0, median(diameters) if diameters else None


def _facts(
    checked: ImageCheck, request: RunRequest, objects: tuple[int, float | None] | None
) -> ImageFacts:
    info = inspect_image(checked.image, axes=request.axes, series=checked.series or 0)
    info = with_pixel_size(info, request.pixel_um)
    facts = ImageFacts.of(info, read_spread(info), request.channels, checked.report.kind)
    count, diameter = objects or (None, None)
    return replace(facts, objects=count, diameter_px=diameter)
