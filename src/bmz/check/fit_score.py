"""How well a model is made for what an image shows: the score by which ``bmz fit`` ranks.

The score is the probability that the image shows what the model is made for, times what the size
of the objects and the findings of the check leave of it.
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
"""In place of a probability where nothing states what a model is made for, or nothing is seen."""

NEAR = 0.5
"""So much of the probability of a structure counts for a model of one that looks like it."""

LEAST_STRUCTURE = 0.05
"""No structure is less probable: what is small or rare in an image may still be what is wanted."""

VAGUE = frozenset({"other", "not-microscopy"})
"""Families that say what an image is not: two images of one need not look alike."""

VAGUE_SHARE = 0.25
"""So much of the probability of such a family counts for a model of it."""

MAY_BE = 0.9
"""An image that is likelier of another family may yet be of one of the model, where family and
structure together are not less likely than this share of the likeliest ones."""

BROAD = 0.95
"""What is left for each family and each structure of a model beyond one: of two models for the same
kind, the one that is made for it alone knows it better."""

SIZE_SHARE = 0.4
"""So much of the score depends on the size of the objects."""

NO_SIZE_LEFT = 8.0
"""Objects so many times larger or smaller than those of the model earn nothing for their size."""

UNKNOWN_SIZE = 0.5
"""What the size earns where that of the image or of the model is not known."""

BY_SEVERITY: Mapping[Severity, float] = {"error": 0.3, "warning": 0.85, "note": 1.0}
"""Factors of findings whose code states none."""

BY_CONTENT = "content."
"""How the codes begin of findings that say what the content says already."""

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
"""Structure -> words by which the description of a channel names it."""


@dataclass(frozen=True)
class Content:
    """How probable it is that an image is of the kind that a model is made for.

    Parameters
    ----------
    family : that it is of a family of modalities of the model, 0 to 1
    structure : that it shows a structure of the model, 0 to 1
    is_another : the image is of another family than those of the model
    shown : which of the structures of the model it most likely shows; empty if it states none
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
    """Hold what the channels show against what a model is made for.

    Parameters
    ----------
    kinds : what the image shows in each channel of the model; None for a channel of which nothing
        is known, or that is filled with zeros
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
    """Return the geometric mean; `UNKNOWN` where there are no values."""
    told = list(shares)
    return prod(told) ** (1 / len(told)) if told else UNKNOWN


def _mean_families(kinds: Sequence[ImageKind]) -> dict[str, float]:
    names = sorted({name for kind in kinds for name in kind.families})
    return {name: sum(k.families.get(name, 0.0) for k in kinds) / len(kinds) for name in names}


def _family(shown: Mapping[str, float], purpose: MadeFor) -> float:
    """Return the probability that an image of these families is of one of the model."""
    if not purpose.families:
        # nothing states it, but every model is for some kind of microscopy that has a name
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
    kinds : for how many it is made
    """
    return max(shares, default=0.0) * BROAD ** max(0, kinds - 1)


def _is_another(shown: Mapping[str, float], purpose: MadeFor, of_structure: float) -> bool:
    """Return whether an image is of another family than those of a model.

    Parameters
    ----------
    shown : how probable each family is
    of_structure : how probable the structure of the model is beside the likeliest
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
    """Return the structures that each channel of a model should show; empty if nothing says it.

    Parameters
    ----------
    channels : how many the model has

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
    """Give the probability that a channel shows a structure, or in part one that looks like it."""
    structures = set(wanted) - {"other"}
    near = {name for word in structures for name in STRUCTURES[word].near} - structures
    shares = [kind.structures.get(word, 0.0) for word in structures]
    shares += [NEAR * kind.structures.get(word, 0.0) for word in near]
    return LEAST_STRUCTURE + (1 - LEAST_STRUCTURE) * _likeliest(shares, len(structures))


def size_closeness(case: FitCase) -> float:
    """Return 1 for objects of the size that the model knows, falling with the ratio to 0.

    The fall is even in octaves: half the size, or double, is worth as much.
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
    size : see `size_closeness`
    findings : of the check; each code counts once, with its worst, and those on the content not at
        all, as the score begins with it

    Examples
    --------
    >>> fit_score(Content(1.0, 1.0), 1.0, ())
    1.0
    """
    others = (finding for finding in findings if not finding.code.startswith(BY_CONTENT))
    factors = [factor_of(finding) for finding in worst_of_code(others)]
    return content.probability * (1 - SIZE_SHARE * (1 - size)) * prod(factors)


def factor_of(finding: Finding) -> float:
    """Return what a finding leaves of a score."""
    own = CODES[finding.code].factor if finding.code in CODES else None
    return BY_SEVERITY[finding.severity] if own is None else own


def worst_of_code(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return one finding per code, its worst, with the worst of all first."""
    order = ("error", "warning", "note")
    first: dict[str, Finding] = {}
    for finding in sorted(findings, key=factor_of):
        first.setdefault(finding.code, finding)
    return tuple(
        sorted(first.values(), key=lambda f: (order.index(f.severity), factor_of(f), f.code))
    )
