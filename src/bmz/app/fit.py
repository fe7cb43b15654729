"""``bmz fit``: every model of the zoo by how well it fits one image, before weights are fetched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bmz.app.search import FilterUnknown, has_task
from bmz.app.search.ranking import all_cards
from bmz.base.errors import BmzError, WrongUsage
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.check.finding import CheckReport
from bmz.check.fit import (
    UNKNOWN,
    Merits,
    check_header,
    check_values,
    fit_score,
    size_closeness,
    stain_closeness,
)
from bmz.check.fit_case import FitCase
from bmz.check.measured import PlaneMeasures, image_measures
from bmz.check.pixel_values import ValueSummary
from bmz.engine.image_header import SAMPLE_PX, with_pixel_size
from bmz.engine.load import describe, tensor_files
from bmz.engine.measure import sample_measures
from bmz.engine.model_check import model_findings
from bmz.image.info import ImageInfo
from bmz.image.inspect import inspect_image
from bmz.image.region import read_sample
from bmz.predict.frameworks import usable_formats
from bmz.results.fit import SHOWN, FitView, ModelFit
from bmz.results.search import Card
from bmz.spec.facts import TASKS
from bmz.spec.model import ModelSpec
from bmz.zoo.fetch import fetch_files
from bmz.zoo.index import Index, IndexEntry, load_index
from bmz.zoo.locate import STARTER, locate, starter_names
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings


@dataclass(frozen=True)
class FitRequest:
    """The words of one call of ``bmz fit``.

    Parameters
    ----------
    image : a file; of several series in it the first is looked at
    task : models for it rank higher; words of it will do. None for any segmentation, since it is
        label masks that bmz makes
    top : of how many of the best the samples are fetched when `measure`
    axes : the user's word for the axes of the file
    channels : image channel for each model channel; -1 for zeros
    pixel_um : the user's word for the pixel size, um
    measure : fetch the test tensors of the best and compare them with the image
    refresh : read the index again even when it is young
    """

    image: Path
    task: str | None = None
    top: int | None = None
    axes: str | None = None
    channels: tuple[int, ...] | None = None
    pixel_um: Mapping[str, float] = field(default_factory=dict)
    measure: bool = False
    refresh: bool = False


class ChannelAbsent(WrongUsage):
    """``--channels`` names a channel that the image does not have."""

    def __init__(self, wanted: int, found: int) -> None:
        super().__init__(
            f"--channels asks for number {wanted}, the image has {found} (the first is 0)",
            hint=f"name channels from 0 to {found - 1}",
            code="fit.channels",
        )


@dataclass(frozen=True)
class MeasuredImage:
    """The image, read and measured once for all models.

    Parameters
    ----------
    info : its header, with the user's words
    values : a sample of its pixels, in short
    measured : by channel of the model
    """

    info: ImageInfo
    values: ValueSummary
    measured: Mapping[int, PlaneMeasures]


@dataclass(frozen=True)
class Candidate:
    """A model that can be read."""

    package: Package
    model: ModelSpec
    card: Card


def fit(request: FitRequest, settings: ZooSettings, listener: Listener = nobody) -> FitView:
    """Rank all models; nothing but the index and new descriptions is fetched unless asked for.

    Raises
    ------
    FilterUnknown, ChannelAbsent
        There is no such task or channel.
    IndexUnavailable
        The index cannot be had, and none is kept.
    BmzError
        The image cannot be read, or does not say what its axes are.
    """
    if request.task and not any(has_task(task, request.task) for task in TASKS):
        raise FilterUnknown("task", request.task, TASKS)
    image = read_measured(request, listener)
    index = load_index(settings, listener=listener, refresh=request.refresh)
    index = replace(index, entries=(*index.entries, *starters()))
    candidates, broken = _sorted_out(index, settings, listener)
    judge = _Judge(request, image, settings)
    fits = {candidate.card.id: judge(candidate) for candidate in candidates}
    if request.measure:
        best = {model.id for model in ranked(fits.values())[: request.top or SHOWN]}
        chosen = [
            candidate
            for candidate in candidates
            if candidate.card.id in best and not fits[candidate.card.id].sampled
        ]
        fetch_samples(chosen, settings, listener)
        fits |= {candidate.card.id: judge(candidate) for candidate in chosen}
    models = (*ranked(fits.values()), *broken)
    return FitView(request.image, models, index.fetched_at, index.stale)


def read_measured(request: FitRequest, listener: Listener = nobody) -> MeasuredImage:
    """Read the header and a sample of the image, and measure it.

    Raises
    ------
    BmzError
        It cannot be read, or a word does not suit it.
    """
    info = with_pixel_size(inspect_image(request.image, axes=request.axes), request.pixel_um)
    if info.series_count > 1:
        listener(Note(f"{request.image.name} holds {info.series_count} images: the first is taken"))
    found = info.sizes.get("c", 1)
    if request.channels and max(request.channels) >= found:
        raise ChannelAbsent(max(request.channels), found)
    pixels = read_sample(info, SAMPLE_PX)
    taken = tuple(range(found)) if request.channels is None else request.channels
    return MeasuredImage(info, ValueSummary(pixels), image_measures(pixels, taken))


def starters() -> Iterator[IndexEntry]:
    """Yield the models that come with bmz in the form of the index."""
    from bmz.zoo.store import sha256_of

    for name in starter_names():
        manifest = locate(STARTER + name).manifest
        yield IndexEntry(STARTER + name, "", sha256_of(manifest), "", manifest=manifest)


def ranked(models: Iterable[ModelFit]) -> tuple[ModelFit, ...]:
    """Put the highest score first; equal ones stand in the order of their names."""
    return tuple(sorted(models, key=lambda model: (-model.score, model.id)))


def fetch_samples(
    candidates: Iterable[Candidate], settings: ZooSettings, listener: Listener
) -> None:
    """Fetch the test inputs of models of the zoo; one that fails never stops the others."""
    chosen = list(candidates)
    for number, candidate in enumerate(chosen, start=1):
        wanted = tuple(tensor_files(replace(candidate.model, outputs=())))
        try:
            package = locate(candidate.card.id, settings, listener=listener)
            if package.remote is not None:
                fetch_files(package, wanted, settings, listener=listener)
        except BmzError as why:
            listener(Note(f"the sample of {candidate.card.id} is not compared: {why}"))
        listener(Progress("samples", number, len(chosen), candidate.card.id))


def _sorted_out(
    index: Index, settings: ZooSettings, listener: Listener
) -> tuple[list[Candidate], list[ModelFit]]:
    """Part the models that can be read from the others."""
    candidates, broken = list[Candidate](), list[ModelFit]()
    cards = all_cards(index, settings, listener=listener)
    for entry, card in zip(index.entries, cards, strict=True):
        if card.status != "ok" or entry.manifest is None:
            why = card.reason or "its manifest is not there"
            broken.append(
                ModelFit(card.id, card.version, None, 0.0, status=card.status, broken=why)
            )
            continue
        model = describe(entry.manifest, settings, model_id=card.id)
        candidates.append(Candidate(Package(card.id, entry.manifest), model, card))
    return candidates, broken


class _Judge:
    """Hold the image against one model after the other."""

    def __init__(self, request: FitRequest, image: MeasuredImage, settings: ZooSettings) -> None:
        self._named = request.task is not None
        self._wish = request.task or "segmentation"
        self._channels = request.channels
        self._image = image
        self._settings = settings
        self._usable = {name for name, install in usable_formats().items() if not install}

    def __call__(self, candidate: Candidate) -> ModelFit:
        sample = sample_measures(candidate.package, candidate.model, self._settings)
        info = self._image.info
        case = FitCase(candidate.model, info, self._channels, sample=sample)
        case = replace(case, measured=self._measured(case))
        report, card = self._report(candidate, case), candidate.card
        return ModelFit(
            card.id,
            card.version,
            report.verdict,
            self._score(case, card, report),
            report.findings,
            card.task,
            self._runs(card),
            card.labels,
            bool(sample),
        )

    def _measured(self, case: FitCase) -> Mapping[int, PlaneMeasures]:
        """Give the measures of each channel of the model, which may take them by name."""
        measured = self._image.measured
        if self._channels is not None:
            return measured  # of these channels alone
        taken = enumerate(case.channels_taken)
        return {at: measured[channel] for at, channel in taken if channel in measured}

    def _runs(self, card: Card) -> tuple[str, ...]:
        return tuple(name for name in card.weights if name in self._usable)

    def _score(self, case: FitCase, card: Card, report: CheckReport) -> float:
        wished = has_task(card.task, self._wish)
        # who wishes for a task without labels does not miss them
        against = [f for f in report.findings if not (wished and f.is_only_for_labels)]
        merits = Merits(
            task=UNKNOWN if card.task is None else float(wished),
            labels=float(card.labels is not None or len(against) < len(report.findings)),
            weights=float(bool(self._runs(card))),
            size=size_closeness(case),
            stain=stain_closeness(case),
        )
        return fit_score(against, merits, wished=self._named)

    def _report(self, candidate: Candidate, case: FitCase) -> CheckReport:
        """Say what ``bmz check`` says."""
        header, fetched = check_header(case), not candidate.card.id.startswith(STARTER)
        report = header.report
        if header.is_runnable:
            report = check_values(header, self._image.values)
        of_model = model_findings(candidate.model, self._settings, fetched=fetched)
        return CheckReport((*of_model, *report.findings))
