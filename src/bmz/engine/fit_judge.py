"""Judge how well models fit images, each with its best channels, and rank the models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from math import log

from bmz.base.axes import EMPTY_CHANNEL, ChannelKey
from bmz.base.progress import Listener, nobody
from bmz.check.axes import COLOURS
from bmz.check.content import content_findings
from bmz.check.finding import CheckReport, Finding
from bmz.check.fit import check_header, check_values
from bmz.check.fit_case import FitCase
from bmz.check.fit_score import Content, content_of, fit_score, size_closeness, structures_wanted
from bmz.check.measured import MOST_CHANNELS, PlaneMeasures
from bmz.check.scale import scale_to
from bmz.check.values import object_factor
from bmz.engine.cards import whole_index
from bmz.engine.fit_candidates import (
    Candidate,
    candidates_of,
    fetch_samples,
    own_candidates,
    with_sizes,
)
from bmz.engine.fit_image import Channels, FitRequest, MeasuredImage, numbers_in
from bmz.engine.test_tensors import sample_measures
from bmz.image.info import ImageInfo
from bmz.results.fit import SHOWN, AboutModel, ImageFit, ModelFit, Ranking
from bmz.spec.facts import has_task, known_pixel_size
from bmz.spec.made_for import MadeFor
from bmz.zoo.locate import STARTER
from bmz.zoo.settings import ZooSettings

FILLED = 0.7
"""Factor of the score if channels of the model are filled with zeros."""

NO_RECIPE = 0.8
"""Factor of the score of a segmentation model for whose output there is no label recipe."""


def judged(
    candidate: Candidate,
    images: Sequence[MeasuredImage],
    sample: Mapping[int, PlaneMeasures],
    user_channels: Sequence[Channels],
) -> tuple[ImageFit, ...]:
    """Judge how well images fit a model, with the channels and the scale that suit it best.

    Parameters
    ----------
    images : in the order of the result; images with the same layout get the same channels
    sample : measurements of the model's own sample
    user_channels : for each image, the channels that the user named
    """
    flat = _flattened(candidate, images, sample, user_channels)
    return tuple(
        _judged(candidate, image, _chosen(candidate, image, flat, sample, channels))
        for image, channels in zip(flat, user_channels, strict=True)
    )


def _flattened(
    candidate: Candidate,
    images: Sequence[MeasuredImage],
    sample: Mapping[int, PlaneMeasures],
    user_channels: Sequence[Channels],
) -> Sequence[MeasuredImage]:
    """Replace stacks by the plane or the projection that best suits a model without z.

    The same choice must be available for all images; otherwise stacks are run plane by plane.
    """
    if "z" in candidate.model.space:
        return images
    ways = [{flat.axes: flat for flat in image.flat} for image in images]
    best, most = images, 0.0
    for word in ways[0]:
        if all(word in way for way in ways):
            flat = [way[word] for way in ways]
            score = sum(
                _content(_chosen(candidate, image, flat, sample, channels), image, candidate)
                for image, channels in zip(flat, user_channels, strict=True)
            )
            if score > most:
                best, most = flat, score
    return best


def _content(case: FitCase, image: MeasuredImage, candidate: Candidate) -> float:
    made = candidate.about.made_for
    return content_for(case.channels, case, image, made).probability


def _chosen(
    candidate: Candidate,
    image: MeasuredImage,
    images: Sequence[MeasuredImage],
    sample: Mapping[int, PlaneMeasures],
    user_channels: Channels,
) -> FitCase:
    """Choose the channels of an image, and return them with their measurements."""
    seen_image = image.seen
    case = FitCase(
        candidate.model,
        _as_taken(candidate, image),
        user_channels,
        kind=None if seen_image.apart else seen_image.whole,
        channel_kinds=seen_image.channels,
        stated=image.stated,
        sample=sample,
        grey=image.grey,
    )
    if user_channels is None:
        alike = [other for other in images if other.layout == image.layout]
        case = replace(case, channels=best_channels(case, alike, candidate.about.made_for))
    return replace(case, measured=image.measured_as(case.channels_taken))


def _as_taken(candidate: Candidate, image: MeasuredImage) -> ImageInfo:
    """Return the header; for a model of stacks that accepts planes, a plane is a stack of one."""
    is_plane = "z" in candidate.model.space and "z" not in image.info.whole.sizes
    taken = is_plane and candidate.plane_by_plane and "yx" in image.info.axes
    return image.stack_info if taken else image.info


def _judged(candidate: Candidate, image: MeasuredImage, case: FitCase) -> ImageFit:
    content = content_for(case.channels, case, image, candidate.about.made_for)
    size, factor = size_closeness(case), natural_scale(case)
    image_findings = _report(case, image).findings
    resized = factor is not None and any(
        finding.cured_by == "--scale" for finding in image_findings
    )
    if resized:
        image_findings = _report(replace(case, scale=factor), image).findings
    findings = (*candidate.findings, *image_findings)
    return ImageFit(
        image.seen.image,
        "mismatch" if content.is_another else CheckReport(findings).verdict,
        _score(candidate, case, fit_score(content, size, _against(candidate, findings))),
        case.channels_taken if len(case.channels_taken) == case.channels_wanted else None,
        case.channels is not None,
        image.axes if case.image is image.info else case.image.axes,
        factor,
        resized,
        content,
        findings,
    )


def _against(candidate: Candidate, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return the findings that lower the score; restoration models need not make labels."""
    return tuple(
        f for f in findings if not (candidate.about.only_restores and f.is_only_for_labels)
    )


