"""Compute the score by which ``bmz fit`` ranks models for an image.

The score is the probability that the image shows what the model is made for, multiplied by factors
for the size of the objects and for the findings of the check.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import log2, prod

from bmz.base.values import dataclass
from bmz.check.codes import CODES, Severity
from bmz.check.finding import Finding
from bmz.check.fit_case import FitCase
from bmz.check.kind import ImageKind
from bmz.check.values import image_diameter, model_diameter
from bmz.spec.made_for import STRUCTURES, MadeFor

UNKNOWN = 0.3
"""Probability to assume if the model's purpose or the content of the image is unknown."""

NEAR = 0.5
"""Share of a structure's probability that counts for a model made for a similar structure."""

LEAST_STRUCTURE = 0.05
"""Minimum probability of a structure, since small or rare objects may be what is wanted."""

VAGUE = frozenset({"other", "not-microscopy"})
"""Families that state what an image is not; two images of such a family need not look alike."""

VAGUE_SHARE = 0.25
"""Share of the probability of such a family that counts for a model made for it."""

MAY_BE = 0.9
"""An image that more likely belongs to another family may still belong to one of the model's, if
family and structure together are at least this fraction as likely as the likeliest ones."""

BROAD = 0.95
"""Factor for each family and each structure of a model beyond the first: of two models for the
same kind, the one that is made only for it is preferred."""

SIZE_SHARE = 0.4
"""Share of the score that depends on the size of the objects."""

NO_SIZE_LEFT = 8.0
"""Ratio of object size to that of the model from which the size contributes nothing."""

UNKNOWN_SIZE = 0.5
"""Closeness of sizes to assume if the size in the image or of the model is unknown."""

BY_SEVERITY: Mapping[Severity, float] = {"error": 0.3, "warning": 0.85, "note": 1.0}
"""Factors of findings whose code states no factor."""

BY_CONTENT = "content."
"""Prefix of the codes of findings that the probability of the content already includes."""

_CHANNEL_WORDS: Mapping[str, re.Pattern[str]] = {
    term: re.compile(words)
    for term, words in {
        "nuclei": r"nucle|dapi|hoechst|draq5|sytox|to-?pro|\bdna\b|h2a|h2b|histone",
        "membranes": r"membran|boundar|cell walls?|cadherin|\bwga\b",
        "cells": r"cyto|\bcells?\b(?! (walls?|boundar|membran))",
        "mitochondria": r"mitoch|mitotracker|tomm?20",
        "filaments": r"actin|phalloidin|tubul|filament",
        "bacteria": r"bacteria",
        "spots": r"spots?\b",
    }.items()
}
"""Structure -> pattern of the words for it in descriptions of channels."""


@dataclass(frozen=True)
class Content:
    """How probable it is that an image is of the kind that a model is made for.

    Parameters
    ----------
    family : probability that it belongs to a family of modalities of the model, 0 to 1
    structure : probability that it shows a structure of the model, 0 to 1
    is_another : whether the image belongs to a different family than those of the model
    shown : structure of the model that it most likely shows; empty if the model states none
    """

    family: float = UNKNOWN
    structure: float = UNKNOWN
    is_another: bool = False
    shown: str = ""

    @property
    def probability(self) -> float:
        """Return the probability that both are right."""
        return self.family * self.structure


def content_of(kinds: Sequence[ImageKind | None], purpose: MadeFor) -> Content:
    """Compare what the channels show with what a model is made for.

    Parameters
    ----------
    kinds : what the image shows in each channel of the model; None for a channel whose content is
        unknown, or that is filled with zeros
    purpose : what the model is made for
    """
    seen = [kind for kind in kinds if kind is not None]
    if not seen:
        return Content()
    shown = _mean_families(seen)
    asked = [
        (kind, wanted)
        for kind, wanted in zip(kinds, structures_wanted(purpose, len(kinds)), strict=True)
        if kind is not None and wanted
    ]
    structure = _mean(_structure(kind, wanted) for kind, wanted in asked)
    likeliest = _mean(max(kind.structures.values(), default=UNKNOWN) for kind, _ in asked)
    is_another = _is_another(shown, purpose, structure / likeliest if likeliest else 1.0)
    best = max(asked[0][1], key=lambda word: asked[0][0].structures.get(word, 0.0)) if asked else ""
    return Content(_family(shown, purpose), structure, is_another, best)


def _mean(shares: Iterable[float]) -> float:
    """Return the geometric mean, or `UNKNOWN` if there are no values."""
    told = list(shares)
    return prod(told) ** (1 / len(told)) if told else UNKNOWN


def _mean_families(kinds: Sequence[ImageKind]) -> dict[str, float]:
    names = sorted({name for kind in kinds for name in kind.families})
    return {name: sum(k.families.get(name, 0.0) for k in kinds) / len(kinds) for name in names}


