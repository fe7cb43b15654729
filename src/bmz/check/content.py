"""Check whether the content of an image suits a model, and name models for images of its kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from shlex import quote
from textwrap import shorten

from bmz.base.values import dataclass
from bmz.check.channel_meaning import likely_channels, seen_channels
from bmz.check.finding import Evidence, Finding
from bmz.check.fit_case import FitCase
from bmz.check.kind import (
    ImageKind,
    family_words,
    likeliest,
    mean_kind,
    percent,
    stated_as_kind,
    structure_words,
)
from bmz.check.kind_features import UNLIKE_NOTE, UNLIKE_WARNING, unlikeness
from bmz.check.measured import features_of
from bmz.image.given_names import given_name
from bmz.image.info import ImageInfo
from bmz.spec.facts import Facts, facts_of, known_aliases, reports_of
from bmz.spec.made_for import MODALITIES, MadeFor, made_for, with_near

NAMED = 3
"""Number of models named in a hint."""


def fit_command(image: ImageInfo) -> str:
    """Return the command that ranks all models for an image."""
    return f"bmz fit {quote(given_name(image.place))}"


def models_hint(image: ImageInfo, kind: ImageKind) -> str:
    """Return a hint with the models made for images of a kind, and the command that ranks all."""
    names = models_for(kind)
    named = f"models made for such images are {_listed(names)}; " if names else ""
    return f"{named}{fit_command(image)} ranks all models for the image"


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


@dataclass(frozen=True)
class _KnownModel:
    """A model that produces label masks, according to the facts and the published reports.

    Parameters
    ----------
    breadth : number of modalities and structures that it is made for
    tested : number of tools that reproduce its test output
    """

    alias: str
    families: frozenset[str]
    structures: tuple[str, ...]
    breadth: int
    tested: int


VAGUE = frozenset({"other", "not-microscopy"})
"""Families that state what an image is not; no model is made for all images of one."""


def models_for(kind: ImageKind) -> tuple[str, ...]:
    """Return the aliases of the models that are made for a kind of image, the best first.

    Models for exactly this structure come before those for similar structures, then more
    specialised models before others, then those that more tools reproduce. The zoo is not queried.
    """
    family, structure = kind.family, kind.structure
    if family is None or family in VAGUE:
        return ()
    suitable = [
        model
        for model in _known_models()
        if family in model.families
        and (structure is None or with_near([structure]) & {*model.structures})
    ]
    ranked = sorted(
        suitable,
        key=lambda model: (
            structure not in model.structures, model.breadth, -model.tested, model.alias
        ),
    )  # fmt: skip
    return tuple(model.alias for model in ranked[:NAMED])


@cache
def _known_models() -> tuple[_KnownModel, ...]:
    known = ((alias, facts_of(alias)) for alias in known_aliases())
    return tuple(
        _KnownModel(
            alias,
            frozenset(f for word in facts.modality.value for f in MODALITIES[word].families),
            structures := facts.structure.value if facts.structure else (),
            len(facts.modality.value) + len(structures),
            reports_of(alias).passed,
        )
        for alias, facts in known
        if facts is not None and facts.modality is not None and _makes_labels(facts)
    )


def _makes_labels(facts: Facts) -> bool:
    return facts.recipe is not None and bool(facts.recipe.value.name)


UNLIKELY = 0.2
"""Below this probability, an image is not considered to be of a kind, or of a similar one."""

LEAST_LIKELY: Mapping[str, float] = {
    "electron": 0.25,
    "fluorescence": 0.45,
    "stained": 0.25,
    "transmitted": 0.4,
}
"""The same for families that were learnt, chosen by ``model_cards/kinds/rules.py`` on images of
left-out sources: the smallest at which at most one in 25 images of other families passes."""

CLEAR_STRUCTURE = 0.6
"""From this probability, another structure is reported; hardly ever when the structure is right."""

SEEN = 0.5
"""From this probability, an image is considered to be of a kind."""

SOURCE_LETTERS = 90
"""Number of characters shown of the source for what a model is made for."""


def shown_kind(case: FitCase) -> ImageKind | None:
    """Return the kind of the model's input, as stated by the user, else as seen in the pixels.

    For an RGB image it is the kind of the whole; for several stains, the mean over those that the
    model takes, or over all if these are not known. None if the kind was not determined.
    """
    seen = _seen_kind(case)
    return seen if case.stated is None else stated_as_kind(case.stated, seen)


def _seen_kind(case: FitCase) -> ImageKind | None:
    if case.kind is not None:
        return case.kind
    taken = [measures.kind for measures in case.measured.values() if measures.kind is not None]
    return mean_kind(taken or case.channel_kinds.values())


def family_probability(kind: ImageKind, purpose: MadeFor) -> float:
    """Return the probability that an image belongs to a family that a model is made for."""
    return sum(kind.families.get(family, 0.0) for family in purpose.families)


def structure_probability(kind: ImageKind, purpose: MadeFor) -> float:
    """Return the probability that an image shows a structure the model is made for, or similar."""
    return sum(kind.structures.get(word, 0.0) for word in with_near(purpose.structures))


def _order(case: FitCase) -> Iterator[Finding]:
    """Yield a finding if each of two channels shows what the model expects in the other."""
    if case.channels_wanted == 1 or likely_channels(case):
        return
    taken, better = case.channels_taken, seen_channels(case)
    if better is None:
        return
    if set(better.channels) != set(taken) or better.channels == taken:
        return
    yield Finding.of(
        "channel.order", f"{case.inputs[0].id}.c",
        f"channels {' and '.join(map(str, taken))} are not in the order that the model expects",
        wanted=", ".join(case.names_wanted), found=f"the order {', '.join(map(str, taken))}",
        hint=f"give them in this order: {better}", evidence="measured",
    )  # fmt: skip


def content_findings(case: FitCase) -> Iterator[Finding]:
    """Yield where the image differs from what the model is made for, or from the model's sample.

    Also yield where the pixels of its channels suggest another order than the one used.

    Raises
    ------
    MadeForInvalid
        The model description states what it is made for, but not in the defined terms.
    """
    if case.further:
        return
    wanted, kind = made_for(case.model), shown_kind(case)
    told = tuple(_kind_findings(case, wanted, kind)) if kind is not None else ()
    yield from told
    yield from _order(case)
    if not told:
        yield from _unlike(case, wanted, kind)


def _kind_findings(case: FitCase, purpose: MadeFor, kind: ImageKind) -> Iterator[Finding]:
    likely = family_probability(kind, purpose)
    others = sum(kind.families.values()) - likely
    if purpose.families and likely < least_likely(purpose) and others >= SEEN:
        if likeliest(kind.families) == "not-microscopy":
            yield _not_microscopy(case, purpose, kind)
        else:
            yield _modality(case, purpose, kind)
    elif not purpose.families or likely >= SEEN:
        yield from _structure(case, purpose, kind)


def least_likely(purpose: MadeFor) -> float:
    """Return the probability below which an image does not belong to the families of a model."""
    return max(LEAST_LIKELY.get(family, UNLIKELY) for family in purpose.families)


def _modality(case: FitCase, purpose: MadeFor, kind: ImageKind) -> Finding:
    return Finding.of(
        "content.modality", case.inputs[0].id,
        f"the image {_shows(case)} {family_words(kind)}, but {_made_for_words(purpose)}",
        wanted=purpose.title, found=f"{_saw(case)}: {family_words(kind)}",
        hint=_hint(case, purpose, kind), evidence=_evidence(case),
        milder=not _channels_differ(case, purpose, kind),
    )  # fmt: skip


def _not_microscopy(case: FitCase, purpose: MadeFor, kind: ImageKind) -> Finding:
    sure = percent(kind.families["not-microscopy"])
    return Finding.of(
        "content.not-microscopy", case.inputs[0].id,
        f"the image looks like a photograph, a drawing or a plot ({sure}), but "
        f"{_made_for_words(purpose)}",
        wanted=purpose.title, found=f"{_saw(case)}: no microscopy ({sure})",
        hint="check that this is the right file; " + _hint(case, purpose, kind),
        evidence=_evidence(case),
    )  # fmt: skip


def _structure(case: FitCase, purpose: MadeFor, kind: ImageKind) -> Iterator[Finding]:
    """Yield a finding if the image clearly shows a structure that the model is not made for."""
    other = likeliest(kind.structures)
    if not purpose.structures or other is None or kind.structures[other] < CLEAR_STRUCTURE:
        return
    if structure_probability(kind, purpose) >= UNLIKELY:
        return
    better = seen_channels(case)
    yield Finding.of(
        "content.structure", case.inputs[0].id,
        f"the image {_shows(case)} {structure_words(kind)}, but {_made_for_words(purpose)}",
        wanted=purpose.title, found=f"{_saw(case)}: {structure_words(kind)}",
        hint=f"use the other channel: {better}" if better else _hint(case, purpose, kind),
        evidence=_evidence(case),
    )  # fmt: skip


def _channels_differ(case: FitCase, purpose: MadeFor, kind: ImageKind) -> bool:
    """Return whether the channels differ, too: colours instead of stains, or the reverse.

    An RGB image of a stained section, or of anything but fluorescence, has no stain in a separate
    channel; and a network for stained sections takes colours, not stains.
    """
    if case.image.colour:
        return kind.family != "fluorescence" and "stained" not in purpose.families
    return purpose.families == {"stained"} and case.channels_wanted > 1


def _shows(case: FitCase) -> str:
    return "shows" if case.stated is None else "is said to show"


def _saw(case: FitCase) -> str:
    return "seen" if case.stated is None else "stated"


def _evidence(case: FitCase) -> Evidence:
    return "measured" if case.stated is None else "declared"


def _made_for_words(purpose: MadeFor) -> str:
    source = shorten(purpose.source, SOURCE_LETTERS, placeholder=" ...")
    return f"the model is made for {purpose.title}" + (f" ({source})" if source else "")


def _hint(case: FitCase, purpose: MadeFor, kind: ImageKind) -> str:
    """Name models made for such images, and say how the user can override what was detected."""
    words = models_hint(case.image, kind)
    if case.stated is not None:
        return words
    own = ",".join([*purpose.modalities[:1], *purpose.structures[:1]])
    return f"{words}; if the image is what the model is made for, give --kind {own}"


def sample_distance(case: FitCase) -> float | None:
    """Return how far the image is from the model's own sample, as `unlikeness` measures it.

    For several channels it is the mean. None if either is missing or shows nothing.
    """
    pairs = [
        (case.sample[position].features, measures.features)
        for position, measures in case.measured.items()
        if position in case.sample
    ]
    distances = [
        unlikeness(features_of(sample), features_of(image))
        for sample, image in pairs
        if sample and image
    ]
    return sum(distances) / len(distances) if distances else None


def _unlike(case: FitCase, purpose: MadeFor, kind: ImageKind | None) -> Iterator[Finding]:
    """Yield a finding if the image is far from the sample of the model.

    It is a note if the distance is smaller, or if the image shows what the model is stated to be
    made for: a single sample never represents everything that a model is made for.
    """
    distance = sample_distance(case)
    if distance is None or distance < UNLIKE_NOTE:
        return
    right = (
        kind is not None
        and bool(purpose.families)
        and family_probability(kind, purpose) >= least_likely(purpose)
    )
    yield Finding.of(
        "sample.unlike", case.inputs[0].id,
        f"the image is unlike the model's own sample: their distance is {distance:.1f} times the "
        "largest usual distance between images of one kind",
        wanted="an image like the sample", found=f"distance {distance:.1f}",
        hint=f"compare it with the sample of the model; {fit_command(case.image)} ranks all models",
        evidence="measured", milder=right or distance < UNLIKE_WARNING,
    )  # fmt: skip