def natural_scale(case: FitCase) -> float | None:
    """Return the factor that ``--scale auto`` finds; None if it cannot be determined.

    Parameters
    ----------
    case : case with measurements
    """
    by_pixels = scale_to(known_pixel_size(case.model).um, case.image.pixel_um)
    return object_factor(case) if by_pixels is None else by_pixels


def _report(case: FitCase, image: MeasuredImage) -> CheckReport:
    """Return the report of ``bmz check``."""
    header = check_header(case)
    if header.is_runnable:
        return check_values(header, image.values)
    return header.report.with_more(content_findings(header.case))


def _score(candidate: Candidate, case: FitCase, score: float) -> float:
    if case.channels is not None and EMPTY_CHANNEL in case.channels:
        score *= FILLED
    about = candidate.about
    return score * (NO_RECIPE if about.labels is None and not about.only_restores else 1.0)


_PAIR = 2
"""Two channels are tried in both orders; more channels would have too many orders."""


def best_channels(case: FitCase, images: Sequence[MeasuredImage], purpose: MadeFor) -> Channels:
    """Choose the channels that most clearly show what a model is made for.

    If the content does not differ between the choices, the first one, which is the usual order, is
    taken.

    Parameters
    ----------
    case : case of one of the images, without channels
    images : all images that have the same channels
    purpose : what the model is made for
    """
    choices = tuple(channel_choices(case, purpose))

    def seen(choice: Channels) -> float:
        contents = [content_for(choice, case, image, purpose) for image in images]
        return round(sum(content.probability for content in contents), 6)

    return max(choices, key=seen)


def content_for(
    channels: Channels, case: FitCase, image: MeasuredImage, purpose: MadeFor
) -> Content:
    """Compare the content of some channels with what a model is made for."""
    taken = case.channels_taken if channels is None else channels
    if not image.seen.apart:
        return content_of([image.seen.whole], purpose)
    return content_of(
        [image.seen.channels.get(channel) for channel in taken], _named(case, purpose)
    )


def _named(case: FitCase, purpose: MadeFor) -> MadeFor:
    """Use the channel names that the description declares if nothing else is known."""
    return purpose if purpose.channels else replace(purpose, channels=case.names_wanted)


def channel_choices(case: FitCase, purpose: MadeFor) -> Iterator[Channels]:
    """Yield the possible choices of channels, the usual one first.

    Parameters
    ----------
    case : case without channels
    """
    model_channels, image_channels = case.channels_wanted, case.channels_found
    some = range(min(image_channels, MOST_CHANNELS))
    together = case.channels_by_name is not None or (
        model_channels == image_channels and model_channels != _PAIR
    )
    if case.taken_as_grey or together or (case.image.colour and model_channels == len("rgb")):
        yield None
    elif model_channels == 1:
        yield from ((channel,) for channel in some)
    elif model_channels == _PAIR and image_channels >= _PAIR:
        if image_channels == _PAIR:
            yield None
        yield from (
            pair for pair in permutations(some, _PAIR) if image_channels > _PAIR or pair != (0, 1)
        )
    elif image_channels == 1 and _takes_colours(case):
        yield (0,) * model_channels
    elif image_channels < model_channels and all(
        structures_wanted(_named(case, purpose), model_channels)
    ):
        yield (*some, *([EMPTY_CHANNEL] * (model_channels - image_channels)))
    else:
        yield None