def _family(shown: Mapping[str, float], purpose: MadeFor) -> float:
    """Return the probability that an image with these families belongs to one of the model's."""
    if not purpose.families:
        # no family is stated, but every model is made for some known kind of microscopy
        return UNKNOWN * (1 - sum(shown.get(family, 0.0) for family in VAGUE))
    shares = [
        shown.get(family, 0.0) * (VAGUE_SHARE if family in VAGUE else 1.0)
        for family in sorted(purpose.families)
    ]
    return _likeliest(shares, len(shares))


def _likeliest(shares: Sequence[float], kinds: int) -> float:
    """Return the probability of the likeliest of the kinds that a model is made for.

    Parameters
    ----------
    kinds : number of kinds that the model is made for
    """
    return max(shares, default=0.0) * BROAD ** max(0, kinds - 1)


def _is_another(shown: Mapping[str, float], purpose: MadeFor, of_structure: float) -> bool:
    """Return whether an image belongs to a different family than those of a model.

    Parameters
    ----------
    shown : probability of each family
    of_structure : probability of the model's structure relative to that of the likeliest one
    """
    named = {family: share for family, share in shown.items() if family not in VAGUE}
    best = max(named, key=lambda family: named[family], default=None)
    if best is None or sum(shown.values()) - sum(named.values()) >= named[best]:
        return bool(shown)
    if best in purpose.families:
        return False
    share = sum(shown.get(family, 0.0) for family in purpose.families) / named[best]
    return (share if purpose.families else 1.0) * min(1.0, of_structure) < MAY_BE


def structures_wanted(purpose: MadeFor, channels: int) -> tuple[tuple[str, ...], ...]:
    """Return the structures that each channel of a model should show; empty if not stated.

    Parameters
    ----------
    channels : number of channels of the model

    Examples
    --------
    >>> structures_wanted(MadeFor(structures=("cells",)), 2)
    (('cells',), ())
    """
    told = purpose.channels if len(purpose.channels) == channels else ()
    named = [tuple(structures_in(words)) for words in told]
    elsewhere = {word for words in named[1:] for word in words}
    if len(named) > 1 and (named[0] or elsewhere & set(purpose.structures)):
        return tuple(named)
    first = purpose.structures or (named[0] if named else ())
    return (first, *(named[1:] or [()] * (channels - 1)))


def structures_in(words: str) -> Iterator[str]:
    """Yield the structures that the description of a channel names.

    Examples
    --------
    >>> list(structures_in("nuclei (TO-PRO-3), confocal"))
    ['nuclei']
    """
    text = re.sub("[_ ]+", " ", words.lower())
    return (term for term, pattern in _CHANNEL_WORDS.items() if pattern.search(text))


def _structure(kind: ImageKind, wanted: Iterable[str]) -> float:
    """Return the probability that a channel shows a wanted or, in part, a similar structure."""
    structures = set(wanted) - {"other"}
    near = {name for word in structures for name in STRUCTURES[word].near} - structures
    shares = [kind.structures.get(word, 0.0) for word in structures]
    shares += [NEAR * kind.structures.get(word, 0.0) for word in near]
    return LEAST_STRUCTURE + (1 - LEAST_STRUCTURE) * _likeliest(shares, len(structures))


def size_closeness(case: FitCase) -> float:
    """Return 1 for objects of the size that the model expects, decreasing to 0 with the ratio.

    The decrease is linear in octaves: half and twice the size give the same value.
    """
    wanted, found = model_diameter(case), image_diameter(case)
    if wanted is None or found is None:
        return UNKNOWN_SIZE
    octaves = abs(log2(found.diameter_px / wanted.px))
    return max(0.0, 1.0 - octaves / log2(NO_SIZE_LEFT))


def fit_score(content: Content, size: float, findings: Iterable[Finding]) -> float:
    """Return the score, from 0 to 1.

    Parameters
    ----------
    size : result of `size_closeness`
    findings : findings of the check; each code counts once, with its worst finding, and those on
        the content are ignored, since the score includes it already

    Examples
    --------
    >>> fit_score(Content(1.0, 1.0), 1.0, ())
    1.0
    """
    others = (finding for finding in findings if not finding.code.startswith(BY_CONTENT))
    factors = [factor_of(finding) for finding in worst_of_code(others)]
    return content.probability * (1 - SIZE_SHARE * (1 - size)) * prod(factors)


def factor_of(finding: Finding) -> float:
    """Return the factor by which a finding reduces a score."""
    own = CODES[finding.code].factor if finding.code in CODES else None
    return BY_SEVERITY[finding.severity] if own is None else own


def worst_of_code(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the worst finding of each code, the worst of all first."""
    order = ("error", "warning", "note")
    first: dict[str, Finding] = {}
    for finding in sorted(findings, key=factor_of):
        first.setdefault(finding.code, finding)
    return tuple(
        sorted(first.values(), key=lambda f: (order.index(f.severity), factor_of(f), f.code))
    )
