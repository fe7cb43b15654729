"""The kind of an image in words, as findings, tables and documents tell it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bmz.check.kind import ImageKind
from bmz.spec.made_for import FAMILY_TITLES, STRUCTURES, StatedKind

"""Each family in the words of "the image shows fluorescence"."""

UNKNOWN_KIND = "unknown"
"""In place of a kind where the pixels tell none."""


def percent(probability: float) -> str:
    """Give a probability in words; nothing that pixels tell is certain, or impossible.

    Examples
    --------
    >>> percent(0.972), percent(1.0), percent(0.0)
    ('97 %', '99 %', '1 %')
    """
    return f"{min(99, max(1, int(100 * probability)))} %"


def likeliest(probabilities: Mapping[str, float]) -> str | None:
    """Give the word with the highest probability; None of none."""
    return max(probabilities, key=lambda word: probabilities[word], default=None)


def family_words(kind: ImageKind) -> str:
    """Tell the likeliest family with its probability, such as "electron microscopy (97 %)"."""
    family = likeliest(kind.families)
    if family is None:
        return UNKNOWN_KIND
    return f"{_title(family)} ({percent(kind.families[family])})"


def structure_words(kind: ImageKind) -> str:
    """Tell the likeliest structure with its probability, such as "nuclei (97 %)"."""
    structure = likeliest(kind.structures)
    if structure is None:
        return UNKNOWN_KIND
    return f"{STRUCTURES[structure].title} ({percent(kind.structures[structure])})"


def kind_words(kind: ImageKind) -> str:
    """Tell the likeliest family and structure with their probabilities.

    Examples
    --------
    >>> kind_words(ImageKind({"electron": 0.97}, {"neurites": 0.7}))
    'electron microscopy (97 %) of neurites (70 %)'
    """
    if kind.family is None:
        return f"an unknown kind of image, at best {family_words(kind)}"
    if kind.structure in (None, "other") or kind.family == "not-microscopy":
        return family_words(kind)
    return f"{family_words(kind)} of {structure_words(kind)}"


def kind_title(kind: ImageKind | None) -> str:
    """Tell family and structure, as far as they are more likely than not.

    Examples
    --------
    >>> kind_title(ImageKind({"electron": 0.9}, {"neurites": 0.7})), kind_title(None)
    ('electron microscopy of neurites', 'unknown')
    """
    if kind is None or kind.family is None:
        return UNKNOWN_KIND
    title = _title(kind.family)
    if kind.structure is None or kind.structure == "other" or kind.family == "not-microscopy":
        return title
    return f"{title} of {STRUCTURES[kind.structure].title}"


def _title(family: str) -> str:
    return next(title for known, title in FAMILY_TITLES.items() if known == family)


def stated_as_kind(stated: StatedKind, seen_kind: ImageKind | None) -> ImageKind:
    """Give what the user states with certainty, and the structure as it was seen where none is.

    A modality that covers several families is each of them with the same probability. What was
    seen of the structure goes where it was seen in an image of another family.

    Parameters
    ----------
    seen_kind : what the pixels tell; None where they tell nothing
    """
    families = {str(family): 1 / len(stated.families) for family in stated.families}
    if stated.structure is not None:
        return ImageKind(families, {stated.structure: 1.0})
    agrees = seen_kind is not None and seen_kind.family in families
    return ImageKind(families, seen_kind.structures if seen_kind is not None and agrees else {})


def mean_kind(kinds: Iterable[ImageKind]) -> ImageKind | None:
    """Give the mean of what several channels show; None of none."""
    several = tuple(kinds)
    if not several:
        return None
    return ImageKind(
        _mean([kind.families for kind in several]), _mean([kind.structures for kind in several])
    )


def _mean(several: list[Mapping[str, float]]) -> dict[str, float]:
    words = dict.fromkeys(word for one in several for word in one)
    return {word: sum(one.get(word, 0.0) for one in several) / len(several) for word in words}
