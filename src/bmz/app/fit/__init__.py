"""``bmz fit``: every model of the zoo by how well it fits images, before weights are fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bmz.app.fit.candidates import Candidate, candidates_of, own_candidates
from bmz.app.fit.channels import Channels
from bmz.app.fit.downloads import with_sizes
from bmz.app.fit.image import MeasuredImage, measured_image
from bmz.app.fit.judge import judged
from bmz.app.fit.order import ranked
from bmz.app.search import FilterUnknown, has_task
from bmz.app.search.bundled import starters
from bmz.base.channels import ChannelUnknown, ChannelWord, channel_numbers
from bmz.base.errors import BmzError, WrongUsage
from bmz.base.progress import Listener, Note, Progress, nobody
from bmz.engine.image_header import read_spread, with_pixel_size
from bmz.engine.image_result import with_fields
from bmz.engine.load import tensor_files
from bmz.engine.measure import sample_measures
from bmz.image.inspect import inspect_image
from bmz.results.fit import SHOWN, ModelFit, Ranking
from bmz.spec.facts import TASKS
from bmz.spec.stated_kind import StatedKind
from bmz.zoo.fetch import fetch_files
from bmz.zoo.index import load_index
from bmz.zoo.locate import locate
from bmz.zoo.settings import ZooSettings


@dataclass(frozen=True)
class FitRequest:
    """The words of one call of ``bmz fit``.

    Parameters
    ----------
    images : files; of several series in one the first is looked at
    task : models for it rank first; words of it will do. None for any that makes label masks
    top : of how many of the best the samples are fetched when `measure`
    models : further models, beside those of the zoo
    axes : the user's word for the axes of the files
    channels : image channel for each channel of the model, its number or its name; -1 for zeros;
        None to try which suit
    pixel_um : the user's word for the pixel size, um
    kind : the user's word for what the images are, over what their pixels tell
    measure : fetch the test tensors of the best and compare them with the images
    everything : rank test artefacts, and models that take no image, too
    refresh : read the index again even when it is young
    """

    images: tuple[Path, ...] = ()
    task: str | None = None
    top: int | None = None
    models: tuple[str, ...] = ()
    axes: str | None = None
    channels: tuple[ChannelWord, ...] | None = None
    pixel_um: Mapping[str, float] = field(default_factory=dict)
    kind: StatedKind | None = None
    measure: bool = False
    everything: bool = False
    refresh: bool = False

    @property
    def words(self) -> dict[str, str]:
        """Give what the user said of the images: option -> word."""
        said = {
            "--axes": self.axes,
            "--pixel-size": ",".join(f"{axis}={um}um" for axis, um in self.pixel_um.items()),
            "--kind": None if self.kind is None else str(self.kind),
        }
        return {option: word for option, word in said.items() if word}


class ChannelAbsent(WrongUsage):
    """``--channels`` names a channel that the image does not have.

    Parameters
    ----------
    wanted : number or name
    found : how many channels there are
    names : of these, where the file gives them
    """

    def __init__(self, wanted: ChannelWord, found: int, names: Sequence[str]) -> None:
        asked = f"number {wanted}" if isinstance(wanted, int) else f"'{wanted}'"
        called = ": " + ", ".join(f"{n} {name}" for n, name in enumerate(names)) if names else ""
        super().__init__(
            f"--channels asks for {asked}, the image has {found} (the first is 0){called}",
            hint=f"give numbers from 0 to {found - 1}" + (", or names" if names else ""),
            code="fit.channels",
        )


def fit(request: FitRequest, settings: ZooSettings, listener: Listener = nobody) -> Ranking:
    """Rank all models; nothing but the index and new descriptions is fetched unless asked for.

    Raises
    ------
    FilterUnknown, ChannelAbsent
        There is no such task or channel.
    IndexUnavailable
        The index cannot be had, and none is kept.
    BmzError
        An image cannot be read, or does not say what its axes are; a further model is not there.
    """
    refuse_unknown_task(request.task)
    images = [read_measured(path, request, listener) for path in with_fields(request.images)]
    return rank_models(images, request, settings, listener)


def refuse_unknown_task(task: str | None) -> None:
    """See that a task is one that models of the zoo have.

    Raises
    ------
    FilterUnknown
        It is not.
    """
    if task and not any(has_task(known, task) for known in TASKS):
        raise FilterUnknown("task", task, TASKS)


def read_measured(path: Path, request: FitRequest, listener: Listener = nobody) -> MeasuredImage:
    """Read the header and a sample of an image, and measure it.

    Raises
    ------
    BmzError
        It cannot be read, or a word does not suit it.
    """
    info = with_pixel_size(inspect_image(path, axes=request.axes), request.pixel_um)
    if info.series_count > 1:
        listener(Note(f"{path.name} holds {info.series_count} images: the first is taken"))
    return measured_image(info, read_spread(info), request.kind)


def rank_models(
    images: Sequence[MeasuredImage],
    request: FitRequest,
    settings: ZooSettings,
    listener: Listener = nobody,
) -> Ranking:
    """Rank all models for images that are measured; `fit` says what may be raised.

    Parameters
    ----------
    images : one or more; those of the request are not looked at
    """
    for image in images:
        numbers_in(image, request.channels)  # or refuse them now
    index = load_index(settings, listener=listener, refresh=request.refresh)
    index = replace(index, entries=(*index.entries, *starters()))
    found = candidates_of(index, settings, listener, everything=request.everything)
    candidates = [*found.ranked, *own_candidates(request.models, settings, listener)]
    judge = _Judge(images, request.channels, settings)
    seen = tuple(image.seen for image in images)
    fits = {candidate.card.id: judge(candidate) for candidate in candidates}
    if request.measure:
        best = {model.id for model in ranked(fits.values(), request.task)[: request.top or SHOWN]}
        chosen = [c for c in candidates if c.card.id in best and not fits[c.card.id].about.sampled]
        fetch_samples(chosen, settings, listener)
        fits |= {candidate.card.id: judge(candidate) for candidate in chosen}
    ordered = with_sizes(ranked(fits.values(), request.task), candidates, settings)
    models = (*ordered, *found.broken)
    return Ranking(seen, models, found.left_out, index.fetched_at, index.stale, request.words)


def numbers_in(image: MeasuredImage, channels: Sequence[ChannelWord] | None) -> Channels:
    """Give the numbers of the channels that the user names, which an image must have.

    Raises
    ------
    ChannelAbsent
        It has not.
    """
    if channels is None:
        return None
    found, names = image.info.sizes.get("c", 1), image.info.channel_names
    try:
        numbers = channel_numbers(channels, names)
    except ChannelUnknown as why:
        raise ChannelAbsent(why.name, found, names) from why
    if max(numbers) >= found:
        raise ChannelAbsent(max(numbers), found, names)
    return numbers


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


class _Judge:
    """Hold the images against one model after the other."""

    def __init__(
        self,
        images: Sequence[MeasuredImage],
        channels: Sequence[ChannelWord] | None,
        settings: ZooSettings,
    ) -> None:
        self._images = images
        self._channels = [numbers_in(image, channels) for image in images]
        self._settings = settings

    def __call__(self, candidate: Candidate) -> ModelFit:
        sample = sample_measures(candidate.package, candidate.model, self._settings)
        fits = judged(candidate, self._images, sample, self._channels)
        card, about = candidate.card, replace(candidate.about, sampled=bool(sample))
        return ModelFit(card.id, card.version, fits, about)
