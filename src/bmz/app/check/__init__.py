"""``bmz check``: does each image fit the model? Every finding at once, nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.base.files import sha256_of
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.check.finding import CheckReport, Finding
from bmz.check.fit import CheckedHeader, check_image
from bmz.engine.image_header import check_file_header, read_spread
from bmz.engine.load import find_model, model_findings
from bmz.engine.request import RunRequest, TrialOptions
from bmz.engine.test_tensors import sample_measures
from bmz.image.formats import name_of
from bmz.image.series import ALL, with_fields
from bmz.results.images import CheckSummary, ImageCheck
from bmz.zoo.settings import settings_from_environment

MOST_LOOKED_AT = 32
"""Of more images than these only the headers are read; the pixels of an evenly spread sample."""


def check(
    request: RunRequest,
    listener: Listener = nobody,
    *,
    every: bool = False,
    trial: TrialOptions | None = None,
) -> CheckSummary:
    """Check every image, and every series of a file that holds several.

    Parameters
    ----------
    request : model, images and the words on them; what concerns outputs is not looked at
    listener : is notified of files as they are done
    every : read pixels of every image, however many there are
    trial : the model is tried on every image, too; None for no trial

    Raises
    ------
    BmzError
        The model cannot be found or read. What concerns one image is in the summary.
    """
    settings = settings_from_environment()
    package, model = find_model(request.model, settings, listener=listener)
    sample = sample_measures(package, model, settings)
    of_model = tuple(
        model_findings(
            model,
            settings,
            fetched=package.remote is not None,
            weights_format=request.weights,
            trust=request.trust,
        )
    )
    # all images of a file are counted as they are checked
    series_choice = None if request.series == ALL else request.series
    every_image = list(with_fields(request.images, series_choice))
    total = len(every_image)
    looked_at = frozenset(range(total)) if every else evenly_spread(total, MOST_LOOKED_AT)
    if len(looked_at) < total:
        listener(
            Note(
                f"reading the pixels of {len(looked_at)} of {total} images, and the headers of all"
            )
        )
    images: list[ImageCheck] = []
    for number, image in enumerate(every_image):
        checked_header = partial(check_file_header, model, image, request, sample)
        images += _checked(checked_header, image, of_model, pixels=number in looked_at)
        listener(Progress("files", number + 1, total, name_of(image)))
    summary = CheckSummary(model.id, model.sha256, tuple(images), request.kind)
    if trial is None:
        return summary
    from bmz.app.check.trial import with_trials  # here: it loads what runs a network

    return with_trials(summary, request, trial, listener)


def check_chain(
    request: RunRequest,
    listener: Listener = nobody,
    *,
    every: bool = False,
    trial: TrialOptions | None = None,
) -> CheckSummary:
    """Check every image for every step of a chain; see `check`.

    A step whose input is the mask of another one is left out, with a note: that does not exist yet.

    Parameters
    ----------
    request : its model is the file of the chain

    Raises
    ------
    ChainNotFound, ChainUnreadable
        There is no such file, or it is not a chain.
    BmzError
        See `check`.
    """
    from bmz.app.chain import Chain  # here: most calls are of one model

    file = Path(request.model)
    images: list[ImageCheck] = []
    for step in Chain.read(file).steps:
        if step.waits:
            told = "its input is the mask of another step, and is checked when it exists"
            listener(Note(f"step {step.name}: {told}"))
            continue
        listener(Note(f"step {step.name}: {step.options['model']}"))
        # masks that an earlier step has still to make cannot be checked
        own = replace(step.request(request), relations={}, prompts=None)
        checked = check(own, listener, every=every, trial=trial).images
        images += [replace(image, step=step.name) for image in checked]
    return CheckSummary(request.model, sha256_of(file), tuple(images), request.kind)


def evenly_spread(total: int, most: int) -> frozenset[int]:
    """Choose at most `most` numbers of 0 to `total` - 1, the first and the last among them.

    Examples
    --------
    >>> sorted(evenly_spread(10, 4)), sorted(evenly_spread(3, 4))
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if total <= most:
        return frozenset(range(total))
    return frozenset(i * (total - 1) // (most - 1) for i in range(most))


def _checked(
    checked_header: Callable[..., CheckedHeader],
    image: Path,
    of_model: tuple[Finding, ...],
    *,
    pixels: bool,
) -> Iterator[ImageCheck]:
    series, count = 0, 1
    while series < count:
        try:
            header = checked_header(series=series)
            # one image of a file is asked for by its own path
            count = 1 if header.case.image.series_key else header.case.image.series_count
            of_image = check_image(header, read_spread) if pixels else header.report
            report = replace(of_image, findings=(*of_model, *of_image.findings))
            yield ImageCheck(image, series if count > 1 else None, report, None)
        except BmzError as why:
            yield ImageCheck(image, series if count > 1 else None, CheckReport(()), why)
        series += 1


def strict(summary: CheckSummary) -> CheckSummary:
    """Make warnings count as errors."""

    def hardened(image: ImageCheck) -> ImageCheck:
        findings = tuple(
            replace(f, severity="error") if f.severity == "warning" else f
            for f in image.report.findings
        )
        return replace(image, report=replace(image.report, findings=findings))

    return replace(summary, images=tuple(map(hardened, summary.images)))