def _takes_colours(case: FitCase) -> bool:
    """Return whether all channels of the model are colours; a grey image has them all alike."""
    names = {name.strip().lower() for name in case.names_wanted}
    return case.channels_wanted == len("rgb") and bool(names) and names <= COLOURS


def rank_models(
    images: Sequence[MeasuredImage],
    request: FitRequest,
    settings: ZooSettings,
    listener: Listener = nobody,
) -> Ranking:
    """Rank all models for images that have been measured; raises as `bmz.app.fit.fit`.

    Parameters
    ----------
    images : one or more images; those of the request are ignored
    """
    for image in images:
        numbers_in(image, request.channels)  # raises if one is absent
    index = whole_index(settings, listener, refresh=request.refresh)
    zoo_candidates = candidates_of(index, settings, listener, everything=request.everything)
    own = own_candidates((*request.models, *settings.models), settings, listener)
    candidates = [*zoo_candidates.ranked, *own.ranked]
    judge = _Judge(images, request.channels, settings)
    seen_images = tuple(image.seen for image in images)
    fits = {candidate.card.id: judge(candidate) for candidate in candidates}
    if request.measure:
        best = {model.id for model in ranked(fits.values(), request.task)[: request.top or SHOWN]}
        chosen = [c for c in candidates if c.card.id in best and not fits[c.card.id].about.sampled]
        fetch_samples(chosen, settings, listener)
        fits |= {candidate.card.id: judge(candidate) for candidate in chosen}
    ordered = with_sizes(ranked(fits.values(), request.task), candidates, settings)
    models = (*ordered, *own.broken, *zoo_candidates.broken)
    return Ranking(
        seen_images, models, zoo_candidates.left_out, index.fetched_at, index.stale, request.words
    )


class _Judge:
    """Judges the images for one model after another."""

    def __init__(
        self,
        images: Sequence[MeasuredImage],
        channels: Sequence[ChannelKey] | None,
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


ALIKE = 1.1
"""Scores within about this ratio count as equal, and the evidence decides."""

_LEAST = 1e-6

AGAIN = 0.3
"""Factor by which each model lowers the scores of those below it for the same structure. If it is
unclear what an image shows, the first models then cover all that it may show."""

BY_TAGS = "tags"
"""Beginning of the source of what a model is made for if only its tags state it."""

MEASURED_HERE = 100
"""Number of tools that count as having reproduced a bundled model, whose card is measured."""


def ranked(models: Iterable[ModelFit], task: str | None = None) -> tuple[ModelFit, ...]:
    """Rank models.

    Models for the task that the user named come first, models that only restore images last; among
    the others, models that fit precede those that do not. Within these groups, models are sorted by
    score, then by evidence, then by name. Each model multiplies the scores of those below it for
    the same structure by `AGAIN`.
    """
    groups: dict[tuple[bool, ...], list[ModelFit]] = {}
    for model in models:
        wished = task is not None and has_task(model.about.task, task)
        last = model.about.only_restores and not wished
        group = (task is not None and not wished, last, not model.fits)
        groups.setdefault(group, []).append(model)
    return tuple(model for group in sorted(groups) for model in _mixed(groups[group]))


def _mixed(models: Iterable[ModelFit]) -> list[ModelFit]:
    """Sort by score, lowered for each model above that is for the same structure."""
    left, mixed, above = sorted(models, key=_doubts), list[ModelFit](), Counter[str]()
    while left:
        best = max(left, key=lambda model: _step(model.score * AGAIN ** above[_shown(model)]))
        above[_shown(best)] += 1
        left.remove(best)
        mixed.append(best)
    return mixed


def _shown(model: ModelFit) -> str:
    """Return the structure, of those the model is made for, that the images most likely show."""
    return "" if model.worst is None else model.worst.content.shown


def _step(score: float) -> int:
    return round(log(max(score, _LEAST)) / log(ALIKE))


def _doubts(model: ModelFit) -> tuple[object, ...]:
    """Return a sort key that is lower for more evidence."""
    tested = MEASURED_HERE if model.id.startswith(STARTER) else model.about.passed
    return -sureness(model.about), -tested, model.about.failed, model.id


def sureness(about: AboutModel) -> int:
    """Return how reliably it is known what a model is made for.

    Returns
    -------
    int
        2 if its description or publications state it, 1 if only its tags do, else 0
    """
    purpose = about.made_for
    if not (purpose.modalities and purpose.structures):
        return 0
    return 1 if purpose.source.startswith(BY_TAGS) else 2
